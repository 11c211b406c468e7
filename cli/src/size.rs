//! Sizes of memory as people write them.
//!
//! Owns how they are read. Must not know what is measured. Invariant: no size without its unit, and none that is nothing.

use bytesize::ByteSize;

/// Reads `512MiB`, `2GiB` or `1.5 GB` as bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    let size = text.parse::<ByteSize>().ok().filter(|_| has_unit);
    match size.map(|size| size.as_u64()) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("write a size with its unit, such as 512MiB or 2GiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units_only() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("2 GiB", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "2", "2.5", "-1GiB", "0GiB", "much", "2 apples", "GiB", "infGiB",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("such as 512MiB or 2GiB"), "{text}");
        }
    }
}
