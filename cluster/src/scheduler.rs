//! Which prompt runs where, and when: a pure core.
//!
//! Owns the queue, the deadlines of queued prompts, the candidates' view, the sessions' bindings and the books; what
//! happens to prompts and instances comes in here, and what follows from it is in the folder. Must not know tasks,
//! processes or the texts of prompts: it deals in turn numbers. Invariants: what was accepted is queued, or runs, or has
//! its one outcome in the books; a turn that was handed back goes to the front; a session's prompts run in order on the
//! instance that has the conversation, or fail honestly; prompts for one group of instances hold up none for another.

mod absence;
mod again;
mod books;
mod closing;
mod duty;
mod ending;
mod hold;
mod load;
mod placing;
mod queue;
mod revoking;
mod sessions;
mod shelf;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::{Doubt, DoubtCause, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::{Candidate, Sticky, Strategy};

use crate::error::SubmitError;
use crate::fit::GroupSet;
use crate::instance::{InstanceState, after};
use crate::planted::planted;
use crate::session::OnLoss;
pub use books::Books;
pub(crate) use hold::Closed;
use hold::Hold;
use queue::{Place, Queue, Queued};
use shelf::Shelf;
pub(crate) use shelf::Shelved;
use slot::Slot;

/// What the scheduler knows of a prompt.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// Who asks, if that was said.
    pub(crate) client: Option<Arc<str>>,
    pub(crate) session: Option<String>,
    pub(crate) on_loss: OnLoss,
    pub(crate) target: Option<usize>,
    /// The groups of instances that it may run on.
    pub(crate) groups: GroupSet,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) fresh: bool,
    pub(crate) bytes: usize,
    pub(crate) queue_timeout: Option<Duration>,
}

/// What the dispatcher is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// Hand the turn to the instance.
    Assign {
        turn: TurnId,
        instance: usize,
        queued: Duration,
        route: &'static str,
        /// Its session's conversation is gone, and this prompt begins another.
        begins_anew: bool,
    },
    /// The turn ends without having run.
    End {
        turn: TurnId,
        outcome: Outcome,
        queued: Duration,
    },
    /// Ask the instance to give the running turn up.
    Interrupt { turn: TurnId, instance: usize },
    /// The turn ends without having run, because its session's instance has not come up for so long.
    Unavailable {
        turn: TurnId,
        instance: usize,
        absent: Duration,
        queued: Duration,
    },
    /// A session was bound.
    SessionPinned { instance: usize },
    /// A session is over.
    SessionClosed { session: String },
    /// The instance is to have a process that goes on with the conversation of the session, which nobody has.
    TakeUp { instance: usize, session: String },
    /// An instance's conversation is gone, and that of so many sessions with it.
    SessionsLost { instance: usize, lost: usize },
    /// A spare has taken the place of an instance that is missing.
    Relieved { instance: usize, missing: usize },
    /// A group gets no prompts for now; [`Scheduler::closed`] says why.
    Closed { group: usize },
    /// It gets them again.
    Reopened { group: usize, closed: Closed },
    /// The instance's process has a login that was refused, while a newer one's is good.
    Renew { instance: usize },
}

/// The pure core of the dispatcher.
pub(crate) struct Scheduler {
    queue: Queue,
    queue_limit: usize,
    /// What each group's tool has said last.
    holds: Vec<Hold>,
    /// How many instances of each group are to be on duty.
    duty: Vec<usize>,
    slots: Vec<Slot>,
    candidates: Vec<Candidate>,
    strategy: Sticky<Box<dyn Strategy>>,
    /// For each session, which conversation of its instance is its own.
    conversations: HashMap<String, u64>,
    /// The sessions whose conversation has no process.
    shelf: Shelf,
    /// How long a session waits for an instance that does not come up.
    session_wait: Duration,
    books: Books,
    /// Turns that have left their instance and have no end yet.
    aside: usize,
    draining: bool,
    /// Nothing is queued any more, and what is handed back ends so.
    closed: Option<Outcome>,
}

impl Scheduler {
    /// A scheduler for instances of these groups. The limit of the queue holds for each group, so that prompts which wait
    /// for one do not keep out those for another.
    pub(crate) fn new(
        groups: &[usize],
        queue_limit: usize,
        strategy: Box<dyn Strategy>,
        now: Instant,
    ) -> Self {
        let count = groups.iter().max().map_or(0, |last| last + 1);
        Self {
            queue: Queue::new(count),
            queue_limit,
            duty: (0..count)
                .map(|group| groups.iter().filter(|of| **of == group).count())
                .collect(),
            holds: std::iter::repeat_with(Hold::default).take(count).collect(),
            slots: groups.iter().map(|group| Slot::new(*group, now)).collect(),
            candidates: (0..groups.len()).map(slot::candidate).collect(),
            strategy: Sticky::new(strategy),
            conversations: HashMap::new(),
            shelf: Shelf::default(),
            session_wait: absence::SESSION_WAIT,
            books: Books::default(),
            aside: 0,
            draining: false,
            closed: None,
        }
    }

