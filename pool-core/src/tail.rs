//! The last bytes of a stream, as evidence.
//!
//! Owns a bounded ring. Must not know what the bytes mean. Invariant: never holds more than [`TAIL_BYTES`].

use std::collections::VecDeque;

/// How much of each stream is kept for crash reports.
const TAIL_BYTES: usize = 4096;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bytes_are_kept() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; 10_000]);
        tail.push(b"\none\n\ntwo\n");
        assert_eq!(tail.0.len(), TAIL_BYTES);
        assert_eq!(tail.lines(2), ["one", "two"]);
    }
}
