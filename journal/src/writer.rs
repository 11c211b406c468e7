//! The one thread that writes.
//!
//! Owns the writing connection, and what becomes of a record that cannot be written. Must not know who puts records.
//! Invariants: records are kept in the order in which they were put; all that gathered while one commit was on its way goes
//! into the next; a record is called kept after the commit that has it, never before; after an error nothing is written
//! any more, and no second sync is asked for.

pub(crate) mod checkpoints;
mod commit;
mod pending;
pub(crate) mod queue;
pub(crate) mod reserve;
pub(crate) mod shared;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use toolpool_cluster::{Done, Record, TurnId};

use crate::error::{JournalError, Trouble};
use crate::file::{Identity, Lock};
use crate::journal::Bodies;
use crate::words;
use checkpoints::Checkpoints;
use commit::Answer;
use pending::Pending;
use queue::{Job, Taken};
use reserve::Reserve;
use shared::Shared;

/// How long nobody puts anything before words are indexed.
const IDLE: Duration = Duration::from_millis(20);

type Entry = (Record, Option<Done>);

pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) shared: Arc<Shared>,
    pub(crate) bodies: Bodies,
    pub(crate) next_event: i64,
    reserve: Reserve,
    /// The reserve was given up, and not set aside again.
    is_scarce: bool,
    pending: Pending,
    /// Open prompts of which pieces are in the file.
    in_pieces: HashSet<TurnId>,
    /// There may be ended turns whose words are not indexed.
    is_behind: bool,
    checkpoints: Checkpoints,
    identity: Identity,
    /// The last thing to go.
    _lock: Lock,
}

