//! The OpenAI chat API: JSON shapes.
//!
//! Owns the shapes of errors, documents and stream events. Must not know what an answer says.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::ChatRequest;
use super::tools::Call;
use super::wire::{Reply, Tokens, Wire, event};

/// The answer to one chat request.
#[derive(Debug, Default)]
pub(super) struct Chat {
    model: String,
    stream_usage: bool,
}

impl Chat {
    pub(super) fn new(request: &ChatRequest) -> Self {
        Self {
            model: request.model.clone(),
            stream_usage: request.stream_usage,
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 0, "model": self.model,
               "choices": choices})
    }

    fn delta(&self, delta: Value, reason: Option<&str>) -> String {
        event(&self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": reason}])))
    }
}

impl Wire for Chat {
    fn error(&self, status: StatusCode, message: &str) -> Value {
        let (kind, code) = match status.as_u16() {
            401 | 403 => ("invalid_request_error", "invalid_api_key"),
            429 => ("requests", "rate_limit_exceeded"),
            500.. => ("server_error", "internal_error"),
            _ => ("invalid_request_error", "invalid_request"),
        };
        // aider's client library tells a refused key from a bad request by OpenAI's wording.
        let lead = if status == StatusCode::UNAUTHORIZED {
            "Incorrect API key provided: "
        } else {
            ""
        };
        json!({"error": {"message": format!("{lead}{message}"), "type": kind, "param": null, "code": code}})
    }

    fn document(&self, reply: &Reply, tokens: Tokens) -> Value {
        let (message, reason) = match reply {
            Reply::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
            Reply::Call(call) => (
                json!({"role": "assistant", "content": null, "tool_calls": [tool_call(call)]}),
                "tool_calls",
            ),
        };
        let choice = json!({"index": 0, "message": message, "finish_reason": reason});
        json!({"id": "chatcmpl-mock", "object": "chat.completion", "created": 0, "model": self.model,
               "choices": [choice], "usage": usage(tokens)})
    }

    fn begin(&self, _reply: &Reply) -> String {
        self.delta(json!({"role": "assistant", "content": ""}), None)
    }

    fn piece(&self, text: &str) -> String {
        self.delta(json!({"content": text}), None)
    }

    fn call(&self, call: &Call) -> String {
        let mut tool_call = tool_call(call);
        tool_call["index"] = 0.into();
        self.delta(json!({"tool_calls": [tool_call]}), None)
    }

    fn end(&self, reply: &Reply, tokens: Tokens) -> String {
        let reason = match reply {
            Reply::Text(_) => "stop",
            Reply::Call(_) => "tool_calls",
        };
        let mut end = self.delta(json!({}), Some(reason));
        if self.stream_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(tokens);
            end.push_str(&event(&chunk));
        }
        end.push_str("data: [DONE]\n\n");
        end
    }
}

fn tool_call(call: &Call) -> Value {
    // The arguments are a text that holds JSON.
    let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
    json!({"id": "call_mock", "type": "function", "function": function})
}

fn usage(tokens: Tokens) -> Value {
    json!({
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
    })
}
