//! Which process is replaced, why, and when: a pure core.
//!
//! Owns what makes a process worn and the order of replacements. Must not know processes or clocks. Invariants: one
//! replacement at a time in a cluster, whoever wished for it; after one that did not become ready no worn process is
//! given up before it does, so wear never takes a cluster down that cannot start its tool any more.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// When a process is replaced by a fresh one though it has not failed, as tools that grow want it. Each limit that is
/// set counts; by default none is.
///
/// A process is replaced between turns only, one in a cluster at a time, so it may run some turns beyond its limit. It
/// takes the conversations of its sessions with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recycle {
    /// After so many turns, at least 1.
    pub turns: Option<u64>,
    /// So long after its start.
    pub age: Option<Duration>,
    /// When its resident memory has grown to so many bytes; looked at after each turn. Of the tool's first process alone,
    /// without those that it started.
    pub rss_bytes: Option<u64>,
}

/// What a process has behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wear {
    pub(crate) turns: u64,
    pub(crate) age: Duration,
    pub(crate) rss_bytes: Option<u64>,
}

/// Why a process is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worn {
    Turns(u64),
    Age(Duration),
    Rss(u64),
    /// Its login was refused, and a newer process has a good one.
    Login,
}

impl Recycle {
    /// Whether a process with this behind it is worn, and why.
    pub(crate) fn worn(&self, wear: Wear) -> Option<Worn> {
        let turns = self.turns.filter(|limit| wear.turns >= *limit);
        let age = self.age.filter(|limit| wear.age >= *limit);
        let rss = wear.rss_bytes.filter(|rss| {
            let limit = self.rss_bytes;
            limit.is_some_and(|limit| *rss >= limit)
        });
        turns
            .map(|_| Worn::Turns(wear.turns))
            .or(age.map(|_| Worn::Age(wear.age)))
            .or(rss.map(Worn::Rss))
    }
}

impl Worn {
    /// The cause's word in the events.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Turns(_) => "turns",
            Self::Age(_) => "age",
            Self::Rss(_) => "rss",
            Self::Login => "login",
        }
    }
}

impl fmt::Display for Worn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turns(turns) => write!(f, "its process has run {turns} turns"),
            Self::Age(age) => write!(f, "its process is {} s old", age.as_secs()),
            Self::Login => write!(f, "its login was refused and a newer one is good"),
            Self::Rss(bytes) => write!(f, "its process has grown to {} MiB", bytes >> 20),
        }
    }
}

/// Who wants an instance's process replaced.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish<A> {
    /// The owner, who waits for the answer.
    Owner(A),
    /// Nobody; that generation is worn.
    Worn(u64, Worn),
}

/// The replacements that wait, and the one under way.
#[derive(Debug)]
pub(crate) struct Replacements<A> {
    waiting: VecDeque<(usize, Wish<A>)>,
    under_way: Option<usize>,
    /// The instance whose replacement did not become ready, and has not since.
    failed: Option<usize>,
}

impl<A> Replacements<A> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: None,
            failed: None,
        }
    }

    /// Queues a wish.
    pub(crate) fn wish(&mut self, instance: usize, wish: Wish<A>) {
        self.waiting.push_back((instance, wish));
    }

    /// The wish to grant now, if any. It is under way until [`Replacements::over`]. An instance that
    /// may not start a process now keeps the worn one until it may.
    pub(crate) fn next(&mut self, may_start: impl Fn(usize) -> bool) -> Option<(usize, Wish<A>)> {
        if self.under_way.is_some() {
            return None;
        }
        let at = self.waiting.iter().position(|(instance, wish)| {
            matches!(wish, Wish::Owner(_)) || (self.failed.is_none() && may_start(*instance))
        })?;
        let next = self.waiting.remove(at)?;
        self.under_way = Some(next.0);
        Some(next)
    }

    /// The one under way has its end.
    pub(crate) fn over(&mut self, ready: bool) {
        let instance = self.under_way.take();
        if !ready {
            self.failed = instance;
        }
    }

    /// An instance has become ready.
    pub(crate) fn on_ready(&mut self, instance: usize) {
        self.failed = self.failed.filter(|failed| *failed != instance);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_is_worn_at_exactly_its_limit_and_by_nothing_that_is_not_limited() {
        let limits = |turns, age, rss_bytes| Recycle {
            turns,
            age,
            rss_bytes,
        };
        let wear = |turns, seconds, rss_bytes| Wear {
            turns,
            age: Duration::from_secs(seconds),
            rss_bytes,
        };
        let hour = Duration::from_secs(3600);
        let much = u64::MAX;
        for (limits, wear, worn) in [
            (Recycle::default(), wear(much, much, Some(much)), None),
            (limits(Some(50), None, None), wear(49, much, None), None),
            (
                limits(Some(50), None, None),
                wear(50, 0, None),
                Some(Worn::Turns(50)),
            ),
            (limits(None, Some(hour), None), wear(0, 3599, None), None),
            (
                limits(None, Some(hour), None),
                wear(0, 3600, None),
                Some(Worn::Age(hour)),
            ),
            (limits(None, None, Some(9)), wear(0, 0, Some(8)), None),
            (
                limits(None, None, Some(9)),
                wear(0, 0, Some(9)),
                Some(Worn::Rss(9)),
            ),
            (limits(None, None, Some(9)), wear(0, 0, None), None),
        ] {
            assert_eq!(limits.worn(wear), worn, "{limits:?} {wear:?}");
        }
    }

    #[test]
    fn a_failed_replacement_spares_the_worn_until_it_is_ready_and_stops_no_owner() {
        let mut replacements = Replacements::new();
        let worn = || Wish::Worn(1, Worn::Turns(1));
        replacements.wish(0, worn());
        replacements.wish(1, worn());
        replacements.wish(2, Wish::Owner("answer"));
        assert_eq!(replacements.next(|_| true), Some((0, worn())));
        assert_eq!(replacements.next(|_| true), None, "one at a time");
        replacements.over(false);
        assert_eq!(
            replacements.next(|_| true),
            Some((2, Wish::Owner("answer")))
        );
        replacements.over(true);
        assert_eq!(replacements.next(|_| true), None, "0 is not ready yet");
        replacements.on_ready(1);
        assert_eq!(replacements.next(|_| true), None, "0 is not ready yet");
        replacements.on_ready(0);
        assert_eq!(replacements.next(|_| false), None, "nothing may start");
        assert_eq!(replacements.next(|_| true), Some((1, worn())));
    }

    proptest! {
        #[test]
        fn every_wish_is_granted_once_and_one_at_a_time(
            wishes in proptest::collection::vec((0usize..5, any::<bool>()), 0..40),
            ends in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let mut replacements = Replacements::new();
            for (number, (instance, owner)) in wishes.iter().enumerate() {
                let wish = if *owner { Wish::Owner(number) } else { Wish::Worn(number as u64, Worn::Turns(1)) };
                replacements.wish(*instance, wish);
            }
            let mut granted = Vec::new();
            for ready in ends {
                let Some((instance, wish)) = replacements.next(|_| true) else { break };
                granted.push(match wish { Wish::Owner(number) => number as u64, Wish::Worn(number, _) => number });
                prop_assert!(replacements.next(|_| true).is_none());
                replacements.over(ready);
                replacements.on_ready(instance);
            }
            granted.sort_unstable();
            prop_assert_eq!(granted, (0..wishes.len() as u64).collect::<Vec<_>>());
        }
    }
}