impl Writer {
    pub(crate) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        bodies: Bodies,
        next_event: i64,
        checkpoints: Checkpoints,
        (lock, identity): (Lock, Identity),
    ) -> Self {
        let reserve = Reserve::beside(&shared.path);
        let is_scarce = reserve.set_aside().is_err();
        Self {
            connection,
            shared,
            bodies,
            next_event,
            reserve,
            is_scarce,
            pending: Pending::default(),
            in_pieces: HashSet::new(),
            is_behind: true,
            checkpoints,
            identity,
            _lock: lock,
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _guard = Guard(Arc::clone(&self.shared));
        loop {
            match self.shared.queue.take(self.until()) {
                Taken::Jobs(jobs) => self.work(jobs),
                Taken::Nothing if self.pending.is_due(Instant::now()) => self.commit(Vec::new()),
                Taken::Nothing => self.index(),
                Taken::Closed => break,
            }
        }
        self.close();
    }

    /// When there is something to do even if nobody puts anything.
    fn until(&self) -> Option<Instant> {
        let index = self.is_behind.then(|| Instant::now() + IDLE);
        self.pending.due().into_iter().chain(index).min()
    }

    /// Indexes some words. Searching does without, so having no space for it is no failure.
    fn index(&mut self) {
        if self.shared.failed().is_some() || self.is_scarce {
            self.is_behind = false;
            return;
        }
        match words::follow(&mut self.connection) {
            Ok(more) => {
                self.is_behind = more;
                self.checkpoints.committed();
            }
            Err(trouble) if trouble.is_full() => self.is_behind = false,
            Err(trouble) => drop(self.shared.fail(&trouble)),
        }
    }

    /// Something other than a record could not be written: having no space may pass, all else ends the journal's life.
    pub(crate) fn refused(&self, trouble: &Trouble) -> JournalError {
        let error = if trouble.is_full() {
            self.shared.full("the disk is full")
        } else {
            self.shared.fail(trouble)
        };
        error.into()
    }

    fn work(&mut self, jobs: Vec<Job>) {
        let now = Instant::now();
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Put(record, done) => self.take(record, done, now, &mut batch),
                Job::Call(call) => {
                    self.commit(std::mem::take(&mut batch));
                    call(self);
                }
            }
        }
        if !batch.is_empty() || self.pending.is_due(now) {
            self.commit(batch);
        }
    }

    /// Puts what is to be written now into the batch, and lets the rest wait.
    fn take(&mut self, record: Record, done: Option<Done>, now: Instant, batch: &mut Vec<Entry>) {
        match (record, done) {
            (
                Record::Output {
                    turn,
                    attempt,
                    bytes,
                },
                None,
            ) => {
                if self.bodies == Bodies::Keep {
                    self.pending.piece(turn, attempt, bytes, now);
                }
            }
            (Record::Event(event), None) => self.pending.event(event, now),
            (record @ Record::Event(_), done) => {
                // Events are kept in their order.
                let earlier = self.pending.take_events().into_iter();
                batch.extend(earlier.map(|event| (Record::Event(event), None)));
                batch.push((record, done));
            }
            (record @ (Record::Session(_) | Record::SessionClosed { .. }), None) => {
                self.pending.session(record, now);
            }
            (record, done) => {
                match &record {
                    Record::Ended {
                        reply, attempts, ..
                    } => self.pending.forget(reply.turn, *attempts),
                    Record::HandedBack { turn, attempt } => self.pending.forget(*turn, *attempt),
                    _ => {}
                }
                batch.push((record, done));
            }
        }
    }

    /// Writes what has to be and says what became of it. Whatever waits may go along.
    pub(crate) fn commit(&mut self, batch: Vec<Entry>) {
        let now = Instant::now();
        let pieces = if self.pending.is_due(now) {
            self.pending.take_pieces()
        } else {
            Vec::new()
        };
        let events = self.pending.take_events();
        let sessions = self.pending.take_sessions().into_iter();
        let batch = sessions.map(|record| (record, None)).chain(batch);
        let (records, dones): (Vec<_>, Vec<_>) = batch.unzip();
        let answers = match self.shared.failed() {
            Some(error) => Err(error.clone()),
            None => self
                .write_somehow(&records, &events, &pieces)
                .map_err(|trouble| self.shared.fail(&trouble)),
        };
        match answers {
            Ok(answers) => {
                for (done, answer) in dones.into_iter().zip(answers) {
                    let Some(done) = done else { continue };
                    done(match answer {
                        Answer::Kept => Ok(()),
                        Answer::Refused => Err(self.shared.full("the disk is full")),
                        Answer::NotOpen => {
                            Err(self.shared.full("the prompt itself is not in the journal"))
                        }
                    });
                }
            }
            Err(error) => {
                for done in dones.into_iter().flatten() {
                    done(Err(error.clone()));
                }
            }
        }
    }

    /// Writes what waits, says that the journal was closed in order, and leaves one file. After an error: nothing of that.
    fn close(mut self) {
        self.pending_now();
        if self.shared.failed().is_none() {
            let closed = self.connection.execute(
                "UPDATE openings SET closed = 1 WHERE id = (SELECT max(id) FROM openings)",
                [],
            );
            if let Err(error) = closed {
                self.shared.fail(&error.into());
            }
        }
        self.checkpoints.stop();
        if self.shared.failed().is_none() {
            let _ = self
                .connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
            // What cannot be brought in now stays in the log, where the next owner finds it.
            let _ = self.connection.close();
        }
    }

    /// Writes all that waits, whether it is time or not.
    pub(crate) fn pending_now(&mut self) {
        let (events, pieces) = (self.pending.take_events(), self.pending.take_pieces());
        let sessions = self.pending.take_sessions();
        let is_empty = events.is_empty() && pieces.is_empty() && sessions.is_empty();
        if self.shared.failed().is_some() || is_empty {
            return;
        }
        if let Err(trouble) = self.write_somehow(&sessions, &events, &pieces) {
            self.shared.fail(&trouble);
        }
    }
}

/// If the writer panics, nobody is to wait for it.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let error = self
            .0
            .fail(&Trouble::Damaged("its writer has panicked".to_owned()));
        self.0.queue.close();
        if let Taken::Jobs(jobs) = self.0.queue.take(None) {
            for job in jobs {
                if let Job::Put(_, Some(done)) = job {
                    done(Err(error.clone()));
                }
            }
        }
    }
}
