//! The first and the last bytes of a stream, as evidence.
//!
//! Owns what is kept of a stream and how it is shown. Must not know what the bytes mean, but for lines that we had the
//! tool print. Invariants: never holds more than twice [`KEPT`]; what is shown has no control characters but ends of lines
//! and tabs.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::num::NonZeroU16;

use serde::Serialize;

/// How much is kept of a stream's beginning, and as much of its end.
const KEPT: usize = 4096;

/// The hexadecimal digits of a 128-bit nonce.
const NONCE_DIGITS: usize = 32;

/// The screen on which a text with escape sequences is shown.
const SHOWN_ROWS: NonZeroU16 = NonZeroU16::new(100).expect("it is not 0");
const SHOWN_COLS: NonZeroU16 = NonZeroU16::new(200).expect("it is not 0");

/// What a process has printed, as far as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Printed {
    /// To its standard output; of a process that ended in a turn, or after one, since that began.
    pub stdout: Ends,
    /// To its standard error, since its start.
    pub stderr: Ends,
}

/// The two ends of what was printed to a stream, as text without control characters and escape sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// The first 4 KiB.
    pub first: String,
    /// What follows of it, at most the last 4 KiB.
    pub last: String,
    /// Bytes between the two that were not kept.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    first: Vec<u8>,
    last: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = KEPT - self.first.len();
        let (first, bytes) = bytes.split_at(room.min(bytes.len()));
        self.first.extend_from_slice(first);
        let surplus = (self.last.len() + bytes.len()).saturating_sub(KEPT);
        self.dropped += surplus as u64;
        let kept = &bytes[bytes.len().saturating_sub(KEPT)..];
        self.last.drain(..surplus.min(self.last.len()));
        self.last.extend(kept);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.first.clear();
        self.last.clear();
        self.dropped = 0;
    }

    /// The last `count` lines that are neither blank nor marks of ours, as text.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        let (older, newer) = self.last.as_slices();
        let bytes = match self.dropped {
            0 => [self.first.as_slice(), older, newer].concat(),
            _ => [older, newer].concat(),
        };
        let text = shown(&String::from_utf8_lossy(&bytes)).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !is_mark(line))
            .collect();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }

    pub(crate) fn ends(&self) -> Ends {
        let (older, newer) = self.last.as_slices();
        let first = String::from_utf8_lossy(&self.first);
        Ends {
            first: shown(&beginning(&first)).into_owned(),
            last: shown(&String::from_utf8_lossy(&[older, newer].concat())).into_owned(),
            dropped: self.dropped,
        }
    }
}

/// Whether a line is no more than a nonce, as programs without a protocol print it at the start and the end of a reply.
fn is_mark(line: &str) -> bool {
    line.len() == NONCE_DIGITS && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// As much of a text with escape sequences as does not scroll off the screen that it is shown on.
fn beginning(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let lines = text.split_inclusive('\n');
    Cow::Owned(lines.take(SHOWN_ROWS.get().into()).collect())
}

/// What a terminal shows of a text: a report must not carry a tool's escape sequences to somebody's terminal.
fn shown(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains('\u{1b}') {
        return match text.contains(steers) {
            false => Cow::Borrowed(text),
            true => Cow::Owned(
                text.replace("\r\n", "\n")
                    .replace('\r', "\n")
                    .replace(steers, ""),
            ),
        };
    }
    let mut parser = vt100::Parser::new(SHOWN_ROWS, SHOWN_COLS, 0);
    // Why one character is left out, the screen protocol's emulator tells.
    let text = text.replace('\u{fe0f}', "").replace('\n', "\r\n");
    parser.process(text.as_bytes());
    Cow::Owned(parser.screen().contents().replace(steers, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_obeyed_and_not_shown() {
        let mut tail = Tail::default();
        tail.push(b"\x1b[1mbold\x1b[0m\nold\r\x1b[Knew\n\x1b]0;title\x07end \xe2\x9d\xa4\xef\xb8\x8f\x1b[");
        assert_eq!(tail.lines(3), ["bold", "new", "end \u{2764}"]);
    }

    #[test]
    fn marks_of_ours_are_no_last_words() {
        let mut tail = Tail::default();
        tail.push(b"4ddfb9ba4f87e1be3489fe34cd235992\nno such key 4ddfb9ba4f87e1be3489fe34cd235992\n0123456789abcdef0123456789abcdef\n");
        assert_eq!(
            tail.lines(3),
            ["no such key 4ddfb9ba4f87e1be3489fe34cd235992"]
        );
    }

    #[test]
    fn control_characters_are_not_shown_even_without_an_escape() {
        let mut tail = Tail::default();
        // The last is the one character that begins a control sequence.
        tail.push("10 %\r20 %\r\nbell\x07 \u{9b}2J\tend\n".as_bytes());
        assert_eq!(tail.lines(9), ["10 %", "20 %", "bell 2J\tend"]);
    }

    #[test]
    fn the_first_and_the_last_bytes_are_kept_and_the_rest_is_counted() {
        let mut tail = Tail::default();
        tail.push(b"Usage: tool\n");
        tail.push(&[b'a'; 100_000]);
        tail.push(b"\none\n\ntwo\n");
        assert_eq!(tail.lines(2), ["one", "two"]);
        let ends = tail.ends();
        assert!(ends.first.starts_with("Usage: tool\naaa"), "{ends:?}");
        assert!(ends.last.ends_with("aaa\none\n\ntwo\n"), "{ends:?}");
        assert_eq!(ends.first.len() + ends.last.len(), 2 * KEPT);
        assert_eq!(ends.dropped, (12 + 100_000 + 10 - 2 * KEPT) as u64);
        tail.clear();
        assert_eq!(tail.ends(), Ends::default());
    }

    proptest! {
        #[test]
        fn what_is_kept_does_not_depend_on_how_it_came(
            pieces in prop::collection::vec(0usize..9_000, 0..6)
        ) {
            let bytes: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|at| b'a' + (at % 26) as u8).collect();
            let mut tail = Tail::default();
            let mut rest = bytes.as_slice();
            for piece in pieces {
                let (now, later) = rest.split_at(piece);
                tail.push(now);
                rest = later;
            }
            let ends = tail.ends();
            let first = bytes.len().min(KEPT);
            let last = bytes.len().saturating_sub(first).min(KEPT);
            prop_assert_eq!(ends.first.as_bytes(), &bytes[..first]);
            prop_assert_eq!(ends.last.as_bytes(), &bytes[bytes.len() - last..]);
            prop_assert_eq!(ends.dropped as usize, bytes.len() - first - last);
        }
    }
}
