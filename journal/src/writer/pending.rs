//! What nobody waits for, until it is worth a commit.
//!
//! Owns the pieces of replies, the facts of sessions and the events that are not written yet. Must not know SQL. Pure: time is an argument.
//! Invariant: nothing is held for longer than [`HOLD`] or beyond [`MUCH`]; the pieces of a reply that ends meanwhile are
//! never written, because its end has all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use toolpool_cluster::{Event, Record, TurnId};

/// How long something may wait: with the commit itself, less than the second that a store has.
pub(crate) const HOLD: Duration = Duration::from_millis(500);

/// How many bytes of replies may wait.
const MUCH: usize = 1 << 20;

/// A piece of a reply, of one attempt.
pub(crate) type Piece = ((TurnId, u32), Vec<u8>);

#[derive(Default)]
pub(crate) struct Pending {
    pieces: BTreeMap<(TurnId, u32), Vec<u8>>,
    bytes: usize,
    events: Vec<Event>,
    sessions: Vec<Record>,
    since: Option<Instant>,
}

impl Pending {
    pub(crate) fn piece(&mut self, turn: TurnId, attempt: u32, mut bytes: Vec<u8>, now: Instant) {
        self.bytes += bytes.len();
        self.pieces
            .entry((turn, attempt))
            .or_default()
            .append(&mut bytes);
        self.since.get_or_insert(now);
    }

    pub(crate) fn event(&mut self, event: Event, now: Instant) {
        self.events.push(event);
        self.since.get_or_insert(now);
    }

    /// A fact of a session: it goes with any commit, where it comes before all that was put after it.
    pub(crate) fn session(&mut self, record: Record, now: Instant) {
        self.sessions.push(record);
        self.since.get_or_insert(now);
    }

    /// The pieces of an attempt are not needed any more.
    pub(crate) fn forget(&mut self, turn: TurnId, attempt: u32) {
        if let Some(bytes) = self.pieces.remove(&(turn, attempt)) {
            self.bytes -= bytes.len();
        }
        self.see_if_empty();
    }

    /// When all of it has to be written, at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.bytes >= MUCH {
            since
        } else {
            since + HOLD
        })
    }

    /// Whether all of it has to be written now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// The events, which go with any commit.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        let events = std::mem::take(&mut self.events);
        self.see_if_empty();
        events
    }

    /// The facts of sessions, which go with any commit.
    pub(crate) fn take_sessions(&mut self) -> Vec<Record> {
        let sessions = std::mem::take(&mut self.sessions);
        self.see_if_empty();
        sessions
    }

    /// The pieces, which go when it is time.
    pub(crate) fn take_pieces(&mut self) -> Vec<Piece> {
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces).into_iter().collect();
        self.see_if_empty();
        pieces
    }

    fn see_if_empty(&mut self) {
        if self.pieces.is_empty() && self.events.is_empty() && self.sessions.is_empty() {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_attempt_are_one_and_those_of_an_end_are_gone() {
        let now = Instant::now();
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.piece(TurnId(1), 1, b"ab".to_vec(), now);
        pending.piece(TurnId(2), 1, b"x".to_vec(), now + HOLD / 2);
        pending.piece(TurnId(1), 1, b"c".to_vec(), now + HOLD / 2);
        assert!(!pending.is_due(now + HOLD / 2) && pending.is_due(now + HOLD));
        pending.forget(TurnId(2), 1);
        assert_eq!(pending.take_pieces(), [((TurnId(1), 1), b"abc".to_vec())]);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn a_flood_is_due_at_once() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.piece(TurnId(1), 1, vec![0; MUCH - 1], now);
        assert!(!pending.is_due(now));
        pending.piece(TurnId(1), 1, vec![0; 1], now);
        assert!(pending.is_due(now));
        pending.forget(TurnId(1), 1);
        assert_eq!(pending.due(), None);
    }
}
