//! What is asked of the history.
//!
//! Owns [`Query`] and the states of a prompt. Must not know SQL. Invariant: a filter that is not set lets everything pass.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

/// Which prompts are wanted. Each filter that is set must hold.
///
/// ```
/// use toolpool_journal::{Query, State};
///
/// let doubts = Query { state: Some(State::Indeterminate), ..Query::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Words that are all in the prompt or in the reply, without regard to case; `"words in quotes"` stand beside each other,
    /// and `word*` is how a word begins.
    pub text: Option<String>,
    /// The tool that ran it or that it asks for.
    pub tool: Option<String>,
    /// How it stands.
    pub state: Option<State>,
    /// Its session.
    pub session: Option<String>,
    /// Its batch.
    pub batch: Option<String>,
    /// Accepted at that time or later, on the wall clock.
    pub since: Option<SystemTime>,
    /// Accepted before that time.
    pub until: Option<SystemTime>,
    /// At most so many, the newest; all of them if it is not set.
    pub limit: Option<usize>,
}

/// How a prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted, and with no tool now.
    Queued,
    /// Given to a tool, without an end yet.
    Running,
    /// The tool answered.
    Completed,
    /// The tool ended it with an error, or nothing of it reached a tool.
    Failed,
    /// It was withdrawn.
    Cancelled,
    /// Its time in the queue was up.
    Expired,
    /// It may have run, wholly or partly.
    Indeterminate,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Indeterminate,
    ];

    /// The stable word in JSON, on the command line and in SQL.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Indeterminate => "indeterminate",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.word() == word);
        found.ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("`{word}` is no state of a prompt; there are: {words}")
        })
    }
}
