//! The shapes of everything that is printed as JSON.
//!
//! Owns the wire types of the program, apart from the library's own. Must not know how they come about. Invariant: fields
//! are only ever added; durations are seconds with `_s`, sizes are bytes, words are lower case.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::worktree::Landed;
use toolpool::{Books, Outcome, Reply};

use crate::console::Document;

/// One turn began on an instance.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TurnStarted {
    pub(crate) turn: u64,
    pub(crate) instance: String,
    pub(crate) generation: u64,
    pub(crate) queued_s: f64,
}

impl Document for TurnStarted {
    const KIND: &'static str = "turn.started";
}

/// A piece of a reply, as it comes. Together they are what the tool wrote, which may be more than the exact answer.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TurnText {
    pub(crate) turn: u64,
    pub(crate) text: String,
}

impl Document for TurnText {
    const KIND: &'static str = "turn.text";
}

/// The whole reply to one prompt.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TurnReply {
    /// The turn's number.
    pub(crate) turn: u64,
    /// completed, failed, cancelled, expired or indeterminate.
    pub(crate) outcome: &'static str,
    /// The class of a failure or the cause of a doubt.
    pub(crate) cause: Option<&'static str>,
    /// What is to be said about a turn that did not complete.
    pub(crate) message: Option<String>,
    /// When the tool says that trying again may help.
    pub(crate) retry_after_s: Option<f64>,
    /// The answer, or what there is of it.
    pub(crate) text: String,
    /// Bytes that were not UTF-8 were replaced in `text`.
    pub(crate) lossy: bool,
    /// How surely the answer belongs to the prompt: A, B, C or D.
    pub(crate) grade: Option<String>,
    /// How the end of the answer was known.
    pub(crate) attributed_by: Option<&'static str>,
    /// Which instance ran it.
    pub(crate) instance: Option<String>,
    /// The tool of that instance.
    pub(crate) tool: Option<String>,
    /// Which of the instance's processes.
    pub(crate) generation: u64,
    pub(crate) queued_s: f64,
    pub(crate) took_s: f64,
    pub(crate) first_output_s: Option<f64>,
    pub(crate) usage: Option<UsageReport>,
    /// What became of its changes, where instances work in worktrees.
    pub(crate) landed: Option<LandedReport>,
}

impl Document for TurnReply {
    const KIND: &'static str = "turn.reply";
}

/// What the tool reports to have used.
#[derive(Serialize, JsonSchema)]
pub(crate) struct UsageReport {
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cost_usd: Option<f64>,
}

/// What became of the changes of a turn.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum LandedReport {
    /// There were none.
    Nothing,
    /// They are one commit on the starting branch.
    Commit { commit: String, files: Vec<String> },
    /// They contradict what others landed meanwhile, and are kept on a branch.
    Conflict {
        branch: String,
        files: Vec<String>,
        show: String,
    },
    /// Something is in their way, and they are kept on a branch.
    Blocked {
        branch: String,
        reason: String,
        show: String,
    },
    /// They are still in the worktree.
    Error { reason: String },
}

impl From<&Result<Landed, String>> for LandedReport {
    fn from(landed: &Result<Landed, String>) -> Self {
        let names = |files: &[std::path::PathBuf]| {
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        match landed {
            Ok(Landed::Nothing) => Self::Nothing,
            Ok(Landed::Commit { commit, files }) => Self::Commit {
                commit: commit.clone(),
                files: names(files),
            },
            Ok(Landed::Conflict {
                branch,
                files,
                show,
            }) => Self::Conflict {
                branch: branch.clone(),
                files: names(files),
                show: show.clone(),
            },
            Ok(Landed::Blocked {
                branch,
                reason,
                show,
            }) => Self::Blocked {
                branch: branch.clone(),
                reason: reason.clone(),
                show: show.clone(),
            },
            Err(reason) => Self::Error {
                reason: reason.clone(),
            },
        }
    }
}

impl From<&Reply> for TurnReply {
    fn from(reply: &Reply) -> Self {
        let (cause, message, retry_after) = match &reply.outcome {
            Outcome::Failed(failure) => (
                Some(failure.class.word()),
                Some(failure.message.clone()),
                failure.retry_after,
            ),
            Outcome::Indeterminate(doubt) => {
                (Some(doubt.cause.word()), Some(doubt.detail.clone()), None)
            }
            Outcome::Completed | Outcome::Cancelled | Outcome::Expired => (None, None, None),
        };
        Self {
            turn: reply.turn.0,
            outcome: reply.outcome.word(),
            cause,
            message,
            retry_after_s: retry_after.map(|after| after.as_secs_f64()),
            text: reply.text.clone(),
            lossy: reply.lossy,
            grade: reply
                .attribution
                .map(|attribution| format!("{:?}", attribution.grade)),
            attributed_by: reply.attribution.map(|attribution| attribution.by),
            instance: reply.instance.as_ref().map(ToString::to_string),
            tool: reply.tool.as_ref().map(ToString::to_string),
            generation: reply.generation,
            queued_s: reply.queued.as_secs_f64(),
            took_s: reply.took.as_secs_f64(),
            first_output_s: reply.first_output.as_ref().map(Duration::as_secs_f64),
            usage: reply.usage.map(|usage| UsageReport {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                cost_usd: usage.cost_usd,
            }),
            landed: reply.landed.as_ref().map(LandedReport::from),
        }
    }
}

/// The replies of all instances to one prompt.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TurnReplies {
    /// In the order of the instances, each with its instance and tool, whether it ran there or ended before.
    pub(crate) items: Vec<TurnReply>,
    /// Instances whose prompt was not accepted.
    pub(crate) refused: Vec<RefusedReport>,
}

impl Document for TurnReplies {
    const KIND: &'static str = "turn.replies";
}

/// A prompt that was not accepted for an instance.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RefusedReport {
    pub(crate) instance: String,
    pub(crate) tool: String,
    /// The refusal's stable code.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// The account of all prompts: accepted is the sum of the others but `refused`.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct BooksReport {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
    pub(crate) indeterminate: u64,
}

impl From<&Books> for BooksReport {
    fn from(books: &Books) -> Self {
        Self {
            accepted: books.accepted,
            refused: books.refused,
            completed: books.completed,
            failed: books.failed,
            cancelled: books.cancelled,
            expired: books.expired,
            indeterminate: books.indeterminate,
        }
    }
}
