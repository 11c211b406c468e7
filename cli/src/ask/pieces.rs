//! Text out of bytes that are cut anywhere.
//!
//! Owns the bytes of a character that is not whole yet: at most three. Invariant: the pieces together are what the whole
//! would decode to, with U+FFFD for what is no UTF-8.

/// Decodes a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    held: Vec<u8>,
}

impl Pieces {
    /// The text that can be told now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let whole = self.held.len() - unfinished(&self.held);
        let rest = self.held.split_off(whole);
        let whole = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// What is left at the end.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    bytes
        .utf8_chunks()
        .last()
        .map(|chunk| chunk.invalid())
        .filter(|invalid| {
            std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
        })
        .map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    #[test]
    fn a_text_cut_at_every_byte_is_put_together_again() {
        let text = "a→ü𝄞\u{fffd}z";
        for size in 1..=text.len() {
            let mut pieces = Pieces::default();
            let mut out: String = text
                .as_bytes()
                .chunks(size)
                .map(|bytes| pieces.push(bytes))
                .collect();
            out.push_str(&pieces.finish());
            assert_eq!(out, text, "pieces of {size}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_never_held_back() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.push(b"a\xff"), "a\u{fffd}");
        assert_eq!(pieces.push(b"\xe2\x86"), "");
        assert_eq!(pieces.push(b"b"), "\u{fffd}b");
        assert_eq!(pieces.push(b"\xf0"), "");
        assert_eq!(pieces.finish(), "\u{fffd}");
    }
}
