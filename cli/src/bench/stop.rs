//! The end of a benchmark before its end.
//!
//! Owns the thread that hears signals, since a measurement has a runtime of its own or none. Must not know what is measured.
//! Invariant: after the first signal the measurement at hand stops what it has started; the second ends the program at
//! once, and the keepers kill the stand-ins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::console::{Console, Tone};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;

/// Whether to stop. Clones ask the same.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error once there was a signal.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Runs a measurement, and hears signals meanwhile.
pub(super) fn or_stop<T>(measure: impl FnOnce(&Stop) -> Result<T>) -> Result<T, CliError> {
    let failed =
        |error: anyhow::Error| CliError::new(Exit::TurnFailed, "bench", format!("{error:#}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.into()))?;
    let mut interrupts = {
        let _entered = runtime.enter();
        Interrupts::listen()?
    };
    let heard = interrupts.clone();
    let stop = Stop::default();
    let told = stop.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            while interrupts.next().await < 2 {
                told.0.store(true, Ordering::Relaxed);
                Console::new(false).tell(
                    Tone::Note,
                    "stopping this measurement; Ctrl-C again to leave the rest to the keepers",
                );
            }
            let exit = interrupts.exit().unwrap_or(Exit::Interrupted);
            std::process::exit(exit.code().into());
        });
    });
    measure(&stop).map_err(|error| match heard.exit() {
        Some(_) => heard.error(),
        None => failed(error),
    })
}
