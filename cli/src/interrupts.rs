//! Ctrl-C and the signals that end programs.
//!
//! Owns their count. Must not know what is interrupted. Invariant: the third one ends the program at once, whatever it is
//! doing; the keepers of the tools then end them and all that they have started.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::CliError;
use crate::exit::Exit;
use crate::inherited;

/// Signals as they come. Clones hear them all.
#[derive(Clone)]
pub(crate) struct Interrupts(watch::Receiver<Count>);

#[derive(Clone, Copy, Default)]
struct Count {
    signals: u32,
    /// How the program is to end.
    exit: Option<Exit>,
}

impl Interrupts {
    /// Listens from now on. What whoever started the program made it ignore stays ignored, but for SIGTERM.
    ///
    /// # Errors
    /// If the signals cannot be caught.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut interrupt = unless_ignored(SignalKind::interrupt())?;
        let mut hang_up = unless_ignored(SignalKind::hangup())?;
        let mut terminate = Some(signal(SignalKind::terminate())?);
        let (count, counted) = watch::channel(Count::default());
        tokio::spawn(async move {
            loop {
                let exit = tokio::select! {
                    () = next(&mut interrupt) => Exit::Interrupted,
                    () = next(&mut terminate) => Exit::Terminated,
                    () = next(&mut hang_up) => Exit::Terminated,
                };
                count.send_modify(|count| {
                    count.signals += 1;
                    if count.exit != Some(Exit::Terminated) {
                        count.exit = Some(exit);
                    }
                });
                if count.borrow().signals > 2 {
                    std::process::exit(exit.code().into());
                }
            }
        });
        Ok(Self(counted))
    }

    /// Waits until there are more signals than at the last time, and says how many there have been: two at once if they
    /// came that fast.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> u32 {
        if self.0.changed().await.is_err() {
            // Whoever counts lives as long as the program.
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().signals
    }

    /// How many there have been.
    pub(crate) fn count(&self) -> u32 {
        self.0.borrow().signals
    }

    /// Whether there has been any, and then how the program is to end.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.0.borrow().exit
    }

    /// What an interrupted command ends with.
    pub(crate) fn error(&self) -> CliError {
        CliError::interrupted(self.exit().unwrap_or(Exit::Interrupted))
    }
}

fn unless_ignored(kind: SignalKind) -> std::io::Result<Option<Signal>> {
    if inherited::ignores(kind.as_raw_value()) {
        return Ok(None);
    }
    signal(kind).map(Some)
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
