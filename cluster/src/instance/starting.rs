//! How an instance comes up, and what makes it healthy.
//!
//! Owns starts, the wish for another process, and when past failures are forgotten. Must not know how a process ends.
//! Invariant: a process is asked for only where there is none.

use std::time::Instant;

use super::{Action, Instance, Intent, Phase, after};
use crate::breaker::BreakerState;
use crate::planted::planted;

impl Instance {
    pub(super) fn spawn(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
        self.generation += 1;
        self.ready_at = None;
        let deadline = after(now, self.config.start_timeout);
        self.set_phase(Phase::Starting { deadline }, reason, out);
        // The intent comes last: it decides what a busy instance is called, and so what it changes from.
        self.intent = Intent::Up;
        out.push(Action::Spawn);
    }

    pub(super) fn heal(&mut self, out: &mut Vec<Action>) {
        self.backoff.reset();
        if self.breaker.failures() > 0 || self.breaker.state() != BreakerState::Closed {
            let before = self.breaker.state();
            self.breaker.on_success();
            if before != BreakerState::Closed {
                out.push(Action::BreakerChanged(self.breaker.state()));
            }
        }
    }

    /// Its owner wants it up, whatever has been.
    fn forgive(&mut self, out: &mut Vec<Action>) {
        self.restarts.reset();
        self.heal(out);
    }

    /// When it counts as healthy, if something has gone wrong with it before.
    pub(super) fn proven_at(&self, now: Instant) -> Option<Instant> {
        let spotless = self.breaker.failures() == 0
            && self.breaker.state() == BreakerState::Closed
            && self.backoff.is_fresh();
        (!spotless).then(|| after(now, self.config.probation))
    }

    pub(super) fn on_start(&mut self, now: Instant, bounce: bool, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Stopped | Phase::Failed | Phase::Backoff { .. } | Phase::Tripped { .. } => {
                self.forgive(out);
                self.spawn(now, "asked to start", out);
            }
            Phase::Stopping { .. } if planted("second_process") => {
                self.spawn(now, "asked to start", out)
            }
            Phase::Stopping { .. } => {
                self.forgive(out);
                self.set_intent(Intent::Bounce, "asked to start again", out);
            }
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Busy { .. } if bounce => {
                self.forgive(out);
                // The intent comes last: it decides what a busy instance is called, and so what it changes from.
                self.stop(now, "restarted by its owner", out);
                self.intent = Intent::Bounce;
            }
            Phase::Busy { .. } => self.set_intent(Intent::Up, "asked to stay", out),
            Phase::Starting { .. } | Phase::Ready { .. } => {}
        }
    }

    pub(super) fn on_replace(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Busy { .. } => self.set_intent(Intent::Bounce, reason, out),
            // There is nothing wrong with the process, and so nothing that its breaker could learn.
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.stop(now, reason, out);
                self.intent = Intent::Bounce;
            }
            _ => self.on_start(now, false, out),
        }
    }

    /// The start had to wait for its turn; its time runs from now on.
    pub(super) fn on_launching(&mut self, now: Instant) {
        if let Phase::Starting { deadline } = &mut self.phase {
            *deadline = after(now, self.config.start_timeout);
        }
    }

    pub(super) fn on_launch_failed(
        &mut self,
        now: Instant,
        permanent: bool,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        match self.phase {
            Phase::Starting { .. } if permanent => self.set_phase(Phase::Failed, reason, out),
            Phase::Starting { .. } => self.fail(now, reason, out),
            // The start was already being stopped.
            Phase::Stopping { .. } => self.after_stop(now, reason, out),
            _ => {}
        }
    }

    pub(super) fn on_ready(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Phase::Starting { .. } = self.phase {
            self.ready_at = Some(now);
            let proven_at = self.proven_at(now);
            self.set_phase(Phase::Ready { proven_at }, "the tool is ready", out);
        }
    }
}
