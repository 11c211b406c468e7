//! Instances that do not come up, and the sessions that wait for them.
//!
//! Owns how long a session waits for its instance, and what follows. Must not know why an instance does not come up.
//! Invariants: no prompt of a session waits longer than that for an instance that cannot take it; a session leaves its
//! instance only for one that takes its prompt, and only if that may begin anew and is told so.

use std::time::{Duration, Instant};

use super::ending::{Loss, session_lost};
use super::queue::Place;
use super::{Decision, Scheduler, Ticket};
use crate::instance::after;
use crate::session::OnLoss;

/// Longer than a restart takes that fails a few times before it succeeds.
pub(super) const SESSION_WAIT: Duration = Duration::from_secs(5 * 60);

impl Scheduler {
    /// Sessions wait so long for an instance that does not come up.
    pub(crate) fn session_wait(&mut self, wait: Duration) {
        self.session_wait = wait;
    }

    /// When the next instance has been away for as long as sessions wait.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        let slots = self.slots.iter().filter(|slot| !slot.given_up);
        let absent = slots.filter_map(|slot| slot.absent_since);
        absent.min().map(|since| after(since, self.session_wait))
    }

    /// Some instances may have been away for so long now.
    pub(super) fn give_up_absent(&mut self, now: Instant, out: &mut Vec<Decision>) {
        if self.gives_up_at().is_none_or(|when| now < when) {
            return;
        }
        for slot in &mut self.slots {
            let absent = slot.absent_since;
            slot.given_up |= absent.is_some_and(|since| after(since, self.session_wait) <= now);
        }
        self.end_waits(Place::FIRST, now, out);
    }

    /// Whether a prompt need not wait for the instance that has its session's conversation.
    pub(super) fn may_leave(&self, home: usize, ticket: &Ticket) -> bool {
        let home = &self.slots[home];
        (home.is_down() || home.given_up) && ticket.on_loss != OnLoss::Fail
    }

    /// Whether a session's conversation is another than the one that the instance is in.
    pub(super) fn has_lost(&self, session: &str, instance: usize) -> bool {
        let known = self.conversations.get(session);
        known.is_some_and(|known| *known != self.slots[instance].conversation)
    }

    /// Ends what is queued from there on and has waited too long for its session's instance, or lets it go elsewhere.
    pub(super) fn end_waits(&mut self, mut from: Place, now: Instant, out: &mut Vec<Decision>) {
        if !self.slots.iter().any(|slot| slot.given_up) {
            return;
        }
        let mut changed = false;
        while let Some((place, queued)) = self.queue.from(from) {
            from = place.next();
            let ticket = &queued.ticket;
            let Some((session, home)) = self.waits_in_vain(ticket) else {
                continue;
            };
            changed = true;
            let begins_anew = ticket.fresh || ticket.on_loss != OnLoss::Fail;
            if self.may_leave(home, ticket) && self.has_another(home, ticket) {
                continue;
            }
            if self.has_lost(&session, home) && !begins_anew {
                self.forget(&session, out);
                self.end_lost(now, &session, &session_lost(Loss::Process), out);
            } else {
                self.end_unavailable(place, home, now, out);
            }
        }
        if changed {
            self.route_all(now, out);
        }
    }

    /// The session of a prompt, with an instance that was given up, if it could go on there alone.
    fn waits_in_vain(&self, ticket: &Ticket) -> Option<(String, usize)> {
        let session = ticket.session.as_ref()?;
        let home = match self.pinned_to(ticket) {
            Some(home) => self.slots[home].given_up.then_some(home),
            None => {
                let possible = self.possible_homes(session, ticket);
                let mut possible = possible.into_iter().peekable();
                let first = possible.peek().copied();
                first.filter(|_| possible.all(|home| self.slots[home].given_up))
            }
        };
        Some((session.clone(), home?))
    }

    /// Whether another instance that is up could take the prompt.
    fn has_another(&self, home: usize, ticket: &Ticket) -> bool {
        let mut others = self.slots.iter().enumerate();
        others.any(|(index, slot)| {
            index != home
                && slot.fits(index, ticket)
                && !slot.is_down()
                && slot.absent_since.is_none()
        })
    }

    fn end_unavailable(
        &mut self,
        place: Place,
        instance: usize,
        now: Instant,
        out: &mut Vec<Decision>,
    ) {
        let Some(queued) = self.take(place) else {
            return;
        };
        let absent = self.slots[instance].absent_since;
        self.books.failed += 1;
        out.push(Decision::Unavailable {
            turn: queued.turn,
            instance,
            absent: absent.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            queued: now.saturating_duration_since(queued.since),
        });
    }
}
