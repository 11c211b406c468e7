//! The machine in a world that knows nothing of its inside: it makes what can happen happen, and holds what the machine
//! does against its promises.

mod moves;
mod promises;
mod questions;
mod restarting;
mod walking;
mod watching;

use std::time::Duration;

use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::DoubtCause;
use toolpool_pool_core::protocol::{Act, Answer, RequestId};

use super::watch::HEARING;
use super::*;
use crate::approvals::Approvals;
use crate::breaker::{BreakerConfig, BreakerState};
use crate::permission::{AnsweredBy, PermissionId, Question, Settlement};
use crate::restarts::{RestartLimit, RestartLimits, RestartPolicy};
use moves::Move;

const TURN_ZERO: TurnId = TurnId(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    None,
    Launching,
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    No,
    ToTerminate,
    ToDie,
}

/// A machine, and what an onlooker knows of the world around it.
struct World {
    machine: Instance,
    now: Instant,
    process: Process,
    asked: Asked,
    /// The turn that has no end yet.
    turn: Option<TurnId>,
    submitted: bool,
    interrupted: bool,
    /// The turn has a limit of its own.
    own_limit: bool,
    pulse: Pulse,
    /// The machine has just looked at it.
    looked: bool,
    /// Since when what is quiet has been so at the earliest: the turn's start, or its last answer.
    quiet_from: Instant,
    /// When there were to be restarts that nobody has asked for.
    restarts: Vec<Instant>,
    ready: Option<Instant>,
    /// The questions that wait for somebody, and until when.
    open: Vec<(Question, Instant)>,
    questions: u64,
    turns: u64,
    spawns: u64,
    wanted: bool,
    open_until: Option<Instant>,
    shown: InstanceState,
}

fn config() -> InstanceConfig {
    InstanceConfig {
        breaker: BreakerConfig {
            failures: 2,
            ..BreakerConfig::default()
        },
        approvals: Approvals::Ask,
        turn_timeout: Duration::from_secs(100),
        write_timeout: Duration::from_secs(25),
        first_byte_timeout: Duration::from_secs(40),
        silence_timeout: Duration::from_secs(15),
        restarts: RestartLimits {
            burst: BURST,
            ..RestartLimits::default()
        },
        ..InstanceConfig::default()
    }
}

const BURST: RestartLimit = RestartLimit {
    restarts: 2,
    within: Duration::from_secs(60),
};

/// The question of that number; the tool's own names for them are others.
fn question(number: u64, turn: TurnId, act: Act) -> Question {
    Question {
        id: PermissionId(number),
        request: RequestId(format!("request {number}")),
        turn,
        act,
        text: format!("do thing {number}"),
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            machine: Instance::new(config(), 7),
            now,
            pulse: Pulse::default(),
            looked: false,
            quiet_from: now,
            restarts: Vec::new(),
            ready: None,
            process: Process::None,
            asked: Asked::No,
            turn: None,
            submitted: false,
            interrupted: false,
            own_limit: false,
            open: Vec::new(),
            questions: 0,
            turns: 0,
            spawns: 0,
            wanted: false,
            open_until: None,
            shown: InstanceState::Stopped,
        }
    }

    /// A world in which these moves were made.
    fn after(moves: &[Move]) -> Self {
        let mut world = Self::new();
        for &made in moves {
            world.make(made);
        }
        world
    }

    fn feed(&mut self, input: Input) {
        match input {
            Input::Start | Input::Restart | Input::Replace(_) => self.wanted = true,
            Input::Drain | Input::Stop | Input::Kill => self.wanted = false,
            _ => {}
        }
        let serves = self.process != Process::None && self.asked == Asked::No;
        if matches!(input, Input::Restart)
            || (matches!(input, Input::Start | Input::Replace(_)) && !serves)
        {
            self.restarts.clear();
        }
        self.looked = matches!(input, Input::Timer(_));
        let runs = self.machine.state().runs_turn();
        let told = match input {
            Input::TurnEnded(turn) | Input::Refused(turn) if runs && self.turn == Some(turn) => {
                Some(turn)
            }
            _ => None,
        };
        let was_ready = self.machine.state() == InstanceState::Ready;
        let mut out = Vec::new();
        self.machine.handle(self.now, input.clone(), &mut out);
        let ends = matches!(input, Input::Exited { .. } | Input::LaunchFailed { .. });
        let waits = matches!(
            self.machine.state(),
            InstanceState::Backoff | InstanceState::Tripped
        );
        if let Some(planned) = self.machine.deadline().filter(|_| ends && waits) {
            self.plan_restart(planned);
        }
        // The tool's own end is passed on by the supervisor, so the machine must have nothing to say about it.
        if let Some(turn) = told {
            self.answer(turn);
        }
        let mut abandoned = false;
        for action in &out {
            abandoned |= self.perform(action, &input, was_ready, out.contains(&Action::Disown));
        }
        if abandoned {
            let reason = "abandoned".to_owned();
            let permanent = false;
            self.feed(Input::LaunchFailed { permanent, reason });
        } else {
            self.look();
        }
    }

    fn last_open(&self) -> Question {
        self.open.last().expect("one is open").0.clone()
    }

    /// Exactly one answer: a turn that has had its own is not here any more.
    fn answer(&mut self, turn: TurnId) {
        assert_eq!(self.turn.take(), Some(turn), "answered twice or unasked");
        self.submitted = false;
        self.interrupted = false;
    }

    /// The state without its times: two worlds of one shape have the same future, but for the length of waits.
    fn shape(&self) -> String {
        let machine = &self.machine;
        let phase = match &machine.phase {
            Phase::Starting { .. } => "starting".to_owned(),
            Phase::Ready { proven_at } => format!("ready {}", proven_at.is_some()),
            Phase::Busy {
                cancelled, firm, ..
            } => format!(
                "busy {cancelled} {firm} {} {} {}",
                self.open.len(),
                self.pulse.heard.is_some(),
                self.pulse.stuck.is_some(),
            ),
            Phase::Stopping {
                doubt,
                failure,
                killed,
                ..
            } => format!(
                "stopping {} {} {killed}",
                doubt.is_some(),
                failure.is_some()
            ),
            Phase::Backoff { .. } => "backoff".to_owned(),
            Phase::Tripped { .. } => "tripped".to_owned(),
            Phase::Stopped => "stopped".to_owned(),
            Phase::Failed => "failed".to_owned(),
        };
        let failures = machine.breaker.failures().min(3);
        let restarts = self.restarts.len().min(BURST.restarts as usize);
        format!(
            "{phase} {:?} {} {failures} {restarts} {:?} {:?} {} {}",
            machine.intent,
            machine.breaker.state().word(),
            self.process,
            self.asked,
            self.turn.is_some(),
            self.wanted,
        )
    }
}
