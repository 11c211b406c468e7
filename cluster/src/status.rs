//! What a cluster looks like at one moment.
//!
//! Owns the status types. Must not know where the facts come from. Invariant: fields are only ever added.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::Serializer;
use toolpool_pool_core::prompt::TurnId;

use crate::instance::InstanceState;
use crate::permission::PermissionId;
use crate::scheduler::Books;

/// A cluster at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    /// Its name.
    pub cluster: Arc<str>,
    /// Its tool, or all of them: `aider+codex`.
    pub tool: Arc<str>,
    /// Its strategy.
    pub strategy: &'static str,
    /// Every prompt's account.
    pub books: Books,
    /// How many prompts the queue holds.
    pub queue_limit: usize,
    /// Sessions that are bound to an instance.
    pub sessions: usize,
    /// Groups of instances that pause as a whole, and why.
    pub paused: Vec<Paused>,
    /// Its instances, by index.
    pub instances: Vec<InstanceStatus>,
}

/// What a group of instances pauses for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseCause {
    /// Its instances failed to start, and for the same reason. One at a time is started as a probe, at growing intervals,
    /// until one becomes ready; what serves goes on serving.
    Start,
    /// The tool said when it can be asked again. It gets no prompts until then.
    Limit,
    /// The login was refused, of two turns in a row. An instance gets prompts again when it has a new process.
    Login,
}

impl PauseCause {
    /// All causes.
    pub const ALL: [Self; 3] = [Self::Start, Self::Limit, Self::Login];

    /// The cause's word in the events and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Limit => "limit",
            Self::Login => "login",
        }
    }
}

/// A group of instances that pauses as a whole. Prompts for it wait, or run on other groups that fit them. Its `Display`
/// is one sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paused {
    /// Its tool.
    pub tool: Arc<str>,
    /// What for.
    pub cause: PauseCause,
    /// The same in the tool's words.
    pub reason: String,
    /// How many instances failed alike, or get no prompts.
    pub instances: usize,
    /// Seconds since it began.
    pub paused_for_s: f64,
    /// Seconds until the next probe, or until prompts go on; None if it waits for somebody.
    pub retry_in_s: Option<f64>,
    /// The instance that is started as a probe just now.
    pub probe: Option<Arc<str>>,
    /// How to log in, where the tool's profile says it.
    pub login: Option<String>,
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, reason, .. } = self;
        let after = self.retry_in_s.unwrap_or_default();
        match self.cause {
            PauseCause::Start => {
                write!(
                    f,
                    "{} instances of {tool} cannot start, and for the same reason ({reason}): prompts wait, ",
                    self.instances
                )?;
                match &self.probe {
                    Some(probe) => write!(f, "and {probe} is trying again"),
                    None => write!(f, "and one of them tries again in {after:.0} s"),
                }
            }
            PauseCause::Limit => write!(
                f,
                "{tool} cannot be asked for {after:.0} s ({reason}): prompts wait"
            ),
            PauseCause::Login => write!(
                f,
                "the login of {tool} is refused ({reason}): prompts wait until somebody logs in and restarts its instances{}",
                self.login
                    .as_ref()
                    .map_or_else(String::new, |login| format!("; {login}"))
            ),
        }
    }
}

