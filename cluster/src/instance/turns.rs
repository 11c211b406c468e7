//! A turn of an instance, from its assignment to its end.
//!
//! Owns when a turn begins and when it has to end. Must not know what the tool says in it. Invariant: a turn is for one
//! generation; one that does not begin is handed back.

use std::time::{Duration, Instant};

use toolpool_pool_core::Pulse;
use toolpool_pool_core::outcome::{Doubt, DoubtCause};
use toolpool_pool_core::prompt::TurnId;

use super::watch::Watch;
use super::{Action, Instance, Intent, Phase, after};
use crate::planted::planted;

impl Instance {
    pub(super) fn on_assign(
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
    pub(super) fn on_turn_over(
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

    pub(super) fn on_cancel(&mut self, now: Instant, withdrawn: TurnId, out: &mut Vec<Action>) {
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

    /// The time of a turn, or the grace of its cancel, has passed.
    pub(super) fn on_time_up(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Phase::Busy {
            turn, cancelled, ..
        } = self.phase
        else {
            return;
        };
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

    /// Whether the memory of its process is to be looked at.
    pub(crate) fn is_weighed(&self) -> bool {
        self.config.memory_limit.is_some() && matches!(self.phase, Phase::Busy { .. })
    }

    /// Looks whether the tool shows life in its turn and keeps its size; true if it has to go because it does not.
    pub(super) fn is_watched(&mut self, now: Instant, pulse: Pulse, out: &mut Vec<Action>) -> bool {
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
