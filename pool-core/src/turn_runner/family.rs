//! The processes below the turn runner.
//!
//! Owns their reaping and their end. Must not know which of them is what, but for the one whose end is asked for.
//! Invariant: after [`end`] there is no process below this one.

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};

use crate::procfs;
use crate::protocol::oneshot::frame::Ended;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(1);

/// Reaps what has ended, orphans included; returns how `child` ended, if it did.
pub(super) fn reap(child: Option<Pid>) -> io::Result<Option<Ended>> {
    let mut found = None;
    while let Reaped::One(pid, status) = reap_one()? {
        if Some(pid) == child {
            found = Some(ended(status));
        }
    }
    Ok(found)
}

/// Kills all processes below this one and reaps them.
///
/// # Errors
/// If one of them cannot be killed.
pub(super) fn end() -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match reap_one()? {
            Reaped::NobodyLeft => return Ok(()),
            Reaped::One(..) => continue,
            Reaped::NobodyYet if Instant::now() >= until => {
                return Err(io::Error::other(
                    "a process of the last turn survives SIGKILL",
                ));
            }
            Reaped::NobodyYet => {}
        }
        // Killing a child makes its own children ours, so another look finds them. A number cannot come to name another
        // process while it is our child, because only we reap it.
        for child in procfs::children(getpid()) {
            kill_process(child, Signal::KILL).ok();
        }
        std::thread::sleep(LOOK);
    }
}

enum Reaped {
    One(Pid, WaitStatus),
    NobodyYet,
    NobodyLeft,
}

fn reap_one() -> io::Result<Reaped> {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Ok(Reaped::One(pid, status)),
        Ok(None) | Err(Errno::INTR) => Ok(Reaped::NobodyYet),
        Err(Errno::CHILD) => Ok(Reaped::NobodyLeft),
        Err(error) => Err(error.into()),
    }
}

/// Both numbers are below 256.
fn ended(status: WaitStatus) -> Ended {
    let small = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match status.exit_status() {
        Some(code) => Ended::Code(small(code)),
        None => Ended::Signal(small(status.terminating_signal().unwrap_or_default())),
    }
}
