//! The seam between bytes and turns: protocols are synchronous state machines.
//!
//! Owns the [`Protocol`] trait and the [`Outbox`] through which a protocol says what to do and what happened. Must not
//! know processes, tasks or timers: bytes and the time go in, bytes to write and turn events come out, so that every
//! recorded transcript can be replayed with no process in sight. Invariant: a protocol reports the end of a turn at
//! most once, and only for the turn that was submitted last.

pub mod acp;
pub mod aider;
pub mod claude;
pub mod codex;
mod commands;
mod files;
pub mod job;
pub mod json_rpc;
pub mod lines;
pub mod oneshot;
mod question;
#[cfg(test)]
pub(crate) mod recording;
pub mod screen;

use std::collections::VecDeque;
use std::time::Instant;

use crate::outcome::{Attribution, Outcome, Usage};
use crate::prompt::{Prompt, Refusal, TurnId};

/// Where bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The tool's standard output.
    Stdout,
    /// The tool's standard error.
    Stderr,
}

/// A file that the tool writes beside its output, in the instance's private state folder. Protocols name it by its
/// file name only.
pub type SideFile = &'static str;

/// One CLI family's way of talking. Implementors are pure: no I/O, no clock, no sleeping, no panics on any input.
///
/// The shell calls `resume` if there is something to go on with, `start` once after the spawn, then `submit` for one turn at a time, and feeds every byte that the
/// tool writes to `receive`, cut anywhere. After a [`TurnEvent::Fault`] the shell kills the process and never calls the
/// protocol again.
pub trait Protocol: Send {
    /// Says before `start` that the process is to go on with the conversation of that name, which an earlier process has
    /// left. Whoever can tells so by [`TurnEvent::SessionChanged`] with that very name before [`TurnEvent::Ready`]. Whoever
    /// cannot begins a conversation of another name, or the process ends.
    fn resume(&mut self, _conversation: &str) {}
    /// Begins the handshake that ends in [`TurnEvent::Ready`].
    fn start(&mut self, out: &mut Outbox);
    /// Encodes a prompt. Called only when ready and idle.
    ///
    /// # Errors
    /// A [`Refusal`] if this prompt cannot be sent; then nothing was written and the protocol is still idle.
    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal>;
    /// Takes bytes that the tool wrote.
    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox);
    /// Takes the contents of a file that was asked for by [`Outbox::read_file`]; empty if it does not exist.
    fn file(&mut self, _name: SideFile, _contents: &[u8], _out: &mut Outbox) {}
    /// Asks the tool to stop the running turn and stay alive. A protocol that cannot do so leaves this empty; the
    /// shell then kills the process when the interrupt grace is over. Questions that are open are the protocol's own to
    /// take back or to answer with a no: the shell forgets them.
    fn interrupt(&mut self, _out: &mut Outbox) {}
    /// Answers a question that came as [`TurnEvent::Waiting`]. One that is not open any more is ignored.
    fn answer(&mut self, _request: &RequestId, _answer: Answer, _out: &mut Outbox) {}
    /// Called when the time given to [`Outbox::wake_at`] has come.
    fn tick(&mut self, _out: &mut Outbox) {}
}

/// The tool's own id of a question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub String);

/// A human's or a policy's answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This once.
    Allow,
    /// No; the turn goes on, and the model is told.
    Deny,
}

/// What a tool asks permission for. Taken from structured fields only, never from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Looks only: reads files, searches.
    Read,
    /// Changes files.
    Edit,
    /// Runs a program.
    Execute,
    /// Anything else, or unknown.
    Other,
}

impl Act {
    /// The stable lower-case word used in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
            Self::Execute => "execute",
            Self::Other => "other",
        }
    }
}

/// What the shell is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send SIGINT to the tool's process group.
    Interrupt,
    /// Read a side file and hand it to [`Protocol::file`].
    ReadFile(SideFile),
    /// Make a side file empty, if it exists.
    TruncateFile(SideFile),
}

