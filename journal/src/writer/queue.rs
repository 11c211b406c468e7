//! What the writer has to do, in order.
//!
//! Owns the queue between those who put records and the one thread that writes them. Must not know what is in them.
//! Invariant: nothing that was put is lost or overtaken; who puts never waits for the writer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use toolpool_cluster::{Done, Record};

use super::Writer;

/// One thing to do.
pub(crate) enum Job {
    /// To keep a record, and to say so.
    Put(Record, Option<Done>),
    /// To do something else with the file, between records.
    Call(Box<dyn FnOnce(&mut Writer) + Send>),
}

/// What there is to do now.
pub(crate) enum Taken {
    /// All of this.
    Jobs(Vec<Job>),
    /// Nothing before the time was up.
    Nothing,
    /// Nothing ever again.
    Closed,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    closed: bool,
    /// The writer sleeps: only then is waking it worth a call of the system.
    waiting: bool,
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    woken: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so a poisoned lock still holds whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something to do; if the writer is gone, gives back who waits for it.
    pub(crate) fn push(&self, job: Job) -> Result<(), Option<Done>> {
        let mut state = self.lock();
        if state.closed {
            return Err(match job {
                Job::Put(_, done) => done,
                Job::Call(_) => None,
            });
        }
        state.jobs.push(job);
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.woken.notify_one();
        }
        Ok(())
    }

    /// Nothing is added any more; what is there is still done.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting = false;
        drop(state);
        self.woken.notify_one();
    }

    /// All there is to do; waits for it, at most until then.
    pub(crate) fn take(&self, until: Option<Instant>) -> Taken {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                state.waiting = false;
                return Taken::Jobs(std::mem::take(&mut state.jobs));
            }
            if state.closed {
                return Taken::Closed;
            }
            state.waiting = true;
            match until {
                None => {
                    state = self
                        .woken
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.waiting = false;
                        return Taken::Nothing;
                    }
                    (state, _) = self
                        .woken
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
