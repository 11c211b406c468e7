//! What a job's protocol and its driver say to each other: one line of JSON each.
//!
//! Owns the two vocabularies. Must not know either side. Invariant: whatever is about a turn carries its number.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// What the driver is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Hand this over to the service, once, and follow it to its end.
    Submit {
        /// The turn.
        turn: u64,
        /// What is to be done.
        prompt: String,
    },
    /// Follow the turn's job no longer. It cannot be stopped.
    Abandon {
        /// The turn.
        turn: u64,
    },
}

/// What the driver says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The service knows us and the repository: prompts may come.
    Ready,
    /// The service has taken the job over.
    Started {
        /// The turn.
        turn: u64,
        /// The job's name and where it can be watched, in one line.
        place: String,
    },
    /// The service did not answer as hoped and is asked again.
    Retrying {
        /// The turn.
        turn: u64,
        /// What it said.
        message: String,
    },
    /// The turn is over.
    Ended {
        /// The turn.
        turn: u64,
        /// How it ended.
        outcome: Outcome,
        /// The answer, if there is any.
        answer: Option<String>,
    },
}

/// A message as its line.
pub(crate) fn line(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("text and numbers always have a JSON form") + "\n"
}
