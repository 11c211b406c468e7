//! The task of one instance: it owns the process and everything that is said to it.
//!
//! Owns the connection, the running turn and the order of things. Must not know other instances. Invariants: a process
//! whose turn ended in doubt is killed before anything else is sent; a new process is started only when the old one's
//! group is gone; each ticket taken is answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::RestartAnswer;
use super::error::PoolError;
use super::response::{Answered, End, Running, unsent};
use super::status::{Board, Phase};
use crate::connection::{Connection, Happening};
use crate::launch::LaunchOptions;
use crate::launcher::{Exit, GroupSignal, LocalLauncher};
use crate::outcome::{Doubt, DoubtCause, FailureClass, Outcome};
use crate::profile::ToolProfile;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Answer, TurnEvent};

/// How long a process may take to end by itself before a restart kills it.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How many of its last lines are kept of a process that ended.
const LAST_LINES: usize = 10;

/// What all instances of a pool share.
pub(super) struct Setup {
    pub(super) profile: ToolProfile,
    pub(super) options: LaunchOptions,
    /// Limits how many are being started at the same time.
    pub(super) starts: Semaphore,
}

/// A prompt with its number, and the room that it takes until its response is read.
pub(super) struct Ticket {
    pub(super) turn: TurnId,
    pub(super) prompt: Prompt,
    pub(super) room: OwnedSemaphorePermit,
}

/// How an instance ended at the shutdown.
pub(super) enum Ending {
    Terminated(usize),
    Killed(usize),
    AlreadyDead(usize),
    Survives(usize),
}

/// When to stop, once somebody asks.
type Stopping = watch::Receiver<Option<Instant>>;

pub(super) struct Worker {
    setup: Arc<Setup>,
    board: Arc<Board>,
    responses: mpsc::Sender<Answered>,
    connection: Option<Connection>,
    running: Option<Running>,
}

/// What came of ending a process.
struct Reaped {
    /// None: it survives SIGKILL.
    exit: Option<Exit>,
    killed: bool,
    /// Whether it may have read a byte of the running turn.
    written: bool,
    last_lines: Vec<String>,
}

impl Worker {
    pub(super) fn new(
        setup: Arc<Setup>,
        board: Arc<Board>,
        responses: mpsc::Sender<Answered>,
    ) -> Self {
        Self {
            setup,
            board,
            responses,
            connection: None,
            running: None,
        }
    }

    /// Serves until the pool is shut down. The first restart is the start.
    pub(super) async fn run(
        mut self,
        mut prompts: mpsc::Receiver<Ticket>,
        mut restarts: mpsc::Receiver<RestartAnswer>,
        mut stopping: Stopping,
    ) -> Ending {
        loop {
            let idle = self.running.is_none();
            tokio::select! {
                biased;
                deadline = asked_to_stop(&mut stopping) => return self.shut_down(deadline, &mut stopping, prompts).await,
                Some(answer) = restarts.recv() => {
                    // Whoever asked may have gone; the restart counts all the same.
                    answer.send(self.restart(&mut stopping).await).ok();
                }
                happening = next(&mut self.connection) => self.on_happening(happening, &mut stopping).await,
                Some(ticket) = prompts.recv(), if idle => self.begin(ticket),
            }
        }
    }

    /// Hands a prompt to the process.
    fn begin(&mut self, ticket: Ticket) {
        let running = Running {
            turn: ticket.turn,
            room: ticket.room,
            since: std::time::Instant::now(),
            bytes: Vec::new(),
            elsewhere: None,
        };
        // Only a living process is followed, so the board knows why there is none.
        let refused = match (&mut self.connection, self.board.accepts()) {
            (Some(connection), _) => match connection.submit(ticket.turn, &ticket.prompt) {
                Ok(()) => {
                    self.board.begins_turn();
                    self.running = Some(running);
                    return;
                }
                Err(refusal) => unsent(FailureClass::Refused, refusal.to_string()),
            },
            (None, Err(dead)) => unsent(FailureClass::Unroutable, dead.to_string()),
            (None, Ok(())) => unsent(
                FailureClass::Unroutable,
                "the instance has no process".to_owned(),
            ),
        };
        self.answer(running, refused);
    }

