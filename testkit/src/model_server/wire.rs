//! What every API's form of an answer consists of.
//!
//! Owns the trait that an API's module implements. Must not know any API. Invariant: implementors are pure; pacing,
//! faults and the connection are the server's.

use axum::http::StatusCode;
use serde_json::Value;

use super::tools::Call;

/// What an answer consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// Text for the user.
    Text(String),
    /// A call of one of the client's tools.
    Call(Call),
}

/// What an answer is said to have cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    pub(super) prompt: usize,
    pub(super) completion: usize,
}

/// One API's form of the answer to one request.
pub(super) trait Wire: Send + Sync + 'static {
    /// The document of an error response.
    fn error(&self, status: StatusCode, message: &str) -> Value;
    /// A whole answer as one document.
    fn document(&self, reply: &Reply, tokens: Tokens) -> Value;
    /// What a stream of this answer begins with.
    fn begin(&self, reply: &Reply) -> String;
    /// One piece of a streamed text.
    fn piece(&self, text: &str) -> String;
    /// A streamed call.
    fn call(&self, call: &Call) -> String;
    /// What a stream ends with.
    fn end(&self, reply: &Reply, tokens: Tokens) -> String;
}

/// One server-sent event without a name.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
