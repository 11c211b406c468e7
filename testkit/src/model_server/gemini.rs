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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(contents: Value) -> Result<ChatRequest, String> {
        let tools = json!([{"functionDeclarations": [{"name": "write_file"}, {"name": "glob"}]}]);
        let body = json!({"contents": contents, "tools": tools,
                          "systemInstruction": {"role": "user", "parts": [{"text": "be brief"}]}});
        parse("mock:streamGenerateContent", body.to_string().as_bytes())
    }

    #[test]
    fn the_prompt_is_the_last_text_of_the_user_also_after_a_tool_was_used() {
        let user =
            json!({"role": "user", "parts": [{"text": "<session_context>"}, {"text": "hi"}]});
        let call =
            json!({"role": "model", "parts": [{"functionCall": {"name": "glob", "args": {}}}]});
        let result = json!({"role": "user", "parts": [{"functionResponse": {"name": "glob", "response": {}}}]});
        let before = request(json!([user])).expect("a request");
        let offered = ["write_file", "glob"].map(str::to_owned);
        assert_eq!(
            (before.prompt.as_str(), before.tools.as_slice()),
            ("hi", &offered[..])
        );
        assert_eq!((before.model.as_str(), before.stream), ("mock", true));
        assert_eq!(
            (before.system.as_str(), before.tool_was_used),
            ("be brief", false)
        );
        let after = request(json!([user, call, result])).expect("a request");
        assert_eq!((after.prompt.as_str(), after.tool_was_used), ("hi", true));
        let next = json!({"role": "user", "parts": [{"text": "next"}]});
        let next = request(json!([user, call, result, next])).expect("a request");
        assert_eq!((next.prompt.as_str(), next.tool_was_used), ("next", false));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(parse("mock", b"{}").is_err());
        assert!(parse("mock:embedContent", b"{\"contents\": []}").is_err());
        assert!(parse("mock:generateContent", b"{}").is_err());
        assert!(request(json!([])).is_err());
    }

    #[test]
    fn an_answer_has_its_text_or_its_call_and_what_it_cost() {
        let wire = Gemini {
            model: "mock".to_owned(),
        };
        let tokens = Tokens {
            prompt: 3,
            completion: 2,
        };
        let text = wire.document(&Reply::Text("hi".to_owned()), tokens);
        assert_eq!(text["candidates"][0]["content"]["parts"][0]["text"], "hi");
        assert_eq!(text["usageMetadata"]["totalTokenCount"], 5);
        let call = Call {
            name: "glob".to_owned(),
            arguments: json!({"pattern": "*"}),
        };
        let document = wire.document(&Reply::Call(call), tokens);
        let part = &document["candidates"][0]["content"]["parts"][0];
        assert_eq!(part["functionCall"]["args"], json!({"pattern": "*"}));
        let error = wire.error(StatusCode::TOO_MANY_REQUESTS, "slower");
        assert_eq!(error["error"]["status"], "RESOURCE_EXHAUSTED");
    }
}
