//! The report of a batch.
//!
//! Owns its shape, which programs read. Must not know how it is shown. Invariant: fields are only ever added; the counts
//! add up to the total.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::ShutdownReport;

use crate::console::Document;
use crate::documents::{BooksReport, TurnReply};
use crate::settings::Settings;

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
    /// Items that were never sent.
    pub(crate) not_started: usize,
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
    /// Whether it completed and its changes, if any, are on the branch.
    pub(crate) ok: bool,
    /// How many turns it took; 0 if it was never sent.
    pub(crate) attempts: u32,
    /// From the first try to the end.
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
            ok: false,
            attempts: 0,
            total_s: 0.0,
            refusal,
            kept: Vec::new(),
            reply: None,
        }
    }

    fn completed(&self) -> bool {
        self.reply
            .as_ref()
            .is_some_and(|reply| reply.outcome == "completed")
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

/// What a batch would do.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchPlan {
    pub(crate) tool: String,
    pub(crate) instances: usize,
    pub(crate) lands_on: Option<String>,
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
        items: Vec<BatchItem>,
        took: Duration,
        shutdown: &ShutdownReport,
    ) -> Self {
        let count =
            |choose: &dyn Fn(&BatchItem) -> bool| items.iter().filter(|item| choose(item)).count();
        let summary = BatchSummary {
            tool: settings.tool(),
            instances: settings.count(),
            lands_on: settings
                .landing
                .as_ref()
                .map(|landing| landing.branch.clone()),
            total: items.len(),
            ok: count(&|item| item.ok),
            not_landed: count(&|item| !item.ok && item.completed()),
            not_completed: count(&|item| item.attempts > 0 && !item.completed()),
            not_started: count(&|item| item.attempts == 0),
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
