//! The handle: opening a journal, and what a cluster asks of it.
//!
//! Owns [`Journal`]. Must not know rows. Invariant: there is one owner of a file at a time, and its last handle closes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use toolpool_cluster::{
    Accepted, Conversing, Done, Known, Prompt, Record, Said, Store, StoreError, TurnId,
};

use crate::error::{JournalError, Trouble};
use crate::file::{self, Identity, Lock};
use crate::recovery::{self, Recovered};
use crate::retention::Opened;
use crate::writer::Writer;
use crate::writer::checkpoints::Checkpoints;
use crate::writer::queue::Job;
use crate::writer::shared::Shared;
use crate::{integrity, log, openings, record, schema, seal, sessions, stamp};

/// What is kept of prompts and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// Their texts.
    #[default]
    Keep,
    /// Only their length and hash: no text reaches the disk. Where a text would be told, `sha256:` and its hash in
    /// hexadecimal digits stand for it. What was queued when its owner died cannot be run again, and what had come of a
    /// reply is not known.
    ///
    /// What a tool says of a failure, and the questions that it asks, are kept all the same: they are the story, not bodies.
    Hash,
}

/// How a journal is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    bodies: Bodies,
}

impl Options {
    /// What is kept of prompts and replies from now on.
    #[must_use]
    pub fn bodies(mut self, bodies: Bodies) -> Self {
        self.bodies = bodies;
        self
    }

    /// Opens the journal; see [`Journal::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, JournalError> {
        open(path.as_ref(), self.bodies)
    }
}

/// A journal, and the right to write it. Cheap to clone.
///
/// The last handle that goes writes what waits and closes the file, which takes a moment: 30 seconds at most. Then a disk
/// that hangs is left to a thread of its own, and the next opening finds what that has written.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    recovered: Recovered,
    opened: Opened,
    /// For what a cluster asks while the writer is at work.
    reader: Mutex<Option<Connection>>,
    writer: Option<JoinHandle<()>>,
    /// Hears of the writer's end.
    ended: Mutex<Receiver<()>>,
    patience: Duration,
}

/// How long a writer is waited for that does not answer, as on a disk that hangs. One that is only slow has synced by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same if it was waited for already.
const NO_PATIENCE: Duration = Duration::from_secs(1);

impl Journal {
    /// Opens a journal, or makes one, and settles what its last owner left open, all of it before it returns: prompts that
    /// were never given to a tool stay queued, those that were end as indeterminate. Blocks for as long as that takes.
    ///
    /// The file and those beside it (`-wal`, `-shm`, `.lock`, `.reserve`) can be read by their user alone.
    ///
    /// # Errors
    /// If another process owns it, if it is no journal or one of a later version, if it is damaged, or if the system
    /// refuses something.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::options().open(path)
    }

    /// For opening it otherwise than usual.
    pub fn options() -> Options {
        Options::default()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.shared.path
    }

    /// What opening it found of earlier owners.
    pub fn recovered(&self) -> &Recovered {
        &self.0.recovered
    }

    pub(crate) fn opened(&self) -> Opened {
        self.0.opened
    }

    /// Waits until everything that was put is in the file. Blocks, for 30 seconds at most.
    ///
    /// # Errors
    /// If the journal has failed, or does not answer: then it counts as failed.
    pub fn flush(&self) -> Result<(), JournalError> {
        let heard = self.tell_writer(|writer| {
            writer.pending_now();
            Ok(())
        })?;
        match heard.recv_timeout(self.0.patience) {
            Ok(flushed) => flushed,
            Err(RecvTimeoutError::Disconnected) => Err(self.gone().into()),
            Err(RecvTimeoutError::Timeout) => {
                let waited = self.0.patience;
                let detail = format!("it has not answered for {waited:?}, as on a disk that hangs");
                Err(self.0.shared.fail_for(detail).into())
            }
        }
    }

    /// The prompts with that label `batch`, in the order of their numbers, and what is known of each.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn of_batch(&self, batch: &str) -> Result<Vec<Known>, StoreError> {
        self.read(|connection| {
            let mut select = connection
                .prepare_cached("SELECT turn FROM prompts WHERE batch = ?1 ORDER BY turn")?;
            let turns = select.query_map([batch], |row| Ok(record::turn(row.get(0)?)))?;
            turns.map(|turn| known(connection, turn?)).collect()
        })
    }

    /// Runs something between records, where they are written, and waits for it.
    pub(crate) fn on_writer<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Writer) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let heard = self.tell_writer(call)?;
        heard.recv().unwrap_or_else(|_| Err(self.gone().into()))
    }

    /// Puts something between records, and gives the place where its end is heard of.
    fn tell_writer<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Writer) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<Receiver<Result<T, JournalError>>, JournalError> {
        let (answer, heard) = mpsc::channel();
        let call = move |writer: &mut Writer| {
            let result = match writer.shared.failed() {
                Some(error) => Err(error.clone().into()),
                None => call(writer),
            };
            let result = match writer.shared.failed() {
                Some(error) => Err(error.clone().into()),
                None => result,
            };
            let _ = answer.send(result);
        };
        let queue = &self.0.shared.queue;
        match queue.push(Job::Call(Box::new(call))) {
            Ok(()) => Ok(heard),
            Err(_) => Err(self.gone().into()),
        }
    }

    /// What is said if the writer has panicked.
    fn gone(&self) -> StoreError {
        let gone = Trouble::Damaged("its writer is gone".to_owned());
        self.0.shared.fail(&gone)
    }

    /// Reads at one point of time.
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.0.shared.failed() {
            return Err(error.clone());
        }
        let failed = |trouble: Trouble| StoreError::Failed {
            path: self.path().display().to_string(),
            detail: trouble.to_string(),
        };
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader
            .as_ref()
            .expect("it is taken when the last handle goes");
        let all_at_once = reader.unchecked_transaction().map_err(Trouble::from);
        let all_at_once = all_at_once.map_err(failed)?;
        read(&all_at_once).map_err(failed)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Journal").field(&self.path()).finish()
    }
}

