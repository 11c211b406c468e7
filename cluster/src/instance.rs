//! The life of one instance: a pure machine.
//!
//! Owns the state, the intent, the generation, the breaker and the timers of one supervised slot. Must not know tasks,
//! pipes or clocks: inputs and the time come in, actions go out. Invariants: one process at most at any time; a turn is
//! answered exactly once; no start while the breaker is open; every state that waits has a deadline; a turn that ended
//! in doubt ends only when its process is gone, and that process never gets another prompt.

mod config;
mod ending;
mod messages;
mod questions;
mod starting;
mod state;
#[cfg(test)]
mod tests;
mod turns;
mod watch;

use std::time::Instant;

pub(crate) use config::{InstanceConfig, LONGEST_WAIT, after};
pub(crate) use messages::{Action, Input, Standing};
pub use state::InstanceState;
use toolpool_pool_core::Pulse;
use toolpool_pool_core::outcome::Doubt;
use toolpool_pool_core::prompt::TurnId;

use crate::backoff::Backoff;
use crate::breaker::Breaker;
use crate::planted::planted;
use crate::restarts::Restarts;
use questions::Questions;
use watch::Watch;

/// What the owner wants of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Up,
    Down,
    /// Down, then up again.
    Bounce,
}

/// The state with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Starting {
        deadline: Instant,
    },
    /// `proven_at`: when a survivor of failures counts as healthy.
    Ready {
        proven_at: Option<Instant>,
    },
    Busy {
        turn: TurnId,
        deadline: Instant,
        /// The deadline is the caller's own: it passes while the turn waits for somebody too.
        firm: bool,
        cancelled: bool,
        watch: Watch,
    },
    Stopping {
        doubt: Option<(TurnId, Doubt)>,
        /// What it did wrong, if it is not ended at its owner's wish.
        failure: Option<String>,
        deadline: Instant,
        killed: bool,
    },
    Backoff {
        until: Instant,
    },
    Tripped {
        until: Instant,
    },
    Stopped,
    Failed,
}

/// The machine of one instance.
#[derive(Debug)]
pub(crate) struct Instance {
    config: InstanceConfig,
    phase: Phase,
    intent: Intent,
    questions: Questions,
    generation: u64,
    breaker: Breaker,
    backoff: Backoff,
    restarts: Restarts,
    /// When its process became ready.
    ready_at: Option<Instant>,
    /// Counts the failures of its processes: what the tool says about a turn is none.
    faults: u64,
}

impl Instance {
    /// A machine that waits for [`Input::Start`].
    pub(crate) fn new(config: InstanceConfig, seed: u64) -> Self {
        Self {
            breaker: Breaker::new(&config.breaker, seed),
            backoff: Backoff::with_quick_start(
                config.restart_delay,
                config.restart_delay_max,
                seed,
            ),
            restarts: Restarts::new(&config.restarts, &config.breaker, seed),
            config,
            phase: Phase::Stopped,
            intent: Intent::Down,
            questions: Questions::default(),
            generation: 0,
            ready_at: None,
            faults: 0,
        }
    }

    /// The state as it is shown.
    pub(crate) fn state(&self) -> InstanceState {
        match self.phase {
            Phase::Starting { .. } => InstanceState::Starting,
            Phase::Ready { .. } => InstanceState::Ready,
            Phase::Busy { .. } if self.intent != Intent::Up => InstanceState::Draining,
            Phase::Busy { .. } if self.questions.is_empty() => InstanceState::Busy,
            Phase::Busy { .. } => InstanceState::Waiting,
            Phase::Stopping { .. } => InstanceState::Stopping,
            Phase::Backoff { .. } => InstanceState::Backoff,
            Phase::Tripped { .. } => InstanceState::Tripped,
            Phase::Stopped => InstanceState::Stopped,
            Phase::Failed => InstanceState::Failed,
        }
    }

