//! The report of a batch.
//!
//! Owns its shape, which programs read. Must not know how it is shown. Invariant: fields are only ever added; the counts
//! add up to the total.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::worktree::Landed;
use toolpool::{Outcome, Reply, ShutdownReport};

use super::Kept;
use crate::console::Document;
use crate::documents::{BooksReport, TurnReply};
use crate::settings::Settings;
use crate::story;

/// A whole batch, when it is over.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchReport {
    #[serde(flatten)]
    pub(crate) summary: BatchSummary,
    /// Every item, in the order of the input.
    pub(crate) items: Vec<BatchItem>,
}

impl Document for BatchReport {
    const KIND: &'static str = "batch.report";
}

/// The counts of a batch; the last line of `-o jsonl`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchSummary {
    /// Its name in the journal, if it is kept in one.
    pub(crate) batch: Option<String>,
    /// The journal's file.
    pub(crate) journal: Option<String>,
    pub(crate) tool: String,
    pub(crate) instances: usize,
    /// The branch that work lands on, if it does.
    pub(crate) lands_on: Option<String>,
    pub(crate) total: usize,
    /// Items that completed and whose changes, if any, are on the branch.
    pub(crate) ok: usize,
    /// Items that completed, but whose changes are kept elsewhere.
    pub(crate) not_landed: usize,
    /// Items that failed, were cancelled, expired or are in doubt.
    pub(crate) not_completed: usize,
    /// Of these: items that definitely failed.
    pub(crate) failed: usize,
    /// Of these: items that may have run, wholly or partly.
    pub(crate) indeterminate: usize,
    /// Of these: items that were taken back.
    pub(crate) cancelled: usize,
    /// Of these: items that waited too long for an instance, and never ran.
    pub(crate) expired: usize,
    /// Items that were never sent.
    pub(crate) not_started: usize,
    /// Items of all these kinds whose end was known before this run.
    pub(crate) from_earlier_runs: usize,
    pub(crate) took_s: f64,
    /// The account of all prompts, retries included.
    pub(crate) books: BooksReport,
    /// Work that the instances left behind and that belongs to no item.
    pub(crate) kept: Vec<KeptReport>,
}

impl Document for BatchSummary {
    const KIND: &'static str = "batch.summary";
}

/// One item and what became of it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchItem {
    /// The file or line.
    pub(crate) item: String,
    /// What became of it.
    pub(crate) end: ItemEnd,
    /// Whether it completed and its changes, if any, are on the branch.
    pub(crate) ok: bool,
    /// How many turns it took, over all runs of the batch; 0 if it was never sent.
    pub(crate) attempts: u32,
    /// Whether its end was known before this run.
    pub(crate) from_earlier_run: bool,
    /// From the first try to the end, in this run; the time of the last turn, if that was in an earlier run.
    pub(crate) total_s: f64,
    /// Why it was not even accepted.
    pub(crate) refusal: Option<String>,
    /// Work of its turns that did not land.
    pub(crate) kept: Vec<KeptReport>,
    /// The last turn.
    pub(crate) reply: Option<TurnReply>,
}

impl Document for BatchItem {
    const KIND: &'static str = "batch.item";
}

impl BatchItem {
    /// An item that was never sent.
    pub(super) fn not_started(item: String, refusal: Option<String>) -> Self {
        Self {
            item,
            end: ItemEnd::NotStarted,
            ok: false,
            attempts: 0,
            from_earlier_run: false,
            total_s: 0.0,
            refusal,
            kept: Vec::new(),
            reply: None,
        }
    }

    /// An item whose end was known before this run.
    pub(super) fn from_earlier_run(item: &str, attempts: u32, reply: &Reply) -> Self {
        let end = ItemEnd::of(reply);
        Self {
            item: item.to_owned(),
            end,
            ok: end == ItemEnd::Ok,
            attempts,
            from_earlier_run: true,
            total_s: reply.took.as_secs_f64(),
            refusal: None,
            kept: KeptReport::of(reply).into_iter().collect(),
            reply: Some(TurnReply::from(reply)),
        }
    }

