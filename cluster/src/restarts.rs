//! Whether an instance may be restarted, and how often.
//!
//! Owns the policy, the count of restarts and the growing waits of one that crashes in a loop. Must not know why a process
//! has ended: the breaker counts failures in a row, which one that gets ready, works a little and dies again never
//! collects. Invariant: more restarts than the limits allow come one at a time, each after a longer wait, until a process
//! has lived for ten minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::breaker::BreakerConfig;
use crate::planted::planted;

/// When a process that has ended by itself, or had to be ended for what it did, is followed by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    #[default]
    Permanent,
    /// Unless it has ended with exit code 0 between two turns: then the instance is stopped.
    Transient,
    /// Never: the instance is stopped then, or failed.
    Temporary,
}

/// How many restarts there may be in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// So many are allowed. More than 1,000 are no limit.
    pub restarts: u32,
    /// In any stretch of so long.
    pub within: Duration,
}

/// Beyond one of these an instance is crash-looping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartLimits {
    /// For quick loops.
    pub(crate) burst: RestartLimit,
    /// For slow ones.
    pub(crate) sustained: RestartLimit,
}

impl Default for RestartLimits {
    /// As many as systemd allows, in a time in which a slow tool can start so often.
    fn default() -> Self {
        Self {
            burst: RestartLimit {
                restarts: 5,
                within: Duration::from_secs(60),
            },
            sustained: RestartLimit {
                restarts: 30,
                within: Duration::from_secs(60 * 60),
            },
        }
    }
}

/// So many restarts are remembered.
const REMEMBERED: usize = 1_000;

/// A process that was ready for so long has ended the loop, as in Kubernetes.
const CALM: Duration = Duration::from_secs(600);

/// The restarts of one instance.
#[derive(Debug)]
pub(crate) struct Restarts {
    limits: RestartLimits,
    /// When they were or are due, oldest first; no more than the limits need.
    past: VecDeque<Instant>,
    waits: Backoff,
    looping: bool,
}

impl Restarts {
    /// The waits of one that is crash-looping are those of its breaker.
    pub(crate) fn new(limits: &RestartLimits, breaker: &BreakerConfig, seed: u64) -> Self {
        Self {
            limits: *limits,
            past: VecDeque::new(),
            waits: Backoff::new(breaker.open_for, breaker.open_for_max, seed),
            looping: false,
        }
    }

    /// It restarts too often.
    pub(crate) fn is_looping(&self) -> bool {
        self.looping
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.past.clear();
        self.waits.reset();
        self.looping = false;
    }

    /// A process has ended that was ready for so long.
    pub(crate) fn on_end(&mut self, lived: Duration) {
        if lived >= CALM {
            self.reset();
        }
    }

    /// Counts a restart that is due at `planned`, and answers when it may come, which is later in a loop.
    pub(crate) fn plan(&mut self, now: Instant, planned: Instant) -> Instant {
        let RestartLimits {
            burst, sustained, ..
        } = self.limits;
        self.looping |= self.reached(burst, planned) || self.reached(sustained, planned);
        if planted("restarts_unlimited") {
            self.looping = false;
        }
        let when = if self.looping {
            // A back-off never ends.
            let wait = self.waits.next().unwrap_or_default();
            planned.max(now + wait)
        } else {
            planned
        };
        self.past.push_back(when);
        let most = burst.restarts.max(sustained.restarts) as usize;
        if self.past.len() > most.min(REMEMBERED) {
            self.past.pop_front();
        }
        when
    }

    /// There were as many restarts as that limit allows in the time before `planned`.
    fn reached(&self, limit: RestartLimit, planned: Instant) -> bool {
        let recent = |when: &&Instant| planned.saturating_duration_since(**when) < limit.within;
        self.past.iter().rev().take_while(recent).count() >= limit.restarts as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarts() -> Restarts {
        Restarts::new(&RestartLimits::default(), &BreakerConfig::default(), 1)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// When restarts come that are asked for at these moments.
    fn waits(restarts: &mut Restarts, start: Instant, asked: &[u64]) -> Vec<Duration> {
        let moments = asked.iter().map(|at| start + seconds(*at));
        moments.map(|now| restarts.plan(now, now) - now).collect()
    }

    #[test]
    fn the_sixth_restart_in_a_minute_waits_and_each_further_one_for_longer() {
        let mut restarts = restarts();
        let start = Instant::now();
        let said = waits(&mut restarts, start, &[0, 10, 20, 30, 40]);
        assert_eq!(said, vec![Duration::ZERO; 5]);
        assert!(!restarts.is_looping());
        let said = waits(
            &mut restarts,
            start,
            &[59, 200, 1000, 2000, 4000, 8000, 16000],
        );
        for (wait, whole) in said.iter().zip([10, 20, 40, 80, 160, 300, 300]) {
            assert!(
                *wait >= seconds(whole) / 2 && *wait <= seconds(whole),
                "{said:?}"
            );
        }
        assert!(restarts.is_looping());
    }

    #[test]
    fn restarts_that_are_spread_out_are_as_many_as_the_slow_limit_allows() {
        let mut restarts = restarts();
        let start = Instant::now();
        let calm: Vec<u64> = (0..200).map(|count| count * 121).collect();
        assert!(
            waits(&mut restarts, start, &calm)
                .iter()
                .all(Duration::is_zero)
        );
        let hasty: Vec<u64> = (0..31).map(|count| 100_000 + count * 60).collect();
        let said = waits(&mut restarts, start, &hasty);
        assert!(said[..30].iter().all(Duration::is_zero), "{said:?}");
        assert!(!said[30].is_zero(), "{said:?}");
        assert!(restarts.past.len() <= 30);
    }

    #[test]
    fn who_sets_no_limit_has_none_and_pays_nothing_for_it() {
        let endless = RestartLimit {
            restarts: u32::MAX,
            within: Duration::MAX,
        };
        let limits = RestartLimits {
            burst: endless,
            sustained: endless,
        };
        let mut restarts = Restarts::new(&limits, &BreakerConfig::default(), 1);
        let said = waits(&mut restarts, Instant::now(), &[0; 5_000]);
        assert!(said.iter().all(Duration::is_zero));
        assert_eq!(restarts.past.len(), REMEMBERED);
    }

    #[test]
    fn ten_minutes_of_life_end_a_loop_and_less_do_not() {
        let mut restarts = restarts();
        let start = Instant::now();
        waits(&mut restarts, start, &[0, 1, 2, 3, 4, 5, 6, 7]);
        restarts.on_end(CALM - seconds(1));
        assert!(restarts.is_looping());
        restarts.on_end(CALM);
        assert!(!restarts.is_looping());
        let again = waits(&mut restarts, start, &[700, 701, 702, 703, 704, 705]);
        assert!(again[..5].iter().all(Duration::is_zero), "{again:?}");
        assert!(again[5] <= seconds(10), "{again:?}");
    }
}
