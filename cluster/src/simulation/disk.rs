//! A made-up journal: what is on its disk outlives the cluster, and all else is lost when that dies.
//!
//! Owns which records are durable, and when; a prompt may find no space, and after a failure nothing is written any more.
//! Must not decide what waits for them: the real line of facts does. Invariant: records become durable in the order in
//! which they were put.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;

use super::Turn;
use crate::durable::{Line, Point};
use crate::scheduler::Ticket;
use crate::store::StoreError;

/// What is told or done when its record is durable.
pub(super) enum Fact {
    Accepted(TurnId),
    Departs { turn: Turn, instance: usize },
    HandedBack,
    Ended(TurnId, Outcome),
}

impl Fact {
    pub(super) fn turn(&self) -> Option<TurnId> {
        match self {
            Self::Accepted(turn) | Self::Ended(turn, _) => Some(*turn),
            Self::Departs { turn, .. } => Some(turn.id),
            Self::HandedBack => None,
        }
    }
}

/// How far a prompt has come on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Queued,
    Begun,
    Ended,
}

#[derive(Default)]
pub(super) struct Disk {
    line: Line<Fact>,
    /// Put and not durable.
    waiting: Vec<(u64, TurnId, Row)>,
    /// When that is to be written.
    due: Option<Instant>,
    rows: BTreeMap<TurnId, Row>,
    tickets: BTreeMap<TurnId, Ticket>,
    /// Somebody heard that it is accepted, or how it ended.
    told_accepted: BTreeSet<TurnId>,
    told_ended: BTreeSet<TurnId>,
    /// There was no space for these.
    refused: BTreeSet<TurnId>,
    /// So many writes until it fails for good, if it is to.
    fails_in: Option<u32>,
    failed: bool,
}

impl Disk {
    /// A disk that fails for good after so many writes, if after any.
    pub(super) fn failing_in(fails_in: Option<u32>) -> Self {
        Self {
            fails_in,
            ..Self::default()
        }
    }

    pub(super) fn accept(&mut self, turn: TurnId, ticket: &Ticket, due: Instant) {
        self.tickets.insert(turn, ticket.clone());
        self.put(turn, Row::Queued, Point::Accept, Fact::Accepted(turn), due);
    }

    pub(super) fn put(&mut self, turn: TurnId, row: Row, point: Point, fact: Fact, due: Instant) {
        let number = self.line.wait(point, fact);
        if self.failed {
            return self.line.settle(number, Err(failure()));
        }
        self.waiting.push((number, turn, row));
        self.due.get_or_insert(due);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// One write for all that waits. `is_full`: there is no space for prompts that are new.
    pub(super) fn commit(&mut self, is_full: bool) {
        self.due = None;
        self.fails_in = self.fails_in.map(|left| left.saturating_sub(1));
        if self.fails_in == Some(0) {
            self.failed = true;
            self.waiting.clear();
            return self.line.fail(&failure());
        }
        for (number, turn, row) in self.waiting.drain(..) {
            if (is_full && !self.rows.contains_key(&turn)) || self.refused.contains(&turn) {
                self.refused.insert(turn);
                self.line.settle(number, Err(no_space()));
                continue;
            }
            let before = self.rows.insert(turn, row);
            assert_ne!(before, Some(Row::Ended), "{turn} goes on after its end");
            self.line.settle(number, Ok(()));
        }
    }

    pub(super) fn has_news(&self) -> bool {
        self.line.has_next()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<(Fact, Result<(), StoreError>)> {
        self.line.next()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn has_refused(&self, turn: TurnId) -> bool {
        self.refused.contains(&turn)
    }

    /// The turns that wait here to be given to their instances.
    pub(super) fn departing(&self) -> usize {
        let facts = self.line.facts();
        facts
            .filter(|fact| matches!(fact, Fact::Departs { .. }))
            .count()
    }

    pub(super) fn tell_accepted(&mut self, turn: TurnId) {
        let is_kept = self.rows.contains_key(&turn);
        assert!(is_kept, "{turn} was called accepted and is on no disk");
        self.told_accepted.insert(turn);
    }

    pub(super) fn tell_ended(&mut self, turn: TurnId) {
        let row = self.rows.get(&turn);
        assert_eq!(row, Some(&Row::Ended), "the end of {turn} was told");
        assert!(self.told_ended.insert(turn), "{turn} ended twice");
    }

    /// A tool has read a byte of it.
    pub(super) fn look_at_read(&self, turn: TurnId) {
        assert_eq!(self.rows.get(&turn), Some(&Row::Begun), "{turn} was read");
    }

    /// The cluster has died: gives what is still queued. What was begun is in doubt, and that is its end.
    pub(super) fn recover(&mut self) -> Vec<(TurnId, Ticket)> {
        self.line = Line::default();
        (self.failed, self.fails_in) = (false, None);
        self.waiting.clear();
        self.due = None;
        for turn in &self.told_accepted {
            assert!(self.rows.contains_key(turn), "{turn} is lost");
        }
        for row in self.rows.values_mut().filter(|row| **row == Row::Begun) {
            *row = Row::Ended;
        }
        let queued = self.rows.iter().filter(|(_, row)| **row == Row::Queued);
        let queued = queued.map(|(turn, _)| *turn).collect::<Vec<_>>();
        for turn in &queued {
            assert!(!self.told_ended.contains(turn), "{turn} has had its end");
        }
        let ticket = |turn: TurnId| (turn, self.tickets[&turn].clone());
        queued.into_iter().map(ticket).collect()
    }

    /// The number of the newest prompt.
    pub(super) fn newest(&self) -> u64 {
        self.tickets.keys().next_back().map_or(0, |turn| turn.0)
    }

    pub(super) fn look_at_the_end(&self) {
        for turn in &self.told_accepted {
            let has_end = self.rows.get(turn) == Some(&Row::Ended);
            assert!(has_end || self.failed, "{turn} has no end");
        }
    }
}

fn failure() -> StoreError {
    StoreError::Failed {
        path: "books".to_owned(),
        detail: "it cannot be written".to_owned(),
    }
}

fn no_space() -> StoreError {
    StoreError::Full {
        path: "books".to_owned(),
        detail: "no space".to_owned(),
    }
}
