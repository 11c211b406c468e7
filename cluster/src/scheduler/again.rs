//! Turns that have left their instance and have no end yet: they are tried again, or somebody looks up what became of them.
//!
//! Owns how they are counted and come back. Must not know why. Invariant: such a turn counts as running until it is queued
//! again or has its end.

use std::time::Instant;

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;

use super::{Decision, Scheduler, Ticket};
use crate::instance::InstanceState;

impl Scheduler {
    /// An attempt is over, and its turn is not. `available`: the instance can take another turn at once, and does when it is
    /// known what becomes of this one.
    pub(crate) fn on_turn_aside(
        &mut self,
        now: Instant,
        instance: usize,
        outcome: &Outcome,
        available: bool,
        out: &mut Vec<Decision>,
    ) {
        self.on_turn_ended(now, instance, outcome, false, out);
        *self.books.line(outcome) -= 1;
        self.aside += 1;
        if available {
            self.slots[instance].enter(now, InstanceState::Ready);
        }
        self.view(instance, now);
    }

    /// It is tried again, before all others, so that a session keeps its order.
    pub(crate) fn on_again(
        &mut self,
        now: Instant,
        turn: TurnId,
        ticket: Ticket,
        out: &mut Vec<Decision>,
    ) {
        self.aside -= 1;
        match self.closed.clone() {
            Some(outcome) => self.end(turn, now, now, outcome, out),
            None => self.requeue(now, turn, ticket, now, out),
        }
    }

    /// It has its end after all.
    pub(crate) fn on_aside_ended(&mut self, outcome: &Outcome) {
        self.aside -= 1;
        self.books.count(outcome);
    }
}
