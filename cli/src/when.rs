//! Moments as people write and read them.
//!
//! Owns both directions. Must not know the time: now is an argument. Invariant: what is shown can be given back.

use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};

const DAY: u32 = 24 * 60 * 60;

/// How long ago: `90s`, `2h30m`, `3d` or `2w`.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time such as 90m, 36h, 3d or 2w".to_owned();
    let days = |count: &str, days: u32| {
        let count: u32 = count.parse().map_err(|_| wrong())?;
        Ok(Duration::from_secs(
            u64::from(count) * u64::from(days) * u64::from(DAY),
        ))
    };
    if let Some(count) = text.strip_suffix('d') {
        days(count, 1)
    } else if let Some(count) = text.strip_suffix('w') {
        days(count, 7)
    } else {
        let age = text.parse::<SignedDuration>().map_err(|_| wrong())?;
        Duration::try_from(age).map_err(|_| wrong())
    }
}

/// `2h` ago, the day `2026-11-22` (its begin, UTC) or the moment `2026-11-22T14:02:11Z`.
pub(crate) fn parse(text: &str) -> Result<SystemTime, String> {
    parse_at(text, SystemTime::now())
}

fn parse_at(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.into());
    }
    if let Ok(day) = text.parse::<Date>()
        && let Ok(begin) = day.to_zoned(TimeZone::UTC)
    {
        return Ok(begin.timestamp().into());
    }
    let ago = age(text).ok().and_then(|age| now.checked_sub(age));
    ago.ok_or_else(|| {
        "write how long ago, such as 90m, 36h or 3d, a day such as 2026-11-22, or a moment such as 2026-11-22T14:02:11Z"
            .to_owned()
    })
}

/// `2026-11-22T14:02:11Z`
pub(crate) fn show(moment: SystemTime) -> String {
    rounded(moment, Unit::Second)
}

/// `12s ago`, `5m ago`, `3h ago`, `6d ago`, and the day where that is long ago. Without its `ago`, it can be given back.
pub(crate) fn ago(moment: SystemTime, now: SystemTime) -> String {
    // A clock that was set back makes no prompt of the future.
    let age = now.duration_since(moment).unwrap_or_default().as_secs();
    match age {
        0..60 => format!("{age}s ago"),
        60..3600 => format!("{}m ago", age / 60),
        3600..172_800 => format!("{}h ago", age / 3600),
        172_800..2_592_000 => format!("{}d ago", age / 86_400),
        _ => show(moment).chars().take(10).collect(),
    }
}

/// `2026-11-22T14:02:11.532Z`
pub(crate) fn exact(moment: SystemTime) -> String {
    rounded(moment, Unit::Millisecond)
}

fn rounded(moment: SystemTime, unit: Unit) -> String {
    match Timestamp::try_from(moment).and_then(|moment| moment.round(unit)) {
        Ok(moment) => moment.to_string(),
        // Before the year -9999 or after 9999: a clock that is that wrong says nothing.
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_an_age_a_day_or_a_time() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = at(1_795_399_331);
        for (text, seconds) in [
            ("90s", 1_795_399_241),
            ("2h", 1_795_392_131),
            ("3d", 1_795_140_131),
            ("1w", 1_794_794_531),
            ("2026-11-22", 1_795_305_600),
            ("2026-11-22T14:02:11Z", 1_795_356_131),
            ("2026-11-22T14:02:11+01:00", 1_795_352_531),
        ] {
            assert_eq!(parse_at(text, now), Ok(at(seconds)), "{text}");
        }
        for text in ["", "d", "-1d", "soon", "2026-13-01", "99999999999d"] {
            assert!(parse_at(text, now).is_err(), "{text}");
        }
        assert_eq!(show(at(1_795_356_131)), "2026-11-22T14:02:11Z");
    }

    #[test]
    fn an_age_is_told_in_one_unit_and_a_long_one_as_a_day() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_399_331);
        for (seconds, told) in [
            (0, "0s ago"),
            (59, "59s ago"),
            (119, "1m ago"),
            (3_600, "1h ago"),
            (47 * 3_600, "47h ago"),
            (3 * 86_400, "3d ago"),
            (31 * 86_400, "2026-10-23"),
        ] {
            let moment = now - Duration::from_secs(seconds);
            assert_eq!(ago(moment, now), told);
            if let Some(age) = told.strip_suffix(" ago") {
                assert!(parse_at(age, now).is_ok(), "{age}");
            }
        }
        assert_eq!(ago(now + Duration::from_secs(9), now), "0s ago");
    }
}
