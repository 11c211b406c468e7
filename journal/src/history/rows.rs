//! What the history tells: plain data with a stable JSON form.
//!
//! Owns the rows. Must not know SQL. Invariant: fields are only ever added; times are seconds since 1970 on the wall clock
//! (`…unix_s`), durations are seconds (`…_s`), as in the events.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use toolpool_cluster::TurnId;
use toolpool_cluster::seconds::{maybe_seconds, maybe_unix_seconds, unix_seconds};

use super::State;

/// One prompt and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptRow {
    /// Its number.
    pub turn: TurnId,
    /// How it stands; a settlement counts.
    pub state: State,
    /// The class of a failure, or the cause of a doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the tool said of a failure, or what is known of a doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who or what settled a doubt, and what was recorded before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settlement>,
    /// The name of the cluster that accepted it.
    pub cluster: String,
    /// When it was accepted, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub accepted: SystemTime,
    /// When it ended, on the wall clock.
    #[serde(
        rename = "ended_unix_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_unix_seconds"
    )]
    pub ended: Option<SystemTime>,
    /// The tool that ran it; if none did, the one that it asks for.
    pub tool: Option<String>,
    /// The instance that ran it last.
    pub instance: Option<String>,
    /// How often it was given to a tool.
    pub attempts: u32,
    /// Time in the queue.
    #[serde(
        rename = "queued_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_seconds"
    )]
    pub queued: Option<Duration>,
    /// Time on the instance.
    #[serde(
        rename = "took_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_seconds"
    )]
    pub took: Option<Duration>,
    /// The session it belongs to.
    pub session: Option<String>,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// Which item of its batch.
    pub item: Option<String>,
    /// The idempotency key.
    pub key: Option<String>,
    /// All of its labels.
    pub labels: Vec<(String, String)>,
    /// What was sent. In a listing only the beginning of it.
    pub prompt: Text,
    /// What came back, once it has ended. In a listing only the beginning of it.
    pub reply: Option<Text>,
}

/// A text of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Text {
    /// The text; absent if only its hash was kept. In a listing cut to its first 200 characters.
    pub text: Option<String>,
    /// The length of the whole text.
    pub bytes: u64,
    /// The hash of the whole text, in hexadecimal digits.
    pub sha256: String,
    /// `text` is only the beginning.
    pub cut: bool,
}

/// Who or what settled a prompt whose end was in doubt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Settlement {
    /// As what: completed, failed or cancelled.
    pub state: State,
    /// What was recorded before, which stays recorded.
    pub was: State,
    /// Who or what.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub at: SystemTime,
}

/// All that is known of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Shown {
    /// The prompt, with its texts in full.
    #[serde(flatten)]
    pub prompt: PromptRow,
    /// `text` for the model, or a `command` of the tool.
    pub kind: String,
    /// It began with an empty conversation.
    pub fresh: bool,
    /// The files that were to be in the tool's context.
    pub files: Vec<String>,
    /// How its end was known: the grade, A to D, and the means.
    pub attribution: Option<(String, String)>,
    /// Bytes of the reply that were not UTF-8 were replaced.
    pub lossy: bool,
    /// Tokens sent to the model, as the tool reported them.
    pub input_tokens: Option<u64>,
    /// Tokens received from the model.
    pub output_tokens: Option<u64>,
    /// Cost in US dollars.
    pub cost_usd: Option<f64>,
    /// What became of its changes.
    pub landed: Option<serde_json::Value>,
    /// Each time that it was given to a tool, in order.
    pub tries: Vec<Attempt>,
    /// Each time that a doubt was settled, in order; the last one counts.
    pub settlements: Vec<Settlement>,
    /// The events that tell of it.
    pub events: Vec<EventRow>,
}

/// One time that a prompt was given to a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Attempt {
    /// Which, from 1.
    pub attempt: u32,
    /// To which instance.
    pub instance: String,
    /// Its tool.
    pub tool: String,
    /// Its process.
    pub generation: u64,
    /// When, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub at: SystemTime,
    /// Nothing of it was read, and it was queued again.
    pub handed_back: bool,
    /// What came of it, where that is not the reply: an attempt that others followed, or one that runs.
    pub output: Option<Text>,
}

/// One event of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EventRow {
    /// Its number in the journal; it grows over all clusters of a journal.
    pub id: u64,
    /// The event as it was told: `seq`, `unix_s`, `type` and what belongs to that.
    #[serde(flatten)]
    pub event: serde_json::Map<String, serde_json::Value>,
}

/// One process of an instance, from its start to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Life {
    /// The cluster.
    pub cluster: String,
    /// The instance.
    pub instance: String,
    /// Which of its processes.
    pub generation: u64,
    /// The process id.
    pub pid: Option<u32>,
    /// When it was started, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub spawned: SystemTime,
    /// How long it took to be ready; absent if it never was.
    #[serde(
        rename = "start_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_seconds"
    )]
    pub start: Option<Duration>,
    /// When it ended, on the wall clock.
    #[serde(
        rename = "ended_unix_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_unix_seconds"
    )]
    pub ended: Option<SystemTime>,
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// What was last said of its state.
    pub reason: Option<String>,
    /// It had no end before its cluster had: toolpool died, and its tools with it.
    pub lost: bool,
}

/// A batch, by the latest prompt for each of its items.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Batch {
    /// The label `batch`.
    pub batch: String,
    /// How many items it has.
    pub items: u64,
    /// Items that wait.
    pub queued: u64,
    /// Items that were given to a tool and have no end yet.
    pub running: u64,
    /// Items that completed.
    pub completed: u64,
    /// Items that failed.
    pub failed: u64,
    /// Items that were cancelled.
    pub cancelled: u64,
    /// Items whose time in the queue was up.
    pub expired: u64,
    /// Items of which nobody knows what became of them.
    pub indeterminate: u64,
    /// When its first prompt was accepted, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub first: SystemTime,
    /// When its last prompt was accepted, on the wall clock.
    #[serde(rename = "last_unix_s", serialize_with = "unix_seconds")]
    pub last: SystemTime,
}

/// One item of a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Item {
    /// The label `item`.
    pub item: String,
    /// How many prompts there were for it.
    pub runs: u32,
    /// The latest of them, with its texts in full.
    pub latest: PromptRow,
}

/// What a statement of SQL answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows. Bytes that are no text are shown in hexadecimal digits.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// There are more rows than were asked for.
    pub more: bool,
}
