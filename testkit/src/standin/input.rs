//! Lines from standard input.
//!
//! Owns the read buffer. Must not know what a line means. Invariant: each byte is looked at once, however long the line
//! and however it arrives.

use std::ops::Range;
use std::time::Duration;

use rustix::io::Errno;

/// How much is asked for in one `read`. The capacity of a Linux pipe.
const READ: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Input {
    buffer: Vec<u8>,
    /// Where the next line begins, up to where no newline was found, and where the filled part ends.
    start: usize,
    searched: usize,
    end: usize,
    /// How much is read at once at most, and the wait before it.
    slowly: Option<(usize, Duration)>,
}

impl Input {
    /// From now on reads in pieces, with a wait before each.
    pub(super) fn slow_down(&mut self, piece: usize, every: Duration) {
        self.slowly = Some((piece, every));
    }

    /// Reads exactly so many bytes, and forgets them: not one more leaves the pipe. Only before the first line.
    pub(super) fn discard(mut count: u64) -> Result<(), Errno> {
        let mut buffer = [0; 4096];
        while count > 0 {
            let most = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..most]) {
                Ok(0) => return Ok(()),
                Ok(read) => count -= read as u64,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next complete line without its newline, if it was read already.
    pub(super) fn next_line(&mut self) -> Option<Range<usize>> {
        let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) else {
            self.searched = self.end;
            return None;
        };
        let line = self.start..self.searched + length;
        self.start = line.end + 1;
        self.searched = self.start;
        Some(line)
    }

    pub(super) fn line(&self, line: Range<usize>) -> &[u8] {
        &self.buffer[line]
    }

    /// Reads more. Returns `false` at the end of the input. Invalidates the lines given before.
    pub(super) fn fill(&mut self) -> Result<bool, Errno> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.searched -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < READ {
            // Doubling keeps the cost of a long line in proportion to its length.
            self.buffer
                .resize((self.buffer.len() * 2).max(self.end + READ), 0);
        }
        let mut most = self.buffer.len();
        if let Some((piece, every)) = self.slowly {
            std::thread::sleep(every);
            most = most.min(self.end + piece);
        }
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut self.buffer[self.end..most]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
