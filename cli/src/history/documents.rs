//! What is printed of the journal as JSON.
//!
//! Owns the shapes. Must not know how they are asked for. Invariant: fields are only ever added; moments are RFC 3339 in
//! UTC and end in `_at`, durations are seconds and end in `_s`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use toolpool::journal::{Attempt, Batch, EventRow, PromptRow, Settlement, Shown, Table, Text};

use crate::console::Document;
use crate::when;

/// Prompts, the newest first.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PromptList {
    pub(crate) items: Vec<PromptDocument>,
}

impl Document for PromptList {
    const KIND: &'static str = "history.list";
}

/// One prompt and what became of it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PromptDocument {
    /// Its number, which no other prompt of the journal has.
    turn: u64,
    /// queued, running, completed, failed, cancelled, expired or indeterminate.
    outcome: &'static str,
    /// The class of a failure or the cause of a doubt.
    cause: Option<String>,
    /// What is to be said about one that did not complete.
    message: Option<String>,
    /// Who settled a doubt, and as what.
    resolved: Option<ResolutionDocument>,
    cluster: String,
    accepted_at: String,
    ended_at: Option<String>,
    /// The tool that ran it, or that it asks for.
    tool: Option<String>,
    instance: Option<String>,
    /// How often it was given to a tool.
    attempts: u32,
    queued_s: Option<f64>,
    took_s: Option<f64>,
    session: Option<String>,
    batch: Option<String>,
    /// The item of its batch.
    item: Option<String>,
    /// In a list only the beginning.
    prompt: TextDocument,
    /// The answer, or what there is of it; in a list only the beginning.
    reply: Option<TextDocument>,
}

impl Document for PromptDocument {
    const KIND: &'static str = "history.prompt";
}

/// A text of the journal.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TextDocument {
    /// Absent if only its hash was kept.
    text: Option<String>,
    /// `text` is only the beginning.
    cut: bool,
    /// Length of the whole.
    bytes: u64,
    /// Hash of the whole, in hexadecimal digits.
    sha256: String,
}

impl From<&Text> for TextDocument {
    fn from(text: &Text) -> Self {
        Self {
            text: text.text.clone(),
            cut: text.cut,
            bytes: text.bytes,
            sha256: text.sha256.clone(),
        }
    }
}

/// Who or what settled a doubt.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ResolutionDocument {
    /// As what: completed, failed or cancelled.
    outcome: &'static str,
    /// What was recorded before, and stays recorded.
    was: &'static str,
    by: String,
    note: Option<String>,
    at: String,
}

impl From<&Settlement> for ResolutionDocument {
    fn from(settled: &Settlement) -> Self {
        Self {
            outcome: settled.state.word(),
            was: settled.was.word(),
            by: settled.by.clone(),
            note: settled.note.clone(),
            at: when::exact(settled.at),
        }
    }
}

impl From<&PromptRow> for PromptDocument {
    fn from(row: &PromptRow) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        Self {
            turn: row.turn.0,
            outcome: row.state.word(),
            cause: row.cause.clone(),
            message: row.detail.clone(),
            resolved: row.settled.as_ref().map(ResolutionDocument::from),
            cluster: row.cluster.clone(),
            accepted_at: when::exact(row.accepted),
            ended_at: row.ended.map(when::exact),
            tool: row.tool.clone(),
            instance: row.instance.clone(),
            attempts: row.attempts,
            queued_s: seconds(row.queued),
            took_s: seconds(row.took),
            session: row.session.clone(),
            batch: row.batch.clone(),
            item: row.item.clone(),
            prompt: TextDocument::from(&row.prompt),
            reply: row.reply.as_ref().map(TextDocument::from),
        }
    }
}

/// All that is known of one prompt.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PromptDetail {
    #[serde(flatten)]
    prompt: PromptDocument,
    /// `text` for the model, or a `command` of the tool.
    kind_of_prompt: String,
    /// It began with an empty conversation.
    fresh: bool,
    files: Vec<String>,
    /// How surely the answer belongs to the prompt: A, B, C or D.
    grade: Option<String>,
    /// How the end of the answer was known.
    attributed_by: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost_usd: Option<f64>,
    /// What became of its changes: `landed` is nothing, commit, conflict, blocked or failed, and the rest is as in
    /// `turn.reply`.
    landed: Option<Value>,
    /// Each time that it was given to a tool.
    tries: Vec<AttemptDocument>,
    /// The events that tell of it.
    events: Vec<BTreeMap<String, Value>>,
}

