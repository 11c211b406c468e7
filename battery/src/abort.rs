//! A journal whose owner dies at a point that was chosen.
//!
//! Owns the names of the points: five around each kind of record. Must not know what follows from dying there. Invariant:
//! a record of a kind that is not named here ends the program, so that the list is seen to be short of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use toolpool::{Accepted, Done, Known, Record, Store, StoreError, TurnId};

/// The kinds of records that are waited for.
pub(crate) const AWAITED: [&str; 4] = ["accepted", "dispatching", "handed_back", "ended"];

/// Those that are not.
pub(crate) const BESIDE: [&str; 2] = ["event", "output"];

/// A moment in the life of a record. `durable` and `answered` are of those alone that are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Nothing of it was given to the store.
    BeforePut,
    /// The store never gets it, and the program lives on for a moment in which nobody may act on it.
    Withheld,
    /// The store has it, and may have written it.
    AfterPut,
    /// It is durable, and nobody was told.
    Durable,
    /// Whoever waited for it was told.
    Answered,
}

/// Long enough for whoever does not wait for a record to be seen.
const MOMENT: Duration = Duration::from_millis(200);

/// Where to die.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// At a record of that kind.
    pub(crate) kind: String,
    pub(crate) step: Step,
    /// At the how many-th of that kind, from 1.
    pub(crate) nth: u32,
}

/// The journal.
pub(crate) struct Abort<S> {
    inner: S,
    point: Point,
    seen: AtomicU32,
    /// Where the turn of the record is left.
    note: Arc<PathBuf>,
}

impl<S> Abort<S> {
    pub(crate) fn new(inner: S, point: Point, note: PathBuf) -> Self {
        Self {
            inner,
            point,
            seen: AtomicU32::new(0),
            note: Arc::new(note),
        }
    }
}

/// The kind of a record, and its turn; 0 if it is of none.
pub(crate) fn kind(record: &Record) -> (&'static str, u64) {
    match record {
        Record::Accepted(accepted) => ("accepted", accepted.turn.0),
        Record::Dispatching(dispatching) => ("dispatching", dispatching.turn.0),
        Record::HandedBack { turn, .. } => ("handed_back", turn.0),
        Record::Ended { reply, .. } => ("ended", reply.turn.0),
        Record::Output { turn, .. } => ("output", turn.0),
        Record::Event(_) => ("event", 0),
        other => {
            eprintln!("nobody knows where to die at {other:?}");
            std::process::abort();
        }
    }
}

/// Dies as with `kill -9`.
fn die(note: &PathBuf, turn: u64) {
    std::fs::write(note, turn.to_string()).ok();
    kill_process(getpid(), Signal::KILL).ok();
    // The signal ends this thread, too, before it gets any further.
    loop {
        std::thread::park();
    }
}

impl<S: Store> Store for Abort<S> {
    fn next_turn(&self) -> TurnId {
        self.inner.next_turn()
    }

    fn put(&self, record: Record, done: Option<Done>) {
        let (kind, turn) = kind(&record);
        let is_it = kind == self.point.kind
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.point.nth;
        if !is_it {
            return self.inner.put(record, done);
        }
        if self.point.step == Step::BeforePut {
            die(&self.note, turn);
        }
        let note = Arc::clone(&self.note);
        if self.point.step == Step::Withheld {
            std::thread::spawn(move || {
                std::thread::sleep(MOMENT);
                die(&note, turn);
                // Never reached, and so nobody is told that the record was let go of.
                drop((record, done));
            });
            return;
        }
        let step = self.point.step;
        let done = done.map(|done| -> Done {
            Box::new(move |result| {
                if step == Step::Durable {
                    die(&note, turn);
                }
                done(result);
                if step == Step::Answered {
                    die(&note, turn);
                }
            })
        });
        self.inner.put(record, done);
        if self.point.step == Step::AfterPut {
            die(&self.note, turn);
        }
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        self.inner.find(key)
    }

    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        self.inner.queued(cluster)
    }
}
