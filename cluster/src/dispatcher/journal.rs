//! The dispatcher's way to the journal, and what waits for it.
//!
//! Owns the line of facts whose records are not durable yet. Must not know how records are kept, nor what a fact is for:
//! facts come about in [`super::recording`] and are told in [`super::telling`]. Invariants: nobody hears that a prompt is
//! accepted, no instance is given it, and nobody hears its end before the record of that is durable; with no journal nothing
//! waits.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use toolpool_pool_core::prompt::TurnId;

use super::Dispatcher;
use super::keys::{Found, Keyed};
use crate::durable::{Line, Point};
use crate::event::EventKind;
use crate::reply::Acceptance;
use crate::scheduler::Books;
use crate::store::{Done, Record, Store, StoreError};
use crate::turn::Turn;

/// What the store has said.
pub(crate) enum Answered {
    /// What became of the record of that number.
    Record(u64, Result<(), StoreError>),
    /// What is known of a key.
    Key(String, Found),
    /// An answer to a tool of that instance is kept, or cannot be.
    Permission(Arc<str>, Result<(), StoreError>),
}

/// The way to the store, and all that waits for it.
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn Store>,
    pub(super) line: Line<Fact>,
    /// As many answers can wait here as facts are in the line, of which each open turn has a few at most, and one for each
    /// key that is looked up.
    answers: mpsc::UnboundedSender<Answered>,
    /// The keys of open prompts, and those that are looked up.
    pub(super) keys: HashMap<String, Keyed>,
    /// Ends that the scheduler knows and nobody else yet.
    pub(super) untold: Books,
    /// Nothing that it says counts any more. Whoever asks when the dispatcher has gone hears of it too.
    pub(super) failed: Arc<OnceLock<StoreError>>,
}

/// What is told or done when its record is durable.
pub(super) enum Fact {
    /// It only has its place behind others.
    Event(EventKind),
    Accepted {
        turn: TurnId,
        acceptance: Acceptance,
        key: Option<String>,
        event: EventKind,
    },
    Departs {
        turn: Box<Turn>,
        instance: usize,
        generation: u64,
        event: EventKind,
    },
    HandedBack(EventKind),
    Ended {
        turn: Box<Turn>,
        queue: usize,
        ready: bool,
    },
}

impl Journal {
    pub(crate) fn new(store: Arc<dyn Store>) -> (Self, mpsc::UnboundedReceiver<Answered>) {
        let (answers, heard) = mpsc::unbounded_channel();
        let journal = Self {
            store,
            line: Line::default(),
            answers,
            keys: HashMap::new(),
            untold: Books::default(),
            failed: Arc::default(),
        };
        (journal, heard)
    }

    /// Puts an event behind the facts that wait, if there are any; gives it back if it can be told at once.
    pub(crate) fn line_up(&mut self, event: EventKind) -> Option<EventKind> {
        if self.line.is_empty() {
            return Some(event);
        }
        self.line.push(Fact::Event(event));
        None
    }

    /// Keeps an event, if no other record says the same.
    pub(crate) fn keep(&self, event: &crate::event::Event) {
        let is_of_a_turn = matches!(
            event.kind,
            EventKind::PromptAccepted { .. }
                | EventKind::TurnStarted { .. }
                | EventKind::TurnHandedBack { .. }
                | EventKind::TurnEnded { .. }
        );
        if is_of_a_turn || self.failed.get().is_some() {
            return;
        }
        let done = match &event.kind {
            EventKind::PermissionAnswered { instance, .. } => Some(self.await_answer(instance)),
            _ => None,
        };
        self.store.put(Record::Event(event.clone()), done);
    }

    /// An answer lets a tool act, so it is durable before the tool has it.
    fn await_answer(&self, instance: &Arc<str>) -> Done {
        let (answers, instance) = (self.answers.clone(), Arc::clone(instance));
        Box::new(move |result| {
            // A dispatcher that has gone has no tool to answer.
            answers.send(Answered::Permission(instance, result)).ok();
        })
    }

    pub(super) fn put(&mut self, record: Record, point: Point, fact: Fact) {
        let number = self.line.wait(point, fact);
        if let Some(error) = self.failed.get() {
            return self.line.settle(number, Err(error.clone()));
        }
        let answer = Answer {
            number,
            to: Some(self.answers.clone()),
        };
        self.store
            .put(record, Some(Box::new(|result| answer.give(result))));
    }

    pub(super) fn answers(&self) -> mpsc::UnboundedSender<Answered> {
        self.answers.clone()
    }

    /// Where it stands why the journal has failed, once it has.
    pub(crate) fn failure(&self) -> Arc<OnceLock<StoreError>> {
        Arc::clone(&self.failed)
    }

    fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}

/// Answers for a record even if the store forgets to.
struct Answer {
    number: u64,
    to: Option<mpsc::UnboundedSender<Answered>>,
}

impl Answer {
    fn give(mut self, result: Result<(), StoreError>) {
        self.send(result);
    }

    fn send(&mut self, result: Result<(), StoreError>) {
        if let Some(to) = self.to.take() {
            // A dispatcher that has gone waits for nothing.
            to.send(Answered::Record(self.number, result)).ok();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.send(Err(StoreError::Failed {
            path: "the journal".to_owned(),
            detail: "it let go of a record without a word".to_owned(),
        }));
    }
}

impl Dispatcher {
    /// The account of all prompts. What has an end that is not durable yet counts as running.
    pub(super) fn books(&self) -> Books {
        let books = self.scheduler.books();
        let Some(journal) = &self.history.journal else {
            return books;
        };
        let untold = &journal.untold;
        let all = untold.completed
            + untold.failed
            + untold.cancelled
            + untold.expired
            + untold.indeterminate;
        Books {
            completed: books.completed - untold.completed,
            failed: books.failed - untold.failed,
            cancelled: books.cancelled - untold.cancelled,
            expired: books.expired - untold.expired,
            indeterminate: books.indeterminate - untold.indeterminate,
            running: books.running + all,
            ..books
        }
    }

    /// Why nothing can be accepted any more, if that is so.
    pub(super) fn journal_failure(&self) -> Option<&StoreError> {
        self.history.journal.as_ref()?.failed.get()
    }

    /// Nothing waits for the journal.
    pub(super) fn is_all_told(&self) -> bool {
        self.history.journal.as_ref().is_none_or(Journal::is_empty)
    }
}