/// One instance at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    /// Its place, from 0.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its tool.
    pub tool: Arc<str>,
    /// What it is doing.
    #[serde(serialize_with = "word")]
    pub state: InstanceState,
    /// Why, for a human.
    pub reason: String,
    /// Seconds in this state.
    pub state_for_s: f64,
    /// What its turn waits for, oldest first.
    pub waiting: Vec<WaitingFor>,
    /// Whether it has a live process.
    pub alive: bool,
    /// That process's id.
    pub pid: Option<u32>,
    /// Counts the processes it has had.
    pub generation: u64,
    /// Exit code of the last process that ended.
    pub return_code: Option<i32>,
    /// Signal that ended the last process that ended.
    pub signal: Option<i32>,
    /// The breaker's state: closed, open or half_open.
    pub breaker: &'static str,
    /// Turns that it has ended.
    pub turns: u64,
    /// Turns of these that did not complete.
    pub turns_failed: u64,
    /// Failures of its processes, ever: starts that failed, ends by themselves, output that could not be followed,
    /// time-outs. Its breaker counts these in a row.
    pub faults: u64,
    /// Turns that the tool itself ended as failed, ever. Nothing is wrong with the process then.
    pub tool_errors: u64,
    /// It restarts too often: each further start comes alone and after a longer wait, until a process has been ready for ten
    /// minutes.
    pub crash_looping: bool,
    /// Seconds since anything came from its tool in its turn; None while it is no longer than ten.
    pub silent_for_s: Option<f64>,
    /// What the last turn that did not complete ended with, or why the last process ended.
    pub last_error: Option<String>,
    /// Resident memory of its process in bytes; None if it has none or it cannot be read.
    pub rss_bytes: Option<u64>,
    /// Sessions that live on it.
    pub sessions: usize,
    /// Its group gets no prompts for now.
    pub paused: bool,
    /// It stands by until another of its group is missing.
    pub spare: bool,
    /// Its working folder.
    pub cwd: String,
    /// The branch that its work is on, if it has a worktree of its own.
    pub branch: Option<String>,
}

/// A question that waits for [`ClusterManager::answer`].
///
/// [`ClusterManager::answer`]: crate::ClusterManager::answer
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingFor {
    /// What kind of answer it waits for: permission.
    pub kind: &'static str,
    /// Names the question.
    pub permission: PermissionId,
    /// The turn that waits.
    pub turn: TurnId,
    /// What the tool wants to do: read, edit, execute or other.
    pub act: &'static str,
    /// The same in one line, for a human, in the tool's own words.
    pub question: String,
    /// Seconds since it was asked.
    pub asked_for_s: f64,
    /// Seconds until the answer is no.
    pub left_s: f64,
}

/// The aggregate of a health check. Alive, ready and answering are separate facts.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// All instances.
    pub total: usize,
    /// Those with a live process.
    pub alive: usize,
    /// Those without.
    pub dead: usize,
    /// Those that can take a prompt or are running one.
    pub ready: usize,
    /// True if a prompt sent now would find an instance to run on.
    pub healthy: bool,
    /// Each instance.
    pub instances: Vec<InstanceStatus>,
}

/// What a shutdown leaves.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShutdownReport {
    /// The final account of all prompts.
    pub books: Books,
    /// Worktrees that hold work which could not be brought home, and were kept.
    pub kept: Vec<KeptWork>,
}

/// What came of a change of the number of instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scaled {
    /// The names of the instances that were added, all of them ready.
    pub added: Vec<Arc<str>>,
    /// The names of those that have left.
    pub removed: Vec<Arc<str>>,
    /// Worktrees of these that hold work which could not be brought home, and were kept.
    pub kept: Vec<KeptWork>,
}

/// Work that stays on a branch of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptWork {
    /// The instance that did it.
    pub instance: Arc<str>,
    /// Its branch.
    pub branch: String,
    /// Why it was kept.
    pub reason: String,
    /// The command that shows it.
    pub show: String,
}

impl From<ClusterStatus> for Health {
    fn from(status: ClusterStatus) -> Self {
        let healthy = status.instances.iter().any(|instance| {
            let serves = matches!(
                instance.state,
                InstanceState::Ready | InstanceState::Busy | InstanceState::Waiting
            );
            serves && !instance.paused
        });
        let alive = status
            .instances
            .iter()
            .filter(|instance| instance.alive)
            .count();
        let ready = status
            .instances
            .iter()
            .filter(|instance| {
                matches!(
                    instance.state,
                    InstanceState::Ready | InstanceState::Busy | InstanceState::Waiting
                )
            })
            .count();
        Self {
            total: status.instances.len(),
            alive,
            dead: status.instances.len() - alive,
            ready,
            healthy,
            instances: status.instances,
        }
    }
}

pub(crate) fn word<S: Serializer>(state: &InstanceState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.word())
}
