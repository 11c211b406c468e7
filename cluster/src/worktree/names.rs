//! Owns how names given by people become branch and folder names, and how commands are shown to people.
//!
//! Must not know git or the file system. Invariant: what [`slug`] returns is one valid component of a branch name and of a
//! path on every system, whatever it was given: it can neither climb out of a folder nor be read as an option.

use std::path::Path;

/// The longest slug, in bytes: leaves room for a number, a prefix and `.lock` within the 255 bytes of a file name.
const LONGEST: usize = 60;

/// Turns any text into one component of a branch name: letters and digits (of any script), `-` and `_`; never empty.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        let c = if c.is_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        };
        if slug.len() + c.len_utf8() > LONGEST {
            break;
        }
        if c != '-' || !(slug.is_empty() || slug.ends_with('-')) {
            slug.push(c);
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "item".to_owned()
    } else {
        slug.to_owned()
    }
}

/// `name`, then `name-2`, `name-3`, … for as many attempts as one may reasonably need.
pub(super) fn numbered(name: &str) -> impl Iterator<Item = String> {
    (1..=ATTEMPTS).map(move |n| {
        if n == 1 {
            name.to_owned()
        } else {
            format!("{name}-{n}")
        }
    })
}

/// How many names of one stem are tried: beyond it somebody has to tidy up.
pub(super) const ATTEMPTS: u32 = 200;

/// The commit message of work that the tool left uncommitted: the item's first line is the subject, the rest the body.
pub(super) fn message(item: &str) -> String {
    let text: String = item
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    let (subject, body) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    let (subject, body) = (subject.trim(), body.trim());
    let subject = if subject.is_empty() {
        "work left uncommitted"
    } else {
        subject
    };
    if body.is_empty() {
        format!("toolpool: {subject}\n")
    } else {
        format!("toolpool: {subject}\n\n{body}\n")
    }
}

/// Quotes one word for a POSIX shell, only where it needs it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command that shows what `branch` has and `onto` does not, to be run anywhere.
pub(super) fn show_diff(top: &Path, onto: &str, branch: &str) -> String {
    format!(
        "git -C {} diff {}",
        quoted(&top.to_string_lossy()),
        quoted(&format!("{onto}...{branch}"))
    )
}

/// The command that shows what is uncommitted in the checkout at `path`, to be run anywhere.
pub(super) fn show_status(path: &Path) -> String {
    format!("git -C {} status", quoted(&path.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slug_keeps_what_is_readable_and_drops_what_is_dangerous() {
        for (given, expected) in [
            ("aider-2", "aider-2"),
            ("main/2", "main-2"),
            ("Fix the  parser", "Fix-the-parser"),
            ("../../etc/passwd", "etc-passwd"),
            ("--upload-pack=evil", "upload-pack-evil"),
            ("src/lib.rs.lock", "src-lib-rs-lock"),
            ("übersetze 日本語", "übersetze-日本語"),
            ("a@{1}~^:?*[\\b", "a-1-b"),
            ("", "item"),
            (" . ", "item"),
            ("\0\n\t", "item"),
        ] {
            assert_eq!(slug(given), expected, "slug of {given:?}");
        }
    }

    #[test]
    fn a_message_has_a_subject_whatever_the_item_is() {
        for (item, expected) in [
            ("rename foo", "toolpool: rename foo\n"),
            ("rename foo\nand bar\n", "toolpool: rename foo\n\nand bar\n"),
            ("a\0b\r\nc", "toolpool: ab\n\nc\n"),
            ("  ", "toolpool: work left uncommitted\n"),
        ] {
            assert_eq!(message(item), expected, "message of {item:?}");
        }
    }

    #[test]
    fn a_word_is_quoted_only_when_a_shell_would_change_it() {
        for (word, expected) in [
            ("main...x/y", "main...x/y"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_safe_component(text in any::<String>()) {
            let slug = slug(&text);
            prop_assert!(!slug.is_empty() && slug.len() <= LONGEST);
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
            prop_assert!(slug.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_'));
        }
    }
}