    pub(crate) fn books(&self) -> Books {
        Books {
            queued: self.queue.len() as u64,
            running: self
                .slots
                .iter()
                .filter(|slot| slot.running.is_some())
                .count() as u64
                + self.aside as u64,
            ..self.books
        }
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Nothing is queued and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.aside == 0
            && self.slots.iter().all(|slot| slot.running.is_none())
    }

    /// When [`Scheduler::on_timer`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let expires = self.queue.deadline().map(|(when, _)| when);
        let reopens = self.holds.iter().filter_map(Hold::until).min();
        let gives_up = self.gives_up_at();
        expires.into_iter().chain(reopens).chain(gives_up).min()
    }

    /// Takes a prompt in, or refuses it.
    pub(crate) fn on_submit(
        &mut self,
        now: Instant,
        turn: TurnId,
        ticket: Ticket,
        out: &mut Vec<Decision>,
    ) -> Result<(), SubmitError> {
        let admitted = if self.draining {
            Err(SubmitError::Draining)
        } else if !self.has_room_for(&ticket) {
            Err(SubmitError::QueueFull {
                limit: self.queue_limit,
            })
        } else if let Some(index) = ticket.target.filter(|&index| !self.has(index)) {
            let last = (0..self.slots.len()).rfind(|index| self.has(*index));
            Err(SubmitError::NoInstance {
                index,
                last: last.unwrap_or(0),
            })
        } else {
            Ok(())
        };
        if let Err(refusal) = admitted {
            return Err(self.refuse(refusal));
        }
        self.books.accepted += 1;
        let deadline = ticket.queue_timeout.map(|timeout| after(now, timeout));
        let place = self.queue.push_back(Queued {
            turn,
            ticket,
            since: now,
            deadline,
            waits_for: None,
        });
        // Whatever else could run does so already, or has been asked about.
        self.route_one(place, now, out);
        self.end_unreachable(place, now, out);
        Ok(())
    }

    /// The caller withdraws a prompt.
    pub(crate) fn on_cancel(&mut self, now: Instant, turn: TurnId, out: &mut Vec<Decision>) {
        if let Some(place) = self.queue.place_of(turn) {
            self.end_queued(place, now, Outcome::Cancelled, out);
            self.route_all(now, out);
        } else if let Some(instance) = self.slots.iter().position(|slot| slot.runs(turn))
            && !std::mem::replace(&mut self.slots[instance].withdrawn, true)
        {
            out.push(Decision::Interrupt { turn, instance });
        }
    }

    /// A new instance of a group, with the next index, or one that was retired and comes back.
    /// `passing`: for a short time only.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        instance: usize,
        group: usize,
        passing: bool,
        out: &mut Vec<Decision>,
    ) {
        if instance == self.slots.len() {
            self.slots.push(Slot::new(group, now));
            self.candidates.push(slot::candidate(instance));
        }
        let held = self.holds[group].until().is_some();
        self.slots[instance].begin_again(held, passing);
        self.muster(now, out);
        self.view(instance, now);
    }

    /// An instance is to finish its turn and get no more. Its sessions are lost, and what waits for it ends or moves as it
    /// would without it.
    pub(crate) fn retire(&mut self, now: Instant, instance: usize, out: &mut Vec<Decision>) {
        self.slots[instance].retired = true;
        self.view(instance, now);
        self.lose_conversation(instance, out);
        self.muster(now, out);
        self.end_unreachable(Place::FIRST, now, out);
        self.route_all(now, out);
        self.reopen_renewed(now, self.slots[instance].group, out);
    }

    fn has(&self, instance: usize) -> bool {
        self.slots.get(instance).is_some_and(|slot| !slot.retired)
    }

    /// An instance changed its state.
    pub(crate) fn on_instance(
        &mut self,
        now: Instant,
        instance: usize,
        state: InstanceState,
        out: &mut Vec<Decision>,
    ) {
        let was_ready = self.slots[instance].is_available();
        self.slots[instance].enter(now, state);
        self.view(instance, now);
        self.muster(now, out);
        if self.slots[instance].is_available() && !was_ready {
            self.route_all(now, out);
        }
        self.end_unreachable(Place::FIRST, now, out);
        if state.is_down() {
            // A fresh prompt may have waited for it rather than wipe the sessions of another.
            self.route_all(now, out);
            self.reopen_renewed(now, self.slots[instance].group, out);
        }
    }

    /// The group of an instance.
    #[cfg(test)]
    pub(crate) fn group_of(&self, instance: usize) -> usize {
        self.slots[instance].group
    }

    /// A running turn is over. `available`: the instance can take the next one at once.
    pub(crate) fn on_turn_ended(
        &mut self,
        now: Instant,
        instance: usize,
        outcome: &Outcome,
        available: bool,
        out: &mut Vec<Decision>,
    ) {
        self.books.count(outcome);
        self.learn(now, self.slots[instance].group, outcome, out);
        let slot = &mut self.slots[instance];
        slot.end_turn(now, matches!(outcome, Outcome::Completed));
        if available {
            slot.enter(now, InstanceState::Ready);
        }
        self.view(instance, now);
        if available {
            self.route_all(now, out);
        }
    }

    /// The task of an instance is gone, and the turn that it ran, if any, with it; its caller has been answered.
    pub(crate) fn on_turn_dropped(
        &mut self,
        now: Instant,
        instance: usize,
        out: &mut Vec<Decision>,
    ) {
        if self.slots[instance].running.is_some() {
            let doubt = Doubt {
                cause: DoubtCause::Stopped,
                detail: "its instance's task panicked".to_owned(),
            };
            self.on_turn_ended(now, instance, &Outcome::Indeterminate(doubt), false, out);
        }
    }

    /// An instance hands a turn back: nothing of it was written.
    pub(crate) fn on_handed_back(
        &mut self,
        now: Instant,
        instance: usize,
        turn: TurnId,
        ticket: Ticket,
        since: Instant,
        out: &mut Vec<Decision>,
    ) {
        let withdrawn = self.slots[instance].withdrawn && !planted("withdrawn_sent");
        let unwanted = withdrawn.then_some(Outcome::Cancelled);
        let late = |wait| after(since, wait) <= now && !planted("deadline_forgotten");
        let late = ticket.queue_timeout.is_some_and(late);
        let unwanted = unwanted
            .or_else(|| self.closed.clone())
            .or_else(|| late.then_some(Outcome::Expired));
        self.unassign(now, instance, &ticket, out);
        if let Some(outcome) = unwanted {
            self.end(turn, since, now, outcome, out);
            self.route_all(now, out);
            return;
        }
        self.requeue(now, turn, ticket, since, out);
    }

    /// Puts a turn before all others.
    fn requeue(
        &mut self,
        now: Instant,
        turn: TurnId,
        ticket: Ticket,
        since: Instant,
        out: &mut Vec<Decision>,
    ) {
        let deadline = ticket.queue_timeout.map(|timeout| after(since, timeout));
        let deadline = deadline.filter(|_| !planted("deadline_forgotten"));
        self.queue.push_front(Queued {
            turn,
            ticket,
            since,
            deadline,
            waits_for: None,
        });
        self.route_all(now, out);
        self.end_unreachable(Place::FIRST, now, out);
    }

    /// An instance does not have its turn any more, and nothing of it was written.
    fn unassign(
        &mut self,
        now: Instant,
        instance: usize,
        ticket: &Ticket,
        out: &mut Vec<Decision>,
    ) {
        let slot = &mut self.slots[instance];
        slot.end_turn(now, false);
        let opened = slot.opened_session && self.pinned_to(ticket) == Some(instance);
        if let (true, Some(session)) = (opened, &ticket.session) {
            // Nothing was said in that conversation yet, so it can begin anywhere. One of the same name that began
            // elsewhere, after this one was closed, stays.
            self.forget(session, out);
        }
        self.view(instance, now);
    }

    /// Counts a prompt that is not taken in.
    pub(crate) fn refuse(&mut self, refusal: SubmitError) -> SubmitError {
        self.books.refused += 1;
        refusal
    }

    /// No more prompts are taken in.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// A full queue has no room, but for a client with less than its share of it; beyond the limit there are as many places
    /// again for those.
    fn has_room_for(&self, ticket: &Ticket) -> bool {
        let waiting = self.queue.waiting_for(ticket.groups);
        let (queued, clients) = self.queue.share(&ticket.client);
        let share = (self.queue_limit / clients).max(1);
        waiting < self.queue_limit
            || (queued < share && waiting < self.queue_limit.saturating_mul(2))
    }

    /// The groups that have such an instance.
    fn groups_with(&self, has: impl Fn(&Slot) -> bool) -> GroupSet {
        let slots = self.slots.iter().filter(|slot| has(slot));
        slots.fold(GroupSet::NONE, |groups, slot| groups.with(slot.group))
    }
}
