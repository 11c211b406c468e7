//! Bytes on their way to a process.
//!
//! Owns how much of them is written. Must not know what they mean. Invariant: they go out once each and in order, and a
//! closed input takes none.

use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;

use crate::launcher::Stdin;

/// Bytes on their way to the process.
#[derive(Default)]
pub(crate) struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
    closed: bool,
}

impl Unsent {
    pub(crate) fn push(&mut self, bytes: &mut Vec<u8>) {
        if self.closed {
            bytes.clear();
        } else if self.bytes.is_empty() {
            // The usual case: nothing is waiting, so the two buffers only change places.
            std::mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.bytes.is_empty()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.bytes.clear();
        self.sent = 0;
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    pub(crate) fn poll_send(
        &mut self,
        stdin: &mut dyn Stdin,
        context: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut *stdin).poll_write(context, &self.bytes[self.sent..]);
        if let Poll::Ready(Ok(count)) = sent {
            self.advance(count);
        }
        sent
    }

    pub(crate) async fn send(&mut self, stdin: &mut dyn Stdin) -> io::Result<usize> {
        let count = stdin.write(&self.bytes[self.sent..]).await?;
        self.advance(count);
        Ok(count)
    }
}
