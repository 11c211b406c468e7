//! How busy an instance has been lately.
//!
//! Owns a decaying average. Must not know turns. Invariant: the ratio stays within 0.0 and 1.0.

use std::time::{Duration, Instant};

/// The time in which an old observation loses most of its weight.
const MEMORY: Duration = Duration::from_secs(60);

/// A failure counts as this much busy time, or the instance that fails fastest would look least busy.
const FAILURE_PENALTY: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Load {
    ratio: f64,
    busy: bool,
    since: Instant,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ratio: 0.0,
            busy: false,
            since: now,
        }
    }

    pub(super) fn set_busy(&mut self, now: Instant, busy: bool) {
        self.ratio = self.ratio(now);
        self.since = now;
        self.busy = busy;
    }

    pub(super) fn penalize(&mut self) {
        self.ratio = (self.ratio + FAILURE_PENALTY).min(1.0);
    }

    pub(super) fn ratio(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        let kept = (-elapsed / MEMORY.as_secs_f64()).exp();
        let target = if self.busy { 1.0 } else { 0.0 };
        target + (self.ratio - target) * kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_while_busy_falls_while_idle_and_a_failure_weighs() {
        let start = Instant::now();
        let mut load = Load::new(start);
        load.set_busy(start, true);
        let later = start + Duration::from_secs(60);
        assert!((load.ratio(later) - 0.632).abs() < 0.01);
        load.set_busy(later, false);
        assert!(load.ratio(later + Duration::from_secs(60)) < 0.25);
        let before = load.ratio(later);
        load.penalize();
        assert!(load.ratio(later) > before && load.ratio(later) <= 1.0);
    }
}
