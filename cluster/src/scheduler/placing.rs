//! Which of the queued prompts runs next, and where.
//!
//! Owns the order in which the strategy is asked, and what it is shown. Must not know why an instance is free. Invariant: a
//! prompt that can run is not held up by one that cannot, and a session's prompts do not overtake each other.

use std::borrow::Cow;
use std::time::Instant;

use toolpool_pool_core::outcome::Outcome;
use toolpool_routing::{Candidate, InstanceId, Route, RouteRequest, Strategy as _};

use super::ending::{Loss, session_lost, unroutable};
use super::queue::{Place, Queued};
use super::shelf::LOST;
use super::slot::Slot;
use super::{Decision, Scheduler, Ticket};
use crate::fit::GroupSet;
use crate::planted::planted;
use crate::session::OnLoss;

pub(super) const LIVES_ELSEWHERE: &str = "its session lives on another instance; leave the instance, tool or role out, or close the session first";
const NOT_SHOWN: &str = "the strategy named an instance that it was not shown";

impl Scheduler {
    /// Asks the strategy for everything that can be looked at, each client in turn, while any instance can take a prompt.
    /// What waits for one group is passed over, so that it holds up nobody who can run on another.
    pub(super) fn route_all(&mut self, now: Instant, out: &mut Vec<Decision>) {
        // Every end of a turn comes here, mostly with nothing queued: then nobody looks at the view.
        if self.queue.is_empty() {
            return;
        }
        self.view_all(now);
        let mut free = self.groups_with(Slot::is_available);
        let mut again = true;
        while std::mem::take(&mut again) {
            let mut look = self.queue.look();
            while !free.is_empty()
                && let Some(place) = self.queue.next(&mut look)
            {
                match self.place(place, free, now, out) {
                    Placed::Waits => {}
                    Placed::Runs => free = self.groups_with(Slot::is_available),
                    // What follows it in its session may be another client's, who was looked at before.
                    Placed::Ended { in_session } => again |= in_session,
                }
            }
        }
    }

    /// Asks for one prompt only, if nothing of its session is before it.
    pub(super) fn route_one(&mut self, place: Place, now: Instant, out: &mut Vec<Decision>) {
        let free = self.groups_with(Slot::is_available);
        if self.queue.is_next(place) && !free.is_empty() {
            self.view_all(now);
            self.place(place, free, now, out);
        }
    }

    /// Tries to place one queued prompt.
    fn place(
        &mut self,
        place: Place,
        free: GroupSet,
        now: Instant,
        out: &mut Vec<Decision>,
    ) -> Placed {
        let fits = |queued: &&Queued| queued.ticket.groups.meets(free);
        if self.queue.get(place).filter(fits).is_none() {
            return Placed::Waits;
        }
        if let Some(placed) = self.take_up(place, now, out) {
            return placed;
        }
        let Some(queued) = self.queue.get(place) else {
            return Placed::Waits;
        };
        let ticket = &queued.ticket;
        let pinned = self.pinned_to(ticket);
        let home = pinned.filter(|home| !self.may_leave(*home, ticket));
        if let Some(home) = home.filter(|home| !self.slots[*home].fits(*home, ticket)) {
            if self.slots[home].is_down() {
                // What its end means for the session is decided for all of its prompts alike.
                return Placed::Waits;
            }
            return self.end_unrun(place, now, unroutable(LIVES_ELSEWHERE), out);
        }
        let leaves = pinned
            .filter(|_| home.is_none())
            .zip(ticket.session.clone());
        if let Some((_, session)) = &leaves {
            self.strategy.forget(session);
        }
        let route = match (ticket.target, &ticket.session) {
            (Some(target), None) => Route::To(InstanceId(target)),
            (_, session) => {
                let request = RouteRequest {
                    session: session.as_deref(),
                    labels: &ticket.labels,
                    waited: now.saturating_duration_since(queued.since),
                    prompt_bytes: ticket.bytes,
                };
                let fitting = fitting(ticket, &self.candidates, &self.slots);
                self.strategy.route(&request, &fitting)
            }
        };
        let how = match (ticket.target, home) {
            (Some(_), _) => "target",
            (None, Some(_)) => "sticky",
            (None, None) => "direct",
        };
        if let Some((from, session)) = leaves {
            // Nowhere else yet: if its instance comes up first, it goes on there.
            match route {
                Route::To(to) if to.0 != from => drop(self.conversations.insert(session, LOST)),
                _ => self.strategy.pin(&session, InstanceId(from)),
            }
        }
        match route {
            Route::Wait => Placed::Waits,
            Route::Reject(reason) => self.end_unrun(place, now, unroutable(reason), out),
            Route::To(InstanceId(instance)) => match self.slots.get(instance) {
                Some(slot) if slot.fits(instance, ticket) => {
                    self.place_on(place, instance, home.is_none(), how, now, out)
                }
                _ => self.end_unrun(place, now, unroutable(NOT_SHOWN), out),
            },
        }
    }

