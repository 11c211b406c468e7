//! Reads the lines of `codex exec --json`.
//!
//! Owns their shapes and what its errors mean. Must not know processes. Invariant: what is no known line is passed over;
//! only `turn.completed` and `turn.failed` say what came of the prompt. Measured with codex 0.169.0.

use serde_json::Value;

use super::frame::Ended;
use super::{Reading, Verdict};
use crate::outcome::{Failure, FailureClass, Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::{Outbox, TurnEvent};

/// What codex writes before the status of a response that it gives up for.
const STATUS: [&str; 2] = ["unexpected status ", "last status: "];

pub(super) struct Exec {
    turn: TurnId,
    /// The last message: what comes before others tells what codex is about to do.
    answer: Option<String>,
    /// Whether it did anything but speak.
    acted: bool,
    verdict: Option<Verdict>,
}

impl Exec {
    pub(super) fn new(turn: TurnId) -> Self {
        Self {
            turn,
            answer: None,
            acted: false,
            verdict: None,
        }
    }

    fn item(&mut self, item: &Value, out: &mut Outbox) {
        match (item["type"].as_str(), item["text"].as_str()) {
            (Some("agent_message"), Some(text)) => {
                let gap = if self.answer.is_some() { "\n\n" } else { "" };
                out.emit(TurnEvent::Chunk {
                    turn: self.turn,
                    bytes: format!("{gap}{text}").into_bytes(),
                });
                self.answer = Some(text.to_owned());
            }
            // Notices, such as one of a model that it does not know, are of type `error`.
            (Some("agent_message" | "reasoning" | "error"), _) => {}
            _ => self.acted = true,
        }
    }

    fn completed(&mut self, usage: &Value) -> Verdict {
        let answer = self.answer.take().unwrap_or_default();
        let outcome = if answer.is_empty() && !self.acted {
            failed(
                FailureClass::EmptyAnswer,
                "the model answered nothing".to_owned(),
            )
        } else {
            Outcome::Completed
        };
        Verdict {
            outcome,
            answer: Some(answer),
            usage: Some(Usage {
                input_tokens: usage["input_tokens"].as_u64(),
                output_tokens: usage["output_tokens"].as_u64(),
                cost_usd: None,
            }),
        }
    }
}

impl Reading for Exec {
    fn line(&mut self, line: &[u8], out: &mut Outbox) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        match line["type"].as_str() {
            Some("thread.started") => {
                if let Some(thread) = line["thread_id"].as_str() {
                    out.emit(TurnEvent::SessionChanged(thread.to_owned()));
                }
            }
            Some("item.completed") => self.item(&line["item"], out),
            Some("turn.completed") => self.verdict = Some(self.completed(&line["usage"])),
            Some("turn.failed") => {
                let message = line["error"]["message"]
                    .as_str()
                    .unwrap_or("codex gave no reason");
                self.verdict = Some(Verdict::of(failed(class(message), message.to_owned())));
            }
            _ => {}
        }
    }

    fn verdict(&mut self, _ended: Ended) -> Option<Verdict> {
        self.verdict.take()
    }
}

fn failed(class: FailureClass, message: String) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message,
        retry_after: None,
    })
}

/// The messages are codex's own, with the status of the response in them; here it has no words for kinds of errors.
fn class(message: &str) -> FailureClass {
    let status = STATUS.iter().find_map(|before| {
        let number = message
            .strip_prefix(before)
            .or_else(|| Some(message.split_once(before)?.1))?;
        number.get(..3)?.parse().ok()
    });
    match status {
        Some(status) => FailureClass::of_status(status),
        None if message.starts_with("stream disconnected before completion") => {
            FailureClass::Network
        }
        // What codex makes of a 500.
        None if message.contains("currently experiencing high demand") => FailureClass::Overloaded,
        None if message.starts_with("Missing environment variable") => FailureClass::Auth,
        None if message.starts_with("{\"error\":") => FailureClass::BadRequest,
        None => FailureClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_class_of_the_status_that_codex_names() {
        for (message, expected) in [
            (
                "exceeded retry limit, last status: 429 Too Many Requests",
                FailureClass::RateLimit,
            ),
            (
                "unexpected status 401 Unauthorized: no, url: http://x/",
                FailureClass::Auth,
            ),
            (
                "unexpected status 400 Bad Request: no",
                FailureClass::BadRequest,
            ),
            (
                "unexpected status 503 Service Unavailable: no",
                FailureClass::Overloaded,
            ),
            (
                "stream disconnected before completion: Transport error",
                FailureClass::Network,
            ),
            (
                "We\u{2019}re currently experiencing high demand, which may cause temporary errors.",
                FailureClass::Overloaded,
            ),
            ("Missing environment variable: `KEY`.", FailureClass::Auth),
            ("unexpected status ", FailureClass::Unknown),
            ("unexpected status \u{e9}\u{e9}", FailureClass::Unknown),
            ("something else", FailureClass::Unknown),
        ] {
            assert_eq!(class(message), expected, "{message}");
        }
    }
}
