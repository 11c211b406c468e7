//! The Anthropic Messages API: requests and JSON shapes.
//!
//! Owns the reading of its requests, and the knowledge of what Claude Code adds to a prompt. Must not know answers.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::ChatRequest;
use super::tools::Call;
use super::wire::{Reply, Tokens, Wire};

/// How the texts begin that Claude Code puts into the user's messages beside the user's own, measured with 2.1.197 and
/// 2.1.330: its reminders, the record of its own commands, and the note of an interrupt.
const ADDED: [&str; 5] = [
    "<system-reminder>",
    "<local-command-",
    "<command-name>",
    "[Request interrupted by user",
    "[Your previous response had no visible output",
];

/// The line by which a user keeps Claude Code from taking a text that begins with `/` as a command.
const GUARD: &str = "Prompt:\n";

/// How much of the system text is kept. The whole of it speaks of commit messages, and so would every request.
const SYSTEM_HEAD: usize = 200;

/// The answer to one request.
#[derive(Debug, Default)]
pub(super) struct Messages {
    model: String,
    /// How many messages the request had. It grows in a conversation, so that ids made of it are never repeated there.
    place: usize,
}

impl Messages {
    pub(super) fn new(request: &ChatRequest) -> Self {
        Self {
            model: request.model.clone(),
            place: request.messages.len(),
        }
    }

    fn tool_use(&self, call: &Call, input: Value) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_mock_{}", self.place), "name": call.name, "input": input})
    }

    fn message(&self, content: Value, stop_reason: Option<&str>, usage: Value) -> Value {
        json!({"id": format!("msg_mock_{}", self.place), "type": "message", "role": "assistant", "model": self.model, "content": content,
               "stop_reason": stop_reason, "stop_sequence": null, "usage": usage})
    }
}

/// Reads a request; the error says what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let messages = json["messages"]
        .as_array()
        .ok_or("`messages` is missing or no list")?;
    let blocks: Vec<Block<'_>> = messages
        .iter()
        .filter(|message| message["role"] == "user")
        .flat_map(|message| blocks(&message["content"]))
        .collect();
    let asked = blocks
        .iter()
        .rposition(|block| matches!(block, Block::Text(text) if is_users_own(text)))
        .ok_or("there is no user message")?;
    let Block::Text(last_user) = blocks[asked] else {
        return Err("there is no user message".to_owned());
    };
    let tools = json["tools"].as_array().into_iter().flatten();
    Ok(ChatRequest {
        model: json["model"]
            .as_str()
            .ok_or("`model` is missing or no text")?
            .to_owned(),
        stream: json["stream"].as_bool().unwrap_or(false),
        stream_usage: true,
        system: texts(&json["system"]).chars().take(SYSTEM_HEAD).collect(),
        messages: messages
            .iter()
            .map(|message| texts(&message["content"]))
            .collect(),
        prompt: without_guard(last_user).to_owned(),
        last_user: last_user.to_owned(),
        tools: tools
            .filter_map(|tool| tool["name"].as_str())
            .map(str::to_owned)
            .collect(),
        tool_was_used: blocks[asked + 1..].contains(&Block::ToolResult),
    })
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block<'a> {
    Text(&'a str),
    ToolResult,
    Other,
}

/// The content of a message is a text or a list of parts.
fn blocks(content: &Value) -> Vec<Block<'_>> {
    match content {
        Value::String(text) => vec![Block::Text(text)],
        Value::Array(parts) => parts
            .iter()
            .map(
                |part| match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(text)) => Block::Text(text),
                    (Some("tool_result"), _) => Block::ToolResult,
                    _ => Block::Other,
                },
            )
            .collect(),
        _ => Vec::new(),
    }
}

fn texts(content: &Value) -> String {
    let texts = blocks(content).into_iter().filter_map(|block| match block {
        Block::Text(text) => Some(text),
        Block::ToolResult | Block::Other => None,
    });
    texts.collect()
}

fn is_users_own(text: &str) -> bool {
    !ADDED
        .iter()
        .any(|added| text.trim_start().starts_with(added))
}

fn without_guard(text: &str) -> &str {
    text.strip_prefix(GUARD)
        .filter(|rest| {
            let blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
            rest.trim_start_matches(blank).starts_with('/')
        })
        .unwrap_or(text)
}

impl Wire for Messages {
    fn error(&self, status: StatusCode, message: &str) -> Value {
        let kind = match status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"})
    }

