//! A journal that gets its records late, when a case says so.
//!
//! Owns the records that are held back. Must not know why. Invariant: the journal gets every record, in the order in which
//! they were put.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use toolpool::{Accepted, Done, Known, Record, Store, StoreError, TurnId};

use crate::abort::kind;

/// The journal. Clones are the same one.
pub(crate) struct Dam<S>(Arc<Inner<S>>);

struct Inner<S> {
    journal: S,
    state: Mutex<State>,
    /// The first record was held back.
    holds: Notify,
}

#[derive(Default)]
struct State {
    /// The kind of record that is held back, with everything after it.
    from: Option<&'static str>,
    held: Vec<(Record, Option<Done>)>,
}

impl<S> Clone for Dam<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> Dam<S> {
    pub(crate) fn before(journal: S) -> Self {
        Self(Arc::new(Inner {
            journal,
            state: Mutex::default(),
            holds: Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds back the next record of that kind, and everything after it.
    pub(crate) fn shut(&self, from: &'static str) {
        self.lock().from = Some(from);
    }

    /// Waits until it is there, and says whose it is.
    pub(crate) async fn until_it_holds(&self) -> u64 {
        loop {
            let held = self.lock().held.first().map(|(record, _)| kind(record).1);
            match held {
                Some(turn) => return turn,
                None => self.0.holds.notified().await,
            }
        }
    }

    /// Lets everything pass.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.from = None;
        for (record, done) in state.held.drain(..) {
            self.0.journal.put(record, done);
        }
    }
}

impl<S: Store> Store for Dam<S> {
    fn next_turn(&self) -> TurnId {
        self.0.journal.next_turn()
    }

    fn put(&self, record: Record, done: Option<Done>) {
        let mut state = self.lock();
        if state.held.is_empty() && state.from != Some(kind(&record).0) {
            return self.0.journal.put(record, done);
        }
        state.held.push((record, done));
        self.0.holds.notify_one();
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        self.0.journal.find(key)
    }

    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        self.0.journal.queued(cluster)
    }
}
