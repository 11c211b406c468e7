//! What the turn runner and the protocol say to each other: a tag, a length, and as many bytes.
//!
//! Owns the encoding, for both sides. Must not know turns. Invariant: whatever the bytes of a frame hold, they are not
//! looked at, so that no output of a tool can pass for a frame.

/// From the runner, once: it can take a prompt.
pub(crate) const READY: u8 = b'R';
/// To the runner: a prompt. A turn begins.
pub(crate) const PROMPT: u8 = b'P';
/// To the runner, without bytes: interrupt the running turn, if there is one.
pub(crate) const INTERRUPT: u8 = b'I';
/// From the runner: standard output of the turn's process.
pub(crate) const STDOUT: u8 = b'O';
/// From the runner: standard error of the turn's process.
pub(crate) const STDERR: u8 = b'E';
/// From the runner: the turn's process has ended and nothing of it is left. The bytes are an [`Ended`].
pub(crate) const ENDED: u8 = b'X';
/// From the runner: the turn's process could not be started. The bytes say why.
pub(crate) const NOT_STARTED: u8 = b'N';

/// The bytes before those of the frame: the tag, and the length as a big-endian number.
pub(crate) const HEADER: usize = 5;

/// The header of a frame.
///
/// # Errors
/// If so many bytes do not fit a frame.
pub(crate) fn header(tag: u8, length: usize) -> Result<[u8; HEADER], TooLong> {
    let [a, b, c, d] = u32::try_from(length)
        .map_err(|_| TooLong { length })?
        .to_be_bytes();
    Ok([tag, a, b, c, d])
}

/// A frame is longer than the reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is longer than any that is meant")]
pub(crate) struct TooLong {
    length: usize,
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    held: Vec<u8>,
    /// So many of the held bytes have been read.
    read: usize,
    limit: usize,
}

impl Frames {
    /// For frames of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            held: Vec::new(),
            read: 0,
            limit,
        }
    }

    /// Takes bytes of the stream, cut anywhere.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.read);
        self.read = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame: its tag and its bytes.
    ///
    /// # Errors
    /// [`TooLong`]; what follows cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, TooLong> {
        let Some((&[tag, a, b, c, d], rest)) = self.held[self.read..].split_first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.limit {
            return Err(TooLong { length });
        }
        let Some(bytes) = rest.get(..length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.read += HEADER + length;
        Ok(Some((tag, bytes)))
    }
}

/// How a turn's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Ended {
    pub(crate) fn encode(self) -> [u8; 2] {
        match self {
            Self::Code(code) => [b'c', code],
            Self::Signal(signal) => [b's', signal],
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [b'c', code] => Some(Self::Code(code)),
            [b's', signal] => Some(Self::Signal(signal)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut frame = header(tag, bytes.len()).expect("short").to_vec();
        frame.extend_from_slice(bytes);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_bytes_are_cut(
            frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 1_usize..20,
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(tag, bytes)| frame(*tag, bytes)).collect();
            let mut reader = Frames::new(40);
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next().expect("within the limit") {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }
    }

    #[test]
    fn a_frame_that_says_it_is_too_long_is_not_waited_for() {
        let mut reader = Frames::new(3);
        reader.push(&frame(b'a', b"123"));
        assert_eq!(reader.next(), Ok(Some((b'a', b"123".to_vec()))));
        reader.push(&header(b'a', 4).expect("short"));
        assert_eq!(reader.next(), Err(TooLong { length: 4 }));
        assert!(header(b'a', usize::MAX).is_err());
    }

    #[test]
    fn an_end_is_read_as_it_was_written_and_nothing_else_is_one() {
        for end in [Ended::Code(0), Ended::Code(255), Ended::Signal(9)] {
            assert_eq!(Ended::decode(&end.encode()), Some(end));
        }
        for wrong in [&b""[..], b"c", b"x\0", b"c\0\0"] {
            assert_eq!(Ended::decode(wrong), None);
        }
    }
}
