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
            "flexUnavailable"
            | "internalServerError"
            | "policyCapacityUnavailable"
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
    } else if message.starts_with("{\"error\":") {
        // The body of a response with status 400, as it came.
        FailureClass::BadRequest
    } else {
        FailureClass::Unknown
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_have_the_class_that_codex_gives_them() {
        let http = |kind: &str, status: Option<u16>| json!({kind: {"httpStatusCode": status}});
        let table = [
            (
                json!("contextWindowExceeded"),
                "",
                FailureClass::ContextTooLarge,
            ),
            (json!("usageLimitExceeded"), "", FailureClass::RateLimit),
            (json!("serverOverloaded"), "", FailureClass::Overloaded),
            (json!("unauthorized"), "", FailureClass::Auth),
            (json!("modelNotFound"), "", FailureClass::BadRequest),
            (json!("sandboxError"), "", FailureClass::Unknown),
            (json!("a new word"), "", FailureClass::Unknown),
            (
                http("responseTooManyFailedAttempts", Some(429)),
                "",
                FailureClass::RateLimit,
            ),
            (
                http("httpConnectionFailed", Some(401)),
                "",
                FailureClass::Auth,
            ),
            (
                http("httpConnectionFailed", Some(404)),
                "",
                FailureClass::BadRequest,
            ),
            (
                http("responseStreamConnectionFailed", Some(503)),
                "",
                FailureClass::Overloaded,
            ),
            (
                http("responseStreamDisconnected", None),
                "",
                FailureClass::Network,
            ),
            (
                json!({"activeTurnNotSteerable": {}}),
                "",
                FailureClass::Unknown,
            ),
            (
                json!("other"),
                "stream disconnected before completion: cut",
                FailureClass::Network,
            ),
            (
                json!("other"),
                "{\"error\":{\"message\":\"no\"}}",
                FailureClass::BadRequest,
            ),
            (
                json!(null),
                "Missing environment variable: `KEY`.",
                FailureClass::Auth,
            ),
            (json!(null), "", FailureClass::Unknown),
            (json!(7), "", FailureClass::Unknown),
        ];
        for (info, message, class) in table {
            let error = json!({"codexErrorInfo": info, "message": message});
            assert_eq!(of_turn(&error).class, class, "{error}");
        }
    }

    #[test]
    fn a_failure_says_what_codex_said() {
        let error = json!({"message": "no luck", "additionalDetails": "status 500"});
        assert_eq!(of_turn(&error).message, "no luck: status 500");
        assert_eq!(of_turn(&json!(null)).message, "codex gave no reason");
    }
}