    async fn on_happening(&mut self, happening: Happening, stopping: &mut Stopping) {
        let (cause, why) = match happening {
            Happening::Turn(TurnEvent::Fault(reason)) => (DoubtCause::ProtocolLost, reason),
            Happening::Turn(event) => return self.on_event(event),
            Happening::TooLong { limit } => (
                DoubtCause::OutputLimit,
                format!("its reply is longer than {limit} bytes, the profile's `max_reply_bytes`"),
            ),
            Happening::Exited(exit) => {
                let Some(connection) = self.connection.take() else {
                    return;
                };
                let reaped = Reaped {
                    exit: Some(exit),
                    killed: false,
                    written: connection.turn_was_written(),
                    last_lines: connection.last_lines(LAST_LINES),
                };
                return self.bury(reaped, DoubtCause::Crashed, None);
            }
        };
        if let Some(reaped) = self.end_process(None, stopping).await {
            self.bury(reaped, cause, Some(why));
        }
    }

    fn on_event(&mut self, event: TurnEvent) {
        match event {
            TurnEvent::Chunk { turn, mut bytes } => {
                if let Some(running) = self.running.as_mut().filter(|running| running.turn == turn)
                {
                    if running.bytes.is_empty() {
                        running.bytes = bytes;
                    } else {
                        running.bytes.append(&mut bytes);
                    }
                }
            }
            TurnEvent::TurnEnded {
                turn,
                outcome,
                attribution,
                answer,
                usage,
            } => {
                if let Some(running) = self.running.take_if(|running| running.turn == turn) {
                    let end = End {
                        outcome,
                        attribution: Some(attribution),
                        answer,
                        usage,
                    };
                    self.answer(running, end);
                }
            }
            // Nobody is there to ask, and what nobody allowed is denied.
            TurnEvent::Waiting { request, .. } => {
                if let Some(connection) = &mut self.connection {
                    connection.answer(&request, Answer::Deny);
                }
            }
            TurnEvent::Elsewhere { turn, place } => {
                if let Some(running) = self.running.as_mut().filter(|running| running.turn == turn)
                {
                    running.elsewhere = Some(place);
                }
            }
            // A fault while the process is being ended changes nothing.
            TurnEvent::Ready
            | TurnEvent::Retrying { .. }
            | TurnEvent::Withdrawn { .. }
            | TurnEvent::SessionChanged(_)
            | TurnEvent::Fault(_) => {}
        }
    }

    fn answer(&self, running: Running, end: impl Into<End>) {
        self.board.ends_turn();
        let answered = running.end(self.board.index(), self.board.generation(), end.into());
        // There is a place for each ticket's room; without a reader nobody wants it.
        self.responses.try_send(answered).ok();
    }

    /// Notes that the process is gone and answers its turn. `why`: what was wrong, if it did not end by itself.
    fn bury(&mut self, reaped: Reaped, cause: DoubtCause, why: Option<String>) {
        let end = reaped
            .exit
            .map_or_else(|| "it survives SIGKILL".to_owned(), |exit| exit.to_string());
        let why = why.map_or(end.clone(), |why| format!("{why}; ended with {end}"));
        if let Some(running) = self.running.take() {
            let index = self.board.index();
            let mut detail = format!("instance {index}: {why}");
            if !reaped.last_lines.is_empty() {
                detail.push_str(&format!(
                    "; it printed last: {}",
                    reaped.last_lines.join(" | ")
                ));
            }
            let outcome = if reaped.written {
                Outcome::Indeterminate(Doubt { cause, detail })
            } else {
                let message = format!("nothing of the prompt was written: {detail}");
                unsent(FailureClass::Unroutable, message)
            };
            self.answer(running, outcome);
        }
        self.board.dies(reaped.exit, why, reaped.last_lines);
    }

    /// Ends the process, if there is one: SIGTERM and time until `grace`, or SIGKILL at once.
    async fn end_process(
        &mut self,
        grace: Option<Instant>,
        stopping: &mut Stopping,
    ) -> Option<Reaped> {
        let mut connection = self.connection.take()?;
        self.board.set_phase(Phase::Stopping);
        let mut killed = false;
        let mut deadline = grace.unwrap_or_else(Instant::now);
        if grace.is_some() {
            connection.signal(GroupSignal::Terminate);
        }
        let exit = loop {
            tokio::select! {
                biased;
                Ok(()) = stopping.changed(), if !killed => {
                    let asked = *stopping.borrow_and_update();
                    deadline = asked.map_or(deadline, |asked| asked.min(deadline));
                }
                () = sleep_until(deadline) => {
                    if killed {
                        break None;
                    }
                    killed = true;
                    deadline = Instant::now() + KILL_WAIT;
                    connection.signal(GroupSignal::Kill);
                }
                happening = connection.next() => match happening {
                    Happening::Exited(exit) => break Some(exit),
                    // It was well until now, so its turn may still end.
                    Happening::Turn(event) => self.on_event(event),
                    Happening::TooLong { .. } if killed => {}
                    Happening::TooLong { .. } => deadline = Instant::now(),
                }
            }
        };
        Some(Reaped {
            exit,
            killed,
            written: connection.turn_was_written(),
            last_lines: connection.last_lines(LAST_LINES),
        })
    }

