//! Times and sizes as people write them.
//!
//! Owns the units. Invariant: an amount without a unit, or too large to count, is refused with examples.

use std::time::Duration;

/// Reads a time such as `200ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (amount, unit) = amount(text);
    let micros = match unit {
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" => Some(60_000_000),
        _ => None,
    };
    let total = amount
        .zip(micros)
        .and_then(|(amount, micros)| amount.checked_mul(micros));
    total
        .map(Duration::from_micros)
        .ok_or_else(|| format!("`{text}` is no time; write it as 50us, 200ms, 2s or 1m"))
}

/// Reads a size in bytes such as `64KiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (amount, unit) = amount(text);
    let bytes = match unit {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let total = amount
        .zip(bytes)
        .and_then(|(amount, bytes): (u64, u64)| amount.checked_mul(bytes));
    total.ok_or_else(|| format!("`{text}` is no size; write it as 10B, 64KiB, 10MiB or 1GiB"))
}

fn amount(text: &str) -> (Option<u64>, &str) {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (text[..digits].parse().ok(), &text[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_needs_a_unit_and_must_fit() {
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(size("10B"), Ok(10));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        for text in [
            "",
            "5",
            "ms",
            "-1s",
            "1 s",
            "1h",
            "99999999999999999999s",
            "999999999999999m",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "5", "B", "1KB", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
