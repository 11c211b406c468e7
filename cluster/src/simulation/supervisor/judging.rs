//! What must be true of one instance, whatever it is about to do.
//!
//! Owns the checks of its process, its restarts and its kills. Must not change anything but what they remember. Invariant:
//! what the machine believes is held against the process and the clock, and never taken for granted.

use std::time::{Duration, Instant};

use super::{Stage, Supervisor};
use crate::breaker::BreakerState;
use crate::instance::{Action, Input, InstanceState};
use crate::restarts::RestartPolicy;
use crate::simulation::tool::Process;

impl Supervisor {
    /// Keeps what the checks need of what the machine is about to hear.
    pub(super) fn remember(&mut self, input: &Input, now: Instant) {
        match input {
            Input::Answer(id, _) => self.answering = Some(*id),
            Input::Ready => self.ready = Some(now),
            Input::Assign { .. } => self.quiet_from = now,
            Input::Restart => {
                self.restarts.clear();
                self.given_up = false;
            }
            Input::Exited { .. } | Input::LaunchFailed { .. } => {
                let ready = self.ready.take();
                if ready.is_some_and(|ready| now - ready >= Duration::from_secs(600)) {
                    self.restarts.clear();
                }
            }
            _ => {}
        }
    }

    /// Restarts that nobody asked for are no more than allowed, or come one at a time and after a wait.
    pub(super) fn judge_restart(&mut self, planned: Instant, stage: &mut Stage) {
        let config = &stage.config;
        assert_ne!(config.restart, RestartPolicy::Temporary);
        let burst = config.restarts.burst;
        let recent = |when: &&Instant| planned.saturating_duration_since(**when) < burst.within;
        let recent = self.restarts.iter().filter(recent).count();
        if recent >= burst.restarts as usize {
            assert!(
                planned - stage.now >= config.breaker.open_for / 2,
                "restart {} within {burst:?}",
                recent + 1
            );
            stage.judge.seen.looped = true;
        }
        self.restarts.push(planned);
    }

    /// A turn is killed as hung for what can be seen of its process, and for nothing else.
    pub(super) fn judge_kill(&self, actions: &[Action], stage: &mut Stage) {
        let why = actions.iter().find_map(|action| match action {
            Action::Changed { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        let why = why.expect("its state has changed");
        let (config, pulse) = (&stage.config, self.process.as_ref().map(Process::pulse));
        let pulse = pulse.expect("it runs a turn");
        let since = |when: Instant| stage.now - when.max(self.quiet_from);
        let is_due = if why.contains("first-byte") {
            pulse.heard.is_none() && since(self.quiet_from) >= config.first_byte_timeout
        } else if why.contains("silence") {
            pulse
                .heard
                .is_some_and(|heard| since(heard) >= config.silence_timeout)
        } else if why.contains("write") {
            pulse
                .stuck
                .is_some_and(|stuck| since(stuck) >= config.write_timeout)
        } else {
            return;
        };
        assert!(is_due, "killed for {why}, and what is seen is {pulse:?}");
        stage.judge.seen.hung = true;
    }

    pub(super) fn look_at_start(&self) {
        assert!(!self.given_up, "another start cannot help");
        assert!(
            self.process.is_none() && self.launching.is_none() && self.to_start.is_none(),
            "two processes of one instance"
        );
        assert!(
            !matches!(self.breaker, BreakerState::Open { .. }),
            "a start while the breaker is open"
        );
    }

    /// What must be true whenever it waits.
    pub(super) fn look(&self) {
        let state = self.machine.state();
        let rests = matches!(
            state,
            InstanceState::Ready | InstanceState::Stopped | InstanceState::Failed
        );
        assert!(
            rests || self.machine.deadline().is_some(),
            "{state:?} may last for ever"
        );
        let may_run = state.runs_turn() || state == InstanceState::Stopping;
        assert!(
            !state.runs_turn() || self.running.is_some(),
            "{state:?} without a turn"
        );
        assert!(may_run || self.running.is_none(), "{state:?} with a turn");
        let has_process = self.process.is_some();
        let waits = self.to_start.is_some();
        let expected = match state {
            InstanceState::Starting if waits => !has_process && self.launching.is_none(),
            _ if waits => false,
            InstanceState::Starting | InstanceState::Stopping => {
                has_process != self.launching.is_some()
            }
            InstanceState::Ready
            | InstanceState::Busy
            | InstanceState::Waiting
            | InstanceState::Draining => has_process && self.launching.is_none(),
            _ => !has_process && self.launching.is_none(),
        };
        assert!(expected, "{state:?} with {:?}", self.process);
    }

    pub(in crate::simulation) fn look_at_the_end(&self) {
        assert!(self.gone && self.process.is_none() && self.launching.is_none());
        assert_eq!(self.turns_held(), 0);
    }
}
