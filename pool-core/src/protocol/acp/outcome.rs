//! What the end of a turn means.
//!
//! Owns the tables of stop reasons and errors. Must not know sessions. Invariant: total; an error that is in no table is
//! `Unknown`, with the agent's own words.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::turn::Seen;
use crate::outcome::{Failure, FailureClass, Outcome};
use crate::protocol::json_rpc::RpcError;

/// The protocol's code for an agent that nobody has logged in.
const AUTH_REQUIRED: i64 = -32000;
/// JSON-RPC's code for an error that it has no other code for.
const INTERNAL_ERROR: i64 = -32603;

/// The longest message of a failure, in characters.
const MAX_MESSAGE: usize = 600;

/// An HTTP status that stands in an agent's words by itself: `401 Incorrect API key`, `"code":500`.
static STATUS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(4[0-3][0-9]|5[0-2][0-9])\b").expect("the pattern is valid"));

/// Advice in the words of several providers: "Please try again in 1.2s", "retry after 20 seconds".
static RETRY_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:try again|retry|retrying) (?:in|after) (\d{1,6}(?:\.\d{1,9})?) ?(ms|s|seconds?|m|minutes?)\b")
        .expect("the pattern is valid")
});

/// What agents and providers write where they give no status. Lower case; the first that is found counts.
const WORDS: [(&str, FailureClass); 31] = [
    ("context is too large", FailureClass::ContextTooLarge),
    ("context length", FailureClass::ContextTooLarge),
    ("context window", FailureClass::ContextTooLarge),
    ("maximum context", FailureClass::ContextTooLarge),
    ("prompt is too long", FailureClass::ContextTooLarge),
    ("too many tokens", FailureClass::ContextTooLarge),
    ("empty response", FailureClass::EmptyAnswer),
    ("rate limit", FailureClass::RateLimit),
    ("too many requests", FailureClass::RateLimit),
    ("quota", FailureClass::RateLimit),
    ("resource_exhausted", FailureClass::RateLimit),
    ("not found", FailureClass::BadRequest),
    ("api key", FailureClass::Auth),
    ("unauthorized", FailureClass::Auth),
    ("unauthenticated", FailureClass::Auth),
    ("authentication", FailureClass::Auth),
    ("permission_denied", FailureClass::Auth),
    ("credential", FailureClass::Auth),
    ("overloaded", FailureClass::Overloaded),
    ("high demand", FailureClass::Overloaded),
    ("unavailable", FailureClass::Overloaded),
    ("internal server error", FailureClass::Overloaded),
    ("terminated", FailureClass::Network),
    ("econn", FailureClass::Network),
    ("enotfound", FailureClass::Network),
    ("fetch failed", FailureClass::Network),
    ("unable to connect", FailureClass::Network),
    ("connection", FailureClass::Network),
    ("socket", FailureClass::Network),
    ("timed out", FailureClass::Network),
    ("timeout", FailureClass::Network),
];

/// The outcome of a turn whose prompt was answered, or None if the result says no reason. `model_use` is the quirk of
/// that name.
pub(super) fn of_end(result: &Value, seen: Seen, model_use: Option<&str>) -> Option<Outcome> {
    let no_model = model_use
        .and_then(|pointer| result.pointer(pointer))
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty);
    let failed = |class, message: &str| Some(Outcome::Failed(failure(class, message)));
    match result["stopReason"].as_str()? {
        // opencode says so, without having asked the model, where the cancel comes right behind the prompt.
        "end_turn" if seen.cancelled && !seen.said && !seen.used_tools => Some(Outcome::Cancelled),
        "end_turn" if seen.is_command => Some(Outcome::Completed),
        "end_turn" if no_model => failed(
            FailureClass::Network,
            "the model's answer broke off, and the agent kept what had come; ask again",
        ),
        "end_turn" if seen.said => Some(Outcome::Completed),
        // qwen and opencode do so; gemini tells the model and goes on.
        "end_turn" if seen.denied => failed(
            FailureClass::EmptyAnswer,
            "a permission was denied, and the agent ended its turn without a word",
        ),
        "end_turn" if seen.used_tools => Some(Outcome::Completed),
        "end_turn" => failed(
            FailureClass::EmptyAnswer,
            "the model answered nothing; check the account and the model's name",
        ),
        "cancelled" if seen.cancelled => Some(Outcome::Cancelled),
        "cancelled" => failed(
            FailureClass::Unknown,
            "the agent cancelled the turn by itself",
        ),
        "refusal" => failed(FailureClass::BadRequest, "the model refused to answer"),
        "max_tokens" => failed(
            FailureClass::ContextTooLarge,
            "the conversation or the answer does not fit the model; start a fresh conversation or ask for less",
        ),
        "max_turn_requests" => failed(
            FailureClass::Unknown,
            "the agent stopped: the turn took more requests to the model than it may",
        ),
        other => {
            let message = format!(
                "the agent stopped for a reason that is not known here: {}",
                clip(other)
            );
            failed(FailureClass::Unknown, &message)
        }
    }
}

