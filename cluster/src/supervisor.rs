//! One instance's task: it waits for one input, lets the machine decide, and performs.
//!
//! Owns the live connection, the running turn and the timer of one instance. Must not decide: each decision is in
//! [`Instance::handle`]. Invariant: `select!` only names the input.

mod memory;
mod questions;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use toolpool_pool_core::launcher::{GroupSignal, Launcher};
use toolpool_pool_core::outcome::{DoubtCause, Outcome};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{
    Connection, Conversation, Happening, LaunchError, LaunchOptions, Printed, Pulse, rss_bytes,
};

use crate::clock::{self, now};
use crate::dispatcher::Having;
use crate::instance::{Action, Input, Instance, InstanceState, Standing};
use crate::reply::End;
use crate::store::{Record, Store};
use crate::turn::{Heard, Message, Order, Report, Turn};
use crate::worktree::Worktree;
use memory::Memory;
use questions::Given;

/// How many of its last lines a process leaves as evidence.
const LAST_LINES: usize = 3;

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

type Launching = Pin<Box<dyn Future<Output = Launched> + Send>>;
type Launched = Result<Box<Connection>, LaunchError>;

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

/// Says that the task is gone even if it panics, in a launcher of somebody else's perhaps: a shutdown waits for it.
struct Farewell(usize, mpsc::Sender<Message>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Without a runtime there is no dispatcher either.
        if std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            let gone = Message::Report(self.0, Report::Gone(None));
            let dispatcher = self.1.clone();
            // The mailbox may be full, and nothing can wait here.
            runtime.spawn(async move { dispatcher.send(gone).await });
        }
    }
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
            launched = poll(&mut self.launching) => Woken::Launched(launched),
            Ok(()) = self.recipe.may_pass.changed() => Woken::MayPass,
            // A tool that floods must not keep its own time limit waiting.
            () = &mut self.timer, if deadline.is_some() => Woken::Timer,
            happening = next(&mut self.connection) => Woken::Happened(happening),
        }
    }

    fn pulse(&self) -> Pulse {
        let Some(connection) = &self.connection else {
            return Pulse::default();
        };
        let weighed = connection.pid().filter(|_| self.machine.is_weighed());
        Pulse {
            rss_bytes: weighed.and_then(rss_bytes),
            ..connection.pulse()
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

    async fn on_launched(&mut self, launched: Launched) {
        self.launching = None;
        match launched {
            Ok(mut connection) => {
                let pid = connection.pid();
                if self.machine.state() == InstanceState::Stopping {
                    // A start cannot be taken back half-way: nobody would know when its process has gone.
                    connection.signal(GroupSignal::Terminate);
                }
                self.connection = Some(connection);
                let generation = self.machine.generation();
                let resumes = self.left.take().is_some();
                self.memory.on_process(resumes);
                self.report(Report::Spawned {
                    generation,
                    pid,
                    resumes,
                })
                .await;
                self.told_having = None;
                self.tell_having().await;
            }
            Err(error) => self.inputs.push_back(Input::LaunchFailed {
                permanent: error.is_permanent(),
                reason: error.to_string(),
            }),
        }
    }

    async fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Turn(event) => self.on_turn_event(event).await,
            Happening::TooLong { limit } => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::OutputLimit,
                detail: format!("the reply outgrew {limit} bytes; raise `max_reply_bytes` in the profile if replies may be longer"),
            }),
            Happening::Exited(exit) => {
                let starts = self.machine.state() == InstanceState::Starting;
                let (written, last, printed) = match &self.connection {
                    Some(connection) => (
                        connection.turn_was_written(),
                        connection.last_lines(LAST_LINES),
                        (!self.machine.ends_as_wished()).then(|| Box::new(connection.printed())),
                    ),
                    None => (true, Vec::new(), None),
                };
                let is_silent = |it: &Connection| it.pulse().heard.is_none();
                let silent = self.connection.as_deref().is_some_and(is_silent);
                if let Some(running) = &mut self.running {
                    running.untouched = silent && self.recipe.profile.quiet_until_output;
                }
                let leaked = self.connection.as_ref().is_some_and(|it| it.leaked());
                let words = words(&last, printed.as_deref().filter(|_| starts));
                self.left = self
                    .connection
                    .take()
                    .filter(|_| self.recipe.resumes && self.memory.is_worth_resuming())
                    .and_then(|connection| connection.left());
                let generation = self.machine.generation();
                self.report(Report::Exited { generation, exit, leaked, last, printed }).await;
                self.inputs.push_back(Input::Exited { exit, written, words });
            }
        }
    }

    async fn on_turn_event(&mut self, event: TurnEvent) {
        match event {
            TurnEvent::Ready => {
                let resumed = self.connection.as_ref().is_some_and(|it| it.has_resumed());
                if self.memory.on_ready(resumed) {
                    self.report(Report::Forgot).await;
                } else if resumed {
                    let generation = self.machine.generation();
                    self.report(Report::Resumed { generation }).await;
                }
                self.inputs.push_back(Input::Ready);
            }
            TurnEvent::Chunk { bytes, .. } => {
                // A turn that is being killed for what it does gets nothing more into its reply. What comes before a
                // byte of the prompt was written is no answer to it: the last words of a dead process, as a rule.
                if let Some(running) = &mut self.running
                    && self.machine.state().runs_turn()
                    && self
                        .connection
                        .as_ref()
                        .is_some_and(|connection| connection.turn_was_written())
                {
                    running
                        .first_output
                        .get_or_insert_with(|| now() - running.started);
                    if let Some(journal) = &self.recipe.journal {
                        let piece = Record::Output {
                            turn: running.turn.id,
                            attempt: running.turn.attempts,
                            bytes: bytes.clone(),
                        };
                        journal.put(piece, None);
                    }
                    running.turn.writer.chunk(bytes);
                }
            }
            TurnEvent::Elsewhere { turn, place } => {
                if let Some(running) = &mut self.running
                    && running.turn.id == turn
                {
                    running.elsewhere = Some(place.clone());
                    self.report(Report::Elsewhere { turn, place }).await;
                }
            }
            TurnEvent::Retrying { turn, .. } => self.report(Report::Retrying(turn)).await,
            TurnEvent::TurnEnded {
                turn,
                outcome,
                attribution,
                answer,
                usage,
            } => {
                // An end that comes while its process is being killed is too late: the turn has its doubt already.
                // Neither is one of another turn's this one's.
                let is_its = self.running.as_ref().is_some_and(|it| it.turn.id == turn);
                if is_its && self.machine.state().runs_turn() {
                    self.memory.on_end();
                    self.machine
                        .handle(now(), Input::TurnEnded(turn), &mut self.actions);
                    let end = End {
                        outcome,
                        attribution: Some(attribution),
                        answer,
                        usage,
                        landed: None,
                        lossy: false,
                    };
                    self.end_turn(turn, end).await;
                    self.perform().await;
                }
            }
            TurnEvent::Fault(detail) => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail,
            }),
            TurnEvent::Waiting {
                turn,
                request,
                question,
                act,
            } => {
                let input = self.on_question(turn, request, act, question);
                self.inputs.push_back(input);
            }
            TurnEvent::Withdrawn { request } => self.inputs.push_back(Input::Withdrawn(request)),
            // The connection keeps the name, and gives it when its process has ended.
            TurnEvent::SessionChanged(_) => self.tell_having().await,
            other => self.inputs.push_back(Input::Lost {
                cause: DoubtCause::ProtocolLost,
                detail: format!("unexpected {other:?}"),
            }),
        }
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

    fn launch(&mut self) {
        self.spawned_at = now();
        let profile = Arc::clone(&self.recipe.profile);
        let launcher = Arc::clone(&self.recipe.launcher);
        let mut options = self.recipe.options.clone();
        options.env.extend([
            ("TOOLPOOL_INSTANCE".to_owned(), self.name.to_string()),
            (
                "TOOLPOOL_GENERATION".to_owned(),
                self.machine.generation().to_string(),
            ),
        ]);
        if let Some(wanted) = self.wanted.take() {
            self.memory.take_up();
            // What is not there any more is lost, and told so when the process begins without it.
            let found = |name| Conversation::found(name, wanted.folder).ok();
            self.left = wanted.name.and_then(found);
        }
        let left = self.left.clone();
        self.launching = Some(Box::pin(async move {
            let launcher = launcher.as_ref();
            let launched = match &left {
                Some(left) => Connection::resume(&profile, &options, launcher, left).await,
                None => Connection::launch(&profile, &options, launcher).await,
            };
            launched.map(Box::new)
        }));
    }

    fn signal(&mut self, signal: GroupSignal) {
        if let Some(connection) = &mut self.connection {
            connection.signal(signal);
        }
    }

    async fn changed(&mut self, from: InstanceState, to: InstanceState, reason: String) {
        // The dispatcher knows of these from the turn itself.
        if matches!(
            (from, to),
            (InstanceState::Ready, InstanceState::Busy)
                | (
                    InstanceState::Busy | InstanceState::Waiting,
                    InstanceState::Ready
                )
        ) {
            return;
        }
        let start = (from == InstanceState::Starting && to == InstanceState::Ready)
            .then(|| now() - self.spawned_at);
        let generation = self.machine.generation();
        let standing = self.machine.standing();
        self.told = Some(standing);
        self.report(Report::Changed {
            generation,
            from,
            to,
            reason,
            start,
            standing,
        })
        .await;
    }

    /// Tells which conversation the process has, where somebody keeps that.
    pub(super) async fn tell_having(&mut self) {
        let Some(connection) = self.connection.as_ref().filter(|_| self.keeps()) else {
            return;
        };
        let having = Having {
            name: connection.conversation().map(str::to_owned),
            folder: connection.folder().to_owned(),
        };
        if self.told_having.as_ref() != Some(&having) {
            self.told_having = Some(having.clone());
            self.report(Report::Having(having)).await;
        }
    }

    /// What its sessions have said outlives this program.
    pub(super) fn keeps(&self) -> bool {
        self.recipe.resumes && self.recipe.options.keep_in.is_some()
    }

    /// Tells what has changed beside the state.
    async fn tell_standing(&mut self) {
        let standing = self.machine.standing();
        if self.told.is_none_or(|told| told.differs(&standing)) {
            self.told = Some(standing);
            self.report(Report::Standing(standing)).await;
        }
    }

    async fn report(&mut self, report: Report) {
        // A dispatcher that is gone needs no reports; its absence shows in the orders' channel.
        self.dispatcher
            .send(Message::Report(self.index, report))
            .await
            .ok();
    }
}

/// What a process has printed, in a line: its last words and, if it has failed to start, its first ones, which tell a wrong
/// program or a wrong version.
fn words(last: &[String], printed: Option<&Printed>) -> String {
    let first = printed.and_then(|printed| {
        let streams = [&printed.stdout.first, &printed.stderr.first];
        let mut lines = streams.into_iter().flat_map(|text| text.lines());
        lines.find(|line| !line.trim().is_empty())
    });
    let mut words = Vec::new();
    if let Some(first) = first
        && !last.iter().any(|line| line == first)
    {
        words.push(format!("first: {}", clipped(first)));
    }
    if !last.is_empty() {
        words.push(format!("last: {}", last.join(" | ")));
    }
    words.join("; ")
}

/// A line is at most so long in a reason.
fn clipped(line: &str) -> &str {
    const LONGEST: usize = 200;
    line.char_indices()
        .nth(LONGEST)
        .map_or(line, |(end, _)| &line[..end])
}

async fn poll(launching: &mut Option<Launching>) -> Launched {
    match launching {
        Some(launching) => launching.await,
        None => std::future::pending().await,
    }
}

async fn next(connection: &mut Option<Box<Connection>>) -> Happening {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}
