//! One process and its protocol, driven together.
//!
//! Owns the process, its pipes' buffers and the protocol machine. Must not decide: it performs what the protocol asks
//! for and reports what happened. Invariant: each wait covers input, output, errors, exit and the protocol's timer at
//! once, so neither side can block the other; every buffer is bounded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::conversation::Conversation;
use crate::folder::Folder;
use crate::launch::{LaunchError, LaunchOptions, prepare};
use crate::launcher::{Exit, GroupSignal, Launcher, Process};
use crate::planted::planted;
use crate::profile::ToolProfile;
use crate::prompt::{Prompt, Refusal, TurnId};
use crate::protocol::{Action, Answer, Outbox, Protocol, RequestId, SideFile, Stream, TurnEvent};
use crate::tail::{Printed, Tail};
use crate::unsent::Unsent;

/// One read of standard output; a Linux pipe holds this much.
const STDOUT_READ: usize = 64 << 10;
/// One read of standard error.
const STDERR_READ: usize = 8 << 10;
/// How long to wait for the last output of a process that has exited, while something else holds its pipes.
pub(crate) const LEAK_WAIT: Duration = Duration::from_millis(100);
/// A process that closed its input or its output and lives on gets this long to exit.
pub(crate) const CLOSED_WAIT: Duration = Duration::from_secs(1);
/// How long to wait until the kernel has ended what was left in the group of a process that has exited.
const GROUP_WAIT: Duration = Duration::from_secs(1);
/// How often to look whether it has; nothing tells. Most groups are empty at the first look.
const GROUP_LOOK: Duration = Duration::from_millis(1);

/// After this many inputs without an event, others get their turn. tokio stops a task after 128, and then refuses its
/// timers too.
const ROUNDS_AT_ONCE: u32 = 16;

/// What happened on a connection.
#[derive(Debug)]
pub enum Happening {
    /// The protocol saw something.
    Turn(TurnEvent),
    /// The process has ended, its group is empty and all of its output has been read. Nothing follows. (A member of
    /// the group that survives SIGKILL for a second, as in an uninterruptible system call, is not waited for.)
    Exited(Exit),
    /// The running turn's reply is longer than the profile allows. As after a [`TurnEvent::Fault`], only the exit
    /// follows, and the process must be killed.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

/// A running tool that can be prompted.
pub struct Connection {
    process: Process,
    protocol: Box<dyn Protocol>,
    outbox: Outbox,
    unsent: Unsent,
    stdout: Input,
    stderr: Input,
    exit: Option<Exit>,
    /// When to stop waiting for the other half of an end, and which half has come.
    patience: Option<(Instant, &'static str)>,
    /// Something else held its pipes after its exit.
    leaked: bool,
    /// When to stop waiting for the group.
    group_patience: Option<Instant>,
    /// It was sent a signal that ends it.
    told_to_end: bool,
    /// After a fault the output is read, so that the process can end, but means nothing any more.
    deaf: bool,
    turn: TurnBytes,
    pulse: Pulse,
    max_reply_bytes: usize,
    state: Arc<Folder>,
    /// The conversation that it was started to go on with.
    left: Option<String>,
    /// The tool's name for the conversation that it has, as far as it has told one.
    conversation: Option<String>,
    /// A prompt was submitted, so the conversation is not empty any more.
    used: bool,
}

/// A pipe from the process.
struct Input {
    open: bool,
    buffer: Vec<u8>,
    tail: Tail,
}

/// What shows whether a process is alive to its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// When the last bytes came from it, of whatever kind; None if none have come since the turn was submitted.
    pub heard: Option<Instant>,
    /// Since when it has taken nothing of what waits to be written to it; None if nothing waits.
    pub stuck: Option<Instant>,
    /// How much resident memory it has, in bytes; None if nobody has looked.
    pub rss_bytes: Option<u64>,
}

/// What the running turn has moved.
#[derive(Clone, Copy, Default)]
struct TurnBytes {
    written: usize,
    replied: usize,
}

impl Connection {
    /// Starts a tool and begins its handshake; [`TurnEvent::Ready`] follows from [`Connection::next`].
    ///
    /// # Errors
    /// If the tool cannot be started; nothing is left behind then.
    pub async fn launch(
        profile: &ToolProfile,
        options: &LaunchOptions,
        launcher: &dyn Launcher,
    ) -> Result<Self, LaunchError> {
        Self::start(profile, options, launcher, None).await
    }

