//! Room for the pipes of many processes.
//!
//! Owns the limit of open files. Must not know what opens them. Invariant: the limit is only ever raised, and never
//! beyond what the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A running tool needs three pipes and a process descriptor.
const FILES_PER_PROCESS: u64 = 4;
/// Room for everything else this program has open, and for the far ends of pipes during starts.
const FILES_BESIDE: u64 = 256;

/// The system does not allow as many open files as are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{processes} processes need {needed} open files and the system allows {limit}; start fewer, or raise the hard limit (`ulimit -Hn`, or `LimitNOFILE=` of the service)"
)]
pub struct TooFewOpenFiles {
    /// How many processes were asked for.
    pub processes: usize,
    /// Open files that they and this program need.
    pub needed: u64,
    /// The hard limit.
    pub limit: u64,
}

/// Raises this program's soft limit of open files as far as that many running tools need it. The usual soft limit of
/// 1024 is enough for about 190.
///
/// # Errors
/// If the hard limit is lower than what is needed.
pub fn reserve_open_files(processes: usize) -> Result<(), TooFewOpenFiles> {
    let needed = FILES_BESIDE + FILES_PER_PROCESS * processes as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    let too_few = |limit| TooFewOpenFiles {
        processes,
        needed,
        limit,
    };
    match maximum {
        Some(maximum) if maximum < needed => Err(too_few(maximum)),
        _ => setrlimit(Resource::Nofile, raised).map_err(|_| too_few(current.unwrap_or(needed))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_processes_than_the_hard_limit_allows_are_refused_with_the_numbers() {
        let Some(limit) = getrlimit(Resource::Nofile).maximum else {
            return;
        };
        let Ok(processes) = usize::try_from(limit) else {
            return;
        };
        let message = reserve_open_files(processes)
            .expect_err("four times too many")
            .to_string();
        assert!(message.contains(&format!("allows {limit}")), "{message}");
        assert!(message.contains("ulimit -Hn"), "{message}");
    }
}
