//! One turn of aider: what has been seen of it, how far its interrupt has come, and what it came to.
//!
//! Owns the turn's state and its end. Must not know what is written to aider or when. Invariant: text that aider prints
//! after it was told to stop is never passed on.

use std::collections::VecDeque;
use std::time::Instant;

use super::answer::last_answer;
use super::encode::Step;
use super::outcome::Events;
use super::screen::{Finder, Frame, Retries, Screen, Shown};
use super::{EVENTS, LLM_LOG};
use crate::outcome::{Failure, FailureClass, Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::{Outbox, SideFile, TurnEvent};

/// One turn: the steps that are still to be written, and what has been seen of the one that runs.
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) step: Step,
    pub(super) rest: VecDeque<Step>,
    pub(super) frame: Frame,
    pub(super) screen: Screen,
    pub(super) retries: Retries,
    pub(super) cancel: Cancel,
    pub(super) files: Option<SideFiles>,
}

/// How far an interrupt has come.
pub(super) enum Cancel {
    /// Nobody asked.
    No,
    /// Asked for, but a signal would do harm now.
    Wanted,
    /// A signal is under way. `over` when the turn turned out to have ended by itself.
    Sent {
        tries: u8,
        deadline: Instant,
        acknowledgement: Finder,
        over: bool,
    },
    /// aider has stopped; its answer to a fresh mark is awaited.
    Draining { deadline: Instant, over: bool },
}

/// What the side files say, as far as they have been read.
#[derive(Default)]
pub(super) struct SideFiles {
    events: Option<Events>,
    answer: Option<Option<String>>,
}

/// What a turn came to.
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) answer: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl End {
    pub(super) fn without_answer(outcome: Outcome) -> Self {
        Self {
            outcome,
            answer: None,
            usage: None,
        }
    }
}

impl Turn {
    /// Takes a piece of the reply.
    pub(super) fn take(&mut self, text: &[u8], out: &mut Outbox) {
        if !matches!(self.cancel, Cancel::Draining { .. }) {
            self.screen.push(text);
            self.pass_on(text, out);
        }
    }

    /// Takes the last piece of the reply, with the prompt behind it. A piece of that prompt may already have been passed
    /// on if a file has joined the chat in this turn; it is taken back from the screen at least.
    pub(super) fn take_last(&mut self, mut held: Vec<u8>, shown: &Shown, out: &mut Outbox) {
        if !matches!(self.cancel, Cancel::Draining { .. }) {
            self.screen.push(&held);
            self.screen.strip(shown);
            shown.strip(&mut held);
            self.pass_on(&held, out);
        }
    }

    fn pass_on(&mut self, text: &[u8], out: &mut Outbox) {
        let is_asked_for = matches!(self.cancel, Cancel::No | Cancel::Wanted);
        if is_asked_for && !self.step.prepares() && !text.is_empty() {
            out.emit(TurnEvent::Chunk {
                turn: self.id,
                bytes: text.to_vec(),
            });
            for message in self.retries.look(text) {
                out.emit(TurnEvent::Retrying {
                    turn: self.id,
                    message,
                });
            }
        }
    }

    /// The first mark has been answered. If a signal is under way, it came too late.
    pub(super) fn note_end(&mut self, shown: &Shown, out: &mut Outbox) {
        match &mut self.cancel {
            Cancel::Sent { over, .. } => {
                *over = true;
                let held = self.frame.abandon();
                self.screen.push(&held);
                self.screen.strip(shown);
            }
            Cancel::Wanted => out.wake_at(None),
            Cancel::No | Cancel::Draining { .. } => {}
        }
    }

    pub(super) fn acknowledges(&mut self, bytes: &[u8]) -> bool {
        match &mut self.cancel {
            Cancel::Sent {
                acknowledgement, ..
            } => acknowledgement.feed(bytes),
            _ => false,
        }
    }

    /// Why the step that is over cannot be followed by the next: aider could not take a file.
    pub(super) fn missing_file(&self) -> Option<Failure> {
        let Step::Add(file) = &self.step else {
            return None;
        };
        let printed = self.screen.text();
        if added(&printed) {
            return None;
        }
        let why = if printed.contains("No match") {
            "git tracks no such file; name one relative to the repository, or `git add` it first"
        } else {
            printed.trim()
        };
        Some(Failure {
            class: FailureClass::BadRequest,
            message: format!(
                "the prompt was not sent, because aider could not take {file} into the chat: {why}"
            ),
            retry_after: None,
        })
    }

    /// Takes a side file; returns what the turn came to once both are there.
    pub(super) fn take_file(
        &mut self,
        name: SideFile,
        contents: &[u8],
    ) -> Option<Result<End, String>> {
        let files = self.files.as_mut()?;
        match name {
            EVENTS => files.events = Some(Events::parse(contents)),
            LLM_LOG => files.answer = Some(last_answer(&String::from_utf8_lossy(contents))),
            _ => return None,
        }
        if files.events.is_none() || files.answer.is_none() {
            return None;
        }
        let (events, logged) = (files.events.take()?, files.answer.take()?);
        Some(self.end(&events, logged))
    }

    fn end(&self, events: &Events, logged: Option<String>) -> Result<End, String> {
        let is_command = matches!(self.step, Step::Command(_));
        let answer = if is_command {
            self.screen.whole()
        } else {
            logged
        };
        let answer = answer.filter(|text| !text.is_empty());
        let outcome = match self.cancel {
            Cancel::Draining { over: false, .. } => Outcome::Cancelled,
            _ if events.asked_a_model() => events.outcome(&self.screen.text(), answer.is_some()),
            _ if is_command => Outcome::Completed,
            _ => {
                return Err(format!(
                    "aider ended the turn and logged no request in {EVENTS}; \
                     leave its --analytics-log to the profile"
                ));
            }
        };
        Ok(End {
            outcome,
            answer,
            usage: events.usage(),
        })
    }
}

/// Whether `/add` did nothing but add.
fn added(printed: &str) -> bool {
    let mut lines = printed.lines().filter(|line| !line.is_empty()).peekable();
    lines.peek().is_some()
        && lines.all(|line| {
            line.starts_with("Added ") && line.ends_with(" to the chat")
                || line.ends_with(" is already in the chat as an editable file")
                || line.starts_with("Moved ") && line.ends_with(" to editable files in the chat")
        })
}
