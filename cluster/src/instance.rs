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
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::time::{Duration, Instant};

pub(crate) use config::{InstanceConfig, LONGEST_WAIT, after};
pub(crate) use messages::{Action, Input, Standing};
pub use state::InstanceState;
use toolpool_pool_core::Pulse;
use toolpool_pool_core::outcome::{Doubt, DoubtCause};
use toolpool_pool_core::prompt::TurnId;

use crate::backoff::Backoff;
use crate::breaker::{Breaker, BreakerState};
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

    fn spawn(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
        self.generation += 1;
        self.ready_at = None;
        let deadline = after(now, self.config.start_timeout);
        self.set_phase(Phase::Starting { deadline }, reason, out);
        // The intent comes last: it decides what a busy instance is called, and so what it changes from.
        self.intent = Intent::Up;
        out.push(Action::Spawn);
    }

    fn heal(&mut self, out: &mut Vec<Action>) {
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
    fn proven_at(&self, now: Instant) -> Option<Instant> {
        let spotless = self.breaker.failures() == 0
            && self.breaker.state() == BreakerState::Closed
            && self.backoff.is_fresh();
        (!spotless).then(|| after(now, self.config.probation))
    }

    fn on_start(&mut self, now: Instant, bounce: bool, out: &mut Vec<Action>) {
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

    fn on_replace(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
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
    fn on_launching(&mut self, now: Instant) {
        if let Phase::Starting { deadline } = &mut self.phase {
            *deadline = after(now, self.config.start_timeout);
        }
    }

    fn on_launch_failed(
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

    fn on_ready(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Phase::Starting { .. } = self.phase {
            self.ready_at = Some(now);
            let proven_at = self.proven_at(now);
            self.set_phase(Phase::Ready { proven_at }, "the tool is ready", out);
        }
    }

    fn on_assign(
        &mut self,
        now: Instant,
        turn: TurnId,
        timeout: Option<Duration>,
        generation: u64,
        out: &mut Vec<Action>,
    ) {
        let is_for_it = generation == self.generation || planted("process_unchecked");
        if is_for_it && matches!(self.phase, Phase::Ready { .. }) {
            let deadline = after(now, timeout.unwrap_or(self.config.turn_timeout));
            self.set_phase(
                Phase::Busy {
                    turn,
                    deadline,
                    firm: timeout.is_some(),
                    cancelled: false,
                    watch: Watch::new(now, &self.config),
                },
                "turn started",
                out,
            );
            out.push(Action::Submit(turn));
        } else if !planted("turn_lost") {
            out.push(Action::HandBack(turn));
        }
    }

    /// The turn is over and its outcome known; `proves_health`: the tool itself brought it to its end.
    fn on_turn_over(
        &mut self,
        now: Instant,
        over: TurnId,
        proves_health: bool,
        out: &mut Vec<Action>,
    ) {
        let Phase::Busy { turn, .. } = self.phase else {
            return;
        };
        if turn != over && !planted("stale_end") {
            return;
        }
        if proves_health {
            self.heal(out);
        }
        if self.intent == Intent::Up {
            let proven_at = self.proven_at(now);
            self.set_phase(Phase::Ready { proven_at }, "turn ended", out);
        } else {
            self.terminate(now, None, false, "its last turn has ended", out);
        }
    }

    fn on_cancel(&mut self, now: Instant, withdrawn: TurnId, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Busy { turn, .. } if turn == withdrawn) {
            return;
        }
        self.withdraw_questions(now, "its turn was cancelled", out);
        if let Phase::Busy {
            deadline,
            cancelled,
            ..
        } = &mut self.phase
            && !*cancelled
        {
            *cancelled = true;
            *deadline = (*deadline).min(after(now, self.config.interrupt_grace));
            out.push(Action::Interrupt);
        }
    }

    fn on_timer(&mut self, now: Instant, pulse: Pulse, out: &mut Vec<Action>) {
        self.expire_questions(now, out);
        if self.is_watched(now, pulse, out) || self.deadline().is_none_or(|due| now < due) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Failed) {
            Phase::Starting { deadline } => {
                self.phase = Phase::Starting { deadline };
                let reason = format!("not ready within {:?}", self.config.start_timeout);
                self.terminate(now, None, true, reason, out);
            }
            Phase::Ready { .. } => {
                self.phase = Phase::Ready { proven_at: None };
                self.heal(out);
            }
            phase @ Phase::Busy {
                turn, cancelled, ..
            } => {
                self.phase = phase;
                let doubt = if cancelled {
                    Doubt {
                        cause: DoubtCause::CancelUnconfirmed,
                        detail: format!(
                            "cancelled, and the tool did not confirm within {:?}",
                            self.config.interrupt_grace
                        ),
                    }
                } else {
                    Doubt {
                        cause: DoubtCause::TimedOut,
                        detail: "the turn's time was up".to_owned(),
                    }
                };
                if planted("kept_after_timeout") {
                    out.push(Action::Doubt(turn, doubt));
                    self.set_phase(Phase::Ready { proven_at: None }, "timed out", out);
                    return;
                }
                let reason = doubt.detail.clone();
                let failed = !cancelled || self.config.interruptible;
                self.terminate(now, Some((turn, doubt)), failed, reason, out);
            }
            Phase::Stopping {
                doubt,
                failure,
                killed: false,
                ..
            } => {
                self.phase = Phase::Stopping {
                    doubt,
                    failure,
                    deadline: after(now, self.config.kill_wait),
                    killed: true,
                };
                out.push(Action::Kill);
            }
            Phase::Stopping {
                doubt,
                failure,
                deadline,
                killed: true,
            } => {
                self.phase = Phase::Stopping {
                    doubt: None,
                    failure,
                    deadline,
                    killed: true,
                };
                if let Some((turn, doubt)) = doubt {
                    out.push(Action::Doubt(turn, doubt));
                }
                out.push(Action::Disown);
                self.set_phase(
                    Phase::Failed,
                    "its process survives SIGKILL and was given up",
                    out,
                );
            }
            Phase::Backoff { until } => {
                self.phase = Phase::Backoff { until };
                self.spawn(now, "waited long enough", out);
            }
            Phase::Tripped { until } => {
                self.phase = Phase::Tripped { until };
                self.breaker.probe(now);
                out.push(Action::BreakerChanged(self.breaker.state()));
                self.spawn(now, "probing", out);
            }
            phase @ (Phase::Stopped | Phase::Failed) => self.phase = phase,
        }
    }

    /// Whether the memory of its process is to be looked at.
    pub(crate) fn is_weighed(&self) -> bool {
        self.config.memory_limit.is_some() && matches!(self.phase, Phase::Busy { .. })
    }

    /// Looks whether the tool shows life in its turn and keeps its size; true if it has to go because it does not.
    fn is_watched(&mut self, now: Instant, pulse: Pulse, out: &mut Vec<Action>) -> bool {
        let human = !self.questions.is_empty();
        let Phase::Busy {
            turn,
            cancelled,
            watch,
            ..
        } = &mut self.phase
        else {
            return false;
        };
        watch.see(now, pulse, human);
        if *cancelled || human || now < watch.look_at() {
            return false;
        }
        let Some(doubt) = watch.verdict(now, &self.config) else {
            return false;
        };
        let reason = doubt.detail.clone();
        let doubt = (*turn, doubt);
        self.terminate(now, Some(doubt), true, reason, out);
        true
    }
}
