//! Why an instance is in its state, and what happens next.
//!
//! Owns the explanation: its words, its JSON, and what follows which state. Must not know where the facts come from.
//! Invariants: plain data; a time is in seconds from the moment of the explanation; fields are only ever added.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use toolpool_pool_core::Printed;
use toolpool_pool_core::prompt::TurnId;

use crate::instance::{InstanceState, Standing};
use crate::permission::PermissionId;
use crate::status::word;

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

/// What happens next to an instance, if nobody interferes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Next {
    /// Its tool becomes ready, or is killed.
    Ready {
        /// Seconds that it has left.
        within_s: f64,
    },
    /// It takes the next prompt.
    Prompt,
    /// Its turn ends, or is killed; then it takes the next prompt.
    TurnEnds {
        /// The turn.
        turn: Option<TurnId>,
    },
    /// Somebody answers the tool's question, or the answer is no.
    Answer {
        /// Names the oldest question.
        permission: PermissionId,
        /// Seconds until the answer is no.
        within_s: f64,
    },
    /// A process is started again.
    Restart {
        /// Seconds until then.
        in_s: f64,
        /// Failures that are left until its breaker opens.
        tries_left: u32,
    },
    /// A process is started when it is its turn: so many at once are enough for the machine.
    Start {
        /// Instances that start before it, beside those that do already.
        before: usize,
    },
    /// Its tool's instances fail to start alike, so one of them is started as a probe, and the others when it is ready.
    Resume {
        /// Seconds until then.
        in_s: f64,
    },
    /// It takes prompts again when its tool can be asked again.
    Reopens {
        /// Seconds until then.
        in_s: f64,
    },
    /// It takes prompts again when somebody has logged in and restarted it.
    Login,
    /// It takes prompts when another of its group is missing.
    StandBy,
    /// A process is started as the one probe that an open breaker lets out.
    Probe {
        /// Seconds until then.
        in_s: f64,
    },
    /// Its turn ends, then its process.
    Drained {
        /// The turn.
        turn: Option<TurnId>,
        /// A new process follows.
        returns: bool,
    },
    /// Its process ends, or is killed.
    Gone {
        /// Seconds until more is done to end it.
        within_s: f64,
        /// A new process follows.
        returns: bool,
    },
    /// Nothing, until somebody restarts it.
    Nothing,
}

/// What an instance waits for together with others.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// Its turn to start.
    InLine { before: usize },
    /// The next probe of those that fail alike.
    Alike { probe_at: Instant },
    /// The time that its tool has named, or a new login.
    Closed { until: Option<Instant> },
    /// That another is missing.
    StandBy,
}

/// What follows is read off these.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    pub(crate) state: InstanceState,
    pub(crate) standing: Standing,
    pub(crate) turn: Option<TurnId>,
    /// The oldest open question, and until when it waits.
    pub(crate) question: Option<(PermissionId, Instant)>,
    /// What it waits for beside its own time.
    pub(crate) held: Option<Held>,
}

