//! Brings what is in the log into the main file, beside the commits.
//!
//! Owns the thread that does it, on a connection of its own. Must not know records. Invariant: the log is brought in whenever
//! something was committed, and an error of doing so is an error of the journal: the log is trusted only as long as the
//! system says that it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::shared::Shared;
use crate::error::Trouble;

/// How long commits gather before their pages are brought in together.
const GATHER: Duration = Duration::from_millis(250);

/// Pages in the log (32 MiB) from which on the writer itself finishes it: beside its commits nobody could, and it would grow.
const LONG: i64 = 8192;

pub(crate) struct Checkpoints {
    wake: SyncSender<()>,
    /// Dropped to stop.
    stop: Sender<()>,
    thread: JoinHandle<()>,
    is_long: Arc<AtomicBool>,
}

impl Checkpoints {
    /// Begins for a journal, which it ends if the system refuses something.
    pub(crate) fn start(connection: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let (stop, stopped) = mpsc::channel();
        let is_long = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_long);
        let thread = std::thread::Builder::new()
            .name("journal-log".to_owned())
            .spawn(move || {
                if let Err(trouble) = run(&connection, &shared, &woken, &stopped, &flag) {
                    shared.fail(&trouble);
                }
            })?;
        Ok(Self {
            wake,
            stop,
            thread,
            is_long,
        })
    }

    /// Something was committed.
    pub(crate) fn committed(&self) {
        // If it was not taken yet, one wake is enough for both.
        let _ = self.wake.try_send(());
    }

    /// Whether the log has become so long that the writer should finish it.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn stop(self) {
        drop((self.wake, self.stop));
        // A thread that panicked has nothing open that matters.
        let _ = self.thread.join();
    }
}

fn run(
    connection: &Connection,
    shared: &Shared,
    woken: &Receiver<()>,
    stopped: &Receiver<()>,
    is_long: &AtomicBool,
) -> Result<(), Trouble> {
    while woken.recv().is_ok() {
        if stopped.recv_timeout(GATHER) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
        // After a sync that failed, another one may succeed and mean nothing.
        if shared.failed().is_some() {
            break;
        }
        let pages = checkpoint(connection)?;
        is_long.store(pages >= LONG, Ordering::Relaxed);
    }
    Ok(())
}

/// Brings in what can be brought in without waiting for anybody, and says how many pages the log has.
pub(crate) fn checkpoint(connection: &Connection) -> Result<i64, Trouble> {
    let pages = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1));
    match pages {
        Ok(pages) => Ok(pages),
        // Somebody else is at it, or there is no space now: it stays in the log, which is as good.
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
            ) =>
        {
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}