fn open(path: &Path, bodies: Bodies) -> Result<Journal, JournalError> {
    let path = file::place(path)?;
    file::see_that_it_is_local(&path)?;
    // Beside what is no journal not even a lock is made. Who owns it may be making it, so it is looked at again.
    file::is_a_journal(&path)?;
    let lock = Lock::take(&path)?;
    // What is something else is refused before it is touched.
    file::is_a_journal(&path)?;
    log::is_whole(&path)?;
    file::make_private(&path)?;
    let at = |action| {
        let path = path.clone();
        move |trouble: Trouble| trouble.at(&path, action)
    };

    let mut connection = file::writer(&path)?;
    let found = schema::format(&connection).map_err(at("read its format"))?;
    file::see_format(&path, found)?;
    if found > 0 {
        integrity::before_writing(&connection, &path).map_err(at("look at it"))?;
    }
    file::prepare(&connection).map_err(at("make it ready"))?;
    // Before anything is in the log that somebody was told.
    file::sync_names(&path)?;
    schema::migrate(&mut connection, schema::FORMAT).map_err(at("bring its format up to date"))?;

    let (recovered, highest, next_event) =
        take_over(&mut connection).map_err(at("settle what was open"))?;
    let shared = Arc::new(Shared::new(path.clone(), highest));
    let beside = file::writer(&path)?;
    let reader = file::reader(&path)?;
    let identity = Identity::of(&path).map_err(file::refused(&path, "look at it"))?;
    let thread = file::refused(&path, "start a thread for it");
    let checkpoints = Checkpoints::start(beside, Arc::clone(&shared)).map_err(thread)?;
    let writer = Writer::new(
        connection,
        Arc::clone(&shared),
        bodies,
        next_event,
        checkpoints,
        (lock, identity),
    );
    let thread = file::refused(&path, "start a thread for it");
    let (ends, ended) = mpsc::channel();
    let writer = thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            // It is dropped when the writer has ended, however that comes.
            let _ends: mpsc::Sender<()> = ends;
            writer.run();
        })
        .map_err(thread)?;
    Ok(Journal(Arc::new(Inner {
        shared,
        recovered,
        opened: Opened::now(),
        reader: Mutex::new(Some(reader)),
        writer: Some(writer),
        ended: Mutex::new(ended),
        patience: PATIENCE,
    })))
}

/// Settles what was open and notes the new owner, in one transaction. Gives the highest turn and the next event as well.
fn take_over(connection: &mut Connection) -> Result<(Recovered, u64, i64), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = stamp::of_time(SystemTime::now());
    let mut recovered = recovery::recover(&transaction, now)?;
    recovered.closed_in_order = openings::is_closed(&transaction)?.unwrap_or(true);
    let highest: i64 = transaction.query_row(
        "SELECT max((SELECT last FROM numbers WHERE name = 'turn'), (SELECT coalesce(max(turn), 0) FROM prompts))",
        [],
        |row| row.get(0),
    )?;
    let last_event: i64 = transaction.query_row(
        "SELECT max((SELECT last FROM numbers WHERE name = 'event'), (SELECT coalesce(max(id), 0) FROM events))",
        [],
        |row| row.get(0),
    )?;
    openings::write(&transaction, now, last_event + 1)?;
    transaction.commit()?;
    Ok((recovered, highest.cast_unsigned(), last_event + 1))
}

