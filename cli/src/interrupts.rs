//! Ctrl-C and the signals that end programs.
//!
//! Owns their count. Must not know what is interrupted. Invariant: the third one always ends the program at once; the
//! tools then die with it.

use rustix::process::{Pid, kill_process_group};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// Kills every tool with its whole process group: each child of this program leads one. Leaving without this would end
/// the tools alone, and not what they have started.
fn kill_tools() {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    for thread in threads {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for group in children
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        {
            // One that has gone meanwhile is no error.
            kill_process_group(group, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Signals as they come.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    count: u32,
    exit: Exit,
}

impl Interrupts {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            count: 0,
            exit: Exit::Interrupted,
        })
    }

    /// Waits for the next signal and says how many there have been. A request to terminate counts as two: it does not
    /// wait for anything that runs.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> u32 {
        tokio::select! {
            _ = self.interrupt.recv() => self.count += 1,
            _ = self.terminate.recv() => self.terminated(),
            _ = self.hang_up.recv() => self.terminated(),
        }
        if self.count > 2 {
            kill_tools();
            std::process::exit(self.exit.code().into());
        }
        self.count
    }

    fn terminated(&mut self) {
        self.count = self.count.max(1) + 1;
        self.exit = Exit::Terminated;
    }

    /// Whether there has been any, and then how the program is to end.
    pub(crate) fn exit(&self) -> Option<Exit> {
        (self.count > 0).then_some(self.exit)
    }
}
