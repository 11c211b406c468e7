//! What Claude Code writes: one JSON object per line.
//!
//! Owns the shapes of the messages that the protocol follows, as sent by 2.1.197 and 2.1.330. Must not know turns.
//! Invariant: no line panics; what is unknown, of another type or no JSON at all is [`Message::Other`], because both
//! messages and members come and go with minor versions. Only a missing id of a message that lives by it is an error.

use serde_json::Value;

/// One line, as far as the protocol cares.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// The answer to a control request of ours.
    Reply {
        /// Our request's id.
        id: String,
        /// What came of it; the error in Claude's words.
        result: Result<Value, String>,
    },
    /// A control request to us.
    Request {
        /// To be repeated in the answer.
        id: String,
        /// What it asks for.
        body: Value,
    },
    /// A control request that wants no answer any more.
    Withdrawn {
        /// Which request.
        id: String,
    },
    /// A turn begins. It comes before each of them, also before those that Claude starts by itself.
    Began {
        /// The conversation's name.
        session: Option<String>,
    },
    /// The message with this id was put into the queue, taken up or finished.
    Lifecycle {
        /// The id that we gave the message.
        message: String,
    },
    /// It tries its model again.
    Retry {
        /// For a human.
        message: String,
    },
    /// The model begins an answer, which follows in pieces.
    AnswerBegan {
        /// The answer's id.
        id: String,
    },
    /// A block of an answer begins.
    BlockBegan,
    /// A piece of an answer's text.
    Text(String),
    /// A whole answer, or a block of it.
    Answer {
        /// The answer's id.
        id: String,
        /// Its text.
        text: String,
        /// How many tools it calls.
        tools: usize,
    },
    /// Text that stands for an answer because the model gave none.
    Error {
        /// Claude's word for the kind of error.
        kind: String,
    },
    /// A turn is over.
    Ended(Box<Ended>),
    /// Anything else.
    Other,
}

/// The message of type `result`. Absent members are absent in some version, or in some cases.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ended {
    /// The ids of the messages that it answers. 2.1.197 does not say.
    pub(super) answers: Vec<String>,
    /// Whether somebody else than us made it run, such as a task in the background.
    pub(super) by_itself: bool,
    pub(super) is_error: bool,
    pub(super) subtype: String,
    pub(super) terminal_reason: String,
    pub(super) status: Option<u64>,
    /// The answer or, if it is an error, what it says.
    pub(super) text: String,
    pub(super) session: Option<String>,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    /// Of all turns since the process began; newer versions begin anew with a new conversation.
    pub(super) total_cost_usd: Option<f64>,
}

impl Message {
    /// Reads one line.
    ///
    /// # Errors
    /// Which message came without its id.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        // Only objects are messages, so that notices need not reach the parser.
        if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Ok(Self::Other);
        }
        let Ok(mut json) = serde_json::from_slice::<Value>(line) else {
            return Ok(Self::Other);
        };
        // What a subagent writes is no part of the answer, but what it asks for has to be answered.
        let is_subagents = json["parent_tool_use_id"].is_string();
        let kind = string(&json["type"]);
        Ok(match kind.as_str() {
            "control_response" => Self::reply(taken(&mut json, "response"))?,
            "control_request" => Self::Request {
                id: id(&json["request_id"], &kind)?,
                body: taken(&mut json, "request"),
            },
            "control_cancel_request" => Self::Withdrawn {
                id: id(&json["request_id"], &kind)?,
            },
            "command_lifecycle" => Self::Lifecycle {
                message: string(&json["command_uuid"]),
            },
            "system" => Self::system(&json),
            "result" => Self::Ended(Box::new(Ended::read(&json))),
            "stream_event" if !is_subagents => Self::streamed(&json["event"]),
            "assistant" if !is_subagents => Self::answer(&json),
            _ => Self::Other,
        })
    }

    fn reply(mut response: Value) -> Result<Self, String> {
        let id = id(&response["request_id"], "control_response")?;
        let result = if response["subtype"] == "success" {
            Ok(taken(&mut response, "response"))
        } else {
            Err(string(&response["error"]))
        };
        Ok(Self::Reply { id, result })
    }

    fn system(json: &Value) -> Self {
        match json["subtype"].as_str() {
            Some("init") => Self::Began {
                session: text(&json["session_id"]),
            },
            Some("api_retry") => Self::Retry {
                message: retry(json),
            },
            _ => Self::Other,
        }
    }

    fn streamed(event: &Value) -> Self {
        match event["type"].as_str() {
            Some("message_start") => Self::AnswerBegan {
                id: string(&event["message"]["id"]),
            },
            Some("content_block_start") => Self::BlockBegan,
            // Thoughts and the arguments of tools are deltas too.
            Some("content_block_delta") if event["delta"]["type"] == "text_delta" => {
                Self::Text(string(&event["delta"]["text"]))
            }
            _ => Self::Other,
        }
    }

    fn answer(json: &Value) -> Self {
        if let Some(kind) = text(&json["error"]) {
            return Self::Error { kind };
        }
        let message = &json["message"];
        let blocks = || message["content"].as_array().into_iter().flatten();
        Self::Answer {
            id: string(&message["id"]),
            text: blocks()
                .filter(|block| block["type"] == "text")
                .filter_map(|block| block["text"].as_str())
                .collect(),
            tools: blocks().filter(|block| block["type"] == "tool_use").count(),
        }
    }
}

