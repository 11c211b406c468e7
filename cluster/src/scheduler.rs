//! Which prompt runs where, and when: a pure core.
//!
//! Owns the queue, the deadlines of queued prompts, the candidates' view, the sessions' bindings and the books. Must not
//! know tasks, processes or the texts of prompts: it deals in turn numbers. Invariants: what was accepted is queued, or
//! runs, or has its one outcome in the books; a turn that was handed back goes to the front; a session's prompts run in
//! order on the instance that has the conversation, or fail honestly; prompts for one group of instances hold up none for
//! another.

mod duty;
mod hold;
mod load;
mod slot;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::{Candidate, InstanceId, Route, RouteRequest, Sticky, Strategy};

use crate::error::SubmitError;
use crate::fit::GroupSet;
use crate::instance::{InstanceState, after};
use crate::planted::planted;
use crate::session::OnLoss;
pub(crate) use hold::Closed;
use hold::Hold;
use slot::Slot;

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
}

/// What the scheduler knows of a prompt.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
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

#[derive(Debug)]
struct Queued {
    turn: TurnId,
    ticket: Ticket,
    since: Instant,
    deadline: Option<Instant>,
    /// The instance that it waits for and no other, once that is known.
    waits_for: Option<usize>,
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
    },
    /// The turn ends without having run.
    End {
        turn: TurnId,
        outcome: Outcome,
        queued: Duration,
    },
    /// Ask the instance to give the running turn up.
    Interrupt { turn: TurnId, instance: usize },
    /// A session was bound.
    SessionPinned { instance: usize },
    /// A session is over.
    SessionClosed,
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
    queue: VecDeque<Queued>,
    queue_limit: usize,
    /// How many queued prompts may run on each group.
    waiting: Vec<usize>,
    deadlines: BTreeSet<(Instant, TurnId)>,
    /// What each group's tool has said last.
    holds: Vec<Hold>,
    /// How many instances of each group are to be on duty.
    duty: Vec<usize>,
    slots: Vec<Slot>,
    candidates: Vec<Candidate>,
    strategy: Sticky<Box<dyn Strategy>>,
    /// For each session, which conversation of its instance is its own.
    conversations: HashMap<String, u64>,
    books: Books,
    draining: bool,
    /// Nothing is queued any more, not even what is handed back.
    closed: bool,
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
            queue: VecDeque::new(),
            queue_limit,
            deadlines: BTreeSet::new(),
            waiting: vec![0; count],
            duty: (0..count)
                .map(|group| groups.iter().filter(|of| **of == group).count())
                .collect(),
            holds: std::iter::repeat_with(Hold::default).take(count).collect(),
            slots: groups.iter().map(|group| Slot::new(*group, now)).collect(),
            candidates: (0..groups.len()).map(slot::candidate).collect(),
            strategy: Sticky::new(strategy),
            conversations: HashMap::new(),
            books: Books::default(),
            draining: false,
            closed: false,
        }
    }

    pub(crate) fn books(&self) -> Books {
        Books {
            queued: self.queue.len() as u64,
            running: self
                .slots
                .iter()
                .filter(|slot| slot.running.is_some())
                .count() as u64,
            ..self.books
        }
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.strategy.len()
    }

    pub(crate) fn sessions_on(&self, instance: usize) -> usize {
        self.strategy.sessions_on(InstanceId(instance))
    }

    /// Nothing is queued and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.slots.iter().all(|slot| slot.running.is_none())
    }

    /// When [`Scheduler::on_timer`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let expires = self.deadlines.first().map(|(when, _)| *when);
        let reopens = self.holds.iter().filter_map(Hold::until).min();
        expires.into_iter().chain(reopens).min()
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
        } else if self.is_full_for(ticket.groups) {
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
        let last = self.queue.len();
        let follows = ticket.session.is_some()
            && self
                .queue
                .iter()
                .any(|queued| queued.ticket.session == ticket.session);
        self.count_waiting(ticket.groups, |count| count + 1);
        self.queue.push_back(Queued {
            turn,
            ticket,
            since: now,
            deadline,
            waits_for: None,
        });
        // Behind another prompt of its session it waits, whatever is free.
        if !follows {
            self.route_from(last, now, out);
        }
        // A prompt that started at once never needs its deadline.
        if let (Some(deadline), Some(last)) = (deadline, self.queue.back())
            && last.turn == turn
        {
            self.deadlines.insert((deadline, turn));
        }
        self.end_unreachable(last, now, out);
        Ok(())
    }

    /// The caller withdraws a prompt.
    pub(crate) fn on_cancel(&mut self, now: Instant, turn: TurnId, out: &mut Vec<Decision>) {
        if let Some(at) = self.queue.iter().position(|queued| queued.turn == turn) {
            self.end_queued(at, now, Outcome::Cancelled, out);
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
        self.end_unreachable(0, now, out);
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
        self.slots[instance].state = state;
        self.slots[instance].risen |= state != InstanceState::Starting;
        self.view(instance, now);
        self.muster(now, out);
        if self.slots[instance].is_available() && !was_ready {
            self.route_all(now, out);
        }
        self.end_unreachable(0, now, out);
        if state.is_down() {
            // A fresh prompt may have waited for it rather than wipe the sessions of another.
            self.route_all(now, out);
            self.reopen_renewed(now, self.slots[instance].group, out);
        }
    }

    /// An instance has a new process, which knows nothing of earlier conversations; one that is to go on with them is
    /// new in this sense when it turns out that it does not.
    pub(crate) fn on_new_process(&mut self, instance: usize, out: &mut Vec<Decision>) {
        self.lose_conversation(instance, out);
    }

    /// An instance has a process that reads its login anew.
    pub(crate) fn on_spawned(&mut self, now: Instant, instance: usize, out: &mut Vec<Decision>) {
        let group = self.slots[instance].group;
        if self.holds[group].is_refused() {
            self.slots[instance].held = false;
            self.reopen_renewed(now, group, out);
        }
    }

    /// Why a group gets no prompts, if it gets none.
    pub(crate) fn closed(&self, group: usize) -> Option<&Closed> {
        self.holds[group].closed.as_ref()
    }

    /// The group of an instance.
    #[cfg(test)]
    pub(crate) fn group_of(&self, instance: usize) -> usize {
        self.slots[instance].group
    }

    /// Whether an instance gets no prompts because its group gets none.
    pub(crate) fn is_held(&self, instance: usize) -> bool {
        self.slots[instance].held
    }

    /// The owner thinks that the tool of a group can be asked again before the time that it has named.
    pub(crate) fn on_lifted(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        if self.holds[group].until().is_some() {
            self.reopen(now, group, out);
        }
    }

    fn learn(&mut self, now: Instant, group: usize, outcome: &Outcome, out: &mut Vec<Decision>) {
        let before = self.holds[group].closed.clone();
        if self.holds[group].on_end(now, outcome) {
            out.extend(before.map(|closed| Decision::Reopened { group, closed }));
            for slot in self.slots.iter_mut().filter(|slot| slot.group == group) {
                slot.held = !planted("limit_ignored");
            }
            out.push(Decision::Closed { group });
        } else if *outcome == Outcome::Completed && self.holds[group].is_refused() {
            // A new process has shown that the login is good again.
            let each = self.slots.iter().enumerate();
            let stale = each.filter(|(_, slot)| slot.group == group && slot.held);
            out.extend(stale.map(|(instance, _)| Decision::Renew { instance }));
        }
    }

    fn reopen(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        if let Some(closed) = self.holds[group].open() {
            for slot in self.slots.iter_mut().filter(|slot| slot.group == group) {
                slot.held = false;
            }
            out.push(Decision::Reopened { group, closed });
            self.route_all(now, out);
        }
    }

    /// A refused login is over when every instance that is left has read it anew.
    fn reopen_renewed(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        let mut members = self.slots.iter().filter(|slot| slot.group == group);
        if self.holds[group].is_refused() && !members.any(|slot| slot.held && !slot.is_down()) {
            self.reopen(now, group, out);
        }
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
        self.count(outcome);
        self.learn(now, self.slots[instance].group, outcome, out);
        let slot = &mut self.slots[instance];
        slot.end_turn(now, matches!(outcome, Outcome::Completed));
        slot.state = if available {
            InstanceState::Ready
        } else {
            slot.state
        };
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
        let slot = &mut self.slots[instance];
        let unwanted = (slot.withdrawn && !planted("withdrawn_sent")) || self.closed;
        slot.end_turn(now, false);
        let opened = slot.opened_session && self.pinned_to(&ticket) == Some(instance);
        if let (true, Some(session)) = (opened, &ticket.session) {
            // Nothing was said in that conversation yet, so it can begin anywhere. One of the same name that began
            // elsewhere, after this one was closed, stays.
            self.forget(session, out);
        }
        self.view(instance, now);
        if unwanted {
            self.end(turn, since, now, Outcome::Cancelled, out);
            self.route_all(now, out);
            return;
        }
        let deadline = ticket.queue_timeout.map(|timeout| after(since, timeout));
        if let Some(deadline) = deadline
            && !planted("deadline_forgotten")
        {
            self.deadlines.insert((deadline, turn));
        }
        self.count_waiting(ticket.groups, |count| count + 1);
        self.queue.push_front(Queued {
            turn,
            ticket,
            since,
            deadline,
            waits_for: None,
        });
        self.route_all(now, out);
        self.end_unreachable(0, now, out);
    }

    /// Deadlines may have passed.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Vec<Decision>) {
        let queued = self.queue.len();
        while let Some(&(when, turn)) = self.deadlines.first() {
            if when > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(at) = self.queue.iter().position(|queued| queued.turn == turn) {
                self.end_queued(at, now, Outcome::Expired, out);
            }
        }
        if self.queue.len() < queued {
            self.route_all(now, out);
        }
        for group in 0..self.holds.len() {
            if self.holds[group].until().is_some_and(|until| until <= now) {
                self.reopen(now, group, out);
            }
        }
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

    /// Ends everything that is still queued, and what will be handed back.
    pub(crate) fn cancel_queue(&mut self, now: Instant, out: &mut Vec<Decision>) {
        self.closed = true;
        while !self.queue.is_empty() {
            self.end_queued(0, now, Outcome::Cancelled, out);
        }
    }

    /// The caller closes a session; what it still has queued may run anywhere.
    pub(crate) fn on_close_session(
        &mut self,
        now: Instant,
        session: &str,
        out: &mut Vec<Decision>,
    ) {
        self.forget(session, out);
        self.route_all(now, out);
    }

    fn forget(&mut self, session: &str, out: &mut Vec<Decision>) {
        let before = self.strategy.len();
        self.conversations.remove(session);
        self.strategy.forget(session);
        if self.strategy.len() < before {
            out.push(Decision::SessionClosed);
        }
    }

    fn lose_conversation(&mut self, instance: usize, out: &mut Vec<Decision>) {
        self.slots[instance].conversation += 1;
        let lost = self.strategy.sessions_on(InstanceId(instance));
        if lost > 0 {
            out.push(Decision::SessionsLost { instance, lost });
        }
    }

    /// Ends what is queued from `at` on and waits for an instance that will not come back by itself.
    fn end_unreachable(&mut self, mut at: usize, now: Instant, out: &mut Vec<Decision>) {
        if !self.slots.iter().any(Slot::is_down) {
            return;
        }
        let left = self.groups_with(|slot| !slot.is_down());
        let mut moves = false;
        while at < self.queue.len() {
            let ticket = &self.queue[at].ticket;
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
            if let Some(session) = ticket.session.clone()
                && (home_down || end.is_some())
            {
                // What else it has queued waited behind this one, and may begin it anew.
                moves = true;
                if home_down {
                    self.forget(&session, out);
                }
            }
            match end {
                Some(reason) => self.end_queued(at, now, unroutable(reason), out),
                None => at += 1,
            }
        }
        if moves {
            self.route_all(now, out);
        }
    }

    /// Takes a prompt out of the queue, with all that was noted about it there.
    fn take(&mut self, at: usize) -> Option<Queued> {
        let queued = self.queue.remove(at)?;
        if !planted("place_leaked") {
            self.count_waiting(queued.ticket.groups, |count| count - 1);
        }
        if let Some(deadline) = queued.deadline {
            self.deadlines.remove(&(deadline, queued.turn));
        }
        if let Some(instance) = queued.waits_for {
            self.candidates[instance].pinned_waiting -= 1;
        }
        Some(queued)
    }

    fn end_queued(&mut self, at: usize, now: Instant, outcome: Outcome, out: &mut Vec<Decision>) {
        let Some(queued) = self.take(at) else { return };
        if planted("ended_twice") {
            self.end(queued.turn, queued.since, now, outcome.clone(), out);
        }
        self.end(queued.turn, queued.since, now, outcome, out);
    }

    fn end(
        &mut self,
        turn: TurnId,
        since: Instant,
        now: Instant,
        outcome: Outcome,
        out: &mut Vec<Decision>,
    ) {
        self.count(&outcome);
        out.push(Decision::End {
            turn,
            outcome,
            queued: now.saturating_duration_since(since),
        });
    }

    fn count(&mut self, outcome: &Outcome) {
        let line = match outcome {
            Outcome::Completed => &mut self.books.completed,
            Outcome::Failed(_) => &mut self.books.failed,
            Outcome::Cancelled => &mut self.books.cancelled,
            Outcome::Expired => &mut self.books.expired,
            Outcome::Indeterminate(_) => &mut self.books.indeterminate,
        };
        *line += 1;
    }

    /// Brings the strategy's view of an instance up to date.
    fn view(&mut self, instance: usize, now: Instant) {
        let sessions = self.strategy.sessions_on(InstanceId(instance));
        self.slots[instance].show(&mut self.candidates[instance], sessions, now);
    }

    fn view_all(&mut self, now: Instant) {
        for instance in 0..self.slots.len() {
            self.view(instance, now);
        }
    }

    fn is_full_for(&self, groups: GroupSet) -> bool {
        let each = self.waiting.iter().enumerate();
        each.filter(|(group, _)| groups.contains(*group))
            .all(|(_, waiting)| *waiting >= self.queue_limit)
    }

    fn count_waiting(&mut self, groups: GroupSet, change: impl Fn(usize) -> usize) {
        for (group, waiting) in self.waiting.iter_mut().enumerate() {
            if groups.contains(group) {
                *waiting = change(*waiting);
            }
        }
    }

    /// The groups that have such an instance.
    fn groups_with(&self, has: impl Fn(&Slot) -> bool) -> GroupSet {
        let slots = self.slots.iter().filter(|slot| has(slot));
        slots.fold(GroupSet::NONE, |groups, slot| groups.with(slot.group))
    }

    fn pinned_to(&self, ticket: &Ticket) -> Option<usize> {
        let session = ticket.session.as_deref()?;
        self.strategy.pinned(session).map(|id| id.0)
    }

    fn route_all(&mut self, now: Instant, out: &mut Vec<Decision>) {
        self.route_from(0, now, out);
    }

    /// Asks the strategy for every queued prompt from `at` on, in order, while any instance can take one. What waits for
    /// one group is passed over, so that it holds up nobody who can run on another.
    fn route_from(&mut self, mut at: usize, now: Instant, out: &mut Vec<Decision>) {
        // Every end of a turn comes here, mostly with nothing queued: then nobody looks at the view.
        if at >= self.queue.len() {
            return;
        }
        self.view_all(now);
        let mut free = self.groups_with(Slot::is_available);
        // Prompts of one session must not overtake each other, so one that has to wait holds its whole session.
        let mut held: Vec<String> = Vec::new();
        while at < self.queue.len() && !free.is_empty() {
            let ticket = &self.queue[at].ticket;
            let session = ticket.session.as_deref();
            if session.is_some_and(|session| held.iter().any(|key| key == session)) {
                at += 1;
                continue;
            }
            let placed = if ticket.groups.meets(free) {
                self.place(at, now, out)
            } else {
                Placed::Waits
            };
            match placed {
                Placed::Gone => free = self.groups_with(Slot::is_available),
                Placed::Waits => {
                    if let Some(session) = self.queue[at].ticket.session.clone() {
                        held.push(session);
                    }
                    at += 1;
                }
            }
        }
    }

    /// Tries to place one queued prompt.
    fn place(&mut self, at: usize, now: Instant, out: &mut Vec<Decision>) -> Placed {
        let queued = &self.queue[at];
        let ticket = &queued.ticket;
        let home = self.pinned_to(ticket);
        if let Some(home) = home.filter(|home| !self.slots[*home].fits(*home, ticket)) {
            if self.slots[home].is_down() {
                // What its end means for the session is decided for all of its prompts alike.
                return Placed::Waits;
            }
            self.end_queued(at, now, unroutable(LIVES_ELSEWHERE), out);
            return Placed::Gone;
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
        match route {
            Route::Wait => Placed::Waits,
            Route::Reject(reason) => {
                self.end_queued(at, now, unroutable(reason), out);
                Placed::Gone
            }
            Route::To(InstanceId(instance)) => match self.slots.get(instance) {
                Some(slot) if slot.fits(instance, ticket) => {
                    self.place_on(at, instance, home.is_none(), how, now, out)
                }
                _ => {
                    self.end_queued(at, now, unroutable(NOT_SHOWN), out);
                    Placed::Gone
                }
            },
        }
    }

    fn place_on(
        &mut self,
        at: usize,
        instance: usize,
        newly_bound: bool,
        how: &'static str,
        now: Instant,
        out: &mut Vec<Decision>,
    ) -> Placed {
        let ticket = &self.queue[at].ticket;
        let session = ticket.session.clone();
        let known = session
            .as_ref()
            .and_then(|session| self.conversations.get(session).copied());
        let is_lost = known.is_some_and(|known| known != self.slots[instance].conversation)
            && !planted("loss_untold");
        if let (true, Some(session)) = (is_lost, &session)
            && ticket.on_loss == OnLoss::Fail
            && !ticket.fresh
        {
            self.forget(session, out);
            let left = self.slots[instance].retired;
            self.end_queued(at, now, session_lost(left), out);
            return Placed::Gone;
        }
        if newly_bound && session.is_some() {
            out.push(Decision::SessionPinned { instance });
        }
        if !self.slots[instance].is_available() {
            if self.queue[at].waits_for.is_none() {
                self.queue[at].waits_for = Some(instance);
                self.candidates[instance].pinned_waiting += 1;
            }
            return Placed::Waits;
        }
        let Some(queued) = self.take(at) else {
            return Placed::Waits;
        };
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
        });
        Placed::Gone
    }
}

enum Placed {
    /// It left the queue.
    Gone,
    /// It stays where it is.
    Waits,
}

const NONE_LEFT: &str =
    "no instance is left that could run it; see `status` for the reasons, then `restart_instance`";
const INSTANCE_DOWN: &str = "the instance that it must run on is stopped, has failed or has left";
const LIVES_ELSEWHERE: &str = "its session lives on another instance; leave the instance, tool or role out, or close the session first";
const NOT_SHOWN: &str = "the strategy named an instance that it was not shown";

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

fn unroutable(reason: &str) -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::Unroutable,
        message: reason.to_owned(),
        retry_after: None,
    })
}

fn session_lost(left: bool) -> Outcome {
    let why = if left {
        "has left"
    } else {
        "has a new process"
    };
    Outcome::Failed(Failure {
        class: FailureClass::SessionLost,
        message: format!(
            "the instance that had this conversation {why}; nothing was sent. Ask again to begin anew"
        ),
        retry_after: None,
    })
}
