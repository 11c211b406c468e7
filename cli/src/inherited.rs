//! What whoever started this program left to it: signals that are blocked or ignored.
//!
//! Owns reading and mending that. Must not know what the signals are for. Invariant: this program can always be ended by
//! SIGTERM and learns how its children end, whoever started it.

use std::sync::Arc;

use nix::sys::signal::SigSet;
use signal_hook::consts::SIGCHLD;

/// Unblocks all signals, and catches SIGCHLD if it is ignored: how a child ended could not be learned then. Call it before
/// there are threads, which inherit what is blocked.
pub(crate) fn mend_signals() {
    // It fails for a wrong number of a function alone, which the crate does not give.
    SigSet::empty().thread_set_mask().ok();
    if ignores(SIGCHLD) {
        signal_hook::flag::register(SIGCHLD, Arc::default()).ok();
    }
}

/// Whether the signal of this number is ignored. nohup ignores SIGHUP, and a shell's `&` SIGINT; whoever does so does not
/// want the program to end of it.
pub(crate) fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status) & bit(signal) != 0
}

/// The kernel's bit for a signal.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The set of ignored signals in a process's status; empty where it cannot be read.
fn ignored(status: &str) -> u64 {
    let mut lines = status.lines();
    let digits = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    digits
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read_off_a_status() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000011001\n";
        let all: Vec<i32> = (1..=64)
            .filter(|signal| ignored(status) & bit(*signal) != 0)
            .collect();
        assert_eq!(all, [1, 13, 17], "HUP, PIPE, CHLD");
        assert_eq!(ignored(""), 0);
    }
}
