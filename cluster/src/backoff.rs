//! How long to wait before trying again.
//!
//! Owns the growing, jittered delays. Must not know what is retried. Invariant: a delay is never zero, never above the
//! cap, and never ends: `failsafe`'s own back-offs know whole seconds only and may begin with zero.

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
            step: 0,
            jitter: StdRng::seed_from_u64(seed),
        }
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
        let factor = 1u32.checked_shl(self.step).unwrap_or(u32::MAX).max(1);
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
    }
}