impl Situation {
    pub(crate) fn next(&self, now: Instant) -> Next {
        let left = |until: Option<Instant>| {
            until.map_or(0.0, |until| {
                until.saturating_duration_since(now).as_secs_f64()
            })
        };
        let until = left(self.standing.until);
        let turn = self.turn;
        let returns = self.standing.returns;
        match self.held {
            Some(Held::InLine { before }) => return Next::Start { before },
            Some(Held::Alike { probe_at }) => {
                return Next::Resume {
                    in_s: left(Some(probe_at)),
                };
            }
            Some(Held::Closed { until: Some(until) }) => {
                return Next::Reopens {
                    in_s: left(Some(until)),
                };
            }
            Some(Held::Closed { until: None }) => return Next::Login,
            Some(Held::StandBy) => return Next::StandBy,
            None => {}
        }
        match (self.state, self.question) {
            (InstanceState::Starting, _) => Next::Ready { within_s: until },
            (InstanceState::Ready, _) => Next::Prompt,
            (InstanceState::Draining, _) => Next::Drained { turn, returns },
            (InstanceState::Busy | InstanceState::Waiting, Some((permission, until))) => {
                Next::Answer {
                    permission,
                    within_s: left(Some(until)),
                }
            }
            (InstanceState::Busy | InstanceState::Waiting, None) => Next::TurnEnds { turn },
            (InstanceState::Backoff, _) => Next::Restart {
                in_s: until,
                tries_left: self.standing.tries_left,
            },
            (InstanceState::Tripped, _) => Next::Probe { in_s: until },
            (InstanceState::Stopping, _) => Next::Gone {
                within_s: until,
                returns,
            },
            (InstanceState::Stopped | InstanceState::Failed, _) => Next::Nothing,
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turn = |turn: &Option<TurnId>| {
            turn.map_or_else(|| "its turn".to_owned(), |turn| turn.to_string())
        };
        let then = |returns: bool| {
            if returns {
                "a new process follows"
            } else {
                "it stays stopped"
            }
        };
        match self {
            Self::Ready { within_s } => {
                write!(
                    f,
                    "it is killed if it is not ready in {}",
                    seconds(*within_s)
                )
            }
            Self::Prompt => write!(f, "it takes the next prompt"),
            Self::TurnEnds { turn: id } => {
                write!(f, "it takes the next prompt when {} has ended", turn(id))
            }
            Self::Answer {
                permission,
                within_s,
            } => write!(
                f,
                "{permission} waits for an answer, which is no in {}",
                seconds(*within_s)
            ),
            Self::Start { before: 0 } => write!(f, "it is started next"),
            Self::Start { before } => write!(f, "it is started after {before} others"),
            Self::Resume { in_s } => write!(
                f,
                "one of its tool's instances is started as a probe in {}, and the others when it is ready",
                seconds(*in_s)
            ),
            Self::Reopens { in_s } => {
                write!(f, "it takes prompts again in {}", seconds(*in_s))
            }
            Self::Login => write!(
                f,
                "it takes prompts again when somebody has logged in and restarted it"
            ),
            Self::StandBy => write!(f, "it takes prompts when another of its group is missing"),
            Self::Restart { in_s, tries_left } => write!(
                f,
                "it is started again in {}, {tries_left} {} left",
                seconds(*in_s),
                if *tries_left == 1 { "try" } else { "tries" }
            ),
            Self::Probe { in_s } => write!(
                f,
                "its breaker is open, and one start goes out as a probe in {}",
                seconds(*in_s)
            ),
            Self::Drained { turn: id, returns } => {
                write!(
                    f,
                    "its process is ended after {}, and {}",
                    turn(id),
                    then(*returns)
                )
            }
            Self::Gone { within_s, returns } => write!(
                f,
                "its process is killed if it has not gone in {}, and {}",
                seconds(*within_s),
                then(*returns)
            ),
            Self::Nothing => write!(f, "nothing follows until somebody restarts it"),
        }
    }
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

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        "less than a second".to_owned()
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use toolpool_pool_core::Ends;

    use super::*;

    fn situation(state: InstanceState, now: Instant) -> Situation {
        Situation {
            state,
            standing: Standing {
                until: Some(now + Duration::from_secs(9)),
                failures: 2,
                tries_left: 3,
                returns: true,
                ..Standing::default()
            },
            turn: Some(TurnId(7)),
            question: None,
            held: None,
        }
    }

    #[test]
    fn every_state_says_what_follows() {
        let now = Instant::now();
        let said: Vec<String> = InstanceState::ALL
            .iter()
            .map(|state| {
                let next = situation(*state, now).next(now);
                format!("{}: {next}", state.word())
            })
            .collect();
        assert_eq!(
            said,
            [
                "starting: it is killed if it is not ready in 9 s",
                "ready: it takes the next prompt",
                "busy: it takes the next prompt when t7 has ended",
                "waiting: it takes the next prompt when t7 has ended",
                "backoff: it is started again in 9 s, 3 tries left",
                "tripped: its breaker is open, and one start goes out as a probe in 9 s",
                "draining: its process is ended after t7, and a new process follows",
                "stopping: its process is killed if it has not gone in 9 s, and a new process follows",
                "stopped: nothing follows until somebody restarts it",
                "failed: nothing follows until somebody restarts it",
            ]
        );
        let mut asks = situation(InstanceState::Waiting, now);
        asks.question = Some((PermissionId(4), now + Duration::from_secs(30)));
        assert_eq!(
            asks.next(now).to_string(),
            "p4 waits for an answer, which is no in 30 s"
        );
    }

    #[test]
    fn what_an_instance_waits_for_with_others_comes_before_its_own_time() {
        let now = Instant::now();
        let until = now + Duration::from_secs(4);
        for (state, held, next) in [
            (
                InstanceState::Starting,
                Held::InLine { before: 3 },
                "it is started after 3 others",
            ),
            (
                InstanceState::Starting,
                Held::InLine { before: 0 },
                "it is started next",
            ),
            (
                InstanceState::Backoff,
                Held::Alike { probe_at: until },
                "one of its tool's instances is started as a probe in 4 s, and the others when it is ready",
            ),
            (
                InstanceState::Ready,
                Held::Closed { until: Some(until) },
                "it takes prompts again in 4 s",
            ),
            (
                InstanceState::Ready,
                Held::Closed { until: None },
                "it takes prompts again when somebody has logged in and restarted it",
            ),
            (
                InstanceState::Ready,
                Held::StandBy,
                "it takes prompts when another of its group is missing",
            ),
        ] {
            let mut waits = situation(state, now);
            waits.held = Some(held);
            assert_eq!(waits.next(now).to_string(), next);
        }
    }

    #[test]
    fn a_time_that_has_passed_is_now() {
        let now = Instant::now();
        let late = situation(InstanceState::Backoff, now).next(now + Duration::from_secs(60));
        assert!(matches!(late, Next::Restart { in_s: 0.0, .. }));
    }

    #[test]
    fn an_explanation_is_one_paragraph_and_stable_json() {
        let now = Instant::now();
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
            next: situation(InstanceState::Backoff, now).next(now),
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
