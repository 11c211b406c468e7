//! Lines from standard input.
//!
//! Owns the read buffer. Must not know what a line means. Invariant: each byte is looked at once, however long the line
//! and however it arrives.

use std::ops::Range;

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
}

impl Input {
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
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut self.buffer[self.end..]) {
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