/// A failure without advice when to try again.
fn failure(class: FailureClass, message: impl Into<String>) -> Failure {
    Failure {
        class,
        message: message.into(),
        retry_after: None,
    }
}

/// The failure that an error stands for.
pub(super) fn of_error(error: &RpcError) -> Failure {
    let message = told(error);
    Failure {
        class: class(error, &message),
        retry_after: retry_after(&message),
        message,
    }
}

/// An error in the agent's words.
pub(super) fn told(error: &RpcError) -> String {
    let details = ["details", "message", "error"]
        .into_iter()
        .filter_map(|key| error.data[key].as_str());
    let details = error
        .data
        .as_str()
        .into_iter()
        .chain(details)
        .find(|text| !text.is_empty());
    // gemini's message is the provider's document.
    let document: Option<Value> = serde_json::from_str(&error.message).ok();
    let inner = document
        .as_ref()
        .and_then(|document| document["error"]["message"].as_str());
    let message = match (inner.unwrap_or(&error.message), details) {
        ("" | "Internal error", Some(details)) => details.to_owned(),
        ("", None) => "it gave no reason".to_owned(),
        (message, Some(details)) if !message.contains(details) => format!("{message}: {details}"),
        (message, _) => message.to_owned(),
    };
    format!("{} (code {})", clip(&message), error.code)
}

fn class(error: &RpcError, message: &str) -> FailureClass {
    if error.code == AUTH_REQUIRED {
        return FailureClass::Auth;
    }
    // gemini and qwen hand the provider's status on as the code.
    let lower = message.to_lowercase();
    let by_words = || {
        WORDS
            .iter()
            .find(|(words, _)| lower.contains(words))
            .map(|(_, class)| *class)
    };
    match u16::try_from(error.code) {
        Ok(400) => by_words()
            .filter(|class| *class == FailureClass::ContextTooLarge)
            .unwrap_or(FailureClass::BadRequest),
        // gemini's code for what it has no code for.
        Ok(500) => by_words().unwrap_or(FailureClass::Overloaded),
        Ok(status @ 401..=599) => by_status(status),
        _ if (-32700..=-32600).contains(&error.code) && error.code != INTERNAL_ERROR => {
            FailureClass::Protocol
        }
        _ => {
            // The words for a full context come with a 400, and sizes in them look like a status.
            let words = by_words().filter(|class| {
                matches!(
                    class,
                    FailureClass::ContextTooLarge | FailureClass::EmptyAnswer
                )
            });
            let status = STATUS
                .find(message)
                .and_then(|status| status.as_str().parse().ok());
            words
                .or(status.map(by_status))
                .or_else(by_words)
                .unwrap_or(FailureClass::Unknown)
        }
    }
}

fn by_status(status: u16) -> FailureClass {
    match status {
        401 | 403 => FailureClass::Auth,
        408 | 504 => FailureClass::Network,
        413 => FailureClass::ContextTooLarge,
        429 => FailureClass::RateLimit,
        500.. => FailureClass::Overloaded,
        _ => FailureClass::BadRequest,
    }
}

fn retry_after(message: &str) -> Option<Duration> {
    let found = RETRY_AFTER.captures(message)?;
    let number: f64 = found[1].parse().ok()?;
    let seconds = match &found[2] {
        "ms" => number / 1000.0,
        unit if unit.starts_with(['m', 'M']) => number * 60.0,
        _ => number,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn clip(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