    async fn restart(&mut self, stopping: &mut Stopping) -> Result<(), PoolError> {
        let index = self.board.index();
        let pid = self.connection.as_ref().and_then(Connection::pid);
        if let Some(reaped) = self
            .end_process(Some(Instant::now() + RESTART_GRACE), stopping)
            .await
        {
            let survives = reaped.exit.is_none();
            self.bury(
                reaped,
                DoubtCause::Stopped,
                Some("it was restarted".to_owned()),
            );
            if survives {
                return Err(PoolError::Survives {
                    index,
                    pid: pid.unwrap_or_default(),
                });
            }
        }
        let started = self.start(stopping).await;
        if started.is_ok() {
            self.board.set_phase(Phase::Ready);
        }
        started
    }

    /// Starts a process and waits until it is ready.
    async fn start(&mut self, stopping: &mut Stopping) -> Result<(), PoolError> {
        let setup = Arc::clone(&self.setup);
        let index = self.board.index();
        self.board.set_phase(Phase::Starting);
        let _permit = tokio::select! {
            biased;
            _ = asked_to_stop(stopping) => return Err(PoolError::ShutDown),
            permit = setup.starts.acquire() => permit.expect("the semaphore is never closed"),
        };
        self.board.starts();
        let deadline = Instant::now() + setup.profile.start_timeout;
        let launched = Connection::launch(&setup.profile, &setup.options, &LocalLauncher).await;
        let connection = launched.map_err(|source| {
            self.board.dies(None, source.to_string(), Vec::new());
            PoolError::Launch { index, source }
        })?;
        self.board.has_process(connection.pid());
        let connection = self.connection.insert(connection);
        let tool = setup.profile.name.clone();
        let reason = loop {
            tokio::select! {
                biased;
                // The shutdown, which follows, ends the process.
                _ = asked_to_stop(stopping) => return Err(PoolError::ShutDown),
                () = sleep_until(deadline) => break format!("within {:?}", setup.profile.start_timeout),
                happening = connection.next() => match happening {
                    Happening::Turn(TurnEvent::Ready) => return Ok(()),
                    Happening::Turn(TurnEvent::Fault(reason)) => break format!("since {reason}"),
                    Happening::Turn(_) | Happening::TooLong { .. } => {}
                    Happening::Exited(exit) => {
                        let last_lines = connection.last_lines(LAST_LINES);
                        self.connection = None;
                        self.board.dies(Some(exit), format!("{exit} before it was ready"), last_lines.clone());
                        return Err(PoolError::EndedEarly { index, tool, exit, last_lines });
                    }
                },
            }
        };
        let (exit, last_lines) = match self.end_process(None, stopping).await {
            Some(reaped) => (reaped.exit, reaped.last_lines),
            None => (None, Vec::new()),
        };
        self.board
            .dies(exit, format!("not ready {reason}"), last_lines.clone());
        Err(PoolError::NotReady {
            index,
            tool,
            reason,
            last_lines,
        })
    }

    async fn shut_down(
        mut self,
        deadline: Instant,
        stopping: &mut Stopping,
        mut prompts: mpsc::Receiver<Ticket>,
    ) -> Ending {
        let index = self.board.index();
        let ending = match self.end_process(Some(deadline), stopping).await {
            None => Ending::AlreadyDead(index),
            Some(reaped) => {
                let ending = match (reaped.exit, reaped.killed) {
                    (None, _) => Ending::Survives(index),
                    (Some(_), true) => Ending::Killed(index),
                    (Some(_), false) => Ending::Terminated(index),
                };
                self.bury(
                    reaped,
                    DoubtCause::Stopped,
                    Some("the pool was shut down".to_owned()),
                );
                ending
            }
        };
        self.board.set_phase(Phase::ShutDown);
        prompts.close();
        while let Some(ticket) = prompts.recv().await {
            self.begin(ticket);
        }
        ending
    }
}

async fn next(connection: &mut Option<Connection>) -> Happening {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until the pool is to be shut down, and tells by when.
async fn asked_to_stop(stopping: &mut Stopping) -> Instant {
    let asked = stopping
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|asked| *asked);
    match asked {
        Some(deadline) => deadline,
        // The pool was dropped, which aborts this task.
        None => std::future::pending().await,
    }
}
