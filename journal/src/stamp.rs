//! Times and durations as the numbers of the file.
//!
//! Owns the unit: microseconds, of the wall clock since 1970. Must not know any clock. Invariant: what was written is read
//! back to the microsecond; what does not fit is the nearest that does.

use std::time::{Duration, SystemTime};

/// A time on the wall clock; before 1970 it is negative.
pub(crate) fn of_time(at: SystemTime) -> i64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => of_duration(since),
        Err(before) => -of_duration(before.duration()),
    }
}

pub(crate) fn of_duration(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn time(number: i64) -> SystemTime {
    let micros = Duration::from_micros(number.unsigned_abs());
    let at = if number < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(micros)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(micros)
    };
    at.unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn duration(number: i64) -> Duration {
    Duration::from_micros(u64::try_from(number).unwrap_or_default())
}
