//! A prompt on its way, and the messages that carry it.
//!
//! Owns [`Turn`] and the two mailboxes' contents. Must not know what is done with them. Invariant: a turn is in exactly
//! one place, and its reply's writer answers the caller wherever it is lost.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use toolpool_pool_core::Printed;
use toolpool_pool_core::launcher::Exit;
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_pool_core::protocol::Answer;

use crate::breaker::BreakerState;
use crate::dispatcher::{Addition, Having};
use crate::error::ControlError;
use crate::explain::Explanation;
use crate::fit::{Asked, GroupSet};
use crate::instance::{InstanceState, Standing};
use crate::permission::{PermissionId, Question, Settlement};
use crate::replaying::Context;
use crate::reply::{self, End, ReplyWriter, Run};
use crate::retry::RetryPolicy;
use crate::scheduler::Ticket;
use crate::status::{ClusterStatus, KeptWork, ShutdownReport};
use crate::store::Accepted;

/// An accepted prompt.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) id: TurnId,
    pub(crate) prompt: Prompt,
    pub(crate) ticket: Ticket,
    pub(crate) asked: Asked,
    pub(crate) timeout: Option<Duration>,
    /// The item that its changes are brought home as.
    pub(crate) land: Option<String>,
    /// The idempotency key.
    pub(crate) key: Option<String>,
    /// The journal has it as accepted already.
    pub(crate) is_kept: bool,
    /// When it may be given to a tool again.
    pub(crate) retry: RetryPolicy,
    /// How often it was given to a tool.
    pub(crate) attempts: u32,
    /// What was said before in its session, if that has to be told, and since which turn.
    pub(crate) context: Option<(Context, TurnId)>,
    /// When all attempts must be over, if its caller has set a limit and the first one has begun.
    pub(crate) deadline: Option<Instant>,
    /// What it ends with if no further attempt comes about.
    pub(crate) last: Option<Box<(End, Run)>>,
    /// When it came in.
    pub(crate) since: Instant,
    pub(crate) writer: ReplyWriter,
    /// Where and when it ran, as far as it has come.
    pub(crate) run: Run,
    /// How it ended, once it has.
    pub(crate) end: Option<End>,
}

impl Turn {
    /// A prompt that an earlier cluster accepted and never gave to a tool. Nobody waits for it.
    pub(crate) fn again(accepted: Accepted, now: Instant) -> Self {
        // A clock that was set back has waited for nothing.
        let waited = accepted.at.elapsed().unwrap_or_default();
        let (writer, _) = reply::channel(accepted.turn);
        Self {
            id: accepted.turn,
            ticket: Ticket {
                // Who sent it is not in the books; what is left of many shares one place.
                client: None,
                session: accepted.session,
                on_loss: accepted.on_loss,
                target: accepted.target,
                groups: GroupSet::ALL,
                labels: accepted.labels,
                fresh: accepted.prompt.fresh,
                bytes: accepted.prompt.text.len(),
                queue_timeout: accepted
                    .queue_timeout
                    .map(|limit| limit.saturating_sub(waited)),
            },
            prompt: accepted.prompt,
            asked: Asked {
                tool: accepted.tool,
                role: accepted.role,
            },
            timeout: accepted.turn_timeout,
            land: accepted.land,
            key: accepted.key,
            is_kept: true,
            retry: accepted.retry,
            attempts: accepted.attempts,
            context: None,
            deadline: None,
            last: None,
            since: now,
            writer,
            run: Run::default(),
            end: None,
        }
    }

    /// It is the prompt that was accepted before, and has its number.
    pub(crate) fn become_known(&mut self, accepted: &Accepted) {
        self.id = accepted.turn;
        self.attempts = accepted.attempts;
        self.is_kept = true;
        self.writer.rename(accepted.turn);
    }
}

/// What the dispatcher takes.
pub(crate) enum Message {
    Submit(Box<Turn>),
    Report(usize, Report),
    Control(Control),
}

