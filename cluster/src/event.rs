//! What happened in a cluster: one numbered stream of typed facts.
//!
//! Owns the wire contract of events. Must not know who reads them. Invariant: facts only, in the past tense; no text of
//! prompts or replies, no settings of displays. Fields are only ever added.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use toolpool_pool_core::outcome::Usage;
use toolpool_pool_core::prompt::TurnId;

use crate::explain::Next;
use crate::instance::InstanceState;
use crate::permission::PermissionId;
use crate::seconds::{maybe_seconds, seconds, unix_seconds};

/// One fact.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Counts the cluster's events from 1, without holes.
    pub seq: u64,
    /// When, on the wall clock.
    #[serde(rename = "unix_s", serialize_with = "unix_seconds")]
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The facts there are.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The cluster began to start its instances.
    ClusterStarted {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The tool's name, or all of them: `aider+codex`.
        tool: Arc<str>,
        /// The tool of each instance.
        tools: Vec<Arc<str>>,
        /// The names of its instances.
        instances: Vec<Arc<str>>,
        /// The strategy's name.
        strategy: &'static str,
        /// How many prompts the queue holds.
        queue_limit: usize,
    },
    /// The cluster takes no more prompts and finishes those that it has.
    ClusterDraining,
    /// The cluster has stopped; nothing follows.
    ClusterStopped,
    /// The journal cannot be written any more. The cluster stops at once, and every open prompt ends in doubt.
    JournalFailed {
        /// What happened to which file.
        detail: String,
    },
    /// A prompt is in the books until it ends.
    PromptAccepted {
        /// Its turn.
        turn: TurnId,
        /// Its length.
        bytes: usize,
        /// Prompts queued now, this one included.
        queued: usize,
    },
    /// A prompt was not accepted.
    PromptRefused {
        /// The refusal's code.
        reason: &'static str,
    },
    /// A prompt that an earlier cluster of this name had accepted cannot run on this one. It is still queued in the journal.
    PromptLeft {
        /// Its turn.
        turn: TurnId,
        /// Why not.
        reason: String,
    },
    /// A turn began on an instance.
    TurnStarted {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// Its process.
        generation: u64,
        /// Time in the queue.
        #[serde(rename = "queued_s", serialize_with = "seconds")]
        queued: Duration,
        /// Prompts still queued.
        queue: usize,
        /// How it was placed: `direct` by the strategy, `sticky` by its session, `target` by its caller.
        route: &'static str,
    },
    /// The tool tries its model again by itself.
    TurnRetrying {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
    },
    /// Nothing has come from the tool in its turn for ten seconds, of whatever kind. Told once; its end by
    /// [`TurnHeard`](Self::TurnHeard), or by that of the turn.
    TurnSilent {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// How long it has been silent by now.
        #[serde(rename = "silent_s", serialize_with = "seconds")]
        silent: Duration,
    },
    /// The tool shows life again in its turn.
    TurnHeard {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// How long it was silent.
        #[serde(rename = "silent_s", serialize_with = "seconds")]
        silent: Duration,
    },
    /// The turn's work goes on outside of the instance's process, where nothing here can stop it.
    TurnElsewhere {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// What goes on and where it can be seen, in one line.
        place: String,
    },
    /// The tool asked for a permission, and its turn waits for somebody's answer.
    PermissionAsked {
        /// Names the question.
        permission: PermissionId,
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// Its process.
        generation: u64,
        /// What it asked for: read, edit, execute or other.
        act: &'static str,
        /// The same in one line, for a human, in the tool's own words.
        question: String,
        /// How long it waits; then the answer is no.
        #[serde(rename = "timeout_s", serialize_with = "seconds")]
        timeout: Duration,
    },
    /// The tool was answered: by whom it was asked, or by the cluster's policy at once.
    PermissionAnswered {
        /// Names the question.
        permission: PermissionId,
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// What it asked for: read, edit, execute or other.
        act: &'static str,
        /// The answer.
        allowed: bool,
        /// Why: `person`, somebody said so; `timeout`, nobody did in time; and of what nobody was asked, `policy`,
        /// `cancel`, the turn is being cancelled, or `limit`, too many questions were open.
        by: &'static str,
    },
    /// A question needs no answer any more: the tool took it back, or its turn is over or being cancelled.
    PermissionWithdrawn {
        /// Names the question.
        permission: PermissionId,
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// What it asked for: read, edit, execute or other.
        act: &'static str,
    },
    /// Somebody answered a question that waits for no answer (any more). Nothing came of it.
    AnswerRefused {
        /// The name that was given.
        permission: PermissionId,
    },
    /// A turn was not written to its instance and is queued again.
    TurnHandedBack {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
    },
    /// An attempt has ended, and the prompt is queued again, as its retry policy says.
    TurnRetried {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// Which attempt, counted from 1.
        attempt: u32,
        /// How it ended: failed or indeterminate.
        outcome: &'static str,
        /// The class of the failure, or the cause of the doubt.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        /// Time on the instance.
        #[serde(rename = "took_s", serialize_with = "seconds")]
        took: Duration,
        /// Whether the instance can take the next turn.
        ready: bool,
    },
    /// A prompt has its one end.
    TurnEnded {
        /// The turn.
        turn: TurnId,
        /// The instance, if it ran.
        instance: Option<Arc<str>>,
        /// The outcome's word.
        outcome: &'static str,
        /// The class of a failure, or the cause of a doubt.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        /// Time in the queue.
        #[serde(rename = "queued_s", serialize_with = "seconds")]
        queued: Duration,
        /// Time on the instance.
        #[serde(rename = "took_s", serialize_with = "seconds")]
        took: Duration,
        /// Time on the instance until the first byte of the reply.
        #[serde(
            rename = "first_output_s",
            skip_serializing_if = "Option::is_none",
            serialize_with = "maybe_seconds"
        )]
        first_output: Option<Duration>,
        /// Length of the reply.
        reply_bytes: usize,
        /// What the tool reports to have used.
        #[serde(skip)]
        usage: Option<Usage>,
        /// Prompts queued now.
        queue: usize,
        /// Whether the instance can take the next turn.
        ready: bool,
    },
    /// An instance has a new process.
    InstanceSpawned {
        /// The instance.
        instance: Arc<str>,
        /// Counts its processes.
        generation: u64,
        /// The process id.
        pid: Option<u32>,
    },
    /// An instance changed its state. Going busy and ready again around a turn is told by `turn_started` and
    /// `turn_ended` alone.
    InstanceChanged {
        /// The instance.
        instance: Arc<str>,
        /// Its process.
        generation: u64,
        /// From.
        #[serde(serialize_with = "word")]
        from: InstanceState,
        /// To.
        #[serde(serialize_with = "word")]
        to: InstanceState,
        /// Why, for a human.
        reason: String,
        /// How long it took from spawn to ready, when it became so.
        #[serde(
            rename = "start_s",
            skip_serializing_if = "Option::is_none",
            serialize_with = "maybe_seconds"
        )]
        start: Option<Duration>,
        /// Failures in a row, up to now.
        failures: u32,
        /// Failures that are left until its breaker opens.
        tries_left: u32,
        /// It restarts too often: each further start comes alone and after a longer wait.
        crash_looping: bool,
        /// What happens next.
        next: Next,
    },
    /// A process that had not failed is replaced because it is worn. It ends after its turn, and a new one follows.
    InstanceRecycled {
        /// The instance.
        instance: Arc<str>,
        /// Which process.
        generation: u64,
        /// What wore it: `turns`, `age`, `rss`, or `login`: it still has one that was refused.
        cause: &'static str,
        /// The same with its measure, for a human.
        reason: String,
    },
    /// A group is to have another number of instances.
    GroupScaled {
        /// Its tool.
        tool: Arc<str>,
        /// How many it had.
        from: usize,
        /// How many it is to have.
        to: usize,
    },
    /// An instance was added, or came back to the place that it had before; its task has begun.
    InstanceAdded {
        /// The instance.
        instance: Arc<str>,
        /// Its tool.
        tool: Arc<str>,
    },
    /// An instance is missing, and a spare has taken its place; it will stand by itself when it is back.
    InstanceRelieved {
        /// The instance that is missing.
        instance: Arc<str>,
        /// The spare.
        by: Arc<str>,
    },
    /// An instance has left for good, unless its group grows again.
    InstanceRemoved {
        /// The instance.
        instance: Arc<str>,
    },
    /// A group of instances pauses as a whole; told once.
    GroupPaused {
        /// Its tool.
        tool: Arc<str>,
        /// What for: `start`, its instances failed to start for the same reason; `limit`, the tool said when it can be
        /// asked again; `login`, its login is refused.
        cause: &'static str,
        /// The same in the tool's words.
        reason: String,
        /// How many instances failed alike, or get no prompts.
        instances: usize,
        /// Until the first probe, or until prompts go on; absent if it waits for somebody.
        #[serde(
            rename = "retry_in_s",
            skip_serializing_if = "Option::is_none",
            serialize_with = "maybe_seconds"
        )]
        retry_in: Option<Duration>,
        /// All of it in one sentence, for a human.
        message: String,
    },
    /// A group goes on.
    GroupResumed {
        /// Its tool.
        tool: Arc<str>,
        /// What it paused for.
        cause: &'static str,
        /// How long it paused.
        #[serde(rename = "after_s", serialize_with = "seconds")]
        after: Duration,
    },
    /// A process ended.
    InstanceExited {
        /// The instance.
        instance: Arc<str>,
        /// Which process.
        generation: u64,
        /// Its exit code.
        code: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Something that it had started held its pipes after its exit; they were closed 100 milliseconds later.
        leaked: bool,
    },
    /// A breaker changed.
    BreakerChanged {
        /// The instance.
        instance: Arc<str>,
        /// The state's word.
        to: &'static str,
    },
    /// A session was bound to an instance.
    SessionPinned {
        /// The instance.
        instance: Arc<str>,
        /// Sessions there are now.
        sessions: usize,
    },
    /// A session is over; its key is free.
    SessionClosed {
        /// Sessions there are now.
        sessions: usize,
    },
    /// A new process goes on with the conversation of its instance's sessions, or with one of an earlier life.
    SessionsResumed {
        /// The instance.
        instance: Arc<str>,
        /// Its process.
        generation: u64,
        /// How many sessions are in that conversation.
        resumed: usize,
    },
    /// The conversation of a turn's session is gone, and the turn begins another, as its caller chose. Told before the
    /// turn begins.
    ContextLost {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
    },
    /// The conversation of a turn's session is gone, and the turn begins another with a record of what was said before
    /// its prompt, as its caller chose. Told before the turn begins.
    ContextReplayed {
        /// The turn.
        turn: TurnId,
        /// The instance.
        instance: Arc<str>,
        /// How many turns are in the record.
        turns: usize,
        /// Its length.
        bytes: usize,
    },
    /// Sessions lost their conversation, because their instance has a new process or was made to forget.
    SessionsLost {
        /// The instance.
        instance: Arc<str>,
        /// How many.
        lost: usize,
        /// Sessions there are now.
        sessions: usize,
    },
}

/// Takes every event, in order, none skipped. Called in the dispatcher: an implementor must not block or fail.
///
/// ```
/// use toolpool_cluster::{Event, EventKind, EventSink};
///
/// struct CountEnds(usize);
///
/// impl EventSink for CountEnds {
///     fn on_event(&mut self, event: &Event) {
///         if let EventKind::TurnEnded { .. } = event.kind {
///             self.0 += 1;
///         }
///     }
/// }
/// ```
pub trait EventSink: Send {
    /// Takes the next event.
    fn on_event(&mut self, event: &Event);
}

fn word<S: Serializer>(state: &InstanceState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.word())
}
