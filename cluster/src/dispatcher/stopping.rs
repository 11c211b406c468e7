//! The end of a cluster: drain, stop, and the last words.
//!
//! Owns how far a shutdown has come. Must not know why it was wished. Invariants: it ends, whatever instances and the journal do;
//! all who asked for it get the same report.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Dispatcher;
use crate::clock::now;
use crate::event::EventKind;
use crate::instance::after;
use crate::status::ShutdownReport;
use crate::turn::Order;

/// How long a journal that does not answer is waited for when nothing else is. A disk that is only slow has synced by then.
const LAST_WORD: Duration = Duration::from_secs(30);

pub(crate) struct Shutdown {
    deadline: Instant,
    /// The instances were told to stop.
    stopping: bool,
    /// When the journal is given up, once nothing but it is waited for.
    last_word: Option<Instant>,
    done: Vec<oneshot::Sender<ShutdownReport>>,
}

impl Dispatcher {
    /// When a shutdown waits no longer for what it waits for.
    pub(super) fn shutdown_deadline(&self) -> Option<Instant> {
        let shutdown = self.shutdown.as_ref()?;
        match shutdown.stopping {
            true => shutdown.last_word,
            false => Some(shutdown.deadline),
        }
    }

    pub(super) fn begin_shutdown(
        &mut self,
        now: Instant,
        deadline: Instant,
        done: Option<oneshot::Sender<ShutdownReport>>,
    ) {
        self.scheduler.drain();
        match &mut self.shutdown {
            Some(shutdown) => {
                // A second, more urgent wish counts.
                shutdown.deadline = shutdown.deadline.min(deadline);
                shutdown.done.extend(done);
            }
            None => {
                self.shutdown = Some(Shutdown {
                    deadline,
                    stopping: false,
                    last_word: None,
                    done: done.into_iter().collect(),
                });
                self.history.record(EventKind::ClusterDraining);
            }
        }
        self.advance_shutdown(now);
    }

    /// Drain first; then, when all is done or the time is up, stop all together.
    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.stopping || (now < shutdown.deadline && !self.scheduler.is_idle()) {
            return;
        }
        shutdown.stopping = true;
        self.starts.close();
        self.stop_asking(now);
        let outcome = self.end_of_queue();
        self.scheduler.end_queue(now, &outcome, &mut self.decisions);
        self.carry_out();
        for entry in &mut self.roster {
            entry.order(Order::Stop);
            entry.dismiss();
        }
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.are_all_gone() && self.is_all_told()
    }

    pub(super) fn are_all_gone(&self) -> bool {
        self.roster.iter().all(|entry| entry.gone)
    }

    /// A journal that hangs must not keep the cluster: what it has not answered for by now counts as not kept.
    pub(super) fn give_up_journal(&mut self, now: Instant) {
        let is_last = self.is_stopping() && self.are_all_gone() && !self.is_all_told();
        let Some(shutdown) = self.shutdown.as_mut().filter(|_| is_last) else {
            return;
        };
        if now >= *shutdown.last_word.get_or_insert(after(now, LAST_WORD)) {
            shutdown.last_word = None;
            self.on_journal_silent(LAST_WORD);
            self.tell_durable(now);
        }
    }

    /// The instances were told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.shutdown
            .as_ref()
            .is_some_and(|shutdown| shutdown.stopping)
    }

    pub(super) async fn finish(mut self) {
        // A prompt that was on its way while the last instance stopped is answered too.
        self.inbox.close();
        self.scheduler.drain();
        while let Some(message) = self.inbox.recv().await {
            self.on_message(now(), message);
            self.carry_out();
        }
        self.close_keys();
        // A disk that hangs or fails is left alone.
        let sessions = self.sessions.take();
        if let Some(sessions) = sessions.filter(|_| self.journal_failure().is_none()) {
            sessions.sweep().await;
        }
        self.history.record(EventKind::ClusterStopped);
        let report = ShutdownReport {
            books: self.books(),
            kept: self.kept,
        };
        for done in self.shutdown.into_iter().flat_map(|shutdown| shutdown.done) {
            done.send(report.clone()).ok();
        }
    }
}
