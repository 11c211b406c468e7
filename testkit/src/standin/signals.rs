//! Signals that the script answers or ignores.
//!
//! Owns the pipes through which handlers wake the tool. Must not know what a signal means. Invariant: a signal that
//! came is seen at the next wait, also if it came just before it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woke {
    Signal(Signal),
    Input,
    Time,
}

#[derive(Debug)]
pub(super) struct Signals(Vec<(Signal, UnixStream)>);

impl Signals {
    /// From now on these signals are caught and kept for [`Signals::wait`].
    pub(super) fn catch(signals: &[Signal]) -> io::Result<Self> {
        let mut pipes = Vec::new();
        for signal in signals {
            let (read, write) = UnixStream::pair()?;
            signal_hook::low_level::pipe::register(signal.as_raw(), write)?;
            pipes.push((*signal, read));
        }
        Ok(Self(pipes))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for a signal, for input if `input` is set, and until `deadline` if there is one.
    pub(super) fn wait(&self, input: bool, deadline: Option<Instant>) -> io::Result<Woke> {
        loop {
            let mut fds: Vec<PollFd<'_>> = self
                .0
                .iter()
                .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
                .collect();
            let stdin = rustix::stdio::stdin();
            if input {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(Woke::Time),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for (fd, (signal, pipe)) in fds.iter().zip(&self.0) {
                if !fd.revents().is_empty() {
                    rustix::io::read(pipe, &mut [0; 1])?;
                    return Ok(Woke::Signal(*signal));
                }
            }
            return Ok(Woke::Input);
        }
    }
}

/// From now on these signals do nothing. They are caught by a handler that only sets a flag nobody reads: programs
/// cannot set a signal to be ignored without unsafe code, and from outside the two look the same.
pub(super) fn ignore(signals: &[Signal]) -> io::Result<()> {
    for signal in signals {
        signal_hook::flag::register(signal.as_raw(), Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
