//! What a turn came to, read off the message that ends it.
//!
//! Owns the classes of errors. Must not know the wire. Invariant: `subtype` decides nothing, because it says `success`
//! of errors of the model's provider too.

use super::message::Ended;
use crate::outcome::{Failure, FailureClass, Outcome};

/// The longest message of a failure, in characters.
const MESSAGE_CHARS: usize = 500;

/// What the protocol knows of the turn beside the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known<'a> {
    /// Whether we asked Claude to stop.
    pub(super) interrupted: bool,
    /// Claude's word for the kind of error that it put in the place of an answer.
    pub(super) error: Option<&'a str>,
    /// Whether something came of it even if the answer is empty: a tool was called, or it was a command.
    pub(super) may_be_empty: bool,
}

/// How a turn came out.
pub(super) fn outcome(ended: &Ended, known: Known<'_>) -> Outcome {
    if known.interrupted && is_aborted(ended) {
        return Outcome::Cancelled;
    }
    if !ended.is_error && !ended.subtype.starts_with("error") {
        return if ended.text.is_empty() && !known.may_be_empty {
            let message = "the model answered nothing, although claude asked it again";
            failed(FailureClass::EmptyAnswer, message)
        } else {
            Outcome::Completed
        };
    }
    let message = match (ended.text.trim(), ended.terminal_reason.as_str()) {
        ("", "") => format!("claude ended the turn with {}", ended.subtype),
        ("", reason) => format!("claude ended the turn with {reason}"),
        (text, _) => text.chars().take(MESSAGE_CHARS).collect(),
    };
    failed(class(ended, known.error), message)
}

/// The older versions call an error of the provider `completed`, but both call an interrupt by its name.
fn is_aborted(ended: &Ended) -> bool {
    ended.terminal_reason.starts_with("aborted")
        || ended.terminal_reason.is_empty() && ended.subtype == "error_during_execution"
}

fn class(ended: &Ended, error: Option<&str>) -> FailureClass {
    match (ended.terminal_reason.as_str(), ended.status) {
        ("prompt_too_long" | "blocking_limit" | "rapid_refill_breaker", _) | (_, Some(413)) => {
            return FailureClass::ContextTooLarge;
        }
        _ => {}
    }
    match error {
        Some(
            "authentication_failed"
            | "oauth_org_not_allowed"
            | "account_on_hold"
            | "verification_required"
            | "billing_error"
            | "cloud_credential_error",
        ) => return FailureClass::Auth,
        Some("rate_limit") => return FailureClass::RateLimit,
        Some("overloaded") => return FailureClass::Overloaded,
        Some("max_output_tokens") => return FailureClass::ContextTooLarge,
        Some("invalid_request" | "model_not_found") => return FailureClass::BadRequest,
        _ => {}
    }
    match ended.status {
        Some(401 | 403) => FailureClass::Auth,
        Some(429) => FailureClass::RateLimit,
        Some(400..=499) => FailureClass::BadRequest,
        Some(500..) => FailureClass::Overloaded,
        // An error of the provider without a status: no response came.
        None if error.is_some() => FailureClass::Network,
        _ => FailureClass::Unknown,
    }
}

fn failed(class: FailureClass, message: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message: message.into(),
        // Claude waits as long as the provider says before it tries again, and does not pass it on.
        retry_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Option<u64>, terminal_reason: &str) -> Ended {
        Ended {
            is_error: true,
            subtype: "success".to_owned(),
            terminal_reason: terminal_reason.to_owned(),
            status,
            text: "API Error".to_owned(),
            ..Ended::default()
        }
    }

    /// Each pair as seen in 2.1.197 or 2.1.330, but for those that need a real account.
    #[test]
    fn errors_of_the_provider_have_the_class_that_callers_act_on() {
        use FailureClass::{
            Auth, BadRequest, ContextTooLarge, Network, Overloaded, RateLimit, Unknown,
        };
        for (status, reason, kind, expected) in [
            (Some(400), "api_error", Some("unknown"), BadRequest),
            (Some(400), "api_error", Some("billing_error"), Auth),
            (
                Some(400),
                "prompt_too_long",
                Some("invalid_request"),
                ContextTooLarge,
            ),
            (Some(401), "api_error", Some("authentication_failed"), Auth),
            (Some(403), "completed", Some("authentication_failed"), Auth),
            (Some(404), "api_error", Some("model_not_found"), BadRequest),
            (
                Some(413),
                "image_error",
                Some("invalid_request"),
                ContextTooLarge,
            ),
            (Some(429), "completed", Some("rate_limit"), RateLimit),
            (Some(429), "api_error", None, RateLimit),
            (Some(500), "api_error", Some("server_error"), Overloaded),
            (Some(529), "api_error", Some("overloaded"), Overloaded),
            (None, "api_error", Some("authentication_failed"), Auth),
            (None, "api_error", Some("unknown"), Network),
            (None, "completed", Some("server_error"), Network),
            (None, "model_error", None, Unknown),
        ] {
            let known = Known {
                error: kind,
                ..Known::default()
            };
            match outcome(&error(status, reason), known) {
                Outcome::Failed(failure) => {
                    assert_eq!(failure.class, expected, "{status:?} {reason} {kind:?}");
                    assert_eq!(failure.message, "API Error");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_aborted_turn_is_cancelled_only_if_we_asked_for_it() {
        for reason in ["aborted_streaming", "aborted_tools", ""] {
            let mut ended = error(None, reason);
            ended.subtype = "error_during_execution".to_owned();
            let known = |interrupted| Known {
                interrupted,
                ..Known::default()
            };
            assert_eq!(outcome(&ended, known(true)), Outcome::Cancelled);
            assert!(matches!(outcome(&ended, known(false)), Outcome::Failed(_)));
        }
        let interrupted = Known {
            interrupted: true,
            ..Known::default()
        };
        let answered = Ended {
            text: "done".to_owned(),
            ..Ended::default()
        };
        assert_eq!(
            outcome(&answered, interrupted),
            Outcome::Completed,
            "it was faster"
        );
        assert!(matches!(
            outcome(&error(Some(429), "api_error"), interrupted),
            Outcome::Failed(_)
        ));
    }

    #[test]
    fn an_empty_answer_is_a_failure_unless_a_tool_was_called() {
        let empty = Ended::default();
        for (may_be_empty, expected) in [(true, "completed"), (false, "failed")] {
            let known = Known {
                may_be_empty,
                ..Known::default()
            };
            assert_eq!(outcome(&empty, known).word(), expected);
        }
    }

    #[test]
    fn a_turn_that_ran_into_a_limit_of_claudes_own_says_which() {
        let ended = Ended {
            is_error: true,
            subtype: "error_max_turns".to_owned(),
            ..Ended::default()
        };
        match outcome(&ended, Known::default()) {
            Outcome::Failed(failure) => assert!(failure.message.contains("error_max_turns")),
            other => panic!("{other:?}"),
        }
    }
}
