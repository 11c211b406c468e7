//! What goes into the machine, and what comes out.
//!
//! Owns the inputs and the actions. Must not decide. Invariant: plain data, so that every life can be replayed.

use std::time::{Duration, Instant};

use toolpool_pool_core::Pulse;
use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::{Doubt, DoubtCause};
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::{Answer, RequestId};

use super::InstanceState;
use crate::breaker::BreakerState;
use crate::permission::{PermissionId, Question, Settlement};

/// What can happen to an instance.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The owner wants it up; also the first input of all.
    Start,
    /// The start that was asked for begins now.
    Launching,
    /// A start was refused or went wrong before there was a process.
    LaunchFailed {
        /// Trying again cannot help.
        permanent: bool,
        /// Why.
        reason: String,
    },
    /// The tool is ready for prompts.
    Ready,
    /// A turn for it.
    Assign {
        /// The turn.
        turn: TurnId,
        /// The turn's own limit, instead of the instance's.
        timeout: Option<Duration>,
        /// The process that it is for: another one knows nothing of its session.
        generation: u64,
    },
    /// The protocol refused the turn's prompt: nothing was written.
    Refused(TurnId),
    /// The tool ended the turn.
    TurnEnded(TurnId),
    /// The caller withdraws the turn.
    Cancel(TurnId),
    /// The tool asks for a permission.
    Asked(Question),
    /// Somebody answers a question.
    Answer(PermissionId, Answer),
    /// The tool takes a question back.
    Withdrawn(RequestId),
    /// Nobody can follow the tool's output any more.
    Lost {
        /// What it cost the running turn.
        cause: DoubtCause,
        /// The evidence.
        detail: String,
    },
    /// The process is gone.
    Exited {
        /// How it ended.
        exit: Exit,
        /// Whether it may have read a byte of the running turn.
        written: bool,
        /// What it printed, as evidence in a line.
        words: String,
    },
    /// A deadline may have passed, or there is something to be seen of the process.
    Timer(Pulse),
    /// Finish the running turn, then stop and stay stopped.
    Drain,
    /// Stop now and stay stopped.
    Stop,
    /// The same without the grace: its process is killed at once.
    Kill,
    /// Stop now and start again with a healed breaker.
    Restart,
    /// A new process for the reason given, after the running turn.
    Replace(String),
}

/// What is to be known of an instance beside its state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// How long it stays in its state, at most.
    pub(crate) until: Option<Instant>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Failures that are left until its breaker opens.
    pub(crate) tries_left: u32,
    /// Its owner wants it up, now or again.
    pub(crate) returns: bool,
    /// Since when its tool has shown no life in its turn, if that was noticed.
    pub(crate) silent_since: Option<Instant>,
    /// Failures of its processes, ever.
    pub(crate) faults: u64,
    /// It restarts too often, and gets single starts with growing waits.
    pub(crate) crash_looping: bool,
}

impl Standing {
    /// Says something new while the state stays the same. Deadlines that turns push along do not count.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let told = |it: &Self| {
            (
                it.failures,
                it.returns,
                it.silent_since,
                it.faults,
                it.crash_looping,
            )
        };
        told(self) != told(other)
    }
}

/// What the supervisor is asked to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a process for the current generation.
    Spawn,
    /// Hand the turn to the protocol.
    Submit(TurnId),
    /// Ask the tool to stop the turn and live on.
    Interrupt,
    /// Show the question to whoever can answer it.
    Ask {
        /// What is asked.
        question: Question,
        /// Since now.
        asked: Instant,
        /// Until then.
        until: Instant,
    },
    /// The question has its end: pass an answer on, and stop showing it.
    Settle(Question, Settlement),
    /// Somebody answered a question that is not open, and is to be told.
    NotOpen(PermissionId),
    /// SIGTERM to the process group; to one that is only being born, once it is there.
    Terminate,
    /// SIGKILL to the process group. A start that has not become a process by now is given up.
    Kill,
    /// Give up a process that survives SIGKILL.
    Disown,
    /// The turn is over and nobody can say how.
    Doubt(TurnId, Doubt),
    /// The turn was not written: back to the front of the queue.
    HandBack(TurnId),
    /// The state changed, for the reason given.
    Changed {
        /// From this state.
        from: InstanceState,
        /// To this one.
        to: InstanceState,
        /// Why, for a human.
        reason: String,
    },
    /// The breaker changed.
    BreakerChanged(BreakerState),
}
