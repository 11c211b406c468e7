//! The time that the two loops give to their cores.
//!
//! Owns the difference to tokio's clock: the time in which this program stood still. Must not know what is timed.
//! Invariant: a deadline that passed while this program was stopped is as far away afterwards as it was before, give or
//! take a second.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use toolpool_pool_core::stood_still;

use crate::planted::planted;

/// Now, on a clock that stands still with this program.
pub(crate) fn now() -> Instant {
    let now = tokio::time::Instant::now().into_std();
    if planted("wall_clock") {
        static BEGAN: OnceLock<(Instant, SystemTime)> = OnceLock::new();
        let (began, wall) = BEGAN.get_or_init(|| (now, SystemTime::now()));
        let passed = wall.elapsed();
        return passed.map_or_else(|back| *began - back.duration(), |passed| *began + passed);
    }
    now.checked_sub(stood_still()).unwrap_or(now)
}

/// When tokio's timer is to fire for a time of [`now`]'s clock. A standstill that comes later makes it fire early, and
/// whoever is woken looks at [`now`] and sets it again.
pub(crate) fn timer(at: Instant) -> tokio::time::Instant {
    (at + stood_still()).into()
}
