//! Reads the lines of `gemini --output-format stream-json`.
//!
//! Owns their shapes and what its exit codes mean. Must not know processes. Invariant: what is no known line is passed
//! over; only `result` says what came of the prompt. Measured with gemini-cli 0.61.0.

use serde_json::Value;

use super::frame::Ended;
use super::{Reading, Verdict};
use crate::outcome::{Failure, FailureClass, Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::{Outbox, TurnEvent};

/// gemini's own exit code for an input that it does not take.
const BAD_INPUT: u8 = 42;
/// Statuses of responses that become exit codes, without their upper bits.
const STATUSES: [u16; 11] = [400, 401, 403, 404, 413, 429, 500, 502, 503, 504, 529];

pub(super) struct Headless {
    turn: TurnId,
    /// What `error` lines say; the model's silence is told so.
    complaint: Option<String>,
    result: Option<Value>,
}

impl Headless {
    pub(super) fn new(turn: TurnId) -> Self {
        Self {
            turn,
            complaint: None,
            result: None,
        }
    }
}

impl Reading for Headless {
    fn line(&mut self, line: &[u8], out: &mut Outbox) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let text = |name: &str| line[name].as_str();
        match text("type") {
            Some("init") => {
                if let Some(session) = text("session_id") {
                    out.emit(TurnEvent::SessionChanged(session.to_owned()));
                }
            }
            Some("message") if text("role") == Some("assistant") => {
                if let Some(content) = text("content") {
                    out.emit(TurnEvent::Chunk {
                        turn: self.turn,
                        bytes: content.as_bytes().to_vec(),
                    });
                }
            }
            Some("error") => self.complaint = text("message").map(str::to_owned),
            Some("result") => self.result = Some(line),
            _ => {}
        }
    }

    fn verdict(&mut self, ended: Ended) -> Option<Verdict> {
        let result = self.result.take()?;
        let stats = &result["stats"];
        let usage = Usage {
            input_tokens: stats["input_tokens"].as_u64(),
            output_tokens: stats["output_tokens"].as_u64(),
            cost_usd: None,
        };
        let outcome = if result["status"] == "success" {
            Outcome::Completed
        } else {
            let message = result["error"]["message"].as_str().map(str::to_owned);
            Outcome::Failed(Failure {
                class: class(ended, message.as_deref(), usage.output_tokens),
                message: message
                    .or_else(|| self.complaint.take())
                    .unwrap_or_else(|| "gemini gave no reason".to_owned()),
                retry_after: None,
            })
        };
        Some(Verdict {
            usage: Some(usage),
            ..Verdict::of(outcome)
        })
    }
}

/// gemini exits with the status of the response that it gives up for, of which a process keeps the lower eight bits.
fn class(ended: Ended, message: Option<&str>, output_tokens: Option<u64>) -> FailureClass {
    let status = STATUSES
        .into_iter()
        .find(|status| ended == Ended::Code(status.to_le_bytes()[0]));
    match (ended, status) {
        (_, Some(status)) => FailureClass::of_status(status),
        (Ended::Code(BAD_INPUT), _) => FailureClass::BadRequest,
        // Without a reason, and with an exit code of 0: no text, no thoughts.
        _ if message.is_none() && output_tokens == Some(0) => FailureClass::EmptyAnswer,
        _ if message.is_some_and(|message| {
            ["terminated", "fetch failed"]
                .iter()
                .any(|word| message.contains(word))
        }) =>
        {
            FailureClass::Network
        }
        _ => FailureClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_stands_for_the_status_of_a_response() {
        for (code, message, expected) in [
            (145, Some("no"), FailureClass::Auth),
            (173, Some("no"), FailureClass::RateLimit),
            (244, Some("no"), FailureClass::Overloaded),
            (144, Some("no"), FailureClass::BadRequest),
            (42, Some("no"), FailureClass::BadRequest),
            (1, Some("[API Error: terminated]"), FailureClass::Network),
            (1, Some("no"), FailureClass::Unknown),
            (0, None, FailureClass::EmptyAnswer),
        ] {
            assert_eq!(
                class(Ended::Code(code), message, Some(0)),
                expected,
                "{code}"
            );
        }
        assert_eq!(class(Ended::Code(0), None, Some(7)), FailureClass::Unknown);
    }
}
