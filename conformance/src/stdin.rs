//! A launcher whose processes can lose their standard input.
//!
//! Owns that one act. Must not change anything else about a process: it starts them as the default launcher does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::AsyncWrite;
use toolpool::launcher::{LaunchSpec, Launcher, LocalLauncher, Process, Stdin};

/// The way to a process's standard input; none once it is closed.
type Pipe = Arc<Mutex<Option<Box<dyn Stdin>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a whole value: each of these is only replaced or taken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts processes on plain pipes.
#[derive(Clone, Default)]
pub(crate) struct Closable(Arc<Mutex<Pipe>>);

impl Closable {
    /// Closes the standard input of the process that was started last.
    pub(crate) fn close(&self) {
        lock(&lock(&self.0)).take();
    }
}

#[async_trait]
impl Launcher for Closable {
    async fn launch(&self, spec: &LaunchSpec) -> io::Result<Process> {
        let mut process = LocalLauncher.launch(spec).await?;
        let pipe = Pipe::default();
        let input = std::mem::replace(&mut process.stdin, Box::new(Input(Arc::clone(&pipe))));
        *lock(&pipe) = Some(input);
        *lock(&self.0) = pipe;
        Ok(process)
    }
}

/// What toolpool writes to.
struct Input(Pipe);

impl Input {
    fn with<T>(
        &self,
        act: impl FnOnce(Pin<&mut dyn Stdin>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *lock(&self.0) {
            Some(pipe) => act(Pin::new(&mut **pipe)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|pipe| pipe.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|pipe| pipe.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|pipe| pipe.poll_shutdown(context))
    }
}

impl Stdin for Input {
    fn unread_for_ever(&self) -> Option<usize> {
        lock(&self.0).as_ref()?.unread_for_ever()
    }
}
