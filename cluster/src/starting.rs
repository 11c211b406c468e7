//! Which instance may start a process, and when: a pure core.
//!
//! Owns the line of those that wait for their start, the places for starts under way, and the pauses of groups whose
//! instances fail to start alike. Must not know processes or clocks. Invariants: never more starts under way than the
//! machine can take; a place is free again however its start ends; a pause is told once, and ends.

mod line;
mod shared_cause;
#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::breaker::BreakerConfig;
use crate::explain::Held;
use crate::instance::InstanceState;
use line::Line;
pub(crate) use shared_cause::Pause;
use shared_cause::{SharedCause, likeness};

/// How many processes of a cluster may be starting at once on this machine: two for each of its cores. A start takes
/// mostly processor time, so more at once make each of them slower, up to its time limit.
pub(crate) fn at_once() -> usize {
    let cores = std::thread::available_parallelism();
    2 * cores.map_or(1, std::num::NonZero::get)
}

/// What the dispatcher is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Let the instance start.
    Start(usize),
    /// The starts of a group pause: say so once.
    Paused { group: usize },
    /// They go on: say so.
    Resumed { group: usize, pause: Pause },
    /// The instance has to wait for others: tell whoever waits for it.
    Held { instance: usize, cause: String },
    /// The instance has given up, but may find its trouble gone: let it ask for another start.
    Revive(usize),
}

/// What is known of an instance.
#[derive(Clone, Copy, Debug)]
struct Member {
    group: usize,
    state: InstanceState,
    /// It is on its way to a process that has not been ready.
    starts: bool,
    /// It was told to try again.
    revives: bool,
}

/// The starts of a cluster.
#[derive(Debug)]
pub(crate) struct Starts {
    line: Line,
    members: Vec<Member>,
    /// What the failed starts of each group have in common.
    causes: Vec<SharedCause>,
}

impl Starts {
    /// For instances of these groups, with at most `limit` starts at once.
    pub(crate) fn new(groups: &[usize], limit: usize, breaker: &BreakerConfig) -> Self {
        let count = groups.iter().max().map_or(0, |last| last + 1);
        Self {
            line: Line::new(limit),
            members: groups.iter().map(|group| Member::new(*group)).collect(),
            causes: (0..count as u64)
                .map(|seed| SharedCause::new(breaker, seed))
                .collect(),
        }
    }

    /// A new instance of a group, with the next index, or one that was gone and comes back.
    pub(crate) fn add(&mut self, instance: usize, group: usize) {
        self.members
            .resize(self.members.len().max(instance + 1), Member::new(group));
        self.members[instance] = Member::new(group);
    }

    /// An instance wants to start a process.
    pub(crate) fn on_wish(&mut self, now: Instant, instance: usize, out: &mut Vec<Verdict>) {
        // What it started before, if anything, has ended.
        self.cause_mut(instance).on_stopped(now, instance);
        self.line.ask(instance);
        self.on_timer(now, out);
        self.tell_held(instance, out);
    }

    /// An instance has changed its state. `end`: how the process of its last start ended, if it had one; `reason`: why,
    /// for a human. Answers the state that prompts are to see.
    pub(crate) fn on_changed(
        &mut self,
        now: Instant,
        instance: usize,
        to: InstanceState,
        end: Option<String>,
        reason: &str,
        out: &mut Vec<Verdict>,
    ) -> InstanceState {
        let member = &mut self.members[instance];
        if member.state == InstanceState::Starting {
            self.line.over(instance);
        }
        let was_starting = member.starts;
        member.starts = match to {
            InstanceState::Starting => true,
            InstanceState::Stopping => was_starting,
            _ => false,
        };
        member.state = to;
        member.revives = false;
        let mut seen = to;
        match to {
            InstanceState::Ready if was_starting => self.resume(instance, out),
            InstanceState::Backoff | InstanceState::Tripped | InstanceState::Failed
                if was_starting =>
            {
                self.on_failure(now, instance, likeness(end, reason), reason, out);
                if to == InstanceState::Failed && self.pause_of(instance).is_some() {
                    // One of many: whether the trouble is over is for the probes to find out, and prompts wait for them.
                    self.revive(instance, out);
                    seen = InstanceState::Backoff;
                }
            }
            InstanceState::Stopped => self.cause_mut(instance).on_stopped(now, instance),
            _ => {}
        }
        if !self.is_troubled(self.members[instance].group) {
            self.resume(instance, out);
        }
        self.on_timer(now, out);
        seen
    }

