//! What a case is, and what can come of one.
//!
//! Owns the shape of the list. Must not know how a case is run. Invariant: what is compared with the document are exact
//! counts; what was measured stands apart from it.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::lab::Lab;

/// One numbered fault.
pub(crate) struct Case {
    /// Its number in the list of all cases; numbers are never used again.
    pub(crate) number: u16,
    /// 1: with every `cargo xtask test`. 2: when it is asked for.
    pub(crate) tier: u8,
    /// What it shows, in a few words.
    pub(crate) name: &'static str,
    /// What is done to the cluster.
    pub(crate) injects: &'static str,
    /// Whether it measures, so that nothing else may run beside it.
    pub(crate) alone: bool,
    /// Runs it. An error says what was seen to be wrong.
    pub(crate) run: for<'a> fn(&'a Lab) -> Running<'a>,
}

/// A case on its way. Where it ends well, its clusters were closed: see [`crate::rig::Rig::close`].
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Counted>> + 'a>>;

/// What was counted and measured in a case that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Exact counts, the same in each run.
    pub(crate) counts: String,
    /// What was measured, with its unit: name and value.
    pub(crate) figures: Vec<(String, String)>,
}

impl Counted {
    /// Exact counts, the same in each run and on each machine.
    pub(crate) fn new(counts: impl std::fmt::Display) -> Self {
        Self {
            counts: counts.to_string(),
            figures: Vec::new(),
        }
    }

    /// Adds something that was measured.
    #[must_use]
    pub(crate) fn figure(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.figures.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All was as it must be.
    Passed(Counted),
    /// It cannot be on this machine, and why.
    Skipped(String),
    /// What was seen to be wrong.
    Failed(String),
}

/// An error of this kind says that the case cannot be on this machine.
#[derive(Debug)]
pub(crate) struct CannotBe(pub(crate) String);

impl std::fmt::Display for CannotBe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotBe {}
