//! What codex's errors mean.
//!
//! Owns the table from codex's words to classes. Must not know turns. Invariant: total; what is not in the table is
//! `Unknown`, with codex's own message.

use serde_json::Value;

use crate::outcome::{Failure, FailureClass};
use crate::protocol::json_rpc::RpcError;

/// A request has parameters that codex does not take.
const INVALID_PARAMS: i64 = -32602;
/// A request does not fit the state.
const INVALID_REQUEST: i64 = -32600;
/// Too many requests wait already; documented as worth another try.
const OVERLOADED: i64 = -32001;

/// The failure of a turn, from its `error`.
pub(super) fn of_turn(error: &Value) -> Failure {
    let message = described(error);
    Failure {
        class: class(&error["codexErrorInfo"], &message),
        retry_after: None,
        message,
    }
}

/// The failure of a turn that codex refused to begin.
pub(super) fn of_refusal(error: &RpcError) -> Failure {
    Failure {
        class: match error.code {
            OVERLOADED => FailureClass::Overloaded,
            INVALID_PARAMS | INVALID_REQUEST => FailureClass::BadRequest,
            _ => FailureClass::Protocol,
        },
        message: format!("codex refused the prompt: {}", error.message),
        retry_after: None,
    }
}

/// An error's message, and what codex adds to it.
pub(super) fn described(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("codex gave no reason");
    match error["additionalDetails"].as_str() {
        Some(details) if !details.is_empty() => format!("{message}: {details}"),
        _ => message.to_owned(),
    }
}

fn class(info: &Value, message: &str) -> FailureClass {
    match info {
        Value::String(word) => match word.as_str() {
            "contextWindowExceeded" => FailureClass::ContextTooLarge,
            "rateLimitExceeded" | "usageLimitExceeded" | "sessionBudgetExceeded" => {
                FailureClass::RateLimit
            }
            "flexUnavailable" | "internalServerError" | "policyCapacityUnavailable"
            | "serverOverloaded" => FailureClass::Overloaded,
            "unauthorized" => FailureClass::Auth,
            "badRequest"
            | "cyberPolicy"
            | "inferenceHookDenied"
            | "misalignmentPolicyViolation"
            | "modelNotFound" => FailureClass::BadRequest,
            _ => by_message(message),
        },
        // `{"httpConnectionFailed": {"httpStatusCode": 401}}`; there are four kinds, told apart by when it happened.
        Value::Object(kinds) => match kinds.values().find_map(|kind| kind.get("httpStatusCode")) {
            Some(status) => by_status(status.as_u64()),
            None => FailureClass::Unknown,
        },
        _ => by_message(message),
    }
}

fn by_status(status: Option<u64>) -> FailureClass {
    match status {
        None => FailureClass::Network,
        Some(401 | 403) => FailureClass::Auth,
        Some(413) => FailureClass::ContextTooLarge,
        Some(429) => FailureClass::RateLimit,
        Some(400..500) => FailureClass::BadRequest,
        Some(500..600) => FailureClass::Overloaded,
        Some(_) => FailureClass::Unknown,
    }
}

/// codex has no word for some failures; the messages are its own, never the model's.
fn by_message(message: &str) -> FailureClass {
    if message.starts_with("stream disconnected before completion") {
        FailureClass::Network
    } else if message.starts_with("Missing environment variable") {
        FailureClass::Auth
    } else {
        FailureClass::Unknown
    }
}
