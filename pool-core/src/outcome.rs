//! How a turn ended, and how surely that is known.
//!
//! Owns the five outcomes and the grades of attribution. Must not know who reads them. Invariant: `Failed`, `Cancelled`
//! and `Expired` are definite; whatever may have run unseen is `Indeterminate`, never folded into one of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The one end of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The tool answered, and the end of its answer was seen.
    Completed,
    /// The tool itself ended the turn with an error, or nothing of the prompt reached it.
    Failed(Failure),
    /// The caller withdrew the prompt, and either nothing was written or the tool confirmed that it stopped.
    Cancelled,
    /// Its deadline passed while it was still queued; nothing was written.
    Expired,
    /// It may have run, wholly or partly.
    Indeterminate(Doubt),
}

impl Outcome {
    /// The outcome's word in the CLI, the events and the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Indeterminate(_) => "indeterminate",
        }
    }

    /// The class of a failure, or the cause of a doubt, as a word.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Failed(failure) => Some(failure.class.word()),
            Self::Indeterminate(doubt) => Some(doubt.cause.word()),
            Self::Completed | Self::Cancelled | Self::Expired => None,
        }
    }

    /// Says of a doubt where the turn's work goes on, if it does so somewhere.
    #[must_use]
    pub fn going_on_at(mut self, place: Option<&str>) -> Self {
        if let (Self::Indeterminate(doubt), Some(place)) = (&mut self, place) {
            doubt.detail.push_str("; ");
            doubt.detail.push_str(place);
        }
        self
    }
}

/// A definite failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub class: FailureClass,
    /// What the tool said, or what happened, in one or a few lines.
    pub message: String,
    /// When the tool says that trying again may help.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureClass {
    /// The model's provider limits the rate.
    RateLimit,
    /// The provider is overloaded or answers with a server error.
    Overloaded,
    /// Credentials are missing, wrong or expired.
    Auth,
    /// The provider refuses the request as such.
    BadRequest,
    /// The provider cannot be reached, or the connection broke.
    Network,
    /// The conversation or the answer does not fit the model.
    ContextTooLarge,
    /// The model answered nothing.
    EmptyAnswer,
    /// The tool broke its own protocol but said so itself.
    Protocol,
    /// The session's instance lost the conversation; the prompt was not sent.
    SessionLost,
    /// The session's instance has not come up for too long; the prompt was not sent, and the session was not given up.
    SessionUnavailable,
    /// The protocol refused the prompt; nothing was written.
    Refused,
    /// No instance is left that could take the prompt.
    Unroutable,
    /// Anything else.
    Unknown,
}

impl FailureClass {
    /// The class of a provider's response with an HTTP status that is an error.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            413 => Self::ContextTooLarge,
            429 => Self::RateLimit,
            400..500 => Self::BadRequest,
            500..600 => Self::Overloaded,
            _ => Self::Unknown,
        }
    }

    /// The stable lower-case word used in JSON, events and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Auth => "auth",
            Self::BadRequest => "bad_request",
            Self::Network => "network",
            Self::ContextTooLarge => "context_too_large",
            Self::EmptyAnswer => "empty_answer",
            Self::Protocol => "protocol",
            Self::SessionLost => "session_lost",
            Self::SessionUnavailable => "session_unavailable",
            Self::Refused => "refused",
            Self::Unroutable => "unroutable",
            Self::Unknown => "unknown",
        }
    }
}

/// Why nobody can say what became of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// What cut the turn off.
    pub cause: DoubtCause,
    /// The details: exit code or signal, the limit that was hit, the last lines of stderr.
    pub detail: String,
}

/// What cuts a turn off without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DoubtCause {
    /// The process ended in the middle of the turn.
    Crashed,
    /// The turn's time was up and the process was killed.
    TimedOut,
    /// The caller cancelled and the tool did not confirm, so the process was killed.
    CancelUnconfirmed,
    /// The instance was stopped or restarted in the middle of the turn.
    Stopped,
    /// The tool wrote something that its protocol cannot mean, so the process was killed.
    ProtocolLost,
    /// The reply outgrew the limit, so the process was killed.
    OutputLimit,
    /// The process outgrew the memory it may have, so it was killed.
    MemoryLimit,
    /// A remote service was asked for the work, and what it answered was lost or could not be fetched.
    AnswerLost,
    /// The journal could not be written any more, so nobody would have been told of the end after a crash.
    JournalFailed,
    /// The program that ran the cluster ended in the middle of the turn. Its journal tells so when it is opened again.
    ManagerDied,
}

impl DoubtCause {
    /// The stable lower-case word used in JSON, events and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::TimedOut => "timed_out",
            Self::CancelUnconfirmed => "cancel_unconfirmed",
            Self::Stopped => "stopped",
            Self::ProtocolLost => "protocol_lost",
            Self::OutputLimit => "output_limit",
            Self::MemoryLimit => "memory_limit",
            Self::AnswerLost => "answer_lost",
            Self::JournalFailed => "journal_failed",
            Self::ManagerDied => "manager_died",
        }
    }
}

/// How surely a reply belongs to its prompt, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Structured messages with an id for each turn.
    A,
    /// Structured messages, one turn at a time, with an explicit end.
    B,
    /// Text on a pipe, ended by a mark that the model cannot know.
    C,
    /// A screen on a terminal.
    D,
}

/// How the end of a turn was known; shown in every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attribution {
    /// The grade.
    pub grade: Grade,
    /// The means, in a word or two: `sentinel`, `prompt`, `end pattern`.
    pub by: &'static str,
}

/// What the tool reports to have used. Absent fields were not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens sent to the model.
    pub input_tokens: Option<u64>,
    /// Tokens received from the model.
    pub output_tokens: Option<u64>,
    /// Cost in US dollars.
    pub cost_usd: Option<f64>,
}
