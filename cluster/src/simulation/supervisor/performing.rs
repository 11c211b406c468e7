//! What the machine wants done, done to the made-up process.
//!
//! Owns the way from an action to the process and to the dispatcher. Must not decide. Invariant: as the real supervisor
//! does it, with a place where others go first for each wait for the dispatcher.

use std::time::Instant;

use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::{Effect, Launch, Report, Stage, Supervisor};
use crate::breaker::BreakerState;
use crate::instance::{Action, Input, InstanceState};
use crate::permission::{AnsweredBy, Settlement};

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action, stage: &mut Stage) {
        let index = self.index;
        let start = stage.start;
        stage.tell(|| format!("instance {index} does {}", told(&action, start)));
        match action {
            Action::Spawn => {
                self.look_at_start();
                let generation = self.machine.generation();
                self.to_start = Some(generation);
                self.telling = Some(Report::WantsToStart { generation });
            }
            Action::Submit(turn) => self.submit(turn, stage),
            Action::Interrupt => {
                if let Some(process) = &mut self.process {
                    process.interrupt(stage);
                }
            }
            Action::Ask {
                question, until, ..
            } => {
                assert!(until > stage.now || stage.now == stage.start);
                stage.judge.asked(&question);
                self.telling = Some(Report::Asked(question));
            }
            Action::Settle(question, settlement) => {
                stage.judge.settled(&question, settlement);
                if let Settlement::Answered(_, AnsweredBy::Person) = settlement {
                    assert_eq!(
                        self.answering,
                        Some(question.id),
                        "an answer to another question"
                    );
                }
                if let (Settlement::Answered(..), Some(process)) = (settlement, &mut self.process) {
                    process.answer(&question.request, stage);
                }
                self.telling = Some(Report::Settled(question.id));
            }
            Action::NotOpen(_) => {}
            Action::Terminate => {
                if let Some(process) = &mut self.process {
                    process.terminate(stage);
                }
                if self.to_start.take().is_some() {
                    let reason = "stopped before it was started".to_owned();
                    self.inputs.push_back(Input::LaunchFailed {
                        permanent: false,
                        reason,
                    });
                }
            }
            Action::Kill => {
                if let Some(process) = &mut self.process {
                    process.kill(stage);
                }
                if self.launching.take().is_some() {
                    let reason = "given up".to_owned();
                    self.inputs.push_back(Input::LaunchFailed {
                        permanent: false,
                        reason,
                    });
                }
            }
            Action::Disown => {
                let given_up = self.process.take();
                let hopeless = given_up.is_none_or(|process| process.survives_everything());
                assert!(hopeless, "given up without a SIGKILL");
                stage.judge.seen.disowned = true;
            }
            Action::Doubt(turn, doubt) => {
                let lives = self
                    .process
                    .as_ref()
                    .is_some_and(|process| !process.survives_everything());
                assert!(!lives, "{turn} is in doubt, and its process lives");
                stage.judge.in_doubt(turn);
                self.end(turn, Outcome::Indeterminate(doubt));
            }
            Action::HandBack(turn) => {
                if let Some(turn) = self.running.take_if(|running| running.id == turn) {
                    stage.judge.handed_back(turn.id);
                    self.telling = Some(Report::HandedBack(turn));
                }
            }
            Action::Changed { to, from, reason } => {
                if !from.turn_tells_of(to) {
                    let for_good = to == InstanceState::Failed && !self.machine.standing().returns;
                    self.given_up |= for_good;
                    self.telling = Some(Report::Changed(to, reason, for_good));
                }
            }
            Action::BreakerChanged(state) => {
                if let (BreakerState::Open { until }, BreakerState::HalfOpen) =
                    (self.breaker, state)
                {
                    assert!(stage.now >= until, "the probe is too early");
                }
                self.breaker = state;
            }
        }
    }

    pub(super) fn launch(&mut self, stage: &mut Stage) {
        self.look_at_start();
        let over = stage.within(1_500);
        let fails = stage.mishap(15);
        self.launching = Some(Launch {
            over: (!stage.mishap(3)).then_some(over),
            error: fails.then(|| stage.percent(5)),
        });
    }

    fn submit(&mut self, turn: TurnId, stage: &mut Stage) {
        let fresh = self
            .running
            .as_ref()
            .is_some_and(|running| running.ticket.fresh);
        let here = self.running.as_ref().map(|running| running.id);
        assert_eq!(here, Some(turn), "it is not here");
        let process = self.process.as_mut().expect("a ready one has a process");
        if process.submit(turn, fresh, stage) {
            return;
        }
        let mut actions = Vec::new();
        self.machine
            .handle(stage.now, Input::Refused(turn), &mut actions);
        let failure = Failure {
            class: FailureClass::Refused,
            message: "too long".to_owned(),
            retry_after: None,
        };
        self.end(turn, Outcome::Failed(failure));
        self.effects.extend(actions.into_iter().map(Effect::Do));
    }

    fn end(&mut self, turn: TurnId, outcome: Outcome) {
        let ready = self.machine.state() == InstanceState::Ready;
        let turn = self.running.take_if(|running| running.id == turn);
        let turn = turn.expect("a turn ends once, where it runs");
        self.telling = Some(Report::TurnEnded {
            turn,
            outcome,
            ready,
        });
    }
}

/// An action without the clock's own numbers, which are others in each run.
fn told(action: &Action, start: Instant) -> String {
    match action {
        Action::Ask {
            question, until, ..
        } => format!("ask {question:?} until {:?}", *until - start),
        Action::BreakerChanged(BreakerState::Open { until }) => {
            format!("open its breaker until {:?}", *until - start)
        }
        other => format!("{other:?}"),
    }
}
