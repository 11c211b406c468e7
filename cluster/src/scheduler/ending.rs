//! The ends of prompts that did not run.
//!
//! Owns for which reason a queued prompt ends, and the words for it. Must not know turns that run. Invariant: what ends here
//! has left the queue, and is in the books once.

use std::time::Instant;

use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::queue::{Place, Queued};
use super::slot::Slot;
use super::{Decision, Scheduler};
use crate::planted::planted;
use crate::session::OnLoss;

const NONE_LEFT: &str =
    "no instance is left that could run it; see `status` for the reasons, then `restart_instance`";
const INSTANCE_DOWN: &str = "the instance that it must run on is stopped, has failed or has left";

impl Scheduler {
    /// Deadlines may have passed.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Vec<Decision>) {
        let queued = self.queue.len();
        while let Some((when, turn)) = self.queue.deadline() {
            let place = self.queue.place_of(turn).filter(|_| when <= now);
            let Some(place) = place else { break };
            self.end_queued(place, now, Outcome::Expired, out);
        }
        if self.queue.len() < queued {
            self.route_all(now, out);
        }
        self.give_up_absent(now, out);
        for group in 0..self.holds.len() {
            if self.holds[group].until().is_some_and(|until| until <= now) {
                self.reopen(now, group, out);
            }
        }
    }

    /// Ends everything that is still queued, and what will be handed back.
    pub(crate) fn end_queue(&mut self, now: Instant, outcome: &Outcome, out: &mut Vec<Decision>) {
        self.closed = Some(outcome.clone());
        while let Some((place, _)) = self.queue.from(Place::FIRST) {
            self.end_queued(place, now, outcome.clone(), out);
        }
    }

    /// Ends what is queued from there on and waits for an instance that will not come back by itself.
    pub(super) fn end_unreachable(
        &mut self,
        mut from: Place,
        now: Instant,
        out: &mut Vec<Decision>,
    ) {
        self.end_waits(from, now, out);
        if !self.slots.iter().any(Slot::is_down) {
            return;
        }
        let left = self.groups_with(|slot| !slot.is_down());
        let mut moves = false;
        while let Some((place, queued)) = self.queue.from(from) {
            from = place.next();
            let ticket = &queued.ticket;
            let is_down = |instance: Option<usize>| {
                instance.is_some_and(|instance| self.slots[instance].is_down())
            };
            let target_down = is_down(ticket.target);
            let home_down = is_down(self.pinned_to(ticket));
            let end = if !ticket.groups.meets(left) {
                Some(NONE_LEFT)
            } else if target_down || (home_down && ticket.on_loss == OnLoss::Fail) {
                Some(INSTANCE_DOWN)
            } else {
                None
            };
            let session = ticket.session.clone();
            if let Some(session) = &session
                && (home_down || end.is_some())
            {
                // What else it has queued waited behind this one.
                moves = true;
                if home_down && end.is_some() {
                    self.forget(session, out);
                }
            }
            match (end, session) {
                (Some(reason), Some(session)) if home_down => {
                    self.end_queued(place, now, unroutable(reason), out);
                    self.end_lost(now, &session, &unroutable(reason), out);
                }
                (Some(reason), _) => self.end_queued(place, now, unroutable(reason), out),
                (None, _) => {}
            }
        }
        if moves {
            self.route_all(now, out);
        }
    }

    /// Ends a prompt whose session is lost, and all behind it that were written for the same conversation: those of the
    /// session up to one that begins anew.
    pub(super) fn end_lost(
        &mut self,
        now: Instant,
        session: &str,
        outcome: &Outcome,
        out: &mut Vec<Decision>,
    ) {
        while let Some((place, queued)) = self.queue.next_of(session) {
            if queued.ticket.fresh || queued.ticket.on_loss != OnLoss::Fail {
                break;
            }
            self.end_queued(place, now, outcome.clone(), out);
        }
    }

    pub(super) fn end_queued(
        &mut self,
        place: Place,
        now: Instant,
        outcome: Outcome,
        out: &mut Vec<Decision>,
    ) {
        let Some(queued) = self.take(place) else {
            return;
        };
        if planted("ended_twice") {
            self.end(queued.turn, queued.since, now, outcome.clone(), out);
        }
        self.end(queued.turn, queued.since, now, outcome, out);
    }

    /// Takes a prompt out of the queue that does not run.
    pub(super) fn take(&mut self, place: Place) -> Option<Queued> {
        let queued = self.queue.take(place)?;
        self.waits_no_more(&queued);
        Some(queued)
    }

    /// It has left the queue.
    pub(super) fn waits_no_more(&mut self, queued: &Queued) {
        if let Some(instance) = queued.waits_for {
            self.candidates[instance].pinned_waiting -= 1;
        }
    }

    pub(super) fn end(
        &mut self,
        turn: TurnId,
        since: Instant,
        now: Instant,
        outcome: Outcome,
        out: &mut Vec<Decision>,
    ) {
        self.books.count(&outcome);
        out.push(Decision::End {
            turn,
            outcome,
            queued: now.saturating_duration_since(since),
        });
    }
}

pub(super) fn unroutable(reason: &str) -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::Unroutable,
        message: reason.to_owned(),
        retry_after: None,
    })
}

/// How a conversation is lost.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    /// With its instance.
    Left,
    /// With its instance's process.
    Process,
    /// With the life of the cluster in which it was begun.
    Life,
}

pub(super) fn session_lost(loss: Loss) -> Outcome {
    let why = match loss {
        Loss::Left => "the instance that had this conversation has left",
        Loss::Process => "the instance that had this conversation has a new process",
        Loss::Life => {
            "no instance can go on with this conversation of an earlier run: that takes the same tool in the same folder, and what the tool has kept of it"
        }
    };
    Outcome::Failed(Failure {
        class: FailureClass::SessionLost,
        message: format!("{why}; nothing was sent. Ask again to begin anew"),
        retry_after: None,
    })
}
