//! Prompts whose acceptance is known elsewhere: accepted before, or not at all because the journal has no room for them.
//!
//! Owns how these come and leave. Must not know the journal. Invariant: what was not accepted reads in the books as if it had
//! been refused at the door.

use std::time::Instant;

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;

use super::{Decision, Scheduler, Ticket};
use crate::error::SubmitError;
use crate::instance::InstanceState;

impl Scheduler {
    /// Takes in a prompt that was accepted before: a full queue does not keep it out.
    pub(crate) fn on_submit_again(
        &mut self,
        now: Instant,
        turn: TurnId,
        ticket: Ticket,
        out: &mut Vec<Decision>,
    ) -> Result<(), SubmitError> {
        let limit = std::mem::replace(&mut self.queue_limit, usize::MAX);
        let admitted = self.on_submit(now, turn, ticket, out);
        self.queue_limit = limit;
        admitted
    }

    /// Takes a prompt out of the queue without an end.
    pub(crate) fn revoke(&mut self, now: Instant, turn: TurnId, out: &mut Vec<Decision>) {
        let Some(place) = self.queue.place_of(turn) else {
            return;
        };
        self.take(place);
        self.unaccept();
        self.route_all(now, out);
    }

    /// The same for one that was assigned to an instance, which never heard of it.
    pub(crate) fn revoke_assigned(
        &mut self,
        now: Instant,
        instance: usize,
        ticket: &Ticket,
        out: &mut Vec<Decision>,
    ) {
        self.unassign(now, instance, ticket, out);
        self.unaccept();
        self.route_all(now, out);
    }

    /// The same for one that has had its end.
    pub(crate) fn revoke_ended(&mut self, outcome: &Outcome) {
        *self.books.line(outcome) -= 1;
        self.unaccept();
    }

    /// An end that was counted is told as another.
    pub(crate) fn recount(&mut self, counted: &Outcome, told: &Outcome) {
        *self.books.line(counted) -= 1;
        *self.books.line(told) += 1;
    }

    /// An instance was never given the turn that it was assigned. True if it can take another.
    pub(crate) fn on_not_given(&mut self, instance: usize) -> bool {
        let slot = &mut self.slots[instance];
        // It is busy with that turn alone; whatever else has become of it was told since.
        if slot.state == InstanceState::Busy {
            slot.state = InstanceState::Ready;
        }
        slot.state == InstanceState::Ready
    }

    /// Whether the caller of the turn that an instance runs does not want it any more.
    pub(crate) fn is_withdrawn(&self, instance: usize) -> bool {
        self.slots[instance].withdrawn
    }

    fn unaccept(&mut self) {
        self.books.accepted -= 1;
        self.books.refused += 1;
    }
}
