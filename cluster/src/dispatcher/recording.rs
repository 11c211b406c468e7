//! What becomes a record: prompts taken in, sent off and taken back, and their ends.
//!
//! Owns which record says it, and the fact that waits for it. Must not know when a record is durable. Invariant: with no
//! journal the same is told and done at once.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Dispatcher;
use super::journal::Fact;
use super::telling::unrecorded;
use crate::durable::Point;
use crate::event::EventKind;
use crate::instance::after;
use crate::store::{Accepted, Dispatching, Record};
use crate::turn::Turn;

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
