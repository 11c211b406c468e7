//! The machine against an oracle that knows nothing of its inside: a walk over every state that it can reach, and long
//! random lives.

mod questions;
mod restarting;
mod watching;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::DoubtCause;
use toolpool_pool_core::protocol::{Act, Answer, RequestId};

use super::watch::HEARING;
use super::*;
use crate::approvals::Approvals;
use crate::breaker::{BreakerConfig, BreakerState};
use crate::permission::{AnsweredBy, PermissionId, Question, Settlement};
use crate::restarts::{RestartLimit, RestartLimits, RestartPolicy};

const TURN_ZERO: TurnId = TurnId(0);

/// Everything that can happen to an instance. A move that makes no sense at a moment is not made then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Move {
    LaunchSucceeds,
    LaunchFails {
        permanent: bool,
    },
    Ready,
    Assign {
        own_limit: bool,
    },
    AssignToAnotherProcess,
    Refuse,
    End,
    Cancel,
    EndOfAnother,
    RefusalOfAnother,
    CancelOfAnother,
    Ask,
    Answer,
    TakeBack,
    AnswerOfAnother,
    TakeBackOfAnother,
    Lose,
    Exit {
        written: bool,
    },
    /// With code 0.
    ExitCleanly,
    /// With the code that says that another start cannot help.
    ExitForGood,
    /// The tool prints something.
    Speak,
    /// The tool takes nothing more of what is written to it, or takes it after all.
    Block,
    Unblock,
    TimerTooEarly,
    /// Time passes in silence until something comes of it.
    Deadline,
    /// The same, and the tool speaks all the while.
    DeadlineInTalk,
    Start,
    Restart,
    Replace,
    Drain,
    Stop,
    Kill,
}