    /// The task of an instance is gone, and its start with it.
    pub(crate) fn on_gone(&mut self, now: Instant, instance: usize, out: &mut Vec<Verdict>) {
        self.line.over(instance);
        self.cause_mut(instance).on_stopped(now, instance);
        self.members[instance].revives = false;
        self.on_timer(now, out);
    }

    /// The owner wants that instance started, whatever others fail of.
    pub(crate) fn urge(&mut self, instance: usize) {
        self.cause_mut(instance).urge(instance);
    }

    /// Lets go whoever may start now.
    pub(crate) fn on_timer(&mut self, now: Instant, out: &mut Vec<Verdict>) {
        loop {
            let (members, causes) = (&self.members, &self.causes);
            let may = |instance: usize| causes[members[instance].group].lets_start(now, instance);
            let Some(instance) = self.line.next(may) else {
                return;
            };
            self.cause_mut(instance).on_start(instance);
            out.push(Verdict::Start(instance));
        }
    }

    /// When [`Starts::on_timer`] is due: the next probe can go.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_paused = self.causes.iter().any(|cause| cause.pause().is_some());
        if !is_paused || !self.line.has_place() {
            return None;
        }
        let waiting = self.line.waiting();
        waiting
            .filter_map(|instance| self.cause(instance).probe_at())
            .min()
    }

    /// Nothing starts any more.
    pub(crate) fn close(&mut self) {
        self.line = Line::new(0);
    }

    /// The pause of a group, while there is one.
    pub(crate) fn pause(&self, group: usize) -> Option<&Pause> {
        self.causes[group].pause()
    }

    /// The pause of an instance's group.
    pub(crate) fn pause_of(&self, instance: usize) -> Option<&Pause> {
        self.cause(instance).pause()
    }

    /// What an instance waits for together with others, if it does.
    pub(crate) fn held(&self, instance: usize) -> Option<Held> {
        let before = self.line.before(instance);
        let state = self.members[instance].state;
        let waits =
            before.is_some() || matches!(state, InstanceState::Backoff | InstanceState::Tripped);
        let pause = self.pause_of(instance);
        match pause.filter(|pause| waits && pause.probe != Some(instance)) {
            Some(pause) => Some(Held::Alike {
                probe_at: pause.probe_at,
            }),
            None => before.map(|before| Held::InLine { before }),
        }
    }

    /// Starts under way.
    pub(crate) fn under_way(&self) -> usize {
        self.line.under_way()
    }

    fn on_failure(
        &mut self,
        now: Instant,
        instance: usize,
        likeness: String,
        reason: &str,
        out: &mut Vec<Verdict>,
    ) {
        let cause = self.cause_mut(instance);
        let alike = cause.on_failure(now, instance, likeness, reason);
        if alike.is_empty() {
            return;
        }
        let group = self.members[instance].group;
        out.push(Verdict::Paused { group });
        for other in alike {
            if other != instance && self.members[other].state == InstanceState::Failed {
                self.revive(other, out);
            }
        }
        for waits in self.line.waiting().collect::<Vec<_>>() {
            self.tell_held(waits, out);
        }
    }

    fn revive(&mut self, instance: usize, out: &mut Vec<Verdict>) {
        self.members[instance].revives = true;
        out.push(Verdict::Revive(instance));
    }

    /// Whoever waits for an instance is told that it has to wait for others.
    fn tell_held(&self, instance: usize, out: &mut Vec<Verdict>) {
        if let Some(pause) = self.pause_of(instance)
            && self.line.before(instance).is_some()
        {
            out.push(Verdict::Held {
                instance,
                cause: pause.cause.clone(),
            });
        }
    }

    fn resume(&mut self, instance: usize, out: &mut Vec<Verdict>) {
        let group = self.members[instance].group;
        if let Some(pause) = self.causes[group].on_over() {
            out.push(Verdict::Resumed { group, pause });
        }
    }

    /// An instance of the group is on its way up, or should be.
    fn is_troubled(&self, group: usize) -> bool {
        self.causes[group].pause().is_none()
            || self.members.iter().any(|member| {
                let rises = matches!(
                    member.state,
                    InstanceState::Starting
                        | InstanceState::Backoff
                        | InstanceState::Tripped
                        | InstanceState::Stopping
                );
                member.group == group && (rises || member.revives)
            })
    }

    fn cause(&self, instance: usize) -> &SharedCause {
        &self.causes[self.members[instance].group]
    }

    fn cause_mut(&mut self, instance: usize) -> &mut SharedCause {
        &mut self.causes[self.members[instance].group]
    }
}

impl Member {
    fn new(group: usize) -> Self {
        Self {
            group,
            state: InstanceState::Stopped,
            starts: false,
            revives: false,
        }
    }
}
