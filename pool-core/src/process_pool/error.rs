//! What can go wrong between a pool and its caller.
//!
//! Owns the texts. Must not know how anything is done. Invariant: each says what happened, to which instance, and the
//! next step.

use std::time::Duration;

use super::{MAX_INSTANCES, MAX_UNREAD};
use crate::launch::LaunchError;
use crate::launcher::Exit;
use crate::open_files::TooFewOpenFiles;

/// Why a pool did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No pool of that size.
    #[error("a pool has 1 to {MAX_INSTANCES} instances, not {count}")]
    Count {
        /// What was asked for.
        count: usize,
    },
    /// The system does not allow enough open files.
    #[error(transparent)]
    OpenFiles(#[from] TooFewOpenFiles),
    /// A process could not be started.
    #[error("instance {index}: {source}")]
    Launch {
        /// Which one.
        index: usize,
        /// Why.
        source: LaunchError,
    },
    /// A process ended before it was ready.
    #[error(
        "instance {index}: {tool} ended before it was ready ({exit}); {}; run it by hand with the profile's arguments",
        last_words(last_lines)
    )]
    EndedEarly {
        /// Which one.
        index: usize,
        /// The tool's name.
        tool: String,
        /// How it ended.
        exit: Exit,
        /// The last lines that it printed.
        last_lines: Vec<String>,
    },
    /// A process did not become ready.
    #[error(
        "instance {index}: {tool} was not ready {reason} and was killed; {}; raise `start_timeout` in its profile if it is only slow, or correct what the profile takes for ready",
        last_words(last_lines)
    )]
    NotReady {
        /// Which one.
        index: usize,
        /// The tool's name.
        tool: String,
        /// How long it was waited for, or what it did.
        reason: String,
        /// The last lines that it printed.
        last_lines: Vec<String>,
    },
    /// There is no instance of that index.
    #[error("there is no instance {index}: the pool has {count}, counted from 0")]
    NoSuchInstance {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The instance's process has ended.
    #[error(
        "instance {index} is dead ({reason}); restart_instance({index}) starts another process"
    )]
    Dead {
        /// Which one.
        index: usize,
        /// How it ended.
        reason: String,
    },
    /// Too many replies of the instance are unread.
    #[error(
        "instance {index} has {MAX_UNREAD} prompts whose replies were not read; read_response({index}) makes room"
    )]
    QueueFull {
        /// Which one.
        index: usize,
    },
    /// No whole reply came in time.
    #[error("no whole reply from instance {index} within {timeout:?}; {}", if *unread == 0 { "it has no unread prompt, so send one first".to_owned() } else { format!("{unread} unread: read again, nothing is lost; or restart_instance({index}) if it hangs") })]
    Timeout {
        /// Which one.
        index: usize,
        /// How long it was waited for.
        timeout: Duration,
        /// Prompts sent and not read.
        unread: usize,
    },
    /// An old process is still there, so no new one was started.
    #[error(
        "instance {index}: process {pid} survives SIGKILL, so no other was started; it hangs in the kernel: look at `cat /proc/{pid}/stack` and at its file systems"
    )]
    Survives {
        /// Which one.
        index: usize,
        /// Its process id.
        pid: u32,
    },
    /// The pool was shut down.
    #[error("the pool was shut down; launch another")]
    ShutDown,
}

fn last_words(lines: &[String]) -> String {
    if lines.is_empty() {
        "it printed nothing".to_owned()
    } else {
        format!("it printed last: {}", lines.join(" | "))
    }
}
