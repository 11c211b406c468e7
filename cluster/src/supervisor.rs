//! One instance's task: it waits for one input, lets the machine decide, and performs.
//!
//! Owns the live connection, the running turn and the timer of one instance. Must not decide: each decision is in
//! [`Instance::handle`]. Invariant: `select!` only names the input.

mod memory;
mod process;
mod questions;
mod telling;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use toolpool_pool_core::launcher::{GroupSignal, Launcher};
use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{Connection, Conversation, Happening, LaunchOptions};

use crate::clock::{self, now};
use crate::dispatcher::Having;
use crate::instance::{Action, Input, Instance, Standing};
use crate::reply::End;
use crate::store::Store;
use crate::turn::{Heard, Message, Order, Report, Turn};
use crate::worktree::Worktree;
use memory::Memory;
use process::{Launched, Launching};
use questions::Given;
use telling::Farewell;

/// What every start of an instance needs.
pub(crate) struct Recipe {
    pub(crate) profile: Arc<ToolProfile>,
    pub(crate) options: LaunchOptions,
    pub(crate) launcher: Arc<dyn Launcher>,
    /// A new process of the instance can go on with the conversation of the one before.
    pub(crate) resumes: bool,
    /// Counts the cluster's questions.
    pub(crate) permissions: Arc<AtomicU64>,
    /// Where the pieces of replies are kept as they come.
    pub(crate) journal: Option<Arc<dyn Store>>,
    /// Becomes true when all is to be killed.
    pub(crate) kill: watch::Receiver<bool>,
    /// How many answers to questions may have reached the tool.
    pub(crate) may_pass: watch::Receiver<u64>,
}

pub(crate) struct Supervisor {
    index: usize,
    name: Arc<str>,
    recipe: Recipe,
    worktree: Option<Worktree>,
    machine: Instance,
    orders: mpsc::Receiver<Order>,
    dispatcher: mpsc::Sender<Message>,
    /// The process that is to be started when it is this instance's turn.
    to_start: Option<u64>,
    launching: Option<Launching>,
    spawned_at: Instant,
    connection: Option<Box<Connection>>,
    memory: Memory,
    /// What the last process has left for the next one.
    left: Option<Conversation>,
    /// What the next process is to go on with instead.
    wanted: Option<Having>,
    /// What the dispatcher knows of the conversation.
    told_having: Option<Having>,
    running: Option<Running>,
    /// Waits to hear whether the answer that is being looked at was taken.
    answering: Option<Heard>,
    /// Answers that the tool does not have yet, in the order in which they may pass.
    on_their_way: VecDeque<Given>,
    /// How many have passed.
    passed: u64,
    /// No more orders are taken: the task ends with its process.
    quitting: bool,
    /// It was told to kill its process, which it is told once.
    killed: bool,
    /// What the dispatcher knows of the machine beside its state.
    told: Option<Standing>,
    inputs: VecDeque<Input>,
    actions: Vec<Action>,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
}

struct Running {
    turn: Box<Turn>,
    started: Instant,
    first_output: Option<Duration>,
    /// Its process died before anything came from it, and its tool does nothing before that.
    untouched: bool,
    /// Where its work goes on, whatever becomes of the process.
    elsewhere: Option<String>,
}

/// What woke the task.
enum Woken {
    Order(Option<Order>),
    Launched(Launched),
    Happened(Happening),
    MayPass,
    Timer,
    Kill,
}

impl Supervisor {
    pub(crate) fn new(
        index: usize,
        name: Arc<str>,
        recipe: Recipe,
        worktree: Option<Worktree>,
        machine: Instance,
        orders: mpsc::Receiver<Order>,
        dispatcher: mpsc::Sender<Message>,
    ) -> Self {
        let now = now();
        Self {
            index,
            name,
            recipe,
            worktree,
            machine,
            orders,
            dispatcher,
            to_start: None,
            launching: None,
            spawned_at: now,
            connection: None,
            memory: Memory::default(),
            left: None,
            wanted: None,
            told_having: None,
            running: None,
            answering: None,
            on_their_way: VecDeque::new(),
            passed: 0,
            quitting: false,
            killed: false,
            told: None,
            inputs: VecDeque::from([Input::Start]),
            actions: Vec::new(),
            timer: Box::pin(tokio::time::sleep_until(clock::timer(now))),
            timer_at: now,
        }
    }

    /// Has the generations go on behind those of an instance that had the name before. Before it runs.
    pub(crate) fn continue_behind(&mut self, generation: u64) {
        self.machine.continue_behind(generation);
    }

