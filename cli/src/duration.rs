//! Durations as people write and read them.
//!
//! Owns both directions. Must not know what is timed.

use std::time::Duration;

/// Reads `20m`, `90s` or `1m 30s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration such as 90s, 20m or 1h30m".to_owned();
    let duration = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(wrong()),
    }
}

/// Writes `0.0 s`, `12.3 s` or `4m05s`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_units_only() {
        for (text, seconds) in [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1m 30s", 90)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "20", "-1s", "0s", "soon", "1x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_durations_are_shown_in_minutes() {
        for (millis, shown) in [
            (40, "0.0 s"),
            (99_900, "99.9 s"),
            (100_000, "1m40s"),
            (3_725_000, "62m05s"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), shown);
        }
    }
}
