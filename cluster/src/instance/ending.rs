//! How a process ends, and what follows.
//!
//! Owns stopping, dying, and what a failure costs. Must not know how a process is started. Invariant: a turn in doubt is
//! told so only when its process is gone.

use std::time::Instant;

use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::{Doubt, DoubtCause};
use toolpool_pool_core::prompt::TurnId;

use super::{Action, Instance, Intent, LONGEST_WAIT, Phase, after};
use crate::breaker::BreakerState;
use crate::planted::planted;
use crate::restarts::RestartPolicy;

/// The exit code by which a tool says that another start cannot help; s6's `finish` scripts have it.
const PERMANENT: i32 = 125;

impl Instance {
    pub(super) fn on_lost(
        &mut self,
        now: Instant,
        cause: DoubtCause,
        detail: String,
        out: &mut Vec<Action>,
    ) {
        match self.phase {
            Phase::Busy { turn, .. } => {
                let reason = format!("{}: {detail}", cause.word());
                self.terminate(
                    now,
                    Some((turn, Doubt { cause, detail })),
                    true,
                    reason,
                    out,
                );
            }
            Phase::Starting { .. } | Phase::Ready { .. } => {
                self.terminate(now, None, true, format!("{}: {detail}", cause.word()), out);
            }
            _ => {}
        }
    }

    pub(super) fn on_exited(
        &mut self,
        now: Instant,
        exit: Exit,
        written: bool,
        words: &str,
        out: &mut Vec<Action>,
    ) {
        let reason = if words.is_empty() {
            exit.to_string()
        } else {
            format!("{exit}; {words}")
        };
        match &mut self.phase {
            Phase::Busy { turn, .. } => {
                let turn = *turn;
                self.withdraw_questions(now, "its process has ended", out);
                if written && !planted("sent_again") {
                    let doubt = Doubt {
                        cause: DoubtCause::Crashed,
                        detail: reason.clone(),
                    };
                    out.push(Action::Doubt(turn, doubt));
                } else {
                    out.push(Action::HandBack(turn));
                }
                self.crashed(now, exit, false, reason, out);
            }
            Phase::Stopping { doubt, .. } => {
                match doubt.take() {
                    Some((turn, doubt)) if written => out.push(Action::Doubt(turn, doubt)),
                    Some((turn, _)) => out.push(Action::HandBack(turn)),
                    None => {}
                }
                self.after_stop(now, reason, out);
            }
            Phase::Starting { .. } => self.crashed(now, exit, false, reason, out),
            Phase::Ready { .. } => self.crashed(now, exit, true, reason, out),
            _ => {}
        }
    }