    /// What is to be said about an item that is not ok.
    pub(super) fn complaint(&self) -> Option<String> {
        let of_turn = self.reply.as_ref().and_then(|reply| reply.message.clone());
        let of_work = || self.kept.last().map(|kept| kept.reason.clone());
        self.refusal.clone().or(of_turn).or_else(of_work)
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemEnd {
    /// It completed, and its changes, if any, are on the branch.
    Ok,
    /// It completed, but its changes are kept elsewhere.
    NotLanded,
    /// It definitely failed.
    Failed,
    /// It may have run, wholly or partly.
    Indeterminate,
    /// It was taken back.
    Cancelled,
    /// It waited too long for an instance, and never ran.
    Expired,
    /// It was never sent.
    NotStarted,
}

impl ItemEnd {
    pub(super) fn of(reply: &Reply) -> Self {
        match reply.outcome {
            Outcome::Completed if story::is_home(reply) => Self::Ok,
            Outcome::Completed => Self::NotLanded,
            Outcome::Failed(_) => Self::Failed,
            Outcome::Indeterminate(_) => Self::Indeterminate,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Expired => Self::Expired,
        }
    }

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotLanded => "not landed",
            Self::Failed => "failed",
            Self::Indeterminate => "in doubt",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::NotStarted => "not started",
        }
    }
}

/// Work that did not land.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeptReport {
    pub(crate) branch: String,
    pub(crate) reason: String,
    /// The command that shows it.
    pub(crate) show: String,
}

impl KeptReport {
    /// Work of a turn that did not land.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let (branch, reason, show) = match reply.landed.as_ref()? {
            Ok(Landed::Conflict {
                branch,
                files,
                show,
            }) => {
                let files: Vec<String> = files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                let reason = format!("others changed {} meanwhile", files.join(", "));
                (branch, reason, show)
            }
            Ok(Landed::Blocked {
                branch,
                reason,
                show,
            }) => (branch, reason.clone(), show),
            Ok(Landed::Nothing | Landed::Commit { .. }) | Err(_) => return None,
        };
        Some(Self {
            branch: branch.clone(),
            reason,
            show: show.clone(),
        })
    }
}

/// What a batch would do.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchPlan {
    /// Its name in the journal, if there is one.
    pub(crate) batch: Option<String>,
    /// Items whose end is known and that would not be run again.
    pub(crate) known: usize,
    pub(crate) tool: String,
    pub(crate) instances: usize,
    pub(crate) lands_on: Option<String>,
    /// Those that would be run.
    pub(crate) items: Vec<PlanItem>,
}

impl Document for BatchPlan {
    const KIND: &'static str = "batch.plan";
}

/// One item and the prompt that it would get.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PlanItem {
    pub(crate) item: String,
    pub(crate) prompt: String,
}

impl BatchReport {
    pub(super) fn new(
        settings: &Settings,
        kept: Option<&Kept>,
        items: Vec<BatchItem>,
        took: Duration,
        shutdown: &ShutdownReport,
    ) -> Self {
        let count = |end: ItemEnd| items.iter().filter(|item| item.end == end).count();
        let [failed, indeterminate, cancelled, expired] = [
            ItemEnd::Failed,
            ItemEnd::Indeterminate,
            ItemEnd::Cancelled,
            ItemEnd::Expired,
        ]
        .map(count);
        let summary = BatchSummary {
            batch: kept.map(|kept| kept.batch.clone()),
            journal: kept.map(|kept| kept.path.display().to_string()),
            tool: settings.tool(),
            instances: settings.count(),
            lands_on: settings
                .landing
                .as_ref()
                .map(|landing| landing.branch.clone()),
            total: items.len(),
            ok: count(ItemEnd::Ok),
            not_landed: count(ItemEnd::NotLanded),
            not_completed: failed + indeterminate + cancelled + expired,
            failed,
            indeterminate,
            cancelled,
            expired,
            not_started: count(ItemEnd::NotStarted),
            from_earlier_runs: items.iter().filter(|item| item.from_earlier_run).count(),
            took_s: took.as_secs_f64(),
            books: BooksReport::from(&shutdown.books),
            kept: shutdown
                .kept
                .iter()
                .map(|kept| KeptReport {
                    branch: kept.branch.clone(),
                    reason: kept.reason.clone(),
                    show: kept.show.clone(),
                })
                .collect(),
        };
        Self { summary, items }
    }
}
