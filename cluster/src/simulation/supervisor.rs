//! One instance's task, step by step: the real machine between its mailbox and a made-up process.
//!
//! Owns what the real supervisor does around the machine, in its order; each of its waits for the dispatcher is a place
//! where others go first. Must not decide. Invariant: one step is what the real task does between two waits.

mod judging;
mod performing;

use std::collections::VecDeque;
use std::time::Instant;

use rand::Rng;
use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::DoubtCause;

use super::tool::{Happening, Process};
use super::{Message, Order, Report, Stage, Turn};
use crate::breaker::BreakerState;
use crate::instance::{Action, Input, Instance, InstanceConfig, InstanceState};
use crate::permission::{PermissionId, Question};

enum Effect {
    Do(Action),
    Tell(Report),
}

/// A start on its way: when it is over, if ever, and how.
struct Launch {
    over: Option<Instant>,
    error: Option<bool>,
}

pub(super) struct Supervisor {
    pub(super) index: usize,
    machine: Instance,
    pub(super) orders: VecDeque<Order>,
    /// As the dispatcher knows it: the last order about its process was a drain.
    pub(super) drained: bool,
    inputs: VecDeque<Input>,
    effects: VecDeque<Effect>,
    /// Waits for room in the dispatcher's mailbox.
    telling: Option<Report>,
    to_start: Option<u64>,
    /// It is not to be started again before its owner wants it.
    given_up: bool,
    launching: Option<Launch>,
    process: Option<Process>,
    running: Option<Turn>,
    /// Since when what is quiet has been so at the earliest: the turn's start, or its last answer.
    quiet_from: Instant,
    open: Vec<PermissionId>,
    /// When its processes were to be restarted though nobody had asked for it.
    restarts: Vec<Instant>,
    /// Since when its process has been ready.
    ready: Option<Instant>,
    /// The question that a person answers just now.
    answering: Option<PermissionId>,
    quitting: bool,
    leaving: bool,
    gone: bool,
    /// What an onlooker knows of the breaker.
    breaker: BreakerState,
}

impl Supervisor {
    pub(super) fn new(index: usize, config: &InstanceConfig, seed: u64, now: Instant) -> Self {
        Self {
            index,
            machine: Instance::new(config.clone(), seed + index as u64),
            orders: VecDeque::new(),
            drained: false,
            inputs: VecDeque::from([Input::Start]),
            effects: VecDeque::new(),
            telling: None,
            to_start: None,
            given_up: false,
            launching: None,
            process: None,
            running: None,
            quiet_from: now,
            open: Vec::new(),
            restarts: Vec::new(),
            ready: None,
            answering: None,
            quitting: false,
            leaving: false,
            gone: false,
            breaker: BreakerState::Closed,
        }
    }

    pub(super) fn is_able(&self, now: Instant, has_room: bool) -> bool {
        if self.gone {
            return false;
        }
        if self.telling.is_some() {
            return has_room;
        }
        !self.effects.is_empty()
            || !self.inputs.is_empty()
            || self.ends_here()
            || (!self.orders.is_empty() && !self.quitting)
            || self.next_moment().is_some_and(|due| due <= now)
    }

    fn ends_here(&self) -> bool {
        self.quitting && self.machine.state().is_down()
    }