    fn place_on(
        &mut self,
        place: Place,
        instance: usize,
        newly_bound: bool,
        how: &'static str,
        now: Instant,
        out: &mut Vec<Decision>,
    ) -> Placed {
        let Some(Queued { ticket, .. }) = self.queue.get(place) else {
            return Placed::Waits;
        };
        let spills = planted("session_spills") && !self.slots[instance].is_available();
        let instance = match self.slots.iter().position(Slot::is_available) {
            Some(free) if spills => free,
            _ => instance,
        };
        let session = ticket.session.clone();
        let known = session
            .as_ref()
            .and_then(|session| self.conversations.get(session).copied());
        let is_lost = session
            .as_ref()
            .is_some_and(|session| self.has_lost(session, instance))
            && !planted("loss_untold")
            && !planted("session_spills");
        if let (true, Some(session)) = (is_lost, &session)
            && ticket.on_loss == OnLoss::Fail
            && !ticket.fresh
        {
            let loss = match known {
                Some(LOST) => Loss::Life,
                _ if self.slots[instance].retired => Loss::Left,
                _ => Loss::Process,
            };
            self.forget(session, out);
            self.end_lost(now, session, &session_lost(loss), out);
            return Placed::Ended { in_session: true };
        }
        if newly_bound && session.is_some() {
            out.push(Decision::SessionPinned { instance });
        }
        if !self.slots[instance].is_available() {
            if self.queue.wait_for(place, instance) {
                self.candidates[instance].pinned_waiting += 1;
            }
            return Placed::Waits;
        }
        let Some(queued) = self.queue.serve(place) else {
            return Placed::Waits;
        };
        let begins_anew = is_lost && !queued.ticket.fresh;
        self.waits_no_more(&queued);
        if queued.ticket.fresh {
            self.lose_conversation(instance, out);
        }
        let conversation = self.slots[instance].conversation;
        let opens = known != Some(conversation);
        if let Some(session) = session {
            // Not before it runs: one that only waited for a new conversation has not told its caller of the loss.
            self.conversations.insert(session, conversation);
        }
        self.slots[instance].begin_turn(now, queued.turn, opens);
        self.view(instance, now);
        out.push(Decision::Assign {
            turn: queued.turn,
            instance,
            queued: now.saturating_duration_since(queued.since),
            route: how,
            begins_anew,
        });
        Placed::Runs
    }

    fn end_unrun(
        &mut self,
        place: Place,
        now: Instant,
        outcome: Outcome,
        out: &mut Vec<Decision>,
    ) -> Placed {
        let queued = self.queue.get(place);
        let in_session = queued.is_some_and(|queued| queued.ticket.session.is_some());
        self.end_queued(place, now, outcome, out);
        Placed::Ended { in_session }
    }

    /// Brings the strategy's view of an instance up to date.
    pub(super) fn view(&mut self, instance: usize, now: Instant) {
        let sessions = self.strategy.sessions_on(InstanceId(instance));
        self.slots[instance].show(&mut self.candidates[instance], sessions, now);
    }

    pub(super) fn view_all(&mut self, now: Instant) {
        for instance in 0..self.slots.len() {
            self.view(instance, now);
        }
    }
}

pub(super) enum Placed {
    /// It left the queue and runs.
    Runs,
    /// It left the queue, with an end.
    Ended { in_session: bool },
    /// It stays where it is.
    Waits,
}

/// What the strategy is shown for a prompt: the instances that fit it. A fresh prompt would wipe the conversations of an
/// instance's sessions, so it is shown such instances only where there are no others.
fn fitting<'a>(
    ticket: &Ticket,
    candidates: &'a [Candidate],
    slots: &[Slot],
) -> Cow<'a, [Candidate]> {
    let is_alone = ticket.fresh && ticket.session.is_none();
    let begins = ticket.session.is_some() && slots.iter().any(|slot| slot.passing);
    if ticket.target.is_none() && ticket.groups == GroupSet::ALL && !is_alone && !begins {
        return Cow::Borrowed(candidates);
    }
    let mut fitting = candidates.to_vec();
    fitting.retain(|candidate| slots[candidate.id.0].fits(candidate.id.0, ticket));
    for candidate in &mut fitting {
        let slot = &slots[candidate.id.0];
        if ticket.target.is_some() {
            // Whether it stands by or not: the caller wants that one.
            candidate.available = slot.is_available();
        } else if begins {
            candidate.available &= !slot.passing;
        }
    }
    let spares = |candidate: &Candidate| candidate.sessions == 0;
    let choice = fitting
        .iter()
        .any(|candidate| spares(candidate) && !slots[candidate.id.0].is_down());
    if is_alone && choice {
        for candidate in &mut fitting {
            candidate.available &= spares(candidate);
        }
    }
    Cow::Owned(fitting)
}
