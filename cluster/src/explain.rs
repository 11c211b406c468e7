//! Why an instance is in its state, on what evidence, and what happens next.
//!
//! Owns the explanation: its words and its JSON. Must not know where the facts come from. Invariants: plain data; a time
//! is in seconds from the moment of the explanation; fields are only ever added.

mod next;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use toolpool_pool_core::Printed;

use crate::instance::InstanceState;
use crate::status::word;
pub use next::Next;
use next::seconds;
pub(crate) use next::{Held, Situation};

/// Which instance is meant: an index from 0, or a name such as `main/2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Its index.
    Index(usize),
    /// Its name.
    Name(String),
}

impl From<usize> for Which {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl From<&str> for Which {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Which {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

/// Why an instance is in its state, on what evidence, and what happens next. Its `Display` is one paragraph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Its place, from 0.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its tool.
    pub tool: Arc<str>,
    /// What it is doing.
    #[serde(serialize_with = "word")]
    pub state: InstanceState,
    /// Seconds in this state.
    pub state_for_s: f64,
    /// Why, for a human.
    pub why: String,
    /// What that rests on.
    pub evidence: Evidence,
    /// What happens next.
    pub next: Next,
}

/// What is known of an instance's past.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// Counts the processes it has had.
    pub generation: u64,
    /// Exit code of the last process that ended.
    pub return_code: Option<i32>,
    /// Signal that ended the last process that ended.
    pub signal: Option<i32>,
    /// The last lines which that process printed, three at most.
    pub last_lines: Vec<String>,
    /// Failures in a row, up to now.
    pub failures: u32,
    /// Failures that are left until its breaker opens.
    pub tries_left: u32,
    /// What the last turn that did not complete ended with, or why the last process ended.
    pub last_error: Option<String>,
    /// Failures of its processes, ever: starts that failed, ends by themselves, output that could not be followed,
    /// time-outs.
    pub faults: u64,
    /// Turns that the tool itself ended as failed, ever.
    pub tool_errors: u64,
    /// It restarts too often: each further start comes alone and after a longer wait.
    pub crash_looping: bool,
    /// Seconds since anything came from its tool in its turn; None while it is no longer than ten.
    pub silent_for_s: Option<f64>,
    /// What the last process that failed has printed.
    pub printed: Option<Printed>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, tool, state, ..
        } = self;
        write!(f, "{name} ({tool}) is in state {}", state.word())?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        write!(f, ".")?;
        match (self.evidence.failures, self.evidence.tries_left) {
            (0, _) => {}
            (1, left) => write!(f, " It has failed once, and {}.", tries(left))?,
            (failures, left) => {
                write!(
                    f,
                    " It has failed {failures} times in a row, and {}.",
                    tries(left)
                )?;
            }
        }
        if let Some(silent) = self.evidence.silent_for_s {
            write!(f, " Nothing has come from it for {}.", seconds(silent))?;
        }
        write!(f, " Next: {}.", self.next)
    }
}

fn tries(left: u32) -> String {
    match left {
        0 => "its breaker has opened".to_owned(),
        1 => "its breaker opens at the next failure".to_owned(),
        left => format!("its breaker opens after {left} more"),
    }
}

#[cfg(test)]
mod tests {
    use toolpool_pool_core::Ends;

    use super::*;

    #[test]
    fn an_explanation_is_one_paragraph_and_stable_json() {
        let explanation = Explanation {
            index: 1,
            name: Arc::from("main/2"),
            tool: Arc::from("aider"),
            state: InstanceState::Backoff,
            state_for_s: 0.5,
            why: "exit code 1; last: no such key".to_owned(),
            evidence: Evidence {
                generation: 4,
                return_code: Some(1),
                last_lines: vec!["no such key".to_owned()],
                failures: 2,
                tries_left: 3,
                last_error: Some("exit code 1; last: no such key".to_owned()),
                faults: 7,
                printed: Some(Printed {
                    stderr: Ends {
                        first: "no such key\n".to_owned(),
                        ..Ends::default()
                    },
                    ..Printed::default()
                }),
                ..Evidence::default()
            },
            next: Next::Restart {
                in_s: 9.0,
                tries_left: 3,
            },
        };
        assert_eq!(
            explanation.to_string(),
            "main/2 (aider) is in state backoff: exit code 1; last: no such key. It has failed 2 times in a row, and its breaker \
             opens after 3 more. Next: it is started again in 9 s, 3 tries left."
        );
        assert_eq!(
            serde_json::to_value(&explanation).expect("plain data"),
            serde_json::json!({
                "index": 1, "name": "main/2", "tool": "aider", "state": "backoff", "state_for_s": 0.5,
                "why": "exit code 1; last: no such key",
                "evidence": {
                    "generation": 4, "return_code": 1, "signal": null, "last_lines": ["no such key"], "failures": 2,
                    "tries_left": 3, "last_error": "exit code 1; last: no such key", "faults": 7, "tool_errors": 0,
                    "crash_looping": false, "silent_for_s": null,
                    "printed": {
                        "stdout": {"first": "", "last": "", "dropped": 0},
                        "stderr": {"first": "no such key\n", "last": "", "dropped": 0},
                    },
                },
                "next": {"kind": "restart", "in_s": 9.0, "tries_left": 3},
            })
        );
    }
}
