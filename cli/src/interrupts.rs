//! Ctrl-C and the signals that end programs.
//!
//! Owns their count. Must not know what is interrupted. Invariant: the third one always ends the program at once;
//! the keepers of the tools then end them and all that they have started.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

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
