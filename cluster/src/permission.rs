//! A tool's question for a permission, from its asking to its one end.
//!
//! Owns its name, its facts and its ends. Must not know who is asked or how. Invariant: a question is settled exactly
//! once, and its name is never used again, so no answer can reach another one.

use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::{Act, Answer, RequestId};

/// Names one question of a tool's. Unique in a cluster's life, whatever becomes of the process that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct PermissionId(pub u64);

impl std::fmt::Display for PermissionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// What a tool wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) id: PermissionId,
    /// The tool's own name for it.
    pub(crate) request: RequestId,
    pub(crate) turn: TurnId,
    pub(crate) act: Act,
    /// For a human.
    pub(crate) text: String,
}

/// How a question ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The tool is answered.
    Answered(Answer, AnsweredBy),
    /// There is nothing to answer any more: the tool took it back, or its turn is over or being cancelled.
    Withdrawn,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// The cluster's policy, without asking.
    Policy,
    /// Somebody who was asked.
    Person,
    /// Nobody, and the time was up.
    Timeout,
    /// Nobody was asked: the caller does not want the turn any more.
    Cancel,
    /// Nobody was asked: too many questions are open.
    Limit,
}

impl AnsweredBy {
    /// The stable word in the events.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Person => "person",
            Self::Timeout => "timeout",
            Self::Cancel => "cancel",
            Self::Limit => "limit",
        }
    }
}
