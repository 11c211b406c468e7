//! What the dispatcher tells the journal, and what it does when the journal has it.
//!
//! Owns the records of turns and the facts that wait for them. Must not know how records are kept. Invariants: nobody hears
//! that a prompt is accepted, no instance is given it, and nobody hears its end before the record of that is durable; with no
//! journal nothing waits.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::Dispatcher;
use super::keys::{Found, Keyed};
use crate::durable::{Line, Point};
use crate::error::SubmitError;
use crate::event::EventKind;
use crate::instance::after;
use crate::reply::{Acceptance, End};
use crate::scheduler::Books;
use crate::store::{Accepted, Dispatching, Done, Record, Store, StoreError};
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
    line: Line<Fact>,
    /// As many answers can wait here as facts are in the line, of which each open turn has a few at most, and one for each
    /// key that is looked up.
    answers: mpsc::UnboundedSender<Answered>,
    /// The keys of open prompts, and those that are looked up.
    pub(super) keys: HashMap<String, Keyed>,
    /// Ends that the scheduler knows and nobody else yet.
    untold: Books,
    /// Nothing that it says counts any more. Whoever asks when the dispatcher has gone hears of it too.
    failed: Arc<OnceLock<StoreError>>,
}

/// What is told or done when its record is durable.
enum Fact {
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

