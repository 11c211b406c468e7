//! Reads what `aider --message-file` leaves behind for one prompt.
//!
//! Owns the way from its two files to an outcome. Must not know processes. Invariant: the exit code says nothing, because
//! it is 0 for an error of the model's provider too (measured with aider 0.86.2).

use super::answer::last_answer;
use super::outcome::Events;
use super::{EVENTS, LLM_LOG};
use crate::prompt::TurnId;
use crate::protocol::oneshot::frame::Ended;
use crate::protocol::oneshot::{Reading, Verdict};
use crate::protocol::{Outbox, SideFile, TurnEvent};

/// How much of what aider prints is kept to find its last words on an error.
const SCREEN_BYTES: usize = 1 << 20;

/// The turn of a process that has one prompt.
pub(in crate::protocol) struct MessageReading {
    turn: TurnId,
    screen: Vec<u8>,
    events: Events,
    answer: Option<String>,
}

impl MessageReading {
    pub(in crate::protocol) fn new(turn: TurnId) -> Self {
        Self {
            turn,
            screen: Vec::new(),
            events: Events::default(),
            answer: None,
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        self.screen.extend_from_slice(bytes);
        let surplus = self.screen.len().saturating_sub(2 * SCREEN_BYTES);
        if surplus > 0 {
            self.screen.drain(..surplus + SCREEN_BYTES);
        }
    }
}

impl Reading for MessageReading {
    fn wants_lines(&self) -> bool {
        false
    }

    fn bytes(&mut self, bytes: &[u8], out: &mut Outbox) {
        self.print(bytes);
        out.emit(TurnEvent::Chunk {
            turn: self.turn,
            bytes: bytes.to_vec(),
        });
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.print(bytes);
    }

    fn files(&self) -> &'static [SideFile] {
        &[EVENTS, LLM_LOG]
    }

    fn file(&mut self, name: SideFile, contents: &[u8]) {
        if name == EVENTS {
            self.events = Events::parse(contents);
        } else {
            self.answer = last_answer(&String::from_utf8_lossy(contents));
        }
    }

    fn verdict(&mut self, _ended: Ended) -> Option<Verdict> {
        if !self.events.asked_a_model() {
            return None;
        }
        let answer = self.answer.take().filter(|answer| !answer.is_empty());
        let screen = String::from_utf8_lossy(&self.screen);
        Some(Verdict {
            outcome: self.events.outcome(&screen, answer.is_some()),
            answer,
            usage: self.events.usage(),
        })
    }
}
