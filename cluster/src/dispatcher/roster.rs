//! What the dispatcher keeps of each instance.
//!
//! Owns the facts, and the way to the supervisor. Must not decide. Invariant: folded from reports alone.

mod orders;
mod showing;
mod waiters;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::outcome::{FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::{Printed, rss_bytes};

use super::sessions::Having;
use crate::error::ControlError;
use crate::fit::Groups;
use crate::instance::{InstanceState, Standing};
use crate::permission::{PermissionId, Question};
use crate::replacing::{Recycle, Wear};
use crate::status::KeptWork;
use crate::turn::Order;
#[cfg(test)]
pub(crate) use orders::KEPT_PLACES;

/// What never changes in a cluster's life.
pub(crate) struct Facts {
    pub(crate) cluster: Arc<str>,
    pub(crate) tool: Arc<str>,
    pub(crate) strategy: &'static str,
    pub(crate) queue_limit: usize,
    pub(crate) recycle: Recycle,
    pub(crate) groups: Groups,
    /// Tells every supervisor to kill its process.
    pub(crate) kill: watch::Sender<bool>,
}

pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) tool: Arc<str>,
    pub(crate) group: usize,
    orders: Option<mpsc::Sender<Order>>,
    /// No order of a process has followed the last drain, so another drain would say nothing new.
    pub(crate) drained: bool,
    pub(crate) state: InstanceState,
    pub(crate) reason: String,
    since: Instant,
    pub(crate) generation: u64,
    /// When its process was spawned.
    pub(crate) spawned: Instant,
    /// Turns that its process has ended.
    turns_of_process: u64,
    /// The newest generation that was found worn.
    pub(crate) worn_generation: u64,
    /// The newest generation that was tried, whether it got a process or not.
    pub(crate) started: u64,
    /// The generation of the process that it wants to start.
    pub(crate) to_start: u64,
    pid: Option<u32>,
    last_exit: Option<Exit>,
    /// The generation that ended so.
    last_exited: u64,
    last_lines: Vec<String>,
    /// What the last process that failed has printed.
    printed: Option<Box<Printed>>,
    pub(crate) standing: Standing,
    turn: Option<TurnId>,
    /// The turn that was told to be silent, as long as that holds.
    pub(crate) silent: Option<TurnId>,
    /// Its turn is to be in the journal before it gets it.
    pub(crate) departing: bool,
    pub(crate) breaker: &'static str,
    turns: u64,
    turns_failed: u64,
    /// Turns that the tool itself said it had failed.
    tool_errors: u64,
    last_error: Option<String>,
    questions: Vec<Open>,
    /// How many answers to its questions may have reached the tool.
    pub(crate) may_pass: watch::Sender<u64>,
    pub(crate) gone: bool,
    /// It finishes its turn and leaves; whoever wanted that waits for it.
    pub(crate) retiring: Option<oneshot::Sender<Option<KeptWork>>>,
    /// It has left.
    pub(crate) left: bool,
    pub(crate) waiters: Vec<(u64, oneshot::Sender<Result<(), ControlError>>)>,
    pub(crate) cwd: String,
    branch: Option<String>,
    /// Its processes can go on with a conversation of another.
    pub(crate) resumes: bool,
    /// What its process has told of its conversation; with books on disk alone.
    pub(crate) having: Having,
}

/// A question that waits for somebody's answer.
struct Open {
    question: Question,
    asked: Instant,
    until: Instant,
}

impl Entry {
    pub(crate) fn new(
        name: Arc<str>,
        tool: Arc<str>,
        group: usize,
        orders: mpsc::Sender<Order>,
        cwd: String,
        branch: Option<String>,
        now: Instant,
    ) -> Self {
        Self {
            name,
            tool,
            group,
            orders: Some(orders),
            drained: false,
            state: InstanceState::Starting,
            reason: "not started yet".to_owned(),
            since: now,
            generation: 0,
            spawned: now,
            turns_of_process: 0,
            worn_generation: 0,
            started: 0,
            to_start: 0,
            pid: None,
            last_exit: None,
            last_exited: 0,
            last_lines: Vec::new(),
            printed: None,
            standing: Standing::default(),
            turn: None,
            silent: None,
            departing: false,
            breaker: "closed",
            turns: 0,
            turns_failed: 0,
            tool_errors: 0,
            last_error: None,
            questions: Vec::new(),
            may_pass: watch::Sender::new(0),
            gone: false,
            retiring: None,
            left: false,
            waiters: Vec::new(),
            cwd,
            branch,
            resumes: false,
            having: Having::default(),
        }
    }