    /// Starts a tool that is to go on with what an earlier process has left. Whether it does is known when it is ready,
    /// from [`Connection::has_resumed`]; a tool that does not know the conversation begins another one, or ends.
    ///
    /// # Errors
    /// If the tool cannot be started; the conversation is left as it was then.
    pub async fn resume(
        profile: &ToolProfile,
        options: &LaunchOptions,
        launcher: &dyn Launcher,
        left: &Conversation,
    ) -> Result<Self, LaunchError> {
        Self::start(profile, options, launcher, Some(left)).await
    }

    async fn start(
        profile: &ToolProfile,
        options: &LaunchOptions,
        launcher: &dyn Launcher,
        left: Option<&Conversation>,
    ) -> Result<Self, LaunchError> {
        let spec = prepare(profile, options, left)?;
        let process = launcher
            .launch(&spec)
            .await
            .map_err(|source| LaunchError::System {
                tool: profile.name.clone(),
                what: format!("start {}", spec.program.display()),
                source,
            })?;
        let mut connection = Self {
            process,
            protocol: profile.protocol(&spec.cwd),
            outbox: Outbox::new(now()),
            unsent: Unsent::default(),
            stdout: Input::new(STDOUT_READ),
            stderr: Input::new(STDERR_READ),
            exit: None,
            patience: None,
            leaked: false,
            group_patience: None,
            told_to_end: false,
            deaf: false,
            turn: TurnBytes::default(),
            pulse: Pulse::default(),
            max_reply_bytes: profile.max_reply_bytes,
            state: spec.state,
            left: left.map(|left| left.name.clone()),
            conversation: None,
            used: left.is_some(),
        };
        if let Some(left) = left {
            connection.protocol.resume(&left.name);
        }
        connection.protocol.start(&mut connection.outbox);
        Ok(connection)
    }

    /// The process id, if it is a local process.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid
    }

    /// Begins a turn. Only for a connection that is ready and idle.
    ///
    /// # Errors
    /// A [`Refusal`] if the prompt cannot be sent; nothing was written then.
    pub fn submit(&mut self, turn: TurnId, prompt: &Prompt) -> Result<(), Refusal> {
        self.outbox.set_now(now());
        self.turn = TurnBytes::default();
        self.pulse.heard = None;
        // What earlier turns answered is no evidence of what becomes of this one.
        self.stdout.tail.clear();
        self.protocol.submit(turn, prompt, &mut self.outbox)?;
        if prompt.fresh && self.used {
            // The one that follows has no name yet, and nobody may go on with the one before in its place.
            self.conversation = None;
        }
        self.used = true;
        Ok(())
    }

    /// Whether the tool goes on with the conversation that it was started for. Known when it is ready.
    pub fn has_resumed(&self) -> bool {
        self.left.is_some() && self.left == self.conversation
    }

    /// What a new process can go on with, as far as the tool has told a name. None while the process lives: its folder is
    /// never another's too.
    pub fn left(&self) -> Option<Conversation> {
        self.exit?;
        let name = self.conversation.clone()?;
        Some(Conversation::new(name, Arc::clone(&self.state)))
    }

    /// The tool's own name for the conversation that it has, as far as it has told one.
    pub fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    /// The private folder of the process.
    pub fn folder(&self) -> &Path {
        self.state.path()
    }