    fn document(&self, reply: &Reply, tokens: Tokens) -> Value {
        let block = match reply {
            Reply::Text(text) => json!({"type": "text", "text": text}),
            Reply::Call(call) => self.tool_use(call, call.arguments.clone()),
        };
        self.message(json!([block]), Some(stop_reason(reply)), usage(tokens))
    }

    /// The message, and its first block, which is text in every answer.
    fn begin(&self, _reply: &Reply) -> String {
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = self.message(json!([]), None, usage);
        event("message_start", json!({"message": message}))
            + &block_start(0, json!({"type": "text", "text": ""}))
    }

    fn piece(&self, text: &str) -> String {
        delta(0, json!({"type": "text_delta", "text": text}))
    }

    /// As models do, it says in the first block what it is about to do.
    fn call(&self, call: &Call) -> String {
        let arguments = call.arguments.to_string();
        self.piece(&format!("Now {}.", call.name))
            + &block_stop(0)
            + &block_start(1, self.tool_use(call, json!({})))
            + &delta(
                1,
                json!({"type": "input_json_delta", "partial_json": arguments}),
            )
    }

    fn end(&self, reply: &Reply, tokens: Tokens) -> String {
        let last = match reply {
            Reply::Text(_) => 0,
            Reply::Call(_) => 1,
        };
        let end = json!({
            "delta": {"stop_reason": stop_reason(reply), "stop_sequence": null},
            "usage": usage(tokens),
        });
        block_stop(last) + &event("message_delta", end) + &event("message_stop", json!({}))
    }
}

/// One server-sent event; its type is both its name and a member of its data.
fn event(kind: &str, mut data: Value) -> String {
    data["type"] = kind.into();
    format!("event: {kind}\ndata: {data}\n\n")
}

fn block_start(index: u8, block: Value) -> String {
    let data = json!({"index": index, "content_block": block});
    event("content_block_start", data)
}

fn delta(index: u8, delta: Value) -> String {
    event(
        "content_block_delta",
        json!({"index": index, "delta": delta}),
    )
}

fn block_stop(index: u8) -> String {
    event("content_block_stop", json!({"index": index}))
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply {
        Reply::Text(_) => "end_turn",
        Reply::Call(_) => "tool_use",
    }
}

fn usage(tokens: Tokens) -> Value {
    json!({"input_tokens": tokens.prompt, "output_tokens": tokens.completion})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(messages: Value) -> ChatRequest {
        let body = json!({"model": "m", "messages": messages, "tools": [{"name": "Bash"}]});
        parse(body.to_string().as_bytes()).expect("a request")
    }

    #[test]
    fn the_prompt_is_the_last_text_that_the_user_wrote() {
        let reminder =
            json!({"type": "text", "text": "<system-reminder>\nbe good\n</system-reminder>\n"});
        let text = |text: &str| json!({"type": "text", "text": text});
        let table = [
            (json!([{"role": "user", "content": "hi"}]), "hi"),
            (
                json!([{"role": "user", "content": [reminder, text("hi")]}]),
                "hi",
            ),
            (
                json!([{"role": "user", "content": [text("hi"), reminder]}]),
                "hi",
            ),
            (
                json!([{"role": "user", "content": "Prompt:\n /run x"}]),
                " /run x",
            ),
            (
                json!([{"role": "user", "content": "Prompt:\nrun x"}]),
                "Prompt:\nrun x",
            ),
            (
                json!([{"role": "user", "content": [text("old"), text("[Request interrupted by user]"), text("new")]},
                       {"role": "system", "content": "be good"}]),
                "new",
            ),
        ];
        for (messages, prompt) in table {
            let request = parsed(messages);
            assert_eq!(request.prompt, prompt);
            assert!(!request.tool_was_used);
        }
    }

    #[test]
    fn a_tool_was_used_when_its_result_follows_the_prompt() {
        let call = json!({"type": "tool_use", "id": "t", "name": "Bash", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "done"});
        let mut messages = vec![
            json!({"role": "user", "content": "hi"}),
            json!({"role": "assistant", "content": [call]}),
            json!({"role": "user", "content": [result]}),
        ];
        let request = parsed(messages.clone().into());
        assert!(request.tool_was_used);
        assert_eq!(
            (request.prompt.as_str(), &request.tools),
            ("hi", &vec!["Bash".to_owned()])
        );
        messages.push(json!({"role": "user", "content": "and now"}));
        assert!(!parsed(messages.into()).tool_was_used);
    }

    #[test]
    fn a_body_that_is_no_request_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"model":"m","messages":[]}"#,
            r#"{"messages":[{"role":"user","content":"hi"}]}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