    /// Runs until it was told to stop and its process is gone.
    pub(crate) async fn run(mut self) {
        let _farewell = Farewell(self.index, self.dispatcher.clone());
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.machine.handle(now(), input, &mut self.actions);
                self.perform().await;
            }
            self.tell_standing().await;
            if self.quitting && self.machine.state().is_down() {
                break;
            }
            match self.woken().await {
                Woken::Order(order) => self.on_order(order).await,
                Woken::Launched(launched) => self.on_launched(launched).await,
                Woken::Happened(happening) => {
                    if self.machine.silent_since().is_some() {
                        // Nobody has to wait for the next look to hear that it lives.
                        self.inputs.push_back(Input::Timer(self.pulse()));
                    }
                    self.on_happening(happening).await;
                }
                Woken::MayPass => self.pass_on(),
                Woken::Timer => self.inputs.push_back(Input::Timer(self.pulse())),
                Woken::Kill => {
                    self.killed = true;
                    self.inputs.push_back(Input::Kill);
                }
            }
        }
        // The process group dies here at the latest, before anybody hears that the instance is gone.
        self.connection = None;
        let kept = self.release().await;
        self.report(Report::Gone(kept)).await;
    }

    /// Gives back what it was made with; it never had a task.
    pub(crate) async fn discard(mut self) {
        self.release().await;
    }

    async fn woken(&mut self) -> Woken {
        // A start that waits for its turn takes no time of its own.
        let deadline = self.machine.deadline();
        let deadline = deadline.filter(|_| self.to_start.is_none());
        if let Some(deadline) = deadline {
            // A timer that fires early only looks again, so it is moved forward alone: turns push their deadlines ever
            // later, and moving the timer costs more than the turn's other book-keeping.
            let spent = self.timer.is_elapsed();
            if spent || deadline < self.timer_at {
                self.timer_at = deadline;
                self.timer.as_mut().reset(clock::timer(deadline));
            }
        }
        tokio::select! {
            biased;
            order = self.orders.recv(), if !self.quitting => Woken::Order(order),
            // The order to stop has come before it.
            Ok(_) = self.recipe.kill.wait_for(|kill| *kill), if !self.killed => Woken::Kill,
            launched = process::launched(&mut self.launching) => Woken::Launched(launched),
            Ok(()) = self.recipe.may_pass.changed() => Woken::MayPass,
            // A tool that floods must not keep its own time limit waiting.
            () = &mut self.timer, if deadline.is_some() => Woken::Timer,
            happening = process::happening(&mut self.connection) => Woken::Happened(happening),
        }
    }

    async fn on_order(&mut self, order: Option<Order>) {
        let input = match order {
            Some(Order::Assign(turn, generation)) => {
                let input = Input::Assign {
                    turn: turn.id,
                    timeout: turn.timeout,
                    generation,
                };
                self.running = Some(Running {
                    turn,
                    started: now(),
                    first_output: None,
                    untouched: false,
                    elsewhere: None,
                });
                input
            }
            Some(Order::Start { generation }) => {
                // Leave for a start that was called off since, perhaps for another one, counts for nothing.
                if self
                    .to_start
                    .take_if(|start| *start == generation)
                    .is_none()
                {
                    return;
                }
                self.launch();
                Input::Launching
            }
            Some(Order::Cancel(turn)) => Input::Cancel(turn),
            Some(Order::Answer(id, answer, heard)) => self.on_answer(id, answer, heard),
            Some(Order::Restart(answer)) => {
                self.report(Report::Restarting(answer)).await;
                Input::Restart
            }
            Some(Order::Replace(reason, answer)) => {
                self.report(Report::Restarting(answer)).await;
                Input::Replace(reason)
            }
            Some(Order::Revive) => Input::Start,
            Some(Order::TakeUp(wanted)) => {
                self.wanted = Some(wanted);
                Input::Replace("it is to go on with the conversation of a session".to_owned())
            }
            Some(Order::Drain) => Input::Drain,
            // A dispatcher that has gone away wants nothing left behind.
            Some(Order::Stop) | None => {
                self.quitting = true;
                Input::Stop
            }
        };
        self.inputs.push_back(input);
    }

    async fn perform(&mut self) {
        // Performing an action may make the machine decide again, so batch after batch until it is quiet.
        while !self.actions.is_empty() {
            let mut batch = std::mem::take(&mut self.actions);
            for action in batch.drain(..) {
                self.perform_one(action).await;
            }
            if self.actions.is_empty() {
                self.actions = batch;
                break;
            }
        }
    }

    async fn perform_one(&mut self, action: Action) {
        match action {
            Action::Spawn => {
                let generation = self.machine.generation();
                self.to_start = Some(generation);
                self.report(Report::WantsToStart { generation }).await;
            }
            Action::Submit(turn) => self.submit(turn).await,
            Action::Interrupt => {
                if let Some(connection) = &mut self.connection {
                    connection.interrupt();
                }
            }
            Action::Ask {
                question,
                asked,
                until,
            } => {
                self.report(Report::Asked {
                    question,
                    asked,
                    until,
                })
                .await
            }
            Action::Settle(question, settlement) => self.settle(question, settlement).await,
            Action::NotOpen(id) => self.not_open(id).await,
            Action::Terminate => {
                self.signal(GroupSignal::Terminate);
                if self.to_start.take().is_some() {
                    self.inputs.push_back(Input::LaunchFailed {
                        permanent: false,
                        reason: "stopped before it was started".to_owned(),
                    });
                }
            }
            Action::Kill => {
                self.signal(GroupSignal::Kill);
                if self.launching.take().is_some() {
                    // Its process may be there for a moment yet, and the next one must not share its folder.
                    self.left = None;
                    self.inputs.push_back(Input::LaunchFailed {
                        permanent: false,
                        reason: "given up before it had a process".to_owned(),
                    });
                }
            }
            Action::Disown => self.connection = None,
            Action::Doubt(turn, doubt) => {
                self.end_turn(turn, End::of(Outcome::Indeterminate(doubt)))
                    .await
            }
            Action::HandBack(turn) => {
                if let Some(running) = self.running.take_if(|running| running.turn.id == turn) {
                    self.report(Report::HandedBack(running.turn)).await;
                }
            }
            Action::Changed { from, to, reason } => self.changed(from, to, reason).await,
            Action::BreakerChanged(state) => self.report(Report::Breaker(state)).await,
        }
    }
}