/// What a supervisor tells the dispatcher.
pub(crate) enum Report {
    /// `resumes`: it is to go on with the conversation of the process before.
    Spawned {
        generation: u64,
        pid: Option<u32>,
        resumes: bool,
    },
    /// It is to start its next process, and waits for its turn.
    WantsToStart {
        generation: u64,
    },
    /// The process that was to go on with a conversation has begun another.
    Forgot,
    /// It goes on with it.
    Resumed {
        generation: u64,
    },
    /// The conversation that its process has.
    Having(Having),
    Changed {
        generation: u64,
        from: InstanceState,
        to: InstanceState,
        reason: String,
        start: Option<Duration>,
        standing: Standing,
    },
    Exited {
        generation: u64,
        exit: Exit,
        /// Something held its pipes after its exit.
        leaked: bool,
        /// The last lines that it printed.
        last: Vec<String>,
        /// What is kept of all that it printed, unless it was ended at its owner's wish.
        printed: Option<Box<Printed>>,
    },
    /// Something changed beside the state.
    Standing(Standing),
    Breaker(BreakerState),
    Retrying(TurnId),
    /// The turn's work goes on outside of the process.
    Elsewhere {
        turn: TurnId,
        place: String,
    },
    /// The tool asks, and waits for an answer.
    Asked {
        question: Question,
        asked: Instant,
        until: Instant,
    },
    Settled(Question, Settlement),
    /// Somebody answered a question that is not open.
    NotOpen(PermissionId),
    /// The turn carries its end.
    TurnEnded {
        turn: Box<Turn>,
        ready: bool,
    },
    HandedBack(Box<Turn>),
    /// A restart was taken up; whoever asked is told how it goes on.
    Restarting(oneshot::Sender<Result<(), ControlError>>),
    /// Its task ends here; its worktree may hold work that could not be brought home.
    Gone(Option<KeptWork>),
}

/// Tells whoever gave an answer whether it was taken.
pub(crate) type Heard = oneshot::Sender<Result<(), ControlError>>;

/// What a handle asks of the dispatcher.
pub(crate) enum Control {
    Cancel(TurnId),
    Forget(String),
    Status(oneshot::Sender<ClusterStatus>),
    Explain(usize, oneshot::Sender<Explanation>),
    Answer(PermissionId, Answer, Heard),
    /// Answers when the instance has become ready, or has failed to.
    AwaitSettled(usize, oneshot::Sender<Result<(), ControlError>>),
    Restart(usize, oneshot::Sender<Result<(), ControlError>>),
    /// A new process after the running turn, when it is the instance's turn.
    Replace(usize, Heard),
    Drain(usize),
    /// A group is to have another number of instances.
    Resize {
        group: usize,
        from: usize,
        to: usize,
    },
    /// Takes in a new instance, or one that comes back to its place; gives it back if the cluster is shutting down.
    Add(Box<Addition>, oneshot::Sender<Result<(), Box<Addition>>>),
    /// Finish the running turn, stop, and go; answers when its task is gone.
    Retire(usize, oneshot::Sender<Option<KeptWork>>),
    Shutdown {
        within: Duration,
        done: oneshot::Sender<ShutdownReport>,
    },
    /// The same at once, and with SIGKILL.
    Kill(oneshot::Sender<ShutdownReport>),
}

/// What the dispatcher tells a supervisor.
pub(crate) enum Order {
    /// For the process of that generation and no other.
    Assign(Box<Turn>, u64),
    /// It is the instance's turn to start that process, if it still wants to.
    Start {
        generation: u64,
    },
    Cancel(TurnId),
    Answer(PermissionId, Answer, Heard),
    Restart(oneshot::Sender<Result<(), ControlError>>),
    /// A new process after the running turn, for the reason given.
    Replace(String, Heard),
    /// Start, if it has failed.
    Revive,
    /// A new process that goes on with that conversation.
    TakeUp(Having),
    Drain,
    /// Stop, and end the task once the process is gone.
    Stop,
}
