//! What a lane's owner takes for the standard input of a process.
//!
//! Owns the word that something was written. Must not know lanes or lines. Invariant: nothing counts as written before the
//! process may have read of it, so what a process that died has never been given can be handed back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};

use crate::launcher::Stdin;

/// What was written at once.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// To be told when the process may have read of it; to be dropped if it never will.
    pub(super) taken: oneshot::Sender<()>,
}

/// The two ends of an input.
pub(super) fn new() -> (Input, mpsc::Receiver<Written>) {
    // One is enough: the next write waits for the word about the one before.
    let (sender, receiver) = mpsc::channel(1);
    let input = Input {
        sender,
        pending: None,
    };
    (input, receiver)
}

/// The writing end. Whoever polls it again before it is ready must offer the same bytes, or more behind them.
pub(super) struct Input {
    sender: mpsc::Sender<Written>,
    /// How many bytes are on their way, and the word about them.
    pending: Option<(usize, oneshot::Receiver<()>)>,
}

impl Stdin for Input {}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let closed = io::ErrorKind::BrokenPipe;
        let (count, mut word) = match self.pending.take() {
            Some(pending) => pending,
            None => {
                let (taken, word) = oneshot::channel();
                let written = Written {
                    bytes: bytes.to_vec(),
                    taken,
                };
                if self.sender.try_send(written).is_err() {
                    return Poll::Ready(Err(closed.into()));
                }
                (bytes.len(), word)
            }
        };
        match Pin::new(&mut word).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(count)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(closed.into())),
            Poll::Pending => {
                self.pending = Some((count, word));
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
