//! What is told and done when the journal has it, or cannot have it.
//!
//! Owns what each fact means for callers, instances and the history. Must not know how facts came about. Invariant: a prompt
//! that the journal has not got goes to no tool, and an end that it has not got is told as one in doubt.

use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};

use super::Dispatcher;
use super::journal::{Answered, Fact};
use crate::error::SubmitError;
use crate::event::EventKind;
use crate::reply::End;
use crate::store::StoreError;
use crate::turn::Turn;

impl Dispatcher {
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

    pub(super) fn tell_end(&mut self, turn: Box<Turn>, queue: usize, ready: bool) {
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
pub(super) fn unrecorded(known: &Outcome) -> Outcome {
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
