//! Errors by phase, because the phase decides what the caller may do.
//!
//! Owns the error types of the crate and their stable codes. Must not know how they are shown. Invariant: each message
//! says what happened, to whom, why, and what to do next.

use std::time::Duration;

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::profile::ProfileError;
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::{LaunchError, TooFewOpenFiles};

use crate::reply::Reply;
use crate::store::StoreError;

/// Why there is no cluster. Fix it and launch again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The tool's profile is missing or wrong.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A tool's text cannot be understood.
    #[error(transparent)]
    ToolSpec(#[from] crate::launch::ToolSpecError),
    /// A setting makes no sense.
    #[error("{setting} = {value}: {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The tool cannot be started at all.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Every instance failed to become ready.
    #[error(
        "none of {count} instances became ready; {instance} ({tool}): {reason}. Run the tool by hand to see why"
    )]
    NoneReady {
        /// The tool of that one.
        tool: String,
        /// How many were tried.
        count: usize,
        /// One of them.
        instance: String,
        /// Why that one failed.
        reason: String,
    },
    /// The system allows too few open files for so many instances.
    #[error(transparent)]
    OpenFiles(#[from] TooFewOpenFiles),
    /// Its journal cannot be read.
    #[error(transparent)]
    Journal(StoreError),
    /// Its working folders could not be made.
    #[error(transparent)]
    Worktree(#[from] crate::worktree::WorktreeError),
}

impl ClusterError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Profile(ProfileError::UnknownTool { .. }) => "unknown_tool",
            Self::Profile(_) => "bad_profile",
            Self::ToolSpec(_) | Self::Setting { .. } => "invalid",
            Self::Launch(
                LaunchError::ProgramNotFound { .. } | LaunchError::NotExecutable { .. },
            ) => "tool_missing",
            Self::Launch(LaunchError::NotLoggedIn { .. }) => "not_logged_in",
            Self::Launch(_) => "launch_failed",
            Self::NoneReady { .. } => "none_ready",
            Self::OpenFiles(_) => "too_few_open_files",
            Self::Journal(_) => "journal_failed",
            Self::Worktree(_) => "worktree",
        }
    }
}

/// Why a prompt was not accepted. Nothing happened; retry freely (but see [`SubmitError::Journal`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full.
    #[error(
        "the queue is full ({limit} prompts); wait for replies, or launch with more instances or a larger `queue_limit`"
    )]
    QueueFull {
        /// How many prompts it holds.
        limit: usize,
    },
    /// The cluster is shutting down or gone.
    #[error("the cluster is shutting down and takes no more prompts")]
    Draining,
    /// There is no such instance.
    #[error("there is no instance {index}; this cluster has 0 to {last}")]
    NoInstance {
        /// What was asked for.
        index: usize,
        /// The last one there is.
        last: usize,
    },
    /// No instance is what the prompt asks for.
    #[error("there is no instance {asked}; this cluster has {known}")]
    NoFit {
        /// What it asks for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The strategy refused it.
    #[error("the routing strategy refused the prompt: {0}")]
    Unroutable(&'static str),
    /// The prompt itself is unfit.
    #[error(transparent)]
    Prompt(#[from] toolpool_pool_core::prompt::Refusal),
    /// Its key was given to another prompt before.
    #[error(
        "the key of this prompt was given to another one before ({first}); give each prompt a key of its own"
    )]
    KeyConflict {
        /// That prompt's turn.
        first: TurnId,
    },
    /// It has a key, and the cluster has no journal to know it by.
    #[error(
        "a key needs a journal: launch the cluster with one (`ClusterBuilder::journal`), or leave the key out"
    )]
    KeyWithoutJournal,
    /// It is to be looked up what became of it, and the cluster has nobody to ask.
    #[error(
        "`reconcile` needs somebody to ask: launch the cluster with a reconciler (`ClusterBuilder::reconciler`), or choose another retry policy"
    )]
    NoReconciler,
    /// The cluster's journal does not have it. If it failed, nobody can say whether it does before it is opened again: a
    /// prompt without a key may then be run though it was refused.
    #[error(transparent)]
    Journal(StoreError),
}

