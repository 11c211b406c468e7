//! How long to wait before trying again.
//!
//! Owns the growing, jittered delays. Must not know what is retried. Invariant: a delay is never zero, never above the
//! cap, and never ends: `failsafe`'s own back-offs know whole seconds only and may begin with zero.

#[cfg(test)]
mod draws;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::instance::LONGEST_WAIT;
use crate::planted::planted;

/// Doubling delays with equal jitter: each lies between half of its step and the whole of it.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    /// How many times the first step the second one is.
    leap: u32,
    step: u32,
    jitter: StdRng,
}

impl Backoff {
    /// Delays from `base` to `cap`; `seed` makes the jitter repeatable.
    pub(crate) fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        let base = base.clamp(Duration::from_millis(1), LONGEST_WAIT);
        Self {
            base,
            cap: cap.clamp(base, LONGEST_WAIT),
            leap: 2,
            step: 0,
            jitter: StdRng::seed_from_u64(seed),
        }
    }

    /// The same with a second delay of ten times the first: the first try is to be made almost at once, and the next ones
    /// not right after it.
    pub(crate) fn with_quick_start(base: Duration, cap: Duration, seed: u64) -> Self {
        Self {
            leap: 10,
            ..Self::new(base, cap, seed)
        }
    }

    /// No delay has been drawn since it began.
    pub(crate) fn is_fresh(&self) -> bool {
        self.step == 0
    }

    /// Begins again with the first delay.
    pub(crate) fn reset(&mut self) {
        self.step = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if planted("backoff_zero") {
            return Some(Duration::ZERO);
        }
        let factor = match self.step.checked_sub(1) {
            None => 1,
            Some(doublings) => self.leap.saturating_mul(2u32.saturating_pow(doublings)),
        };
        let whole = self.base.saturating_mul(factor).min(self.cap);
        if whole < self.cap {
            self.step += 1;
        }
        Some(whole.mul_f64(self.jitter.random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_are_three_quarters_of_their_steps_on_average() {
        let cap = Duration::from_secs(300);
        let (mut sum, mut steps) = (0.0, 0.0);
        for seed in 0..1_000 {
            let mut step = Duration::from_secs(10);
            for delay in Backoff::new(step, cap, seed).take(200) {
                sum += delay.as_secs_f64();
                steps += step.as_secs_f64();
                step = (step * 2).min(cap);
            }
        }
        let mean = sum / steps;
        assert!((mean - 0.75).abs() < 0.75 * 0.02, "{mean}");
    }

    proptest! {
        #[test]
        fn delays_stay_in_their_envelope(base in 1u64..5_000, factor in 1u64..1_000, seed: u64) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(base * factor));
            let mut step = base;
            for delay in Backoff::new(base, cap, seed).take(200) {
                prop_assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
                prop_assert!(!delay.is_zero());
                step = (step * 2).min(cap);
            }
        }

        #[test]
        fn after_a_quick_start_delays_are_at_least_five_times_as_long(base in 1u64..1_000, seed: u64) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_secs(3600));
            let mut backoff = Backoff::with_quick_start(base, cap, seed);
            prop_assert!(backoff.is_fresh());
            let first = backoff.next().expect("without end");
            prop_assert!(first >= base / 2 && first <= base);
            let mut step = base * 10;
            for delay in backoff.take(20) {
                prop_assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
                step = (step * 2).min(cap);
            }
        }
    }
}