const MOVES: [Move; 35] = [
    Move::LaunchSucceeds,
    Move::LaunchFails { permanent: false },
    Move::LaunchFails { permanent: true },
    Move::Ready,
    Move::Assign { own_limit: false },
    Move::Assign { own_limit: true },
    Move::AssignToAnotherProcess,
    Move::Refuse,
    Move::End,
    Move::Cancel,
    Move::EndOfAnother,
    Move::RefusalOfAnother,
    Move::CancelOfAnother,
    Move::Ask,
    Move::Answer,
    Move::TakeBack,
    Move::AnswerOfAnother,
    Move::TakeBackOfAnother,
    Move::Lose,
    Move::Exit { written: false },
    Move::Exit { written: true },
    Move::ExitCleanly,
    Move::ExitForGood,
    Move::Speak,
    Move::Block,
    Move::Unblock,
    Move::TimerTooEarly,
    Move::Deadline,
    Move::DeadlineInTalk,
    Move::Start,
    Move::Restart,
    Move::Replace,
    Move::Drain,
    Move::Stop,
    Move::Kill,
];

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

    fn can(&self, made: Move) -> bool {
        match made {
            Move::LaunchSucceeds | Move::LaunchFails { .. } => self.process == Process::Launching,
            Move::Ready
            | Move::Lose
            | Move::Exit { .. }
            | Move::ExitCleanly
            | Move::ExitForGood => self.process == Process::Live,
            Move::Speak | Move::Block => self.submitted && self.process == Process::Live,
            Move::Unblock => self.pulse.stuck.is_some(),
            Move::Assign { .. } | Move::AssignToAnotherProcess => self.turn.is_none(),
            Move::Refuse | Move::End => self.submitted && self.process == Process::Live,
            Move::Cancel => self.turn.is_some(),
            // More at once are much like two.
            Move::Ask => self.submitted && self.process == Process::Live && self.open.len() < 2,
            Move::Answer | Move::TakeBack => !self.open.is_empty(),
            Move::Deadline => self.machine.deadline().is_some(),
            Move::DeadlineInTalk => self.submitted && self.process == Process::Live,
            _ => true,
        }
    }

    fn make(&mut self, made: Move) {
        let turn = self.turn.unwrap_or(TURN_ZERO);
        let input = match made {
            Move::LaunchSucceeds => {
                self.process = Process::Live;
                return;
            }
            Move::LaunchFails { permanent } => {
                self.process = Process::None;
                let reason = "no such file".to_owned();
                Input::LaunchFailed { permanent, reason }
            }
            Move::Ready => Input::Ready,
            Move::Assign { own_limit } => {
                self.own_limit = own_limit;
                self.turns += 1;
                self.turn = Some(TurnId(self.turns));
                Input::Assign {
                    turn: TurnId(self.turns),
                    timeout: own_limit.then_some(Duration::from_secs(60)),
                    generation: self.machine.generation(),
                }
            }
            Move::AssignToAnotherProcess => {
                self.turns += 1;
                self.turn = Some(TurnId(self.turns));
                Input::Assign {
                    turn: TurnId(self.turns),
                    timeout: None,
                    // Of a process that is not there any more, or of none.
                    generation: self.machine.generation() + 1,
                }
            }
            Move::Refuse => Input::Refused(turn),
            Move::End => Input::TurnEnded(turn),
            Move::Cancel => Input::Cancel(turn),
            Move::EndOfAnother => Input::TurnEnded(TurnId(turn.0 + 1000)),
            Move::RefusalOfAnother => Input::Refused(TurnId(turn.0 + 1000)),
            Move::CancelOfAnother => Input::Cancel(TurnId(turn.0 + 1000)),
            Move::Ask => {
                self.questions += 1;
                Input::Asked(question(self.questions, turn, Act::Execute))
            }
            Move::Answer => Input::Answer(self.last_open().id, Answer::Allow),
            Move::TakeBack => Input::Withdrawn(self.last_open().request),
            Move::AnswerOfAnother => Input::Answer(PermissionId(u64::MAX), Answer::Allow),
            Move::TakeBackOfAnother => Input::Withdrawn(RequestId("another".to_owned())),
            Move::Lose => Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail: "gibberish".to_owned(),
            },
            Move::Exit { written } => self.exit(1, written),
            Move::ExitCleanly => self.exit(0, true),
            Move::ExitForGood => self.exit(125, true),
            Move::Speak => {
                self.pulse.heard = Some(self.now);
                return;
            }
            Move::Block => {
                self.pulse.stuck = Some(self.now);
                return;
            }
            Move::Unblock => {
                self.pulse.stuck = None;
                return;
            }
            Move::TimerTooEarly => Input::Timer(self.pulse),
            Move::Deadline => return self.wait(false),
            Move::DeadlineInTalk => return self.wait(true),
            Move::Start => Input::Start,
            Move::Restart => Input::Restart,
            Move::Replace => Input::Replace("worn".to_owned()),
            Move::Drain => Input::Drain,
            Move::Stop => Input::Stop,
            Move::Kill => Input::Kill,
        };
        self.feed(input);
    }

    fn exit(&mut self, code: i32, written: bool) -> Input {
        self.process = Process::None;
        if self
            .ready
            .is_some_and(|ready| self.now - ready >= Duration::from_secs(600))
        {
            self.restarts.clear();
        }
        self.ready = None;
        let exit = Exit {
            code: Some(code),
            signal: None,
        };
        let words = String::new();
        Input::Exited {
            exit,
            written,
            words,
        }
    }

    /// Lets the time pass, from look to look, until the state is another or the machine waits for nothing.
    fn wait(&mut self, in_talk: bool) {
        let before = (self.machine.state(), self.asked, self.open.len());
        for _ in 0..200 {
            let Some(deadline) = self.machine.deadline() else {
                return;
            };
            self.now = self.now.max(deadline);
            if in_talk {
                self.pulse.heard = Some(self.now);
            }
            self.feed(Input::Timer(self.pulse));
            if (self.machine.state(), self.asked, self.open.len()) != before {
                return;
            }
        }
    }

    /// How long the tool has shown no sign of life, and how long it may.
    fn silence(&self) -> [(Duration, Duration); 2] {
        let since = |when: Instant| self.now - when.max(self.quiet_from);
        let limits = &self.machine.config;
        [
            match self.pulse.heard {
                Some(heard) => (since(heard), limits.silence_timeout),
                None => (since(self.quiet_from), limits.first_byte_timeout),
            },
            match self.pulse.stuck {
                Some(stuck) => (since(stuck), limits.write_timeout),
                None => (Duration::ZERO, limits.write_timeout),
            },
        ]
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

    /// Exactly one end: a question that has had its own is not here any more.
    fn settle(&mut self, settled: &Question, settlement: Settlement, input: &Input) {
        let at = self.open.iter().position(|(open, _)| open == settled);
        let until = at.map(|at| self.open.remove(at).1);
        if until.is_some() && self.open.is_empty() {
            self.quiet_from = self.now;
        }
        match (settlement, input) {
            (Settlement::Answered(answer, AnsweredBy::Person), Input::Answer(id, given)) => {
                assert_eq!((settled.id, answer), (*id, *given), "an answer of another");
                assert!(until.is_some(), "answered twice or unasked");
            }
            (Settlement::Answered(Answer::Deny, AnsweredBy::Timeout), Input::Timer(_)) => {
                assert!(until.is_some_and(|until| until <= self.now), "too early");
            }
            (Settlement::Answered(Answer::Deny, AnsweredBy::Cancel), Input::Asked(asked)) => {
                assert!(self.interrupted && asked == settled);
            }
            (Settlement::Withdrawn, Input::Withdrawn(request)) => {
                assert_eq!((until.is_some(), &settled.request), (true, request));
            }
            (Settlement::Withdrawn, _) => {
                assert!(until.is_some(), "settled twice");
                let goes_on = self.process == Process::Live && self.asked == Asked::No;
                assert!(!goes_on || matches!(input, Input::Cancel(_)) || self.turn.is_none());
            }
            other => panic!("{other:?}"),
        }
        if matches!(settlement, Settlement::Answered(..)) {
            assert!(self.process == Process::Live && self.asked == Asked::No);
        }
    }

    /// Exactly one answer: a turn that has had its own is not here any more.
    fn answer(&mut self, turn: TurnId) {
        assert_eq!(self.turn.take(), Some(turn), "answered twice or unasked");
        self.submitted = false;
        self.interrupted = false;
    }

    /// Judges an action in the light of the input that led to it. True if a start was abandoned.
    fn perform(&mut self, action: &Action, input: &Input, was_ready: bool, disowns: bool) -> bool {
        match action {
            Action::Spawn => {
                assert_eq!(self.process, Process::None, "a second process");
                assert!(self.wanted, "nobody wants it up");
                assert_eq!(self.open_until, None, "the breaker is open");
                self.process = Process::Launching;
                self.asked = Asked::No;
                self.spawns += 1;
            }
            Action::Submit(turn) => {
                assert!(was_ready && self.process == Process::Live);
                let another =
                    matches!(input, Input::Assign { generation, .. } if *generation != self.spawns);
                assert!(!another, "it was for another process");
                assert_eq!(
                    self.asked,
                    Asked::No,
                    "a prompt for a process that is to end"
                );
                assert_eq!(self.turn, Some(*turn));
                assert!(!std::mem::replace(&mut self.submitted, true), "sent twice");
                self.pulse = Pulse::default();
                self.quiet_from = self.now;
            }
            Action::Interrupt => {
                assert!(self.submitted && self.process == Process::Live);
                assert!(!std::mem::replace(&mut self.interrupted, true));
            }
            Action::Ask {
                question, until, ..
            } => {
                assert!(matches!(input, Input::Asked(asked) if asked == question));
                assert!(!self.interrupted && *until > self.now);
                self.open.push((question.clone(), *until));
            }
            Action::Settle(question, settlement) => self.settle(question, *settlement, input),
            Action::NotOpen(id) => {
                assert!(matches!(input, Input::Answer(given, _) if given == id));
                assert!(self.open.iter().all(|(open, _)| open.id != *id));
            }
            Action::Terminate => {
                assert_eq!(self.asked, Asked::No);
                let hung = matches!(input, Input::Timer(_)) && self.submitted;
                assert!(
                    !hung || self.own_limit || self.open.is_empty(),
                    "killed as hung while it waits for somebody"
                );
                if let Phase::Stopping {
                    doubt: Some((_, doubt)),
                    ..
                } = &self.machine.phase
                    && hung
                {
                    let [quiet, stuck] = self.silence();
                    let is_due = match &doubt.detail {
                        detail if detail.contains("first-byte") => quiet.0 >= quiet.1,
                        detail if detail.contains("silence") => quiet.0 >= quiet.1,
                        detail if detail.contains("write") => stuck.0 >= stuck.1,
                        _ => true,
                    };
                    assert!(is_due, "{doubt:?} after {quiet:?} and {stuck:?}");
                }
                self.asked = Asked::ToTerminate;
            }
            Action::Kill => {
                assert_eq!(self.asked, Asked::ToTerminate, "SIGTERM comes first");
                self.asked = Asked::ToDie;
                if self.process == Process::Launching {
                    self.process = Process::None;
                    return true;
                }
            }
            Action::Disown => {
                assert_eq!(self.asked, Asked::ToDie, "given up without a SIGKILL");
                self.process = Process::None;
            }
            Action::Doubt(turn, doubt) => {
                assert!(
                    self.submitted,
                    "nothing was written, so nothing is in doubt"
                );
                assert!(
                    self.process == Process::None || disowns,
                    "its process still lives"
                );
                let unwritten = matches!(input, Input::Exited { written: false, .. });
                assert!(!unwritten, "nobody has read a byte of it");
                assert!(!doubt.detail.is_empty());
                self.answer(*turn);
            }
            Action::HandBack(turn) => {
                let unwritten = matches!(input, Input::Exited { written: false, .. });
                assert!(!self.submitted || unwritten, "a byte of it may be read");
                self.answer(*turn);
            }
            Action::Changed { from, to, reason } => {
                assert_eq!(*from, self.shown, "a change that nobody was told of");
                assert_ne!(from, to);
                assert!(!reason.is_empty());
                self.shown = *to;
            }
            Action::BreakerChanged(state) => {
                if let (Some(until), BreakerState::HalfOpen) = (self.open_until, state) {
                    assert!(self.now >= until, "the probe is too early");
                }
                self.open_until = match state {
                    BreakerState::Open { until } => Some(*until),
                    BreakerState::Closed | BreakerState::HalfOpen => None,
                };
            }
        }
        false
    }

    /// A restart that nobody has asked for: no more of them than allowed, or one at a time and after a wait.
    fn plan_restart(&mut self, planned: Instant) {
        let InstanceConfig {
            restarts, breaker, ..
        } = &self.machine.config;
        let burst = restarts.burst;
        let recent = |when: &&Instant| planned.saturating_duration_since(**when) < burst.within;
        let recent = self.restarts.iter().filter(recent).count();
        let wait = planned - self.now;
        assert!(
            recent < burst.restarts as usize || wait >= breaker.open_for.min(LONGEST_WAIT) / 2,
            "restart {} within {burst:?} after {wait:?}",
            recent + 1
        );
        self.restarts.push(planned);
    }

    /// What must be true whenever the machine is at rest.
    fn look(&mut self) {
        let state = self.machine.state();
        if state == InstanceState::Ready && self.ready.is_none() {
            self.ready = Some(self.now);
        }
        let watched = self.submitted && self.asked == Asked::No && !self.interrupted;
        let looked = self.looked || self.machine.deadline() > Some(self.now);
        if watched && looked && self.open.is_empty() {
            for (lasts, limit) in self.silence() {
                assert!(
                    lasts < limit.saturating_add(HEARING),
                    "silent for {lasts:?} and still trusted"
                );
            }
        }
        assert_eq!(state, self.shown, "a change was not reported");
        assert_eq!(self.machine.generation(), self.spawns);
        let waits = !matches!(
            state,
            InstanceState::Ready | InstanceState::Stopped | InstanceState::Failed
        );
        assert!(
            !waits || self.machine.deadline().is_some(),
            "{state:?} may last for ever"
        );
        let expected: &[Process] = match state {
            InstanceState::Starting | InstanceState::Stopping => {
                &[Process::Launching, Process::Live]
            }
            InstanceState::Ready
            | InstanceState::Busy
            | InstanceState::Waiting
            | InstanceState::Draining => &[Process::Live],
            _ => &[Process::None],
        };
        assert!(
            expected.contains(&self.process),
            "{state:?} with {:?}",
            self.process
        );
        let runs = state.runs_turn();
        assert!(runs || self.open.is_empty(), "a question in {state:?}");
        assert_eq!(
            state == InstanceState::Waiting,
            state != InstanceState::Draining && !self.open.is_empty()
        );
        assert!(
            if runs {
                self.submitted
            } else {
                !self.submitted || state == InstanceState::Stopping
            },
            "a turn without an end in {state:?}"
        );
        assert_eq!(self.turn.is_some(), self.submitted, "a turn was lost");
        assert_eq!(
            state == InstanceState::Tripped,
            self.tripped(),
            "{:?}",
            self.open_until
        );
    }

    fn tripped(&self) -> bool {
        self.open_until.is_some() && self.wanted
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

/// A path to each shape that the machine can reach, shortest first.
fn reachable() -> Vec<Vec<Move>> {
    let mut seen = HashSet::from([World::new().shape()]);
    let mut paths = vec![Vec::new()];
    let mut open = VecDeque::from(paths.clone());
    while let Some(path) = open.pop_front() {
        for made in MOVES {
            let mut world = World::after(&path);
            if !world.can(made) {
                continue;
            }
            world.make(made);
            if seen.insert(world.shape()) {
                let longer = [path.as_slice(), &[made]].concat();
                paths.push(longer.clone());
                open.push_back(longer);
            }
        }
    }
    paths
}

#[test]
fn every_input_in_every_reachable_state_keeps_every_promise() {
    let paths = reachable();
    let states: HashSet<_> = paths
        .iter()
        .map(|path| World::after(path).machine.state())
        .collect();
    assert_eq!(states.len(), InstanceState::ALL.len(), "{states:?}");
    assert!(paths.len() > 100, "the walk was cut short: {}", paths.len());
}

#[test]
fn after_a_drain_or_a_stop_every_path_ends_without_a_process_and_without_an_open_turn() {
    for path in reachable() {
        for order in [Move::Drain, Move::Stop, Move::Kill] {
            for stubborn in [false, true] {
                let mut world = World::after(&path);
                world.make(order);
                let mut steps = 0;
                while !matches!(
                    world.machine.state(),
                    InstanceState::Stopped | InstanceState::Failed
                ) {
                    steps += 1;
                    assert!(steps < 10, "{path:?}, {order:?} never ends");
                    let dies = !stubborn
                        && world.asked != Asked::No
                        && world.can(Move::Exit { written: true });
                    let next = if dies {
                        Move::Exit { written: true }
                    } else {
                        Move::Deadline
                    };
                    world.make(next);
                }
                assert_eq!(world.process, Process::None);
                assert_eq!(world.turn, None);
                let had_failed = World::after(&path).machine.state() == InstanceState::Failed;
                if !stubborn && !had_failed {
                    assert_eq!(
                        world.machine.state(),
                        InstanceState::Stopped,
                        "{path:?}, {order:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_restart_brings_every_state_up_again_and_heals_its_breaker() {
    for path in reachable() {
        let mut world = World::after(&path);
        world.make(Move::Restart);
        while world.machine.state() == InstanceState::Stopping {
            if world.can(Move::LaunchSucceeds) {
                world.make(Move::LaunchSucceeds);
            }
            world.make(Move::Exit { written: true });
        }
        assert_eq!(world.machine.state(), InstanceState::Starting, "{path:?}");
        assert_eq!(world.machine.breaker.failures(), 0, "{path:?}");
        assert_eq!(
            world.machine.breaker.state(),
            BreakerState::Closed,
            "{path:?}"
        );
    }
}

#[test]
fn it_backs_off_longer_and_longer_and_trips_at_exactly_the_kth_failure() {
    let mut world = World::after(&[Move::Start]);
    world.make(Move::LaunchSucceeds);
    world.make(Move::Exit { written: true });
    assert_eq!(world.machine.state(), InstanceState::Backoff);
    world.make(Move::Deadline);
    world.make(Move::LaunchFails { permanent: false });
    assert_eq!(world.machine.state(), InstanceState::Tripped, "k is 2");
    let opened = world.now;
    world.make(Move::Deadline);
    assert!(world.now - opened >= Duration::from_secs(5));
    assert_eq!(world.machine.breaker.state(), BreakerState::HalfOpen);
    for made in [
        Move::LaunchSucceeds,
        Move::Ready,
        Move::Assign { own_limit: false },
        Move::End,
    ] {
        world.make(made);
    }
    assert_eq!(world.machine.breaker.state(), BreakerState::Closed);
    assert_eq!(
        world.machine.deadline(),
        None,
        "a healthy one proves nothing"
    );
}

#[test]
fn a_kill_for_a_cancel_feeds_the_breaker_only_where_the_tool_could_have_been_interrupted() {
    for (interruptible, failures) in [(true, 1), (false, 0)] {
        let mut world = World::new();
        let config = InstanceConfig {
            interruptible,
            ..config()
        };
        world.machine = Instance::new(config, 7);
        for made in [
            Move::Start,
            Move::LaunchSucceeds,
            Move::Ready,
            Move::Assign { own_limit: false },
            Move::Cancel,
            Move::Deadline,
            Move::Exit { written: true },
        ] {
            world.make(made);
        }
        assert_eq!(world.machine.breaker.failures(), failures);
    }
}

#[test]
fn a_limit_without_end_is_no_overflow() {
    let mut endless = config();
    for limit in [
        &mut endless.start_timeout,
        &mut endless.turn_timeout,
        &mut endless.write_timeout,
        &mut endless.first_byte_timeout,
        &mut endless.silence_timeout,
        &mut endless.approval_timeout,
        &mut endless.interrupt_grace,
        &mut endless.stop_grace,
        &mut endless.kill_wait,
        &mut endless.restart_delay,
        &mut endless.restart_delay_max,
        &mut endless.probation,
        &mut endless.breaker.open_for,
        &mut endless.breaker.open_for_max,
        &mut endless.restarts.burst.within,
        &mut endless.restarts.sustained.within,
    ] {
        *limit = Duration::MAX;
    }
    for path in reachable() {
        let mut world = World::new();
        world.machine = Instance::new(endless.clone(), 7);
        for made in path {
            if world.can(made) {
                world.make(made);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_long_random_life_keeps_every_promise(
        life in prop::collection::vec((0..MOVES.len(), 0u64..400), 0..400)
    ) {
        let mut world = World::after(&[Move::Start]);
        for (choice, millis) in life {
            world.now += Duration::from_millis(millis);
            if world.can(MOVES[choice]) {
                world.make(MOVES[choice]);
            }
        }
    }
}