impl SubmitError {
    /// The stable code, also the `reason` label of the refusals' metric.
    pub fn code(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::Draining => "draining",
            Self::NoInstance { .. } | Self::NoFit { .. } => "not_found",
            Self::Unroutable(_) => "unroutable",
            Self::Prompt(_) | Self::KeyWithoutJournal | Self::NoReconciler => "invalid",
            Self::KeyConflict { .. } => "key_conflict",
            Self::Journal(StoreError::Full { .. }) => "journal_full",
            Self::Journal(_) => "journal_failed",
        }
    }
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It was accepted, and its turn did not complete.
    #[error("{}", describe(.0))]
    Turn(Box<Reply>),
}

impl AskError {
    /// What there is of a reply, with the outcome.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Submit(_) => None,
            Self::Turn(reply) => Some(reply),
        }
    }

    /// The stable code: that of the refusal, or the outcome's word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Submit(error) => error.code(),
            Self::Turn(reply) => reply.outcome.word(),
        }
    }
}

fn describe(reply: &Reply) -> String {
    let place = reply
        .instance
        .as_ref()
        .map_or_else(String::new, |instance| format!(" on {instance}"));
    let turn = reply.turn;
    match &reply.outcome {
        Outcome::Completed => format!("{turn}{place} completed"),
        Outcome::Failed(failure) => {
            let later = failure.retry_after.map_or_else(String::new, |after| {
                format!(" (the tool says: try again in {after:?})")
            });
            format!(
                "{turn}{place} failed ({}): {}{later}",
                failure.class.word(),
                failure.message
            )
        }
        Outcome::Cancelled => format!("{turn}{place} was cancelled"),
        Outcome::Expired => format!(
            "{turn} expired after {:?} in the queue; nothing was sent",
            reply.queued
        ),
        Outcome::Indeterminate(doubt) => format!(
            "{turn}{place} may have run, wholly or partly ({}): {}. Look at what it did before you send it again",
            doubt.cause.word(),
            doubt.detail
        ),
    }
}

/// Why an operator's act was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such instance.
    #[error("there is no instance {index}; this cluster has 0 to {last}")]
    NoInstance {
        /// What was asked for.
        index: usize,
        /// The last one there is.
        last: usize,
    },
    /// No instance has that name.
    #[error("there is no instance {name}; this cluster has {first} to {last}")]
    NoSuchName {
        /// What was asked for.
        name: String,
        /// The first one there is.
        first: String,
        /// The last one there is.
        last: String,
    },
    /// The cluster cannot have that many instances.
    #[error("{count} instances of {tool}: {reason}")]
    CannotScale {
        /// Of what.
        tool: String,
        /// How many were wanted.
        count: usize,
        /// Why not, and what is possible.
        reason: String,
    },
    /// The cluster is gone.
    #[error("the cluster has shut down")]
    ShutDown,
    /// It did not become ready again.
    #[error("{instance} did not become ready again: {reason}")]
    NotReady {
        /// Its name.
        instance: String,
        /// Why.
        reason: String,
    },
    /// An instance did not become ready again, so the others were not restarted.
    #[error(
        "the restart stopped at {instance}, which did not become ready again: {reason}. The instances after it ({untouched}) were not touched and go on; mend it and restart all again"
    )]
    RestartStopped {
        /// Its name.
        instance: String,
        /// Why.
        reason: String,
        /// How many instances were to follow.
        untouched: usize,
    },
    /// There is no such question, or not any more.
    #[error(
        "{0} waits for no answer: it was answered, taken back or timed out, or its turn is over; `status` lists what waits"
    )]
    NotOpen(crate::permission::PermissionId),
    /// Nothing came in time.
    #[error("no reply within {0:?}; the turn goes on, read again")]
    NoReplyYet(Duration),
    /// There is nothing to wait for.
    #[error("nothing was sent that has not been read yet; send first")]
    NothingSent,
}
