//! The scheduler's view of one instance.
//!
//! Owns what is counted for each instance. Must not know queues. Invariant: available means ready, without a turn, and not held.

use std::time::{Duration, Instant};

use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::{Candidate, InstanceId};

use super::Ticket;
use super::load::Load;
use crate::instance::InstanceState;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) group: usize,
    pub(super) state: InstanceState,
    pub(super) running: Option<TurnId>,
    /// It gets no more prompts, and stops.
    pub(super) retired: bool,
    /// It is shown to the strategy. The others stand by: only what is for them alone runs there.
    pub(super) on_duty: bool,
    /// It is there for a short time, so no session begins on it.
    pub(super) passing: bool,
    /// It has come as far as being ready, or failing to.
    pub(super) risen: bool,
    /// Since when it has no process that could take a prompt, after it has risen.
    pub(super) absent_since: Option<Instant>,
    /// It has been absent for longer than sessions wait.
    pub(super) given_up: bool,
    /// Its group gets no prompts for now.
    pub(super) held: bool,
    /// The caller of the running turn does not want it any more.
    pub(super) withdrawn: bool,
    /// The last turn was the first of its session's conversation.
    pub(super) opened_session: bool,
    /// Counts the conversations it has had: a new process and a fresh start begin a new one.
    pub(super) conversation: u64,
    load: Load,
    idle_since: Instant,
}

impl Slot {
    pub(super) fn new(group: usize, now: Instant) -> Self {
        Self {
            group,
            state: InstanceState::Starting,
            running: None,
            retired: false,
            on_duty: true,
            passing: false,
            risen: false,
            absent_since: None,
            given_up: false,
            held: false,
            withdrawn: false,
            opened_session: false,
            conversation: 0,
            load: Load::new(now),
            idle_since: now,
        }
    }

    /// A new task takes its place, with no process yet.
    pub(super) fn begin_again(&mut self, held: bool, passing: bool) {
        self.state = InstanceState::Starting;
        self.retired = false;
        self.on_duty = false;
        self.passing = passing;
        self.risen = false;
        self.absent_since = None;
        self.given_up = false;
        self.held = held;
    }

    pub(super) fn enter(&mut self, now: Instant, state: InstanceState) {
        self.state = state;
        self.risen |= state != InstanceState::Starting;
        let comes_up = matches!(
            state,
            InstanceState::Starting
                | InstanceState::Backoff
                | InstanceState::Tripped
                | InstanceState::Stopping
        );
        if comes_up && self.risen {
            self.absent_since.get_or_insert(now);
        } else {
            self.absent_since = None;
            self.given_up = false;
        }
    }

    pub(super) fn is_available(&self) -> bool {
        self.state == InstanceState::Ready && self.running.is_none() && !self.held && !self.retired
    }

    /// It is on duty and cannot do it. One that starts for the first time is waited for.
    pub(super) fn is_missing(&self) -> bool {
        let serves = matches!(
            self.state,
            InstanceState::Ready | InstanceState::Busy | InstanceState::Waiting
        );
        self.on_duty && self.risen && !serves
    }

    /// It will not come back by itself.
    pub(super) fn is_down(&self) -> bool {
        self.retired || self.state.is_down()
    }

    /// Whether a prompt may run on it, which is the instance of that index.
    pub(super) fn fits(&self, index: usize, ticket: &Ticket) -> bool {
        ticket.groups.contains(self.group) && ticket.target.is_none_or(|target| target == index)
    }

    pub(super) fn runs(&self, turn: TurnId) -> bool {
        self.running == Some(turn)
    }

    pub(super) fn begin_turn(&mut self, now: Instant, turn: TurnId, opens_session: bool) {
        self.running = Some(turn);
        self.withdrawn = false;
        self.opened_session = opens_session;
        self.enter(now, InstanceState::Busy);
        self.load.set_busy(now, true);
    }

    pub(super) fn end_turn(&mut self, now: Instant, completed: bool) {
        self.running = None;
        self.idle_since = now;
        self.load.set_busy(now, false);
        if !completed {
            self.load.penalize();
        }
    }

    pub(super) fn show(&self, candidate: &mut Candidate, sessions: usize, now: Instant) {
        let busy = self.running.is_some();
        candidate.available = self.is_available() && self.on_duty;
        candidate.in_flight = usize::from(busy);
        candidate.sessions = sessions;
        candidate.busy_ratio = self.load.ratio(now);
        candidate.idle_for = if busy {
            Duration::ZERO
        } else {
            now.saturating_duration_since(self.idle_since)
        };
    }
}

pub(super) fn candidate(index: usize) -> Candidate {
    Candidate {
        id: InstanceId(index),
        available: false,
        in_flight: 0,
        capacity: 1,
        pinned_waiting: 0,
        sessions: 0,
        busy_ratio: 0.0,
        idle_for: Duration::ZERO,
    }
}
