//! The exact account of all prompts.
//!
//! Owns the counts. Must not know where a prompt is. Invariant: what was accepted is counted in exactly one other line.

use serde::Serialize;
use toolpool_pool_core::outcome::Outcome;

/// The exact account of all prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Prompts taken in.
    pub accepted: u64,
    /// Prompts refused at the door; not part of `accepted`.
    pub refused: u64,
    /// Ended with an answer.
    pub completed: u64,
    /// Ended with a definite failure.
    pub failed: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Out of time in the queue.
    pub expired: u64,
    /// Ended in doubt.
    pub indeterminate: u64,
    /// Queued now.
    pub queued: u64,
    /// Running now.
    pub running: u64,
}

impl Books {
    /// Whether every accepted prompt is accounted for.
    pub fn balance(&self) -> bool {
        self.accepted
            == self.completed
                + self.failed
                + self.cancelled
                + self.expired
                + self.indeterminate
                + self.queued
                + self.running
    }

    /// An accepted prompt has ended so.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        *self.line(outcome) += 1;
    }

    /// Which line an outcome is counted in.
    pub(crate) fn line(&mut self, outcome: &Outcome) -> &mut u64 {
        match outcome {
            Outcome::Completed => &mut self.completed,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::Expired => &mut self.expired,
            Outcome::Indeterminate(_) => &mut self.indeterminate,
        }
    }
}
