//! Time in which this program did not run: stopped by Ctrl-Z or SIGSTOP, or frozen.
//!
//! Owns the sum. Must not know whose deadlines it moves. Invariant: a standstill is counted before anybody who asks acts on
//! the time, whichever thread runs first afterwards.
//!
//! The monotonic clock goes on while a process is stopped, and so does a tool, which is in a session of its own. Whoever
//! waited for the tool could not hear it meanwhile, and must not hold that against it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How often it is written down that this program runs.
const BEAT: Duration = Duration::from_secs(1);

/// More than this between two beats was a standstill; less is a busy machine.
const LATE: Duration = Duration::from_secs(2);

/// There is one from the first process on: before that there is nobody to wait for.
static PULSE: OnceLock<Mutex<Pulse>> = OnceLock::new();

struct Pulse {
    last: Instant,
    stood_still: Duration,
}

impl Pulse {
    fn beat(&mut self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.last);
        if gap > LATE {
            self.stood_still += gap - BEAT;
        }
        self.last = now;
        self.stood_still
    }
}

/// How long this program has stood still since it started its first tool, to about a second. Standstills of less than
/// that are not counted.
pub fn stood_still() -> Duration {
    PULSE.get().map_or(Duration::ZERO, |pulse| {
        // Nothing panics while it is locked; what is in it is right in any case.
        let mut pulse = pulse.lock().unwrap_or_else(PoisonError::into_inner);
        pulse.beat(Instant::now())
    })
}

/// Begins to count, once.
pub(crate) fn watch() {
    let first = Pulse {
        last: Instant::now(),
        stood_still: Duration::ZERO,
    };
    if PULSE.set(Mutex::new(first)).is_ok() {
        let beat = || {
            loop {
                std::thread::sleep(BEAT);
                stood_still();
            }
        };
        let thread = std::thread::Builder::new().name("toolpool-pulse".to_owned());
        // Where no thread can be made, a standstill counts from the last time that anybody asked: too much rather than
        // too little, for tools that are waited for.
        thread.spawn(beat).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_longer_than_a_late_beat_is_a_standstill() {
        let mut now = Instant::now();
        let mut pulse = Pulse {
            last: now,
            stood_still: Duration::ZERO,
        };
        let mut after = |millis| {
            now += Duration::from_millis(millis);
            pulse.beat(now).as_millis()
        };
        assert_eq!(after(1000), 0);
        assert_eq!(after(2000), 0, "late");
        assert_eq!(after(0), 0, "somebody asked");
        assert_eq!(after(60_000), 59_000, "a beat was due in it");
        assert_eq!(after(1000), 59_000, "counted once");
        assert_eq!(after(3000), 61_000);
    }
}
