//! What happens next to an instance.
//!
//! Owns what follows which state, and its words. Must not know where the facts come from. Invariant: every state has
//! something that follows, be it nothing.

use std::fmt;
use std::time::Instant;

use serde::Serialize;
use toolpool_pool_core::prompt::TurnId;

use crate::instance::{InstanceState, Standing};
use crate::permission::PermissionId;

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

/// A time in words.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        "less than a second".to_owned()
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