    /// Counts the processes from this one on.
    pub(crate) fn continue_behind(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Counts the processes it has had.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What is to be known of it beside its state.
    pub(crate) fn standing(&self) -> Standing {
        let failures = self.breaker.failures();
        Standing {
            until: self.deadline(),
            failures,
            tries_left: self.config.breaker.failures.saturating_sub(failures),
            returns: self.intent != Intent::Down,
            silent_since: self.silent_since(),
            faults: self.faults,
            crash_looping: self.restarts.is_looping(),
        }
    }

    /// Since when the tool has shown no life in its turn, if that was noticed.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Busy { watch, .. } if self.questions.is_empty() => watch.silent_since(),
            _ => None,
        }
    }

    /// Its process is being ended at its owner's wish: there is nothing wrong with it.
    pub(crate) fn ends_as_wished(&self) -> bool {
        matches!(self.phase, Phase::Stopping { failure: None, .. })
    }

    /// When [`Input::Timer`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Stopping { .. } if planted("wait_without_timer") => None,
            Phase::Starting { deadline } | Phase::Stopping { deadline, .. } => Some(deadline),
            Phase::Busy {
                deadline,
                firm,
                cancelled,
                watch,
                ..
            } => {
                let asked = self.questions.deadline();
                let works = (firm || asked.is_none()).then_some(deadline);
                // A turn that is being cancelled has the grace alone.
                let look = (!cancelled && asked.is_none()).then(|| watch.look_at());
                [works, asked, look].into_iter().flatten().min()
            }
            Phase::Backoff { until } | Phase::Tripped { until } => Some(until),
            Phase::Ready { proven_at } => proven_at,
            Phase::Stopped | Phase::Failed => None,
        }
    }

    /// The one entry: takes an input at a time, and pushes what is to be done.
    pub(crate) fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Start => self.on_start(now, false, out),
            Input::Launching => self.on_launching(now),
            Input::Restart => self.on_start(now, true, out),
            Input::Replace(reason) => self.on_replace(now, &reason, out),
            Input::LaunchFailed { permanent, reason } => {
                self.on_launch_failed(now, permanent, reason, out)
            }
            Input::Ready => self.on_ready(now, out),
            Input::Assign {
                turn,
                timeout,
                generation,
            } => self.on_assign(now, turn, timeout, generation, out),
            Input::Refused(turn) => self.on_turn_over(now, turn, false, out),
            Input::TurnEnded(turn) => self.on_turn_over(now, turn, true, out),
            Input::Cancel(turn) => self.on_cancel(now, turn, out),
            Input::Asked(question) => self.on_asked(now, question, out),
            Input::Answer(id, answer) => self.on_answer(now, id, answer, out),
            Input::Withdrawn(request) => self.on_withdrawn(now, &request, out),
            Input::Lost { cause, detail } => self.on_lost(now, cause, detail, out),
            Input::Exited {
                exit,
                written,
                words,
            } => self.on_exited(now, exit, written, &words, out),
            Input::Timer(pulse) => self.on_timer(now, pulse, out),
            Input::Drain => self.on_down(now, true, out),
            Input::Stop => self.on_down(now, false, out),
            Input::Kill => self.on_kill(now, out),
        }
    }

    /// The one door for transitions.
    fn set_phase(&mut self, phase: Phase, reason: impl Into<String>, out: &mut Vec<Action>) {
        let from = self.state();
        if !matches!(phase, Phase::Busy { .. }) {
            self.questions.withdraw_all(out);
        }
        self.phase = phase;
        self.report(from, reason, out);
    }

    fn report(&self, from: InstanceState, reason: impl Into<String>, out: &mut Vec<Action>) {
        let to = self.state();
        if from != to {
            out.push(Action::Changed {
                from,
                to,
                reason: reason.into(),
            });
        }
    }

    fn set_intent(&mut self, intent: Intent, reason: &str, out: &mut Vec<Action>) {
        let from = self.state();
        self.intent = intent;
        self.report(from, reason, out);
    }

    fn on_timer(&mut self, now: Instant, pulse: Pulse, out: &mut Vec<Action>) {
        self.expire_questions(now, out);
        if self.is_watched(now, pulse, out) || self.deadline().is_none_or(|due| now < due) {
            return;
        }
        match &mut self.phase {
            Phase::Starting { .. } => {
                let reason = format!("not ready within {:?}", self.config.start_timeout);
                self.terminate(now, None, true, reason, out);
            }
            Phase::Ready { proven_at } => {
                *proven_at = None;
                self.heal(out);
            }
            Phase::Busy { .. } => self.on_time_up(now, out),
            Phase::Stopping { killed: false, .. } => self.kill(now, out),
            Phase::Stopping { doubt, .. } => {
                if let Some((turn, doubt)) = doubt.take() {
                    out.push(Action::Doubt(turn, doubt));
                }
                out.push(Action::Disown);
                let reason = "its process survives SIGKILL and was given up";
                self.set_phase(Phase::Failed, reason, out);
            }
            Phase::Backoff { .. } => self.spawn(now, "waited long enough", out),
            Phase::Tripped { .. } => {
                self.breaker.probe(now);
                out.push(Action::BreakerChanged(self.breaker.state()));
                self.spawn(now, "probing", out);
            }
            Phase::Stopped | Phase::Failed => {}
        }
    }
}