    pub(crate) fn on_asked(&mut self, question: Question, asked: Instant, until: Instant) {
        self.questions.push(Open {
            question,
            asked,
            until,
        });
    }

    pub(crate) fn on_settled(&mut self, permission: PermissionId) {
        self.questions.retain(|open| open.question.id != permission);
    }

    pub(crate) fn waits_for(&self, permission: PermissionId) -> bool {
        let mut open = self.questions.iter();
        open.any(|open| open.question.id == permission)
    }

    pub(crate) fn take_questions(&mut self) -> Vec<Question> {
        self.questions.drain(..).map(|open| open.question).collect()
    }

    /// Tells whoever waits for it to settle that it has to wait for others, for that reason.
    pub(crate) fn tell_held(&mut self, reason: &str) {
        let held = ControlError::NotReady {
            instance: self.name.to_string(),
            reason: reason.to_owned(),
        };
        for (generation, answer) in std::mem::take(&mut self.waiters) {
            if self.started >= generation {
                answer.send(Err(held.clone())).ok();
            } else {
                self.waiters.push((generation, answer));
            }
        }
    }

    pub(crate) fn on_spawned(&mut self, now: Instant, generation: u64, pid: Option<u32>) {
        self.spawned = now;
        self.turns_of_process = 0;
        self.generation = generation;
        self.pid = pid;
    }

    pub(crate) fn on_changed(&mut self, now: Instant, to: InstanceState, reason: String) {
        if to == InstanceState::Starting {
            self.started += 1;
        }
        if matches!(
            to,
            InstanceState::Backoff | InstanceState::Tripped | InstanceState::Failed
        ) {
            self.last_error = Some(reason.clone());
        }
        self.state = to;
        self.reason = reason;
        self.since = now;
    }

    pub(crate) fn on_exited(
        &mut self,
        generation: u64,
        exit: Exit,
        last: Vec<String>,
        printed: Option<Box<Printed>>,
    ) {
        self.last_exited = generation;
        self.last_lines = last;
        // The evidence of a failure stays until the next one.
        self.printed = printed.or(self.printed.take());
        self.pid = None;
        self.last_exit = Some(exit);
    }

    pub(crate) fn on_turn_started(&mut self, turn: TurnId) {
        self.turn = Some(turn);
        self.state = InstanceState::Busy;
    }

    pub(crate) fn on_turn_ended(&mut self, now: Instant, outcome: &Outcome, ready: bool) {
        self.turn = None;
        self.silent = None;
        self.turns += 1;
        self.turns_of_process += 1;
        let error = match outcome {
            Outcome::Completed | Outcome::Cancelled | Outcome::Expired => None,
            Outcome::Failed(failure) => {
                self.tool_errors += u64::from(failure.class != FailureClass::Refused);
                Some(format!("{}: {}", failure.class.word(), failure.message))
            }
            Outcome::Indeterminate(doubt) => {
                Some(format!("{}: {}", doubt.cause.word(), doubt.detail))
            }
        };
        if error.is_some() {
            self.turns_failed += 1;
            self.last_error = error;
        }
        if ready {
            self.state = InstanceState::Ready;
            self.since = now;
        }
    }

    /// What its process has behind it, as far as it is limited.
    pub(crate) fn wear(&self, limits: &Recycle, now: Instant) -> Wear {
        Wear {
            turns: self.turns_of_process,
            age: now.saturating_duration_since(self.spawned),
            rss_bytes: limits.rss_bytes.and(self.pid).and_then(rss_bytes),
        }
    }

    /// It is up with a process that was not found worn yet.
    pub(crate) fn may_be_worn(&self) -> bool {
        self.serves() && self.worn_generation < self.generation
    }

    /// It is up, with a turn or without.
    pub(crate) fn serves(&self) -> bool {
        matches!(
            self.state,
            InstanceState::Ready | InstanceState::Busy | InstanceState::Waiting
        )
    }

    /// The turn that it runs.
    pub(crate) fn turn(&self) -> Option<TurnId> {
        self.turn
    }

    pub(crate) fn on_turn_handed_back(&mut self) {
        self.turn = None;
        self.silent = None;
    }

    /// It never got the turn that it was to have.
    pub(crate) fn on_turn_not_given(&mut self) {
        self.turn = None;
        if self.state == InstanceState::Busy {
            self.state = InstanceState::Ready;
        }
    }

    /// How the process of its last start ended, if it had one.
    pub(crate) fn exit_of_start(&self) -> Option<String> {
        let exit = self
            .last_exit
            .filter(|_| self.last_exited == self.to_start)?;
        Some(exit.to_string())
    }
}
