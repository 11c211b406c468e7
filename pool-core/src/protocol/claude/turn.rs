//! The running turn.
//!
//! Owns what has been seen of it. Must not know the wire. Invariant: it is over only when the message that ends it has
//! come and each interrupt that was sent has been answered, so that none can hit the next turn.

use std::collections::BTreeMap;

use serde_json::Value;

use super::message::{Ended, Message};
use super::outcome::Known;
use crate::prompt::TurnId;
use crate::protocol::{Outbox, RequestId, TurnEvent};

/// What Claude is doing for the turn.
#[derive(Debug)]
pub(super) enum Step {
    /// It begins a new conversation.
    Clear {
        /// The text that comes then.
        text: String,
        /// The name of the conversation that is left.
        left: Option<String>,
    },
    /// It answers the prompt.
    Ask,
}

/// How far an interrupt has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Cancel {
    /// Nobody asked for it.
    #[default]
    No,
    /// It waits until Claude has taken the prompt up: one that comes before is answered, and lost.
    Wanted,
    /// Claude was asked to stop.
    Sent,
}

/// A turn, from the prompt to its end.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) id: TurnId,
    /// The id of the message of the current step.
    pub(super) message: String,
    pub(super) step: Step,
    /// Whether Claude has taken up the message.
    pub(super) begun: bool,
    pub(super) cancel: Cancel,
    /// How many interrupts have not been answered.
    pub(super) unanswered: u32,
    /// What has been asked, with the tool's input.
    pub(super) questions: BTreeMap<RequestId, Value>,
    /// The end, while an answer to an interrupt is still missing.
    pub(super) ended: Option<Box<Ended>>,
    /// The answer that is coming in pieces.
    streamed: String,
    /// Whether a chunk was written, and then a block of the answer ended.
    gap: Gap,
    tools: usize,
    error: Option<String>,
    is_command: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Gap {
    NothingYet,
    Within,
    Due,
}

impl Turn {
    pub(super) fn new(id: TurnId, message: String, step: Step, is_command: bool) -> Self {
        Self {
            id,
            message,
            step,
            begun: false,
            cancel: Cancel::No,
            unanswered: 0,
            questions: BTreeMap::new(),
            ended: None,
            streamed: String::new(),
            gap: Gap::NothingYet,
            tools: 0,
            error: None,
            is_command,
        }
    }

    /// Goes on to the prompt; returns its text.
    pub(super) fn ask(&mut self, message: String) -> Option<String> {
        match std::mem::replace(&mut self.step, Step::Ask) {
            Step::Ask => None,
            Step::Clear { text, .. } => {
                self.message = message;
                self.begun = false;
                Some(text)
            }
        }
    }

    /// The name of the conversation that is to be forgotten.
    pub(super) fn left(&self) -> Option<&String> {
        match &self.step {
            Step::Clear { left, .. } => left.as_ref(),
            Step::Ask => None,
        }
    }

    /// Takes a message that changes nothing but the turn.
    pub(super) fn take(&mut self, message: Message, out: &mut Outbox) {
        match message {
            Message::Withdrawn { id } => {
                let request = RequestId(id);
                if self.questions.remove(&request).is_some() {
                    out.emit(TurnEvent::Withdrawn { request });
                }
            }
            Message::Retry { message } => out.emit(TurnEvent::Retrying {
                turn: self.id,
                message,
            }),
            Message::AnswerBegan { id } => self.streamed = id,
            Message::BlockBegan => self.end_block(),
            Message::Text(text) => self.write(&text, out),
            Message::Answer { id, text, tools } => {
                self.error = None;
                self.tools += tools;
                // Otherwise its text has come in pieces before.
                if id != self.streamed || id.is_empty() {
                    self.end_block();
                    self.write(&text, out);
                }
            }
            Message::Error { kind } => self.error = Some(kind),
            _ => {}
        }
    }

    /// What comes next is another block of text.
    fn end_block(&mut self) {
        if self.gap == Gap::Within {
            self.gap = Gap::Due;
        }
    }

    /// Passes a piece of text on, as it is written.
    fn write(&mut self, text: &str, out: &mut Outbox) {
        if text.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        if self.gap == Gap::Due {
            // What is said before a tool is used and what is said after it do not flow into each other.
            bytes.extend_from_slice(b"\n\n");
        }
        self.gap = Gap::Within;
        bytes.extend_from_slice(text.as_bytes());
        out.emit(TurnEvent::Chunk {
            turn: self.id,
            bytes,
        });
    }

    /// Forgets all questions: the turn is over, or they were withdrawn.
    pub(super) fn withdraw_all(&mut self, out: &mut Outbox) {
        for request in std::mem::take(&mut self.questions).into_keys() {
            out.emit(TurnEvent::Withdrawn { request });
        }
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known {
            interrupted: self.cancel != Cancel::No,
            error: self.error.as_deref(),
            may_be_empty: self.is_command || self.tools > 0,
        }
    }
}
