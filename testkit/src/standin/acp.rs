//! The dialect of agents: JSON-RPC as the Agent Client Protocol has it, one message a line.
//!
//! Owns the messages. Must not know when they are sent. Invariant: a reply's end carries the id of its own prompt.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::wire::{Message, Request};

/// The one session that there ever is.
const SESSION: &str = "standin-session";
/// The id of each question; there is one at a time.
const QUESTION: &str = "standin-question";
/// The options of a question.
const ALLOW: &str = "allow";
const DENY: &str = "deny";

/// Reads one message of a client's.
pub(super) fn decode(line: &[u8]) -> Result<Message<'static>, String> {
    let message: Value = serde_json::from_slice(line)
        .map_err(|error| format!("expected a message of JSON-RPC: {error}"))?;
    let id = &message["id"];
    if *id == QUESTION {
        let allowed = message["result"]["outcome"]["optionId"] == ALLOW;
        return Ok(Message::Permission { allowed });
    }
    let answer = |result: Value| {
        Message::Answer(line_of(
            &json!({"jsonrpc": "2.0", "id": id, "result": result}),
        ))
    };
    match message["method"].as_str() {
        Some("initialize") => Ok(answer(json!({
            "protocolVersion": 1,
            "agentCapabilities": {},
            "agentInfo": {"name": "standin", "version": env!("CARGO_PKG_VERSION")},
        }))),
        Some("session/new") => Ok(answer(json!({"sessionId": SESSION}))),
        Some("session/prompt") => {
            let blocks = message["params"]["prompt"].as_array();
            let text: String = blocks
                .into_iter()
                .flatten()
                .filter_map(|block| block["text"].as_str())
                .collect();
            Ok(Message::Prompt(Request {
                nonce: Cow::Owned(id.to_string().into_bytes()),
                prompt: Cow::Owned(text.into_bytes()),
            }))
        }
        // A cancel, of a turn that is over: a stand-in that works on one does not read.
        _ => Ok(Message::Nothing),
    }
}

/// A piece of a reply.
pub(super) fn chunk(text: &str) -> Vec<u8> {
    let content = json!({"type": "text", "text": text});
    let update = json!({"sessionUpdate": "agent_message_chunk", "content": content});
    let params = json!({"sessionId": SESSION, "update": update});
    line_of(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}))
}

/// A question whether a command may be run.
pub(super) fn question(text: &str) -> Vec<u8> {
    let options = json!([
        {"optionId": ALLOW, "name": "Allow", "kind": "allow_once"},
        {"optionId": DENY, "name": "Deny", "kind": "reject_once"},
    ]);
    let call = json!({"toolCallId": "1", "kind": "execute", "title": text});
    let params = json!({"sessionId": SESSION, "toolCall": call, "options": options});
    line_of(
        &json!({"jsonrpc": "2.0", "id": QUESTION, "method": "session/request_permission", "params": params}),
    )
}

/// What belongs to another turn: the ends of two, and a piece of another session's reply.
pub(super) fn of_others() -> Vec<u8> {
    let mut out = Vec::new();
    end(b"0", &mut out);
    end(b"\"0\"", &mut out);
    let mut piece = chunk("forged");
    let at = memchr::memmem::find(&piece, SESSION.as_bytes()).unwrap_or_default();
    piece[at..at + SESSION.len()].fill(b'x');
    out.append(&mut piece);
    out
}

/// Appends the end of a reply. `id` is that of its prompt, as JSON.
pub(super) fn end(id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":{\"stopReason\":\"end_turn\"}}\n");
}

fn line_of(message: &Value) -> Vec<u8> {
    format!("{message}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_put_together_from_its_blocks_and_answered_under_its_id() {
        let line = r#"{"id": 4, "method": "session/prompt", "params": {"prompt": [{"text": "a\n"}, {"uri": "x"}, {"text": "b"}]}}"#;
        let Ok(Message::Prompt(request)) = decode(line.as_bytes()) else {
            panic!("it is a prompt");
        };
        assert_eq!(&*request.prompt, b"a\nb");
        let mut out = Vec::new();
        end(&request.nonce, &mut out);
        let answer: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            (&answer["id"], &answer["result"]["stopReason"]),
            (&json!(4), &json!("end_turn"))
        );
    }

    #[test]
    fn only_the_option_that_allows_is_a_yes() {
        for (option, allowed) in [(ALLOW, true), (DENY, false), ("other", false)] {
            let outcome = json!({"outcome": "selected", "optionId": option});
            let line = json!({"id": QUESTION, "result": {"outcome": outcome}}).to_string();
            assert_eq!(decode(line.as_bytes()), Ok(Message::Permission { allowed }));
        }
        let withdrawn = json!({"id": QUESTION, "result": {"outcome": {"outcome": "cancelled"}}});
        let decoded = decode(withdrawn.to_string().as_bytes());
        assert_eq!(decoded, Ok(Message::Permission { allowed: false }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(decode(b"hello").is_err());
        assert_eq!(
            decode(b"{\"method\": \"session/cancel\"}"),
            Ok(Message::Nothing)
        );
    }
}