    pub(super) fn on_down(&mut self, now: Instant, finish_turn: bool, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Busy { .. } if finish_turn => {
                self.set_intent(Intent::Down, "asked to drain", out)
            }
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Busy { .. } => {
                self.stop(now, "asked to stop", out);
                self.intent = Intent::Down;
            }
            Phase::Stopping { .. } => self.intent = Intent::Down,
            Phase::Backoff { .. } | Phase::Tripped { .. } => {
                self.intent = Intent::Down;
                self.set_phase(Phase::Stopped, "asked to stop", out);
            }
            Phase::Stopped | Phase::Failed => {}
        }
    }

    pub(super) fn on_kill(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.on_down(now, false, out);
        self.kill(now, out);
    }

    /// Kills a process that is being ended; it is told once.
    pub(super) fn kill(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Phase::Stopping {
            deadline, killed, ..
        } = &mut self.phase
            && !std::mem::replace(killed, true)
        {
            *deadline = after(now, self.config.kill_wait);
            out.push(Action::Kill);
        }
    }

    /// Ends the process at its owner's wish; a running turn is in doubt then.
    pub(super) fn stop(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
        let doubt = match self.phase {
            Phase::Busy { turn, .. } => Some((
                turn,
                Doubt {
                    cause: DoubtCause::Stopped,
                    detail: reason.to_owned(),
                },
            )),
            _ => None,
        };
        self.terminate(now, doubt, false, reason, out);
    }

    pub(super) fn terminate(
        &mut self,
        now: Instant,
        doubt: Option<(TurnId, Doubt)>,
        failed: bool,
        reason: impl Into<String>,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Terminate);
        let reason = reason.into();
        self.set_phase(
            Phase::Stopping {
                doubt,
                failure: failed.then(|| reason.clone()),
                deadline: after(now, self.config.stop_grace),
                killed: false,
            },
            reason,
            out,
        );
    }

    /// The process has gone after it was told to.
    pub(super) fn after_stop(&mut self, now: Instant, reason: String, out: &mut Vec<Action>) {
        let failure = match &mut self.phase {
            Phase::Stopping { failure, .. } => failure.take(),
            _ => None,
        };
        match (self.intent, failure) {
            (Intent::Down, _) => self.set_phase(Phase::Stopped, reason, out),
            // How it ended after a signal of ours tells less than why it was sent.
            (Intent::Up, Some(failure)) => self.fail(now, format!("{failure}; {reason}"), out),
            _ if self.breaker.state() == BreakerState::HalfOpen && planted("permit_leaked") => {
                let until = after(now, LONGEST_WAIT);
                self.set_phase(Phase::Tripped { until }, "its probe has not come back", out);
            }
            (Intent::Bounce | Intent::Up, _) => self.spawn(now, "restarting", out),
        }
    }

    /// The process has gone by itself. `idle`: between two turns.
    fn crashed(
        &mut self,
        now: Instant,
        exit: Exit,
        idle: bool,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        match self.intent {
            Intent::Down => self.set_phase(Phase::Stopped, reason, out),
            Intent::Bounce => self.spawn(now, "restarting", out),
            Intent::Up if exit.code == Some(PERMANENT) && !planted("permanent_restarted") => {
                self.faults += 1;
                let reason =
                    format!("{reason}; with this code it says that another start cannot help");
                self.give_up(reason, out);
            }
            Intent::Up if idle && exit.code == Some(0) => {
                if self.config.restart == RestartPolicy::Permanent {
                    self.start_again(now, reason, out);
                } else {
                    self.set_phase(Phase::Stopped, reason, out);
                    self.intent = Intent::Down;
                }
            }
            Intent::Up => self.fail(now, reason, out),
        }
    }

    /// Counts a failure, and waits, trips or leaves it at that.
    pub(super) fn fail(&mut self, now: Instant, reason: String, out: &mut Vec<Action>) {
        self.faults += 1;
        if self.config.restart == RestartPolicy::Temporary {
            self.give_up(reason, out);
        } else {
            self.breaker.on_failure(now);
            self.start_again(now, reason, out);
        }
    }

    /// There is to be no further start, whatever others find out about theirs.
    fn give_up(&mut self, reason: String, out: &mut Vec<Action>) {
        // The intent comes last: it decides what a busy instance is called, and so what it changes from.
        self.set_phase(Phase::Failed, reason, out);
        self.intent = Intent::Down;
    }

    /// Waits for the next start, or trips: because of failures in a row, or of too many restarts.
    fn start_again(&mut self, now: Instant, reason: String, out: &mut Vec<Action>) {
        if let Some(ready_at) = self.ready_at.take() {
            self.restarts
                .on_end(now.saturating_duration_since(ready_at));
        }
        let delay = self.backoff.next().unwrap_or(self.config.restart_delay_max);
        let planned = match self.breaker.state() {
            BreakerState::Open { until } => until,
            BreakerState::Closed | BreakerState::HalfOpen => now + delay,
        };
        let until = self.restarts.plan(now, planned);
        let mut reason = reason;
        if self.restarts.is_looping() {
            self.breaker.hold(until);
            reason = format!("crash-looping: {reason}");
        }
        if let BreakerState::Open { .. } = self.breaker.state() {
            out.push(Action::BreakerChanged(self.breaker.state()));
        }
        let phase = match self.breaker.state() {
            BreakerState::Open { until } if !planted("start_while_open") => {
                Phase::Tripped { until }
            }
            _ => Phase::Backoff { until },
        };
        self.set_phase(phase, reason, out);
    }
}
