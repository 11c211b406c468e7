//! The prompts that are queued, by age.
//!
//! Owns the order alone. Must not know metrics. Invariant: the first is the one that was accepted first, however often it
//! was handed back and whatever the clock on the wall said then: the numbers of turns only grow.

use std::collections::VecDeque;

/// Turns with the time at which they were accepted.
#[derive(Debug, Default)]
pub(crate) struct Queue(VecDeque<Queued>);

#[derive(Debug)]
struct Queued {
    turn: u64,
    accepted_at: f64,
}

impl Queue {
    /// Puts a turn in its place: at the end, unless it was handed back and so is older than others.
    pub(crate) fn put(&mut self, turn: u64, accepted_at: f64) {
        let place = match self.0.back() {
            Some(last) if last.turn > turn => self.0.partition_point(|queued| queued.turn < turn),
            _ => self.0.len(),
        };
        self.0.insert(place, Queued { turn, accepted_at });
    }

    /// Takes a turn out and tells when it was accepted. The search is short, since most leave from the front.
    pub(crate) fn take(&mut self, turn: u64) -> Option<f64> {
        let place = self.0.iter().position(|queued| queued.turn == turn)?;
        Some(self.0.remove(place)?.accepted_at)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first was accepted.
    pub(crate) fn oldest(&self) -> Option<f64> {
        Some(self.0.front()?.accepted_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_handed_back_is_as_old_as_before() {
        let mut queue = Queue::default();
        for (turn, accepted_at) in [(1, 10.0), (2, 20.0), (3, 30.0)] {
            queue.put(turn, accepted_at);
        }
        assert_eq!(queue.take(2), Some(20.0));
        assert_eq!(queue.take(2), None);
        assert_eq!(queue.take(1), Some(10.0));
        assert_eq!((queue.len(), queue.oldest()), (1, Some(30.0)));
        queue.put(1, 10.0);
        queue.put(2, 20.0);
        let left: Vec<u64> = queue.0.iter().map(|queued| queued.turn).collect();
        assert_eq!(left, [1, 2, 3]);
        assert_eq!(queue.oldest(), Some(10.0));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_older() {
        let mut queue = Queue::default();
        queue.put(1, 5000.0);
        queue.put(2, 1400.0);
        assert_eq!(queue.take(1), Some(5000.0));
        queue.put(1, 5000.0);
        assert_eq!(queue.oldest(), Some(5000.0));
    }
}