impl Store for Journal {
    fn next_turn(&self) -> TurnId {
        TurnId(self.0.shared.highest.load(Ordering::Relaxed) + 1)
    }

    fn put(&self, record: Record, done: Option<Done>) {
        self.0.shared.note(&record);
        let back = self.0.shared.queue.push(Job::Put(record, done));
        if let Err(Some(done)) = back {
            done(Err(self.gone()));
        }
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT turn FROM prompts WHERE key = ?1 ORDER BY turn DESC LIMIT 1",
            )?;
            let turn = select.query_row([key], |row| row.get(0)).optional()?;
            let Some(turn) = turn.map(record::turn) else {
                return Ok(None);
            };
            known(connection, turn).map(Some)
        })
    }

    fn is_same(&self, recorded: &Prompt, asked: &Prompt) -> bool {
        if recorded == asked {
            return true;
        }
        // Of a text that was not kept, its hash is there to be compared.
        let asked = Prompt {
            text: record::not_kept(&seal::sha256(asked.text.as_bytes())),
            ..asked.clone()
        };
        *recorded == asked
    }

    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        self.read(|connection| {
            let mut queued = Vec::new();
            for turn in record::read_open(connection)? {
                // Whose it is says the row whose seal was checked.
                let accepted = record::read_accepted(connection, turn)?;
                // A text that was not kept cannot be given to a tool.
                let is_kept = record::read_is_kept(connection, turn)?;
                if *accepted.cluster == *cluster && is_kept && !is_with_a_tool(connection, turn)? {
                    queued.push(accepted);
                }
            }
            Ok(queued)
        })
    }

    fn sessions(&self, cluster: &str) -> Result<Vec<Conversing>, StoreError> {
        self.read(|connection| sessions::read(connection, cluster))
    }

    fn said(
        &self,
        cluster: &str,
        session: &str,
        since: TurnId,
        max_bytes: usize,
    ) -> Result<Vec<Said>, StoreError> {
        self.read(|connection| sessions::said(connection, cluster, session, since, max_bytes))
    }

    fn folders(&self) -> Option<PathBuf> {
        let mut folders = self.path().to_owned().into_os_string();
        folders.push(".sessions");
        Some(folders.into())
    }
}

fn known(connection: &Connection, turn: TurnId) -> Result<Known, Trouble> {
    let accepted = Box::new(record::read_accepted(connection, turn)?);
    if let Some((mut reply, _)) = record::read_ended(connection, turn)? {
        if let Some(outcome) = record::read_settled(connection, turn)? {
            reply.outcome = outcome;
        }
        return Ok(Known::Ended(accepted, Box::new(reply)));
    }
    let is_running = is_with_a_tool(connection, turn)?;
    Ok(if is_running {
        Known::Running(accepted)
    } else {
        Known::Queued(accepted)
    })
}

/// Whether a tool may have read something of an open prompt.
fn is_with_a_tool(connection: &Connection, turn: TurnId) -> Result<bool, Trouble> {
    let attempts = record::read_attempts(connection, turn)?;
    Ok(record::in_doubt(&attempts).is_some())
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer's connection is to be the last one: it takes the log away.
        drop(
            self.reader
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.shared.queue.close();
        if let Some(writer) = self.writer.take()
            // The last handle may have been in what a record's `done` held, and then this is the writer.
            && writer.thread().id() != thread::current().id()
        {
            let patience = match self.shared.failed() {
                Some(_) => self.patience.min(NO_PATIENCE),
                None => self.patience,
            };
            let ended = self.ended.get_mut();
            let ended = ended.unwrap_or_else(PoisonError::into_inner);
            if ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                let _ = writer.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_hangs_is_waited_for_no_longer_than_that_and_then_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path().join("books.db")).expect("a new one");
        let inner = Arc::get_mut(&mut journal.0).expect("the only handle");
        inner.patience = Duration::from_millis(10);
        let (stuck, is_stuck) = mpsc::channel();
        let (goes_on, hangs) = mpsc::channel::<()>();
        let record = Record::SessionClosed {
            cluster: Arc::from("main"),
            session: "chat".to_owned(),
        };
        let done: Done = Box::new(move |_| {
            stuck.send(()).expect("the test waits");
            hangs.recv().ok();
        });
        journal.put(record, Some(done));
        is_stuck.recv().expect("it is written");
        let error = journal.flush().expect_err("nobody answers").to_string();
        assert!(error.contains("it has not answered for 10ms"), "{error}");
        drop(journal);
        drop(goes_on);
    }
}