    /// Has the private folder stay when its last owner has gone, and when this program dies, for
    /// [`Conversation::found`]. Whoever asks for it removes it.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn keep_folder(&self) -> io::Result<()> {
        self.state.keep()
    }

    /// Whether something that the process had started, and that has left its group, held its pipes after its exit: what it
    /// would have printed is lost.
    pub fn leaked(&self) -> bool {
        self.leaked
    }

    /// Whether the process may have read a byte of the running turn.
    pub fn turn_was_written(&self) -> bool {
        self.turn.written > 0
    }

    /// When the process has last shown life.
    pub fn pulse(&self) -> Pulse {
        self.pulse
    }

    /// Asks the tool to stop the running turn and stay alive.
    pub fn interrupt(&mut self) {
        self.outbox.set_now(now());
        self.protocol.interrupt(&mut self.outbox);
    }

    /// Answers a question that came as [`TurnEvent::Waiting`].
    pub fn answer(&mut self, request: &RequestId, answer: Answer) {
        self.outbox.set_now(now());
        self.protocol.answer(request, answer, &mut self.outbox);
    }

    /// Sends a signal to the whole process group.
    pub fn signal(&mut self, signal: GroupSignal) {
        self.told_to_end |= signal != GroupSignal::Interrupt;
        self.process.group.signal(signal);
    }

    /// What the process has printed, as far as it is kept: 4 KiB of each end of each stream.
    pub fn printed(&self) -> Printed {
        Printed {
            stdout: self.stdout.tail.ends(),
            stderr: self.stderr.tail.ends(),
        }
    }

    /// The last lines of standard error, or of standard output where that is silent, for reports.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let lines = self.stderr.tail.lines(count);
        if lines.is_empty() {
            self.stdout.tail.lines(count)
        } else {
            lines
        }
    }

    /// Waits for the next thing that happens.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped; call it again.
    pub async fn next(&mut self) -> Happening {
        let mut rounds = 0_u32;
        loop {
            self.perform().await;
            while let Some(event) = self.outbox.next_event() {
                if !self.deaf {
                    return self.report(event);
                }
            }
            if let Some(exit) = self.exit
                && self.has_all_output()
                && self.is_group_gone()
            {
                self.take_back_unread();
                return Happening::Exited(exit);
            }
            self.wait().await;
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(ROUNDS_AT_ONCE) {
                // A tool that floods before it is ready, or between turns, must not starve the caller's own timers.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for one input and hands it to the protocol.
    async fn wait(&mut self) {
        let wake = self.outbox.wakes_at().filter(|_| !self.deaf);
        let patience = self.patience.map(|(until, _)| until);
        let lingers = self.exit.is_some() && self.has_all_output();
        tokio::select! {
            // Reading a flood must not keep the rest of a prompt, the exit or a timer waiting.
            biased;
            result = self.unsent.send(&mut *self.process.stdin), if self.unsent.is_pending() => self.sent(result),
            exit = &mut self.process.exit, if self.exit.is_none() => {
                // What the leader leaves behind in its group must not live on, nor hold the pipes.
                self.process.group.signal(GroupSignal::Kill);
                self.exit = Some(exit);
                self.patience = Some((now() + LEAK_WAIT, "all of it"));
                self.group_patience = Some(now() + GROUP_WAIT);
            }
            () = sleep_until(wake), if wake.is_some() => {
                self.outbox.wake_at(None);
                self.outbox.set_now(now());
                self.protocol.tick(&mut self.outbox);
            }
            () = sleep_until(patience), if patience.is_some() => self.lose_patience(),
            () = tokio::time::sleep(GROUP_LOOK), if lingers => {}
            count = self.process.stdout.read(&mut self.stdout.buffer), if self.stdout.open => {
                let now = now();
                match self.stdout.take(count) {
                    Some(_) if self.deaf => {}
                    Some(bytes) => {
                        self.pulse.heard = Some(now);
                        self.outbox.set_now(now);
                        self.protocol.receive(Stream::Stdout, bytes, &mut self.outbox);
                    }
                    None if planted("eof_is_exit") => {
                        self.exit.get_or_insert(Exit { code: Some(0), signal: None });
                        self.stderr.open = false;
                    }
                    None => self.half_closed("output"),
                }
            }
            count = self.process.stderr.read(&mut self.stderr.buffer), if self.stderr.open && !planted("stderr_undrained") => {
                if let Some(bytes) = self.stderr.take(count)
                    && !self.deaf
                {
                    let now = now();
                    self.pulse.heard = Some(now);
                    self.outbox.set_now(now);
                    self.protocol.receive(Stream::Stderr, bytes, &mut self.outbox);
                }
            }
        }
    }

    /// A prompt of which the dead process has not read a byte counts as never written. Not if the process was told to end:
    /// it had its time, and another one might do no better. Nor if it has said anything, since that is with the caller.
    fn take_back_unread(&mut self) {
        let unread = self.process.stdin.unread_for_ever();
        if !self.told_to_end && self.turn.replied == 0 && unread >= Some(self.turn.written) {
            self.turn.written = 0;
        }
    }

    fn has_all_output(&self) -> bool {
        !self.stdout.open && !self.stderr.open
    }

    fn is_group_gone(&self) -> bool {
        self.process.group.is_empty() || self.group_patience.is_none_or(|until| now() >= until)
    }

    /// Takes the result of a write.
    fn sent(&mut self, result: io::Result<usize>) {
        match result {
            Ok(count) => {
                self.turn.written += count;
                self.pulse.stuck = self.unsent.is_pending().then(now);
            }
            // The reader is gone. Why, the exit will tell.
            Err(_) => {
                self.unsent.close();
                self.pulse.stuck = None;
                self.half_closed("input");
            }
        }
    }

    /// One of the pipes has been closed; the exit should follow.
    fn half_closed(&mut self, which: &'static str) {
        if self.exit.is_none() && self.patience.is_none() {
            self.patience = Some((now() + CLOSED_WAIT, which));
        }
    }

    fn lose_patience(&mut self) {
        let Some((_, which)) = self.patience.take() else {
            return;
        };
        if self.exit.is_some() {
            self.leaked = true;
            self.stdout.open = false;
            self.stderr.open = false;
        } else {
            self.outbox.emit(TurnEvent::Fault(format!(
                "it closed its {which} and lives on"
            )));
        }
    }

    /// Does what the protocol asked for, and tries to send at once what it wrote.
    async fn perform(&mut self) {
        // Actions come first: a side file must be empty before the tool sees the prompt and writes to it.
        loop {
            // A file that was read may make the protocol ask for another.
            let actions = self.outbox.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                if !self.deaf {
                    self.act(action);
                }
            }
        }
        let written = self.outbox.write_buffer();
        if !written.is_empty() {
            self.unsent.push(written);
            // Most prompts fit the pipe: one attempt now saves a round through the reactor.
            let stdin = &mut *self.process.stdin;
            let unsent = &mut self.unsent;
            let sent =
                std::future::poll_fn(|context| Poll::Ready(unsent.poll_send(stdin, context))).await;
            match sent {
                Poll::Ready(result) => self.sent(result),
                // What waited before has been stuck for longer.
                Poll::Pending => {
                    self.pulse.stuck.get_or_insert_with(now);
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Interrupt => self.process.group.signal(GroupSignal::Interrupt),
            Action::TruncateFile(name) => self.truncate(name),
            Action::ReadFile(name) => {
                // The tool has just written it, so it is in the page cache; a thread would cost more than the read.
                let contents = std::fs::read(self.state.path().join(name)).unwrap_or_default();
                self.protocol.file(name, &contents, &mut self.outbox);
            }
        }
    }

    fn truncate(&self, name: SideFile) {
        // A file that is not there yet is as good as an empty one.
        std::fs::File::options()
            .write(true)
            .truncate(true)
            .open(self.state.path().join(name))
            .ok();
    }

    /// Counts a chunk against the limit. After the end of what can be followed, nothing more is reported.
    fn report(&mut self, event: TurnEvent) -> Happening {
        match &event {
            TurnEvent::Chunk { bytes, .. } => {
                self.turn.replied += bytes.len();
                if self.turn.replied > self.max_reply_bytes {
                    self.deaf = true;
                    return Happening::TooLong {
                        limit: self.max_reply_bytes,
                    };
                }
            }
            TurnEvent::Fault(_) => self.deaf = true,
            TurnEvent::SessionChanged(name) => self.conversation = Some(name.clone()),
            _ => {}
        }
        Happening::Turn(event)
    }

    /// Stops the tool: SIGTERM to the group, `grace`, SIGKILL. Output that still comes is dropped.
    pub async fn stop(mut self, grace: Duration) -> Exit {
        self.unsent.close();
        self.signal(GroupSignal::Terminate);
        let exit = tokio::time::timeout(grace, self.exited()).await;
        match exit {
            Ok(exit) => exit,
            Err(_) => {
                self.signal(GroupSignal::Kill);
                self.exited().await
            }
        }
    }

    async fn exited(&mut self) -> Exit {
        loop {
            if let Happening::Exited(exit) = self.next().await {
                return exit;
            }
        }
    }
}

impl Input {
    fn new(size: usize) -> Self {
        Self {
            open: true,
            buffer: vec![0; size],
            tail: Tail::default(),
        }
    }

    /// The bytes of a read, or None at the end.
    fn take(&mut self, count: io::Result<usize>) -> Option<&[u8]> {
        match count {
            Ok(count) if count > 0 => {
                self.tail.push(&self.buffer[..count]);
                Some(&self.buffer[..count])
            }
            _ => {
                self.open = false;
                None
            }
        }
    }
}

/// tokio's clock, so that paused time reaches the protocols.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
