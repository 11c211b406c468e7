//! The OpenAI Responses API: requests and JSON shapes.
//!
//! Owns the reading of its requests and the shapes of its errors, documents and stream events, as codex 0.169 needs
//! them. Must not know what an answer says. Invariant: the ids of two answers in one conversation differ.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::ChatRequest;
use super::tools::Call;
use super::wire::{Reply, Tokens, Wire};

/// The answer to one request.
#[derive(Debug, Default)]
pub(super) struct Responses {
    model: String,
    /// The conversation so far makes the ids unique: it only grows.
    items: usize,
}

impl Responses {
    pub(super) fn new(request: &ChatRequest) -> Self {
        Self {
            model: request.model.clone(),
            items: request.messages.len(),
        }
    }

    fn response(&self, status: &str) -> Value {
        json!({"id": format!("resp_{}", self.items), "object": "response", "created_at": 0, "model": self.model,
               "status": status})
    }

    fn whole(&self, reply: &Reply, tokens: Tokens) -> Value {
        let mut response = self.response("completed");
        response["output"] = json!([self.item(reply)]);
        response["usage"] = json!({
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.prompt + tokens.completion,
        });
        response
    }

    fn item(&self, reply: &Reply) -> Value {
        match reply {
            Reply::Text(text) => self.message(text),
            Reply::Call(call) => {
                // The arguments are a text that holds JSON.
                json!({"type": "function_call", "id": format!("fc_{}", self.items),
                       "call_id": format!("call_{}", self.items), "name": call.name,
                       "arguments": call.arguments.to_string()})
            }
        }
    }

    fn message(&self, text: &str) -> Value {
        json!({"type": "message", "id": format!("msg_{}", self.items), "role": "assistant",
               "content": [{"type": "output_text", "text": text, "annotations": []}]})
    }

    fn item_done(&self, item: Value) -> String {
        event(&json!({"type": "response.output_item.done", "output_index": 0, "item": item}))
    }
}

/// Reads a request.
pub(super) fn parse(body: &[u8]) -> Result<ChatRequest, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let input = json["input"]
        .as_array()
        .ok_or("`input` is missing or no list")?;
    let asked = input
        .iter()
        .rposition(|item| item["role"] == "user")
        .ok_or("there is no user message")?;
    let last_user = text(&input[asked]);
    Ok(ChatRequest {
        model: json["model"]
            .as_str()
            .ok_or("`model` is missing or no text")?
            .to_owned(),
        stream: json["stream"].as_bool().unwrap_or(false),
        stream_usage: true,
        system: json["instructions"].as_str().unwrap_or_default().to_owned(),
        messages: input.iter().map(text).collect(),
        prompt: last_user.clone(),
        last_user,
        tools: json["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tool| tool["name"].as_str())
            .map(str::to_owned)
            .collect(),
        tool_was_used: input[asked + 1..]
            .iter()
            .any(|item| item["type"] == "function_call_output"),
    })
}

/// The text of an item: of a message, or of a tool's output.
fn text(item: &Value) -> String {
    match (&item["content"], &item["output"]) {
        (Value::String(text), _) | (_, Value::String(text)) => text.clone(),
        (Value::Array(parts), _) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

impl Wire for Responses {
    fn error(&self, status: StatusCode, message: &str) -> Value {
        let (kind, code) = match status.as_u16() {
            401 | 403 => ("invalid_request_error", "invalid_api_key"),
            429 => ("requests", "rate_limit_exceeded"),
            500.. => ("server_error", "internal_error"),
            _ => ("invalid_request_error", "invalid_request"),
        };
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }

    fn document(&self, reply: &Reply, tokens: Tokens) -> Value {
        self.whole(reply, tokens)
    }

    fn begin(&self, reply: &Reply) -> String {
        let created = json!({"type": "response.created", "response": self.response("in_progress")});
        let item = match reply {
            Reply::Text(_) => self.message(""),
            Reply::Call(_) => self.item(reply),
        };
        let added = json!({"type": "response.output_item.added", "output_index": 0, "item": item});
        event(&created) + &event(&added)
    }

    fn piece(&self, text: &str) -> String {
        event(
            &json!({"type": "response.output_text.delta", "item_id": format!("msg_{}", self.items),
                    "output_index": 0, "content_index": 0, "delta": text}),
        )
    }

    fn call(&self, call: &Call) -> String {
        let arguments = call.arguments.to_string();
        event(
            &json!({"type": "response.function_call_arguments.done", "item_id": format!("fc_{}", self.items),
                    "output_index": 0, "arguments": arguments}),
        )
    }

    fn end(&self, reply: &Reply, tokens: Tokens) -> String {
        let completed =
            json!({"type": "response.completed", "response": self.whole(reply, tokens)});
        self.item_done(self.item(reply)) + &event(&completed)
    }
}

/// One server-sent event; this API names each by its type.
fn event(data: &Value) -> String {
    let name = data["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(input: Value) -> ChatRequest {
        let body = json!({"model": "mock", "stream": true, "input": input,
                          "tools": [{"type": "function", "name": "exec_command"}, {"type": "web_search"}]});
        parse(body.to_string().as_bytes()).expect("a request")
    }

    #[test]
    fn the_prompt_is_the_last_user_message_also_after_a_tool_was_used() {
        let user = |text: &str| json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
        let request_before = request(json!([user("environment"), user("do it")]));
        assert_eq!(request_before.prompt, "do it");
        assert_eq!(request_before.tools, ["exec_command"]);
        assert!(!request_before.tool_was_used);
        let call = json!({"type": "function_call", "call_id": "call_2", "name": "exec_command", "arguments": "{}"});
        let output = json!({"type": "function_call_output", "call_id": "call_2", "output": "done"});
        let after = request(json!([user("environment"), user("do it"), call, output]));
        assert_eq!(
            (after.prompt.as_str(), after.tool_was_used),
            ("do it", true)
        );
        assert_eq!(after.messages.last().map(String::as_str), Some("done"));
        let next = request(json!([user("do it"), output, user("again")]));
        assert!(
            !next.tool_was_used,
            "the output belongs to an earlier prompt"
        );
    }

    #[test]
    fn a_body_that_is_no_request_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"model": "m", "input": []}"#,
            r#"{"input": [{"role": "user"}]}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_whole_text_is_in_the_item_that_ends_it() {
        let wire = Responses::new(&request(json!([{"role": "user", "content": "hello"}])));
        let reply = Reply::Text("an answer".to_owned());
        let tokens = Tokens {
            prompt: 1,
            completion: 2,
        };
        let end = wire.end(&reply, tokens);
        assert!(
            end.starts_with("event: response.output_item.done\n"),
            "{end}"
        );
        assert!(end.contains(r#""text":"an answer""#), "{end}");
        assert!(end.contains(r#""input_tokens":1"#), "{end}");
        assert!(wire.begin(&reply).contains(r#""text":"""#));
        assert_eq!(wire.document(&reply, tokens)["output"][0]["id"], "msg_1");
    }
}
