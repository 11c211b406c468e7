//! How times and durations are told in JSON: as seconds.
//!
//! Owns their one form, which events and the rows of a journal share. Must not know what they are the times of. Invariant: a
//! time on the wall clock is seconds since 1970, and 0 before that. For `serialize_with` of serde.

use std::time::{Duration, SystemTime};

use serde::{Serialize as _, Serializer};

/// A duration.
///
/// # Errors
/// Those of the serializer.
pub fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// A duration that may not be known.
///
/// # Errors
/// Those of the serializer.
pub fn maybe_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let seconds = duration.map(|duration| duration.as_secs_f64());
    seconds.serialize(serializer)
}

/// A time on the wall clock.
///
/// # Errors
/// Those of the serializer.
pub fn unix_seconds<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    seconds(&since.unwrap_or_default(), serializer)
}

/// A time on the wall clock that may not have come.
///
/// # Errors
/// Those of the serializer.
pub fn maybe_unix_seconds<S: Serializer>(
    at: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => unix_seconds(at, serializer),
        None => serializer.serialize_none(),
    }
}
