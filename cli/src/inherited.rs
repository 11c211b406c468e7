//! What whoever started this program left to it: signals that are blocked or ignored.
//!
//! Owns reading and mending that. Must not know what the signals are for. Invariant: this program can always be ended by
//! SIGTERM, whoever started it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Set for the program that was started again, so that this happens once.
const AGAIN: &str = "TOOLPOOL_STARTED_AGAIN";

/// Whether the signal of this number is ignored. nohup ignores SIGHUP, and a shell's `&` SIGINT; whoever does so does not
/// want the program to end of it.
pub(crate) fn ignores(signal: i32) -> bool {
    set("SigIgn:") & bit(signal) != 0
}

/// Starts this program again, as the same process, if signals are blocked: one that was blocked would neither end it nor
/// tell that a child has ended. Starting a program is the one safe way to unblock all of them.
pub(crate) fn unblock_signals(arguments: &[OsString]) {
    if set("SigBlk:") == 0 || std::env::var_os(AGAIN).is_some() {
        return;
    }
    // What comes back is the reason why it did not work; as things are is then as good as it gets.
    let _ = Command::new("/proc/self/exe")
        .args(arguments)
        .env(AGAIN, "1")
        .exec();
}

/// The kernel's bit for a signal.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A set of signals in this process's status; empty where it cannot be read.
fn set(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    named(&status, name).unwrap_or(0)
}

fn named(status: &str, name: &str) -> Option<u64> {
    let mut lines = status.lines();
    let digits = lines.find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_signals_is_read_by_its_name() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000011001\n";
        assert_eq!(named(status, "SigBlk:"), Some(0));
        let ignored = named(status, "SigIgn:").expect("it is there");
        let all: Vec<i32> = (1..=64)
            .filter(|signal| ignored & bit(*signal) != 0)
            .collect();
        assert_eq!(all, [1, 13, 17], "HUP, PIPE, CHLD");
        assert_eq!(named(status, "SigCgt:"), None);
    }
}