impl Ended {
    fn read(json: &Value) -> Self {
        let mut answers: Vec<String> = text(&json["user_message_uuid"]).into_iter().collect();
        let more = json["user_message_uuids"].as_array().into_iter().flatten();
        answers.extend(more.filter_map(text));
        let usage = &json["usage"];
        let input = [
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        ];
        let input_tokens = input
            .iter()
            .filter_map(|kind| usage[kind].as_u64())
            .reduce(u64::saturating_add);
        let errors = json["errors"].as_array().into_iter().flatten();
        let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
        Self {
            by_itself: json["origin"]["kind"]
                .as_str()
                .is_some_and(|kind| kind != "human"),
            is_error: json["is_error"].as_bool().unwrap_or(false),
            subtype: string(&json["subtype"]),
            terminal_reason: string(&json["terminal_reason"]),
            status: json["api_error_status"].as_u64(),
            input_tokens,
            output_tokens: usage["output_tokens"].as_u64(),
            total_cost_usd: json["total_cost_usd"].as_f64(),
            session: text(&json["session_id"]),
            answers,
            text: match json["result"].as_str() {
                Some(text) => text.to_owned(),
                None => errors.join("\n"),
            },
        }
    }
}

/// A member, taken out; null if there is none.
fn taken(object: &mut Value, name: &str) -> Value {
    object.get_mut(name).map(Value::take).unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn string(value: &Value) -> String {
    text(value).unwrap_or_default()
}

fn id(value: &Value, kind: &str) -> Result<String, String> {
    text(value).ok_or_else(|| format!("claude wrote a `{kind}` without a request id"))
}

/// The newer versions give whole milliseconds, the older ones fractions.
fn retry(json: &Value) -> String {
    let number = |name: &str| json[name].as_f64();
    let mut message = "trying the model again".to_owned();
    if let (Some(attempt), Some(most)) = (number("attempt"), number("max_retries")) {
        message.push_str(&format!(", attempt {attempt} of {most}"));
    }
    if let Some(delay) = number("retry_delay_ms") {
        message.push_str(&format!(" in {:.1} s", delay / 1000.0));
    }
    let status = json["error_status"].as_u64();
    let reason = match (status, json["error"].as_str()) {
        (Some(status), Some(error)) => format!(": {error} ({status})"),
        (None, Some(error)) => format!(": {error}"),
        (Some(status), None) => format!(": status {status}"),
        (None, None) => String::new(),
    };
    message + &reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_passed_over() {
        for line in [
            "",
            " ",
            "null",
            "[]",
            "7",
            "\"result\"",
            "{",
            "{\"type\":\"result\"",
            "Warning: no",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"a new one"}"#,
            r#"{"type":"system","subtype":"a new one"}"#,
            r#"{"type":"stream_event","event":{"type":"ping"}}"#,
            "\u{feff}{}",
            "{\"type\":\"result\"}}",
        ] {
            assert_eq!(
                Message::parse(line.as_bytes()),
                Ok(Message::Other),
                "{line}"
            );
        }
        assert_eq!(Message::parse(b"{\"a\":\"\xff\"}"), Ok(Message::Other));
    }

    #[test]
    fn members_of_another_type_read_as_absent() {
        let line = r#"{"type":"result","is_error":"yes","result":7,"usage":[],"origin":"human","user_message_uuids":7}"#;
        let expected = Message::Ended(Box::default());
        assert_eq!(Message::parse(line.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_message_that_lives_by_its_id_needs_one() {
        for kind in [
            "control_request",
            "control_response",
            "control_cancel_request",
        ] {
            let line =
                format!(r#"{{"type":"{kind}","request_id":7,"response":{{"subtype":"success"}}}}"#);
            let error = Message::parse(line.as_bytes()).expect_err(kind);
            assert!(error.contains(kind), "{error}");
        }
    }

    #[test]
    fn what_a_subagent_writes_is_no_part_of_the_answer() {
        let text =
            r#""event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#;
        for (parent, expected) in [
            ("null", Message::Text("a".to_owned())),
            ("\"toolu_1\"", Message::Other),
        ] {
            let line = format!(r#"{{"type":"stream_event","parent_tool_use_id":{parent},{text}}}"#);
            assert_eq!(Message::parse(line.as_bytes()), Ok(expected));
        }
    }

    #[test]
    fn a_retry_is_told_in_one_line() {
        let line = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":562.7014611298605,"error_status":429,"error":"rate_limit"}"#;
        let message =
            "trying the model again, attempt 1 of 10 in 0.6 s: rate_limit (429)".to_owned();
        assert_eq!(
            Message::parse(line.as_bytes()),
            Ok(Message::Retry { message })
        );
    }
}
