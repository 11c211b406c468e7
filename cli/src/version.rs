//! Versions of tools: found in what they print, compared with what a profile was proven on.
//!
//! Owns both. Must not know how a tool is run. Invariant: what cannot be read is no version, never a wrong one.

use std::cmp::Ordering;

/// The first word that looks like a version, such as `0.86.2` in `aider 0.86.2`.
pub(crate) fn find(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .find_map(|word| {
            let word = word.strip_prefix('v').unwrap_or(word);
            let end = word
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(word.len());
            let version = word[..end].trim_end_matches('.');
            let is_one = version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit());
            is_one.then(|| version.to_owned())
        })
}

/// Whether a version is in a range such as `>=0.86.0, <0.87.0`; None if either cannot be read.
pub(crate) fn is_in(version: &str, range: &str) -> Option<bool> {
    let version = numbers(version)?;
    let mut all = true;
    for condition in range.split(',').map(str::trim) {
        let digits = condition.find(|c: char| c.is_ascii_digit())?;
        let (sign, bound) = condition.split_at(digits);
        let order = compare(&version, &numbers(bound)?);
        all &= match sign.trim() {
            ">=" => order.is_ge(),
            ">" => order.is_gt(),
            "<=" => order.is_le(),
            "<" => order.is_lt(),
            "=" | "" => order.is_eq(),
            _ => return None,
        };
    }
    Some(all)
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version
        .trim()
        .split('.')
        .map(|part| part.parse().ok())
        .collect()
}

/// Missing parts are zeros.
fn compare(left: &[u64], right: &[u64]) -> Ordering {
    let part = |version: &[u64], at: usize| version.get(at).copied().unwrap_or(0);
    (0..left.len().max(right.len()))
        .map(|at| part(left, at).cmp(&part(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_real_tools_print() {
        for (text, version) in [
            ("aider 0.86.2\n", Some("0.86.2")),
            (
                "GNU bash, version 5.2.37(1)-release (x86_64-pc-linux-gnu)",
                Some("5.2.37"),
            ),
            ("bc 1.07.1\nCopyright 1991-1994, 1997", Some("1.07.1")),
            ("Python 3.13.5", Some("3.13.5")),
            ("3.46.1 2024-08-13 09:16:08 c9c2ab54", Some("3.46.1")),
            ("git version 2.47.3", Some("2.47.3")),
            ("git version 2.39.5 (Apple Git-154)", Some("2.39.5")),
            ("v1.2.", Some("1.2")),
            ("no version 7 here", None),
            ("", None),
        ] {
            assert_eq!(find(text).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn a_range_is_all_of_its_conditions() {
        for (version, range, inside) in [
            ("0.86.2", ">=0.86.0, <0.87.0", Some(true)),
            ("0.86", ">=0.86.0, <0.87.0", Some(true)),
            ("0.87.0", ">=0.86.0, <0.87.0", Some(false)),
            ("0.9.0", ">=0.86.0", Some(false)),
            ("2.47.3", ">=2.40", Some(true)),
            ("1.2.3", "1.2.3", Some(true)),
            ("1.2.3", "~1.2", None),
            ("1.2.3", "", None),
            ("x", ">=1", None),
        ] {
            assert_eq!(is_in(version, range), inside, "{version} in {range}");
        }
    }
}