/// What happened, as far as the protocol can tell.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TurnEvent {
    /// The tool is ready for its first prompt.
    Ready,
    /// A piece of the running turn's reply, as it was written.
    Chunk {
        /// The running turn.
        turn: TurnId,
        /// Bytes of the reply, cut anywhere.
        bytes: Vec<u8>,
    },
    /// The turn's work goes on outside of the process, where nothing that is done to the process can stop it. If the turn
    /// ends in doubt, whoever reads of it should read this too.
    Elsewhere {
        /// The running turn.
        turn: TurnId,
        /// What goes on and where it can be seen, in one line.
        place: String,
    },
    /// The tool is trying its model again by itself; the turn still runs.
    Retrying {
        /// The running turn.
        turn: TurnId,
        /// What the tool said about it.
        message: String,
    },
    /// The tool asks for a permission and the turn waits for [`Protocol::answer`].
    Waiting {
        /// The running turn.
        turn: TurnId,
        /// Names the question; the tool's own id.
        request: RequestId,
        /// What it wants to do, in one line, for a human.
        question: String,
        /// What kind of act it is, for policies.
        act: Act,
    },
    /// The tool withdrew its question: it must not be answered any more.
    Withdrawn {
        /// Which question.
        request: RequestId,
    },
    /// The tool's own name for its conversation, by which a new process can resume it.
    SessionChanged(String),
    /// The turn is over and the tool is ready for the next one.
    TurnEnded {
        /// The turn that ended.
        turn: TurnId,
        /// How it ended.
        outcome: Outcome,
        /// How that is known.
        attribution: Attribution,
        /// The exact answer where the tool gives it apart from its output; the chunks are the answer otherwise.
        answer: Option<String>,
        /// What the tool reports to have used.
        usage: Option<Usage>,
    },
    /// The tool did something that the protocol cannot follow. The process must not get another prompt.
    Fault(String),
}

/// What a protocol wants done and what it has seen, in order. The shell empties it after each call.
#[derive(Debug)]
pub struct Outbox {
    now: Instant,
    write: Vec<u8>,
    actions: Vec<Action>,
    events: VecDeque<TurnEvent>,
    wake_at: Option<Instant>,
}

impl Outbox {
    /// An empty outbox; `now` is what [`Outbox::now`] answers until [`Outbox::set_now`].
    pub fn new(now: Instant) -> Self {
        Self {
            now,
            write: Vec::new(),
            actions: Vec::new(),
            events: VecDeque::new(),
            wake_at: None,
        }
    }

    /// The time of this call. Protocols have no other clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Sets the time before a call into the protocol.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Queues bytes for the tool's standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.write.extend_from_slice(bytes);
    }

    /// Asks for SIGINT to the process group.
    pub fn interrupt(&mut self) {
        self.actions.push(Action::Interrupt);
    }

    /// Asks for the contents of a side file, which then come to [`Protocol::file`].
    pub fn read_file(&mut self, name: SideFile) {
        self.actions.push(Action::ReadFile(name));
    }

    /// Asks for a side file to be made empty.
    pub fn truncate_file(&mut self, name: SideFile) {
        self.actions.push(Action::TruncateFile(name));
    }

    /// Says what happened.
    pub fn emit(&mut self, event: TurnEvent) {
        self.events.push_back(event);
    }

    /// Asks for a call of [`Protocol::tick`] at `when`; replaces an earlier wish, `None` withdraws it.
    pub fn wake_at(&mut self, when: Option<Instant>) {
        self.wake_at = when;
    }

    /// Shell and tests: the bytes to write, taken out.
    pub fn take_write(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.write)
    }

    /// Shell: the bytes to write, left in place so that the buffer is reused.
    pub(crate) fn write_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.write
    }

    /// Shell and tests: the actions, taken out.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Shell and tests: the oldest event.
    pub fn next_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// Shell and tests: when the protocol wants to be called.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.wake_at
    }
}
