//! The circuit breaker of one instance.
//!
//! Owns the state (Closed serves, Open refuses, HalfOpen probes) and when it changes. Must not know processes or timers:
//! the time is an argument. Invariant: while HalfOpen one probe at a time is out, because an instance runs one process
//! and one turn at a time; what an older process did never reaches this code.

use std::time::{Duration, Instant};

use failsafe::failure_policy::{self, ConsecutiveFailures, FailurePolicy};

use crate::backoff::Backoff;
use crate::planted::planted;

/// How a breaker trips and heals.
#[derive(Clone, Debug)]
pub struct BreakerConfig {
    /// Trips at exactly this many failures in a row; at least 1.
    pub failures: u32,
    /// First time that it stays open; doubles with each trip until it heals.
    pub open_for: Duration,
    /// Longest time that it stays open.
    pub open_for_max: Duration,
}

impl Default for BreakerConfig {
    /// Five failures in a row as Envoy, Finagle and failsafe have it; ten seconds to five minutes as failsafe.
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(10),
            open_for_max: Duration::from_secs(300),
        }
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing until then.
    Open {
        /// When a probe may go out.
        until: Instant,
    },
    /// One probe.
    HalfOpen,
}

impl BreakerState {
    /// The state's word in the CLI, the events and the metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A breaker: `failsafe`'s failure policy behind a gate of our own.
#[derive(Debug)]
pub(crate) struct Breaker {
    // The policy counts and draws the delays. failsafe's own state machine is not used: its half-open state lets every
    // caller through.
    policy: ConsecutiveFailures<Backoff>,
    state: BreakerState,
    failures: u32,
}

impl Breaker {
    /// A closed breaker.
    pub(crate) fn new(config: &BreakerConfig, seed: u64) -> Self {
        let open_for = Backoff::new(config.open_for, config.open_for_max, seed);
        Self {
            policy: failure_policy::consecutive_failures(config.failures.max(1), open_for),
            state: BreakerState::Closed,
            failures: 0,
        }
    }

    /// The state now.
    pub(crate) fn state(&self) -> BreakerState {
        self.state
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure; true if the breaker is open now.
    pub(crate) fn on_failure(&mut self, now: Instant) -> bool {
        self.failures += 1;
        if self.state == BreakerState::HalfOpen && planted("half_open_unlimited") {
            self.on_success();
            return false;
        }
        if let Some(delay) = self.policy.mark_dead_on_failure() {
            self.state = BreakerState::Open { until: now + delay };
        }
        matches!(self.state, BreakerState::Open { .. })
    }

    /// Keeps it open until then, whatever it has counted: the instance restarts too often.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.state = BreakerState::Open { until };
    }

    /// Counts a success: a half-open breaker closes.
    pub(crate) fn on_success(&mut self) {
        self.failures = 0;
        // Only `revived` forgets the grown delays; `record_success` forgets the count alone.
        self.policy.revived();
        self.state = BreakerState::Closed;
    }

    /// Lets a probe out if the time has come; true if it may go.
    pub(crate) fn probe(&mut self, now: Instant) -> bool {
        match self.state {
            BreakerState::Open { until } if now >= until || planted("probe_early") => {
                self.state = BreakerState::HalfOpen;
                true
            }
            BreakerState::Open { .. } => false,
            BreakerState::Closed | BreakerState::HalfOpen => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(failures: u32) -> (Breaker, Instant) {
        let config = BreakerConfig {
            failures,
            ..BreakerConfig::default()
        };
        (Breaker::new(&config, 1), Instant::now())
    }

    fn until(breaker: &Breaker) -> Instant {
        match breaker.state() {
            BreakerState::Open { until } => until,
            other => panic!("{other:?} is not open"),
        }
    }

    #[test]
    fn it_trips_at_exactly_the_kth_failure_in_a_row() {
        for k in 1..10 {
            let (mut breaker, now) = breaker(k);
            for _ in 1..k {
                assert!(!breaker.on_failure(now));
            }
            breaker.on_success();
            for _ in 1..k {
                assert!(!breaker.on_failure(now), "the success broke the row");
            }
            assert!(breaker.on_failure(now));
        }
    }

    #[test]
    fn a_failed_probe_opens_it_again_for_longer_and_a_good_one_closes_it() {
        let (mut breaker, mut now) = breaker(1);
        let mut longest = Duration::ZERO;
        for _ in 0..4 {
            assert!(breaker.on_failure(now));
            let open_for = until(&breaker) - now;
            assert!(
                open_for >= longest.mul_f64(0.99),
                "{open_for:?} after {longest:?}"
            );
            longest = open_for;
            assert!(
                !breaker.probe(until(&breaker) - Duration::from_millis(1)),
                "too early"
            );
            now = until(&breaker);
            assert!(breaker.probe(now));
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
        }
        breaker.on_success();
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.on_failure(now);
        assert!(
            until(&breaker) - now <= Duration::from_secs(10),
            "healed means back to the first delay"
        );
    }
}
