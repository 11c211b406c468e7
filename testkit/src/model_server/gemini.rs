//! The Gemini API: requests and JSON shapes.
//!
//! Owns the reading of its requests, and the knowledge of what gemini-cli adds to a prompt. Must not know answers.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::{ChatRequest, asked_among};
use super::tools::Call;
use super::wire::{Reply, Tokens, Wire, event};

/// The methods of a model, as they stand behind the colon of the path.
const METHODS: [(&str, bool); 2] = [("generateContent", false), ("streamGenerateContent", true)];

/// The answer to one request.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    model: String,
}

impl Gemini {
    pub(super) fn new(request: &ChatRequest) -> Self {
        Self {
            model: request.model.clone(),
        }
    }

    fn response(&self, parts: Value, end: Option<Tokens>) -> Value {
        let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
        let mut response = json!({"modelVersion": self.model});
        if let Some(tokens) = end {
            candidate["finishReason"] = "STOP".into();
            response["usageMetadata"] = json!({
                "promptTokenCount": tokens.prompt,
                "candidatesTokenCount": tokens.completion,
                "totalTokenCount": tokens.prompt + tokens.completion,
            });
        }
        response["candidates"] = json!([candidate]);
        response
    }
}

/// Reads a request; `path` is what follows `/models/`, such as `gemini-2.5-pro:generateContent`.
pub(super) fn parse(path: &str, body: &[u8]) -> Result<ChatRequest, String> {
    let (model, method) = path.split_once(':').ok_or("the path names no method")?;
    let (_, stream) = METHODS
        .into_iter()
        .find(|(name, _)| *name == method)
        .ok_or_else(|| format!("the method {method} is unknown"))?;
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let contents = json["contents"]
        .as_array()
        .ok_or("`contents` is missing or no list")?;
    let asked = contents
        .iter()
        .rposition(|content| content["role"] == "user" && !texts(content).is_empty())
        .ok_or("there is no user message")?;
    let last_user = texts(&contents[asked]).concat();
    Ok(ChatRequest {
        model: model.to_owned(),
        stream,
        stream_usage: true,
        system: texts(&json["systemInstruction"]).concat(),
        messages: contents
            .iter()
            .map(|content| texts(content).concat())
            .collect(),
        prompt: asked_among(&texts(&contents[asked])).to_owned(),
        last_user,
        tools: offered(&json["tools"]),
        tool_was_used: contents[asked + 1..]
            .iter()
            .any(|content| parts(content).any(|part| part.get("functionResponse").is_some())),
    })
}

fn parts(content: &Value) -> impl Iterator<Item = &Value> {
    content["parts"].as_array().into_iter().flatten()
}

fn texts(content: &Value) -> Vec<&str> {
    parts(content)
        .filter_map(|part| part["text"].as_str())
        .collect()
}

fn offered(tools: &Value) -> Vec<String> {
    let declarations = tools.as_array().into_iter().flatten();
    declarations
        .filter_map(|tool| tool["functionDeclarations"].as_array())
        .flatten()
        .filter_map(|declaration| declaration["name"].as_str())
        .map(str::to_owned)
        .collect()
}

impl Wire for Gemini {
    fn error(&self, status: StatusCode, message: &str) -> Value {
        let word = match status.as_u16() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        };
        json!({"error": {"code": status.as_u16(), "message": message, "status": word}})
    }

    fn document(&self, reply: &Reply, tokens: Tokens) -> Value {
        let part = match reply {
            Reply::Text(text) => json!({"text": text}),
            Reply::Call(call) => function_call(call),
        };
        self.response(json!([part]), Some(tokens))
    }

    fn begin(&self, _reply: &Reply) -> String {
        String::new()
    }

    fn piece(&self, text: &str) -> String {
        event(&self.response(json!([{"text": text}]), None))
    }

    fn call(&self, call: &Call) -> String {
        event(&self.response(json!([function_call(call)]), None))
    }

    fn end(&self, _reply: &Reply, tokens: Tokens) -> String {
        event(&self.response(json!([{"text": ""}]), Some(tokens)))
    }
}

fn function_call(call: &Call) -> Value {
    json!({"functionCall": {"name": call.name, "args": call.arguments}})
}
