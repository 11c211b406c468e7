//! The last bytes of a stream, as evidence.
//!
//! Owns a bounded ring. Must not know what the bytes mean. Invariant: never holds more than [`TAIL_BYTES`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::num::NonZeroU16;

/// How much of each stream is kept for crash reports.
const TAIL_BYTES: usize = 4096;

/// The screen on which a text with escape sequences is shown.
const SHOWN_ROWS: NonZeroU16 = NonZeroU16::new(100).expect("it is not 0");
const SHOWN_COLS: NonZeroU16 = NonZeroU16::new(200).expect("it is not 0");

#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (self.0.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        self.0.drain(..surplus);
        self.0.extend(bytes);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The last `count` lines that are not blank, as text.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(self.0.make_contiguous());
        let text = shown(&text);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

/// What a terminal shows of a text: a report must not carry a tool's escape sequences to somebody's terminal.
fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut parser = vt100::Parser::new(SHOWN_ROWS, SHOWN_COLS, 0);
    // Why one character is left out, the screen protocol's emulator tells.
    let text = text.replace('\u{fe0f}', "").replace('\n', "\r\n");
    parser.process(text.as_bytes());
    Cow::Owned(parser.screen().contents())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_obeyed_and_not_shown() {
        let mut tail = Tail::default();
        tail.push(b"\x1b[1mbold\x1b[0m\nold\r\x1b[Knew\n\x1b]0;title\x07end \xe2\x9d\xa4\xef\xb8\x8f\x1b[");
        assert_eq!(tail.lines(3), ["bold", "new", "end \u{2764}"]);
    }

    #[test]
    fn only_the_last_bytes_are_kept() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; 10_000]);
        tail.push(b"\none\n\ntwo\n");
        assert_eq!(tail.0.len(), TAIL_BYTES);
        assert_eq!(tail.lines(2), ["one", "two"]);
    }
}
