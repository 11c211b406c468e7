//! Groups that pause as a whole, and how that is told.
//!
//! Owns the one sentence for a pause, whatever it is for. Must not decide: starts pause by [`Starts`], prompts by what
//! the scheduler learns from the ends of turns. Invariant: the beginning and the end of a pause are told once each.
//!
//! [`Starts`]: crate::starting::Starts

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Dispatcher;
use crate::event::EventKind;
use crate::explain::{Explanation, Held, Situation};
use crate::instance::InstanceState;
use crate::replacing::{Wish, Worn};
use crate::scheduler::Closed;
use crate::status::{PauseCause, Paused};

impl Closed {
    fn cause(&self) -> PauseCause {
        match self.until {
            Some(_) => PauseCause::Limit,
            None => PauseCause::Login,
        }
    }
}

impl Dispatcher {
    /// Says once that a group pauses.
    pub(super) fn tell_pause(&mut self, now: Instant, group: usize, cause: PauseCause) {
        let pauses = self.pauses_of(now, group);
        let Some(paused) = pauses.into_iter().find(|paused| paused.cause == cause) else {
            return;
        };
        self.history.record(EventKind::GroupPaused {
            tool: Arc::clone(&paused.tool),
            cause: cause.word(),
            message: paused.to_string(),
            instances: paused.instances,
            retry_in: paused.retry_in_s.map(Duration::from_secs_f64),
            reason: paused.reason,
        });
    }

    pub(super) fn on_closed(&mut self, now: Instant, group: usize) {
        if let Some(cause) = self.scheduler.closed(group).map(Closed::cause) {
            self.tell_pause(now, group, cause);
        }
    }

    pub(super) fn on_reopened(&mut self, now: Instant, group: usize, closed: &Closed) {
        self.history.record(EventKind::GroupResumed {
            tool: Arc::clone(self.facts.groups.tool_of(group)),
            cause: closed.cause().word(),
            after: now.saturating_duration_since(closed.since),
        });
    }

    /// Its process still has a login that was refused.
    pub(super) fn renew(&mut self, instance: usize) {
        let entry = &mut self.roster[instance];
        if entry.may_be_worn() {
            entry.worn_generation = entry.generation;
            let wish = Wish::Worn(entry.generation, Worn::Login);
            self.replacements.wish(instance, wish);
        }
    }

    /// The owner wants that instance started: what its group pauses for may have been mended.
    pub(super) fn urge(&mut self, now: Instant, instance: usize) {
        let group = self.roster[instance].group;
        self.starts.urge(instance);
        self.scheduler.on_lifted(now, group, &mut self.decisions);
        self.carry_out();
    }

    /// All pauses.
    pub(super) fn paused(&self, now: Instant) -> Vec<Paused> {
        let groups = 0..self.facts.groups.len();
        groups
            .flat_map(|group| self.pauses_of(now, group))
            .collect()
    }

    fn pauses_of(&self, now: Instant, group: usize) -> Vec<Paused> {
        let starts = self.paused_starts(now, group);
        let prompts = self.paused_prompts(now, group);
        starts.into_iter().chain(prompts).collect()
    }

    fn paused_prompts(&self, now: Instant, group: usize) -> Option<Paused> {
        let closed = self.scheduler.closed(group)?;
        let members = self.roster.iter().enumerate();
        let held = members
            .filter(|(instance, entry)| entry.group == group && self.scheduler.is_held(*instance));
        let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
        Some(Paused {
            tool: Arc::clone(self.facts.groups.tool_of(group)),
            cause: closed.cause(),
            reason: closed.reason.clone(),
            instances: held.count(),
            paused_for_s: now.saturating_duration_since(closed.since).as_secs_f64(),
            retry_in_s: closed.until.map(left),
            probe: None,
            login: self.facts.groups.login_of(group).map(str::to_owned),
        })
    }

    /// Why an instance waits though nothing is wrong with it, or for longer than it would by itself.
    fn held(&self, instance: usize) -> Option<Held> {
        let entry = &self.roster[instance];
        if let Some(held) = self.starts.held(instance) {
            return Some(held);
        }
        let is_ready = entry.state == InstanceState::Ready;
        if is_ready && self.scheduler.stands_by(instance) {
            return Some(Held::StandBy);
        }
        let closed = self.scheduler.closed(entry.group)?;
        let waits = is_ready && self.scheduler.is_held(instance);
        waits.then_some(Held::Closed {
            until: closed.until,
        })
    }

    /// What follows for an instance is read off this.
    pub(super) fn situation(&self, instance: usize) -> Situation {
        self.roster[instance].situation(self.held(instance))
    }

    pub(super) fn explain(&self, instance: usize, now: Instant) -> Explanation {
        let next = self.situation(instance).next(now);
        let why = self.why(instance, now);
        self.roster[instance].explain(instance, why, next, now)
    }

    /// Why an instance is in its state, or what it has to wait for.
    pub(super) fn why(&self, instance: usize, now: Instant) -> String {
        let entry = &self.roster[instance];
        let cause = match self.held(instance) {
            Some(Held::Alike { .. }) => PauseCause::Start,
            Some(Held::Closed { until: Some(_) }) => PauseCause::Limit,
            Some(Held::Closed { until: None }) => PauseCause::Login,
            Some(Held::InLine { .. }) => {
                let others = self.starts.under_way();
                return format!("{}; {others} others are starting", entry.why());
            }
            Some(Held::StandBy) | None => return entry.why(),
        };
        let pauses = self.pauses_of(now, entry.group).into_iter();
        let paused = pauses.filter(|paused| paused.cause == cause);
        let own = Some(entry.why()).filter(|why| !why.is_empty());
        let said = own
            .into_iter()
            .chain(paused.map(|paused| paused.to_string()));
        said.collect::<Vec<_>>().join("; ")
    }
}
