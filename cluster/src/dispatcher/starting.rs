//! The starts of all instances.
//!
//! Owns how starts are let go, and the way to those who wait for one. Must not decide: that is [`Starts`]. Invariant:
//! whoever wants to start is let go, is told why not yet, or has given it up.
//!
//! [`Starts`]: crate::starting::Starts

use std::sync::Arc;
use std::time::Instant;

use super::Dispatcher;
use crate::event::EventKind;
use crate::instance::InstanceState;
use crate::starting::Verdict;
use crate::status::{PauseCause, Paused};
use crate::turn::Order;

impl Dispatcher {
    pub(super) fn on_wants_to_start(&mut self, now: Instant, instance: usize, generation: u64) {
        self.roster[instance].to_start = generation;
        let mut verdicts = Vec::new();
        self.starts.on_wish(now, instance, &mut verdicts);
        self.carry_out_verdicts(now, verdicts);
    }

    /// An instance has changed its state. Answers what the scheduler is to take it for.
    pub(super) fn watch_start(
        &mut self,
        now: Instant,
        instance: usize,
        to: InstanceState,
    ) -> InstanceState {
        let entry = &self.roster[instance];
        let (end, reason) = (entry.exit_of_start(), entry.reason.as_str());
        let mut verdicts = Vec::new();
        // Whoever is not to be started again has no part in what the others find out.
        let for_good = to == InstanceState::Failed && !entry.standing.returns;
        let told = if for_good { InstanceState::Stopped } else { to };
        let seen = self
            .starts
            .on_changed(now, instance, told, end, reason, &mut verdicts);
        self.carry_out_verdicts(now, verdicts);
        if for_good || self.roster[instance].drained {
            to
        } else {
            seen
        }
    }

    pub(super) fn forget_start(&mut self, now: Instant, instance: usize) {
        let mut verdicts = Vec::new();
        self.starts.on_gone(now, instance, &mut verdicts);
        self.carry_out_verdicts(now, verdicts);
    }

    /// A probe may be due.
    pub(super) fn advance_starts(&mut self, now: Instant) {
        let mut verdicts = Vec::new();
        self.starts.on_timer(now, &mut verdicts);
        self.carry_out_verdicts(now, verdicts);
    }

    fn carry_out_verdicts(&mut self, now: Instant, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Start(instance) => {
                    let entry = &mut self.roster[instance];
                    let generation = entry.to_start;
                    entry.order(Order::Start { generation });
                }
                Verdict::Paused { group } => self.tell_pause(now, group, PauseCause::Start),
                Verdict::Resumed { group, pause } => {
                    self.history.record(EventKind::GroupResumed {
                        tool: Arc::clone(self.facts.groups.tool_of(group)),
                        cause: PauseCause::Start.word(),
                        after: now.saturating_duration_since(pause.since),
                    });
                }
                Verdict::Held { instance, cause } => self.roster[instance].tell_held(&cause),
                // Its owner has stopped it meanwhile.
                Verdict::Revive(instance) if self.roster[instance].drained => {
                    self.forget_start(now, instance);
                }
                Verdict::Revive(instance) => self.roster[instance].order(Order::Revive),
            }
        }
    }

    pub(super) fn paused_starts(&self, now: Instant, group: usize) -> Option<Paused> {
        let pause = self.starts.pause(group)?;
        let left = pause.probe_at.saturating_duration_since(now);
        let probe = pause.probe.map(|probe| &self.roster[probe].name);
        Some(Paused {
            tool: Arc::clone(self.facts.groups.tool_of(group)),
            cause: PauseCause::Start,
            reason: pause.cause.clone(),
            instances: pause.instances,
            paused_for_s: now.saturating_duration_since(pause.since).as_secs_f64(),
            retry_in_s: Some(left.as_secs_f64()),
            probe: probe.cloned(),
            login: None,
        })
    }
}