impl Document for PromptDetail {
    const KIND: &'static str = "history.detail";
}

/// One time that a prompt was given to a tool.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AttemptDocument {
    attempt: u32,
    instance: String,
    tool: String,
    generation: u64,
    at: String,
    /// Nothing of it was read, and it was queued again.
    handed_back: bool,
    /// What came of it, where that is not the reply.
    output: Option<TextDocument>,
}

impl From<&Attempt> for AttemptDocument {
    fn from(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            instance: attempt.instance.clone(),
            tool: attempt.tool.clone(),
            generation: attempt.generation,
            at: when::exact(attempt.at),
            handed_back: attempt.handed_back,
            output: attempt.output.as_ref().map(TextDocument::from),
        }
    }
}

impl From<&Shown> for PromptDetail {
    fn from(shown: &Shown) -> Self {
        let (grade, by) = shown.attribution.clone().unzip();
        Self {
            prompt: PromptDocument::from(&shown.prompt),
            kind_of_prompt: shown.kind.clone(),
            fresh: shown.fresh,
            files: shown.files.clone(),
            grade,
            attributed_by: by,
            input_tokens: shown.input_tokens,
            output_tokens: shown.output_tokens,
            cost_usd: shown.cost_usd,
            landed: shown.landed.clone(),
            tries: shown.tries.iter().map(AttemptDocument::from).collect(),
            events: shown.events.iter().map(event_fields).collect(),
        }
    }
}

/// An event as it was told, with its number in the journal.
pub(crate) fn event_fields(event: &EventRow) -> BTreeMap<String, Value> {
    let mut fields: BTreeMap<String, Value> = event.event.clone().into_iter().collect();
    fields.insert("id".to_owned(), event.id.into());
    fields
}

/// The batches of a journal.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchList {
    pub(crate) items: Vec<BatchDocument>,
}

impl Document for BatchList {
    const KIND: &'static str = "history.batches";
}

/// A batch, by the latest prompt for each of its items.
#[derive(Serialize, JsonSchema)]
pub(crate) struct BatchDocument {
    batch: String,
    /// Items that were ever sent.
    items: u64,
    queued: u64,
    running: u64,
    completed: u64,
    failed: u64,
    cancelled: u64,
    expired: u64,
    indeterminate: u64,
    first_accepted_at: String,
    last_accepted_at: String,
}

impl Document for BatchDocument {
    const KIND: &'static str = "history.batch";
}

impl From<&Batch> for BatchDocument {
    fn from(batch: &Batch) -> Self {
        Self {
            batch: batch.batch.clone(),
            items: batch.items,
            queued: batch.queued,
            running: batch.running,
            completed: batch.completed,
            failed: batch.failed,
            cancelled: batch.cancelled,
            expired: batch.expired,
            indeterminate: batch.indeterminate,
            first_accepted_at: when::exact(batch.first),
            last_accepted_at: when::exact(batch.last),
        }
    }
}

/// What a statement of SQL answered.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SqlTable {
    columns: Vec<String>,
    /// Bytes that are no text are hexadecimal digits.
    rows: Vec<Vec<Value>>,
    /// There are more rows, which were left out.
    more: bool,
}

impl Document for SqlTable {
    const KIND: &'static str = "history.table";
}

impl From<&Table> for SqlTable {
    fn from(table: &Table) -> Self {
        Self {
            columns: table.columns.clone(),
            rows: table.rows.clone(),
            more: table.more,
        }
    }
}

/// One row of it, by the names of the columns.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SqlRow {
    row: BTreeMap<String, Value>,
}

impl Document for SqlRow {
    const KIND: &'static str = "history.row";
}

impl SqlRow {
    pub(super) fn all(table: &Table) -> Vec<Self> {
        let row = |values: &Vec<Value>| {
            let names = table.columns.iter().cloned();
            let row = names.zip(values.iter().cloned()).collect();
            Self { row }
        };
        table.rows.iter().map(row).collect()
    }
}
