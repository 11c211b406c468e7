//! What the two servers share: orders in double brackets, and answers in JSON.
//!
//! Owns how orders are found in a prompt and how a document is answered. Must not know which orders there are. Invariant: a
//! word that is not understood is an error, so a test with a misspelled order fails instead of passing for nothing.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

const CLOSE: &str = "]]";

/// Gives the words of each order that begins with `open` to `read`. One that never closes is text.
pub(crate) fn read_each(
    prompt: &str,
    open: &str,
    mut read: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = prompt;
    while let Some((_, after)) = rest.split_once(open) {
        let Some((words, after)) = after.split_once(CLOSE) else {
            break;
        };
        read(words).map_err(|problem| format!("{open}{words}{CLOSE}: {problem}"))?;
        rest = after;
    }
    Ok(())
}

pub(crate) fn number<N: std::str::FromStr>(value: &str) -> Result<N, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is no whole number, or too large"))
}

pub(crate) fn respond(status: StatusCode, json: &Value) -> Response {
    let mut response = Response::new(Body::from(json.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