    /// When something happens that it waits for.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        let launched = self.launching.as_ref().and_then(|launch| launch.over);
        let happens = self.process.as_ref().and_then(Process::next_moment);
        let waits = [launched, happens, self.deadline()];
        waits.into_iter().flatten().min()
    }

    /// As the real one: a start that waits for its turn takes no time of its own.
    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline().filter(|_| self.to_start.is_none())
    }

    /// Its process is on its way up.
    pub(super) fn starts(&self) -> bool {
        self.machine.state() == InstanceState::Starting
            && (self.launching.is_some() || self.process.is_some())
    }

    /// The accepted turns that are here.
    pub(super) fn turns_held(&self) -> usize {
        let tells =
            |report: &Report| matches!(report, Report::TurnEnded { .. } | Report::HandedBack(_));
        let ordered = self
            .orders
            .iter()
            .filter(|order| matches!(order, Order::Assign(_)));
        let to_tell = self
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Tell(report) if tells(report)));
        ordered.count()
            + to_tell.count()
            + usize::from(self.running.is_some())
            + usize::from(self.telling.as_ref().is_some_and(tells))
    }

    pub(super) fn step(&mut self, stage: &mut Stage, inbox: &mut VecDeque<Message>) {
        if let Some(report) = self.telling.take() {
            inbox.push_back(Message::Report(self.index, report));
            self.gone = self.leaving;
        } else if let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Tell(report) => self.telling = Some(report),
                Effect::Do(action) => self.perform(action, stage),
            }
        } else if let Some(input) = self.inputs.pop_front() {
            self.handle(input, stage);
        } else if self.ends_here() {
            self.look();
            self.leaving = true;
            self.telling = Some(Report::Gone);
        } else {
            self.look();
            self.wake(stage);
        }
    }

    fn handle(&mut self, input: Input, stage: &mut Stage) {
        let index = self.index;
        // What a look sees has the clock's own numbers, which are others in each run.
        stage.tell(|| match &input {
            Input::Timer(_) => format!("instance {index} looks"),
            input => format!("instance {index} hears {input:?}"),
        });
        self.remember(&input, stage.now);
        let rings = matches!(input, Input::Timer(_));
        let ends = matches!(input, Input::Exited { .. } | Input::LaunchFailed { .. });
        let mut actions = Vec::new();
        let looks = rings && self.machine.state().runs_turn();
        self.machine.handle(stage.now, input, &mut actions);
        if looks && self.machine.state() == InstanceState::Stopping {
            self.judge_kill(&actions, stage);
        }
        for action in &actions {
            match action {
                Action::Ask { question, .. } => self.open.push(question.id),
                Action::Settle(question, _) if self.open.contains(&question.id) => {
                    self.open.retain(|open| *open != question.id);
                    if self.open.is_empty() {
                        self.quiet_from = stage.now;
                    }
                }
                _ => {}
            }
        }
        let waits = matches!(
            self.machine.state(),
            InstanceState::Backoff | InstanceState::Tripped
        );
        if let Some(planned) = self.machine.deadline().filter(|_| ends && waits) {
            self.judge_restart(planned, stage);
        }
        stage.judge.seen.states.insert(self.machine.state());
        self.effects.extend(actions.into_iter().map(Effect::Do));
    }

    /// Takes one of the things that wait for it.
    fn wake(&mut self, stage: &mut Stage) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= stage.now);
        let ordered = !self.orders.is_empty() && !self.quitting;
        let launched = due(self.launching.as_ref().and_then(|launch| launch.over));
        let rings = due(self.deadline());
        let happens = due(self.process.as_ref().and_then(Process::next_moment));
        let ready: Vec<usize> = [ordered, launched, rings, happens]
            .into_iter()
            .enumerate()
            .filter_map(|(which, ready)| ready.then_some(which))
            .collect();
        match ready[stage.chance.random_range(0..ready.len())] {
            0 => self.on_order(stage),
            1 => self.on_launched(stage),
            2 => {
                let pulse = self.process.as_ref().map(Process::pulse);
                self.inputs
                    .push_back(Input::Timer(pulse.unwrap_or_default()));
            }
            _ => self.on_process(stage),
        }
    }

    fn on_order(&mut self, stage: &mut Stage) {
        let Some(order) = self.orders.pop_front() else {
            return;
        };
        let input = match order {
            Order::Assign(turn) => {
                assert!(self.running.is_none(), "two turns at a time");
                let input = Input::Assign {
                    turn: turn.id,
                    timeout: turn.timeout,
                    generation: turn.generation,
                };
                self.running = Some(turn);
                input
            }
            Order::Start { generation } => {
                if self
                    .to_start
                    .take_if(|start| *start == generation)
                    .is_none()
                {
                    return;
                }
                self.launch(stage);
                Input::Launching
            }
            Order::Revive => Input::Start,
            Order::Cancel(turn) => Input::Cancel(turn),
            Order::Answer(id, answer) => Input::Answer(id, answer),
            Order::Restart => Input::Restart,
            Order::Drain => Input::Drain,
            Order::Stop => {
                self.quitting = true;
                Input::Stop
            }
        };
        self.inputs.push_back(input);
    }

    fn on_launched(&mut self, stage: &mut Stage) {
        let Some(launch) = self.launching.take() else {
            return;
        };
        if let Some(permanent) = launch.error {
            let reason = "no such program".to_owned();
            self.inputs
                .push_back(Input::LaunchFailed { permanent, reason });
            return;
        }
        assert!(self.process.is_none(), "two processes");
        let mut process = Process::new((self.index, self.machine.generation()), stage);
        if self.machine.state() == InstanceState::Stopping {
            process.terminate(stage);
        }
        self.process = Some(process);
        self.telling = Some(Report::Spawned {
            generation: self.machine.generation(),
        });
    }

    fn on_process(&mut self, stage: &mut Stage) {
        let Some(process) = &mut self.process else {
            return;
        };
        let Some(happening) = process.take(stage) else {
            return;
        };
        let (index, place) = (self.index, process.place);
        stage.tell(|| format!("process {}/{}: {happening:?}", index, place.1));
        let runs = self.machine.state().runs_turn();
        match happening {
            Happening::Ready => self.inputs.push_back(Input::Ready),
            Happening::Reads(_) => {}
            Happening::Prints(turn) => {
                if let (true, Some(running)) = (runs && process.works_on(turn), &self.running) {
                    stage.judge.credited(running.id, turn, place);
                }
            }
            Happening::Asks(turn, request, act) => {
                stage.questions += 1;
                self.inputs.push_back(Input::Asked(Question {
                    id: PermissionId(stage.questions),
                    request,
                    turn,
                    act,
                    text: "may I?".to_owned(),
                }));
            }
            Happening::TakesBack(request) => self.inputs.push_back(Input::Withdrawn(request)),
            Happening::Ends(turn, outcome) => {
                if runs {
                    self.handle(Input::TurnEnded(turn), stage);
                    let ready = self.machine.state() == InstanceState::Ready;
                    let ended = self.running.take_if(|running| running.id == turn);
                    if let Some(turn) = ended {
                        let end = Report::TurnEnded {
                            turn,
                            outcome,
                            ready,
                        };
                        self.effects.push_front(Effect::Tell(end));
                    }
                }
            }
            Happening::Junk | Happening::TooLong => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail: "junk".to_owned(),
            }),
            Happening::Exits => {
                let written = process.has_read();
                self.process = None;
                let code = match stage.mishap(20) {
                    true => [0, 0, 0, 125][stage.chance.random_range(0..4)],
                    false => 1,
                };
                self.inputs.push_back(Input::Exited {
                    exit: Exit {
                        code: Some(code),
                        signal: None,
                    },
                    written,
                    words: String::new(),
                });
            }
        }
    }
}