    fn put(&mut self, record: Record, point: Point, fact: Fact) {
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
    /// A prompt was admitted: its caller hears so when the journal has it. It is routed meanwhile.
    pub(super) fn on_admitted(&mut self, turn: Box<Turn>) {
        let id = turn.id;
        let event = EventKind::PromptAccepted {
            turn: id,
            bytes: turn.ticket.bytes,
            queued: self.scheduler.queue_len(),
        };
        self.open_key(&turn, turn.is_kept);
        match &mut self.history.journal {
            Some(journal) if !turn.is_kept => {
                let mut record = accepted(&turn, &self.facts.cluster);
                // A later cluster may have other tools, and what is a message to one is a command to another.
                let only = self.facts.groups.only_tool_of(turn.ticket.groups);
                record.tool = record.tool.or(only.map(ToString::to_string));
                let fact = Fact::Accepted {
                    turn: id,
                    acceptance: turn.writer.acceptance(),
                    key: turn.key.clone(),
                    event,
                };
                journal.put(Record::Accepted(Box::new(record)), Point::Accept, fact);
            }
            _ => {
                turn.writer.accept();
                self.history.record(event);
            }
        }
        self.turns.insert(id, turn);
    }

    /// Gives a turn to its instance, when the journal has that.
    pub(super) fn send_off(
        &mut self,
        now: Instant,
        mut turn: Box<Turn>,
        instance: usize,
        event: EventKind,
    ) {
        turn.attempts += 1;
        if let Some(limit) = turn.timeout {
            // The time that one attempt has taken is not there for the next.
            let deadline = *turn.deadline.get_or_insert(after(now, limit));
            turn.timeout = Some(deadline.saturating_duration_since(now));
        }
        let entry = &mut self.roster[instance];
        let generation = entry.generation;
        let Some(journal) = &mut self.history.journal else {
            self.history.record(event);
            // A task that is gone has taken its turn with it; its caller is answered.
            entry.give(turn, generation).ok();
            return;
        };
        let record = Dispatching {
            turn: turn.id,
            attempt: turn.attempts,
            instance: Arc::clone(&entry.name),
            tool: Arc::clone(&entry.tool),
            generation,
            at: SystemTime::now(),
        };
        entry.departing = true;
        let fact = Fact::Departs {
            turn,
            instance,
            generation,
            event,
        };
        journal.put(Record::Dispatching(record), Point::Dispatch, fact);
    }

    /// A turn comes back from an instance: nothing of it was written.
    pub(super) fn take_back(&mut self, now: Instant, instance: usize, mut turn: Box<Turn>) {
        if turn.last.is_none() {
            // No attempt has begun yet, and so neither has the time for all of them.
            turn.deadline = None;
        }
        self.note_session_end(&turn, instance);
        let event = EventKind::TurnHandedBack {
            turn: turn.id,
            instance: Arc::clone(&self.roster[instance].name),
        };
        match &mut self.history.journal {
            None => self.history.record(event),
            Some(journal) => {
                let record = Record::HandedBack {
                    turn: turn.id,
                    attempt: turn.attempts,
                };
                journal.put(record, Point::HandBack, Fact::HandedBack(event));
            }
        }
        self.roster[instance].on_turn_handed_back();
        let (id, ticket, since) = (turn.id, turn.ticket.clone(), turn.since);
        self.turns.insert(id, turn);
        self.scheduler
            .on_handed_back(now, instance, id, ticket, since, &mut self.decisions);
    }

    /// The one place where an accepted prompt ends: its caller hears so when the journal has it.
    pub(super) fn end(&mut self, mut turn: Box<Turn>, ready: bool) {
        self.retries.give_back(&turn);
        let Some(end) = &mut turn.end else { return };
        let queue = self.scheduler.queue_len();
        let Some(journal) = &mut self.history.journal else {
            return self.tell_end(turn, queue, ready);
        };
        if journal.failed.get().is_some() {
            let known = end.outcome.clone();
            let told = unrecorded(&known);
            self.scheduler.recount(&known, &told);
            end.outcome = told;
            return self.tell_end(turn, queue, ready);
        }
        *journal.untold.line(&end.outcome) += 1;
        let record = Record::Ended {
            reply: Box::new(turn.writer.reply(end, &turn.run)),
            attempts: turn.attempts,
            at: SystemTime::now(),
        };
        journal.put(record, Point::End, Fact::Ended { turn, queue, ready });
    }

    fn tell_end(&mut self, turn: Box<Turn>, queue: usize, ready: bool) {
        let Turn {
            id,
            run,
            end: Some(end),
            writer,
            key,
            ..
        } = *turn
        else {
            return;
        };
        for follower in self.close_key(key.as_deref()) {
            follower.recall(&writer.reply(&end, &run));
        }
        self.history.tell(EventKind::TurnEnded {
            turn: id,
            instance: run.instance.clone(),
            outcome: end.outcome.word(),
            cause: end.outcome.cause(),
            queued: run.queued,
            took: run.took,
            first_output: run.first_output,
            reply_bytes: end
                .answer
                .as_ref()
                .map_or_else(|| writer.len(), String::len),
            usage: end.usage,
            queue,
            ready,
        });
        writer.end(end, run);
    }

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

    pub(super) fn on_answered(&mut self, now: Instant, answered: Answered) {
        match answered {
            Answered::Record(number, result) => {
                if let Err(error) = &result {
                    self.on_journal_error(error);
                }
                if let Some(journal) = &mut self.history.journal {
                    if let Err(error @ StoreError::Failed { .. }) = &result {
                        journal.line.fail(error);
                    }
                    journal.line.settle(number, result);
                }
            }
            Answered::Key(key, found) => self.on_found(now, &key, found),
            Answered::Permission(instance, Ok(())) => self.let_pass(&instance),
            Answered::Permission(_, Err(error)) => self.on_journal_error(&error),
        }
    }

    /// If it is more than a lack of space, nothing is asked of the journal any more.
    pub(super) fn on_journal_error(&mut self, error: &StoreError) {
        if let Some(journal) = &mut self.history.journal
            && matches!(error, StoreError::Failed { .. })
            && journal.failed.set(error.clone()).is_ok()
        {
            journal.line.push(Fact::Event(EventKind::JournalFailed {
                detail: error.to_string(),
            }));
        }
    }

    /// It has not said for so long what became of the records that are waited for.
    pub(super) fn on_journal_silent(&mut self, waited: Duration) {
        let journal = self.history.journal.as_ref();
        let facts = journal.into_iter().flat_map(|journal| journal.line.facts());
        let ends = facts.filter_map(|fact| match fact {
            Fact::Ended { turn, .. } => Some(turn.id.to_string()),
            _ => None,
        });
        let ends: Vec<String> = ends.collect();
        let mut detail = format!("it has not answered for {waited:?}, as on a disk that hangs");
        if !ends.is_empty() {
            detail.push_str("; it may not have the ends of ");
            detail.push_str(&ends.join(", "));
        }
        let error = StoreError::Failed {
            path: "the journal".to_owned(),
            detail,
        };
        if let Some(journal) = &mut self.history.journal {
            journal.line.fail(&error);
        }
        self.on_journal_error(&error);
    }

    /// Tells and does what the journal has by now.
    pub(super) fn tell_durable(&mut self, now: Instant) {
        let next = |it: &mut Self| it.history.journal.as_mut()?.line.next();
        while let Some((fact, result)) = next(self) {
            self.on_durable(now, fact, result);
            self.carry_out();
        }
        if self.journal_failure().is_some() && !self.is_stopping() {
            self.begin_shutdown(now, now, None);
        }
    }

    fn on_durable(&mut self, now: Instant, fact: Fact, result: Result<(), StoreError>) {
        match (fact, result) {
            (Fact::Event(event), _) => self.history.tell(event),
            (
                Fact::Accepted {
                    acceptance,
                    key,
                    event,
                    ..
                },
                Ok(()),
            ) => {
                acceptance.accept();
                self.accept_key(key.as_deref());
                self.history.tell(event);
            }
            (
                Fact::Accepted {
                    turn,
                    acceptance,
                    key,
                    ..
                },
                Err(error),
            ) => {
                let refusal = SubmitError::Journal(error);
                for follower in self.close_key(key.as_deref()) {
                    follower.refuse(refusal.clone());
                }
                self.history.tell(EventKind::PromptRefused {
                    reason: refusal.code(),
                });
                acceptance.refuse(refusal);
                // If it has left the queue by now, its next record is in the line.
                if self.turns.remove(&turn).is_some() {
                    self.scheduler.revoke(now, turn, &mut self.decisions);
                }
            }
            (
                Fact::Departs {
                    turn,
                    instance,
                    generation,
                    event,
                },
                result,
            ) => {
                self.roster[instance].departing = false;
                match result {
                    Ok(()) if turn.writer.was_refused() => self.forsake(now, &turn, instance),
                    Ok(()) => {
                        self.history.tell(event);
                        self.depart(now, turn, instance, generation);
                    }
                    Err(error) => self.stay(now, turn, instance, error),
                }
            }
            (Fact::HandedBack(event), Ok(())) => self.history.tell(event),
            (Fact::HandedBack(_), Err(_)) => {}
            (
                Fact::Ended {
                    mut turn,
                    queue,
                    ready,
                },
                result,
            ) => {
                let (Some(journal), Some(end)) = (&mut self.history.journal, &mut turn.end) else {
                    return;
                };
                *journal.untold.line(&end.outcome) -= 1;
                if turn.writer.was_refused() {
                    return self.scheduler.revoke_ended(&end.outcome);
                }
                if result.is_err() {
                    let known = end.outcome.clone();
                    let told = unrecorded(&known);
                    self.scheduler.recount(&known, &told);
                    end.outcome = told;
                }
                self.tell_end(turn, queue, ready);
            }
        }
    }

    /// The turn is on its way in the journal, and now goes, unless nobody wants that any more.
    fn depart(&mut self, now: Instant, turn: Box<Turn>, instance: usize, generation: u64) {
        let unwanted = self.scheduler.is_withdrawn(instance) || self.is_stopping();
        let given = if unwanted || self.journal_failure().is_some() {
            Err(turn)
        } else {
            self.roster[instance].give(turn, generation)
        };
        if let Err(turn) = given {
            self.scheduler.on_not_given(instance);
            self.roster[instance].on_turn_not_given();
            self.take_back(now, instance, turn);
        }
    }

    /// The turn cannot go: the journal does not have it.
    fn stay(&mut self, now: Instant, mut turn: Box<Turn>, instance: usize, error: StoreError) {
        let available = self.scheduler.on_not_given(instance);
        self.roster[instance].on_turn_not_given();
        if turn.writer.was_refused() {
            return self.forsake(now, &turn, instance);
        }
        let outcome = match error {
            StoreError::Failed { .. } => still_queued(),
            StoreError::Full { .. } => Outcome::Failed(Failure {
                class: FailureClass::Refused,
                message: error.to_string(),
                retry_after: None,
            }),
        };
        let out = &mut self.decisions;
        self.scheduler
            .on_turn_ended(now, instance, &outcome, available, out);
        self.note_session_end(&turn, instance);
        turn.end = Some(End::of(outcome));
        self.end(turn, false);
    }

    /// The turn was assigned, and its caller was told since that it is not accepted.
    fn forsake(&mut self, now: Instant, turn: &Turn, instance: usize) {
        self.scheduler.on_not_given(instance);
        self.roster[instance].on_turn_not_given();
        self.note_session_end(turn, instance);
        let out = &mut self.decisions;
        self.scheduler
            .revoke_assigned(now, instance, &turn.ticket, out);
    }

    /// With what everything ends that is still queued when the cluster stops.
    pub(super) fn end_of_queue(&self) -> Outcome {
        match self.journal_failure() {
            Some(_) => still_queued(),
            None => Outcome::Cancelled,
        }
    }
}

/// What is told of an end that the journal does not have.
fn unrecorded(known: &Outcome) -> Outcome {
    match known {
        Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::JournalFailed => known.clone(),
        _ => in_doubt(format!(
            "the journal cannot be written any more, so its end ({}) is not in it",
            known.word()
        )),
    }
}

/// What is told of a prompt that no tool was given when the journal failed.
fn still_queued() -> Outcome {
    in_doubt(
        "the journal cannot be written any more; no tool has read this prompt. It is still queued in the journal, and runs when a cluster of this name is launched with it again; if it was on its way to an instance, it is in doubt there"
            .to_owned(),
    )
}

fn in_doubt(detail: String) -> Outcome {
    Outcome::Indeterminate(Doubt {
        cause: DoubtCause::JournalFailed,
        detail,
    })
}

fn accepted(turn: &Turn, cluster: &Arc<str>) -> Accepted {
    Accepted {
        turn: turn.id,
        cluster: Arc::clone(cluster),
        at: SystemTime::now(),
        key: turn.key.clone(),
        prompt: turn.prompt.clone(),
        session: turn.ticket.session.clone(),
        tool: turn.asked.tool.clone(),
        role: turn.asked.role.clone(),
        target: turn.ticket.target,
        labels: turn.ticket.labels.clone(),
        queue_timeout: turn.ticket.queue_timeout,
        turn_timeout: turn.timeout,
        land: turn.land.clone(),
        on_loss: turn.ticket.on_loss,
        retry: turn.retry,
        attempts: turn.attempts,
    }
}
