//! Whose turn it is to start a process: a pure core.
//!
//! Owns the line of the instances that wait for their start, and how many starts are under way. Must not know what a
//! start is, or why one may have to wait longer. Invariants: never more starts under way than the limit; an instance is
//! in one place at a time; a place is free again however the start ends.

use std::collections::VecDeque;

use crate::planted::planted;

/// The starts of a cluster that wait, and those under way.
#[derive(Debug)]
pub(super) struct Line {
    limit: usize,
    waiting: VecDeque<usize>,
    under_way: Vec<usize>,
}

impl Line {
    /// No start yet, and at most `limit` at once.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: VecDeque::new(),
            under_way: Vec::new(),
        }
    }

    /// An instance wants to start a process. It goes to the end of the line.
    pub(super) fn ask(&mut self, instance: usize) {
        self.over(instance);
        self.waiting.push_back(instance);
    }

    /// Its start is over, or it wants none any more.
    pub(super) fn over(&mut self, instance: usize) {
        self.waiting.retain(|waits| *waits != instance);
        if !planted("place_kept") {
            self.under_way.retain(|starts| *starts != instance);
        }
    }

    /// The first in line that `may` start, if there is a place for it; it has the place then.
    pub(super) fn next(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.under_way.len() >= self.limit && !planted("all_at_once") {
            return None;
        }
        let at = self.waiting.iter().position(|instance| may(*instance))?;
        let instance = self.waiting.remove(at)?;
        self.under_way.push(instance);
        Some(instance)
    }

    /// How many are before it in the line, if it waits there.
    pub(super) fn before(&self, instance: usize) -> Option<usize> {
        self.waiting.iter().position(|waits| *waits == instance)
    }

    /// Those in line.
    pub(super) fn waiting(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().copied()
    }

    /// Whether the next in line could start at once.
    pub(super) fn has_place(&self) -> bool {
        self.under_way.len() < self.limit
    }

    /// Line under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_line_is_kept_and_who_may_not_start_holds_up_nobody() {
        let mut line = Line::new(2);
        for instance in 0..4 {
            line.ask(instance);
        }
        assert_eq!(line.next(|instance| instance != 0), Some(1));
        assert_eq!(line.next(|_| true), Some(0));
        assert_eq!(line.next(|_| true), None, "two at once");
        assert_eq!((line.before(2), line.before(3)), (Some(0), Some(1)));
        line.over(2);
        assert_eq!(line.next(|_| true), None, "it had no place");
        line.over(1);
        assert_eq!(line.next(|_| true), Some(3));
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_every_asker_gets_its_turn(
            limit in 1usize..4,
            steps in proptest::collection::vec((0usize..3, 0usize..6), 0..200),
        ) {
            let mut line = Line::new(limit);
            let mut under_way = std::collections::BTreeSet::new();
            for (step, instance) in steps {
                match step {
                    0 => {
                        line.ask(instance);
                        under_way.remove(&instance);
                    }
                    1 => {
                        line.over(instance);
                        under_way.remove(&instance);
                    }
                    _ => {
                        if let Some(granted) = line.next(|_| true) {
                            prop_assert!(under_way.insert(granted), "{granted} starts twice");
                        }
                    }
                }
                prop_assert!(under_way.len() <= limit);
                prop_assert_eq!(line.under_way(), under_way.len());
            }
            let mut waiting: Vec<usize> = line.waiting().collect();
            while !waiting.is_empty() {
                for instance in std::mem::take(&mut under_way) {
                    line.over(instance);
                }
                while let Some(granted) = line.next(|_| true) {
                    under_way.insert(granted);
                    waiting.retain(|waits| *waits != granted);
                }
                prop_assert!(!under_way.is_empty(), "{waiting:?} wait for ever");
            }
        }
    }
}
