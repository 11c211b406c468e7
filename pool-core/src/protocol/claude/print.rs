//! Reads what `claude --print --output-format stream-json` writes for one prompt.
//!
//! Owns the way from its lines to an outcome. Must not know processes. Invariant: the last `result` before the end of the
//! process counts, because the process has one prompt.

use super::message::{Ended, Message};
use super::outcome;
use super::turn::{Step, Turn};
use crate::outcome::{Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::oneshot::{Reading, Verdict, frame};
use crate::protocol::{Outbox, TurnEvent};

/// The turn of a process that has one prompt.
pub(in crate::protocol) struct PrintReading {
    turn: Turn,
    ended: Option<Box<Ended>>,
}

impl PrintReading {
    pub(in crate::protocol) fn new(turn: TurnId) -> Self {
        Self {
            turn: Turn::new(turn, String::new(), Step::Ask, false),
            ended: None,
        }
    }
}

impl Reading for PrintReading {
    fn line(&mut self, line: &[u8], out: &mut Outbox) {
        match Message::parse(line) {
            Ok(Message::Ended(ended)) if !ended.by_itself => self.ended = Some(ended),
            Ok(Message::Began {
                session: Some(session),
            }) => out.emit(TurnEvent::SessionChanged(session)),
            Ok(message) => self.turn.take(message, out),
            // A message that lives by its id belongs to another way of asking.
            Err(_) => {}
        }
    }

    fn verdict(&mut self, _ended: frame::Ended) -> Option<Verdict> {
        let ended = self.ended.take()?;
        let outcome = outcome::outcome(&ended, self.turn.known());
        Some(Verdict {
            answer: (outcome == Outcome::Completed).then_some(ended.text),
            outcome,
            usage: Some(Usage {
                input_tokens: ended.input_tokens,
                output_tokens: ended.output_tokens,
                cost_usd: ended.total_cost_usd,
            }),
        })
    }
}
