//! The terminal transport: a process whose three standard streams are one pseudo-terminal.
//!
//! Owns the pair of terminal ends and the signals to a terminal's session. Must not know protocols or what a screen
//! shows. Invariant: every file is close-on-exec from its first moment, and the tool's end is closed here as soon as the
//! tool has it, so that its end is seen.
//!
//! The terminal is left as every terminal begins: it echoes, edits lines and makes signals of keys. Programs that need a
//! terminal switch off what disturbs them, and some believe what they find: readline shows nothing of what is typed
//! where echo is off at its start (measured with bash 5.2).

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::net::unix::pipe;

use crate::launcher::{self, GroupSignal, LaunchSpec, Process, ProcessGroup, TerminalSize};
use crate::{procfs, shim};

/// A process that forks while its session is killed is met again in the next round.
const KILL_ROUNDS: u32 = 3;

/// Starts a process on a terminal of its own.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if this program has no shim: only a process itself can take a terminal as its own.
pub(crate) async fn launch(spec: &LaunchSpec, size: TerminalSize) -> io::Result<Process> {
    let shim = shim::keeper_command(&spec.program, spec.state.path(), true).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "it needs a terminal, which only the shim can give it; call `toolpool::init()` first in `main`",
        )
    })?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    set_up(&theirs, size)?;
    let mut command = launcher::command(spec, shim);
    command
        .stdin(Stdio::from(theirs.try_clone()?))
        .stdout(Stdio::from(theirs.try_clone()?))
        .stderr(Stdio::from(theirs));
    let spawned = launcher::spawn(command, true).await?;
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    // tokio's ends of a pipe read and write any file that can be polled; its `AsyncFd` needs `unsafe`.
    let stdout = Box::new(pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?);
    let stdin = Box::new(pipe::Sender::from_owned_fd_unchecked(ours)?);
    let (pid, stdout) = launcher::pid_of_kept(stdout).await;
    Ok(Process {
        pid,
        stdin,
        stdout,
        stderr: Box::new(tokio::io::empty()),
        exit: launcher::exit_of(spawned, Arc::clone(&spec.state)),
        group: Box::new(Session(AtomicI32::new(pid.map_or(0, u32::cast_signed)))),
    })
}

fn set_up(terminal: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    tcsetwinsize(
        terminal,
        Winsize {
            ws_row: size.rows.get(),
            ws_col: size.cols.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?;
    // Erasing a character must erase all of its bytes.
    let mut modes = tcgetattr(terminal)?;
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(terminal, OptionalActions::Now, &modes)?;
    Ok(())
}

/// The number of a session, or 0 once it was seen empty. A shell with job control gives every job a group of its own, so
/// the group of the first process is not enough.
struct Session(AtomicI32);

impl Session {
    fn number(&self) -> Option<Pid> {
        Pid::from_raw(self.0.load(Ordering::Relaxed))
    }
}

impl ProcessGroup for Session {
    fn is_empty(&self) -> bool {
        let empty = self
            .number()
            .is_none_or(|session| procfs::session_groups(session).is_empty());
        if empty {
            self.0.store(0, Ordering::Relaxed);
        }
        empty
    }

    fn signal(&self, signal: GroupSignal) {
        let Some(session) = self.number() else { return };
        let send = |signals: &[Signal]| {
            let groups = procfs::session_groups(session);
            for group in &groups {
                for signal in signals {
                    kill_process_group(*group, *signal).ok();
                }
            }
            !groups.is_empty()
        };
        match signal {
            GroupSignal::Interrupt => {
                send(&[Signal::INT]);
            }
            // A shell with a terminal ignores SIGTERM and obeys the hang-up.
            GroupSignal::Terminate => {
                send(&[Signal::HUP, Signal::TERM, Signal::CONT]);
            }
            GroupSignal::Kill => {
                // Should /proc not be readable, the first process at least.
                kill_process_group(session, Signal::KILL).ok();
                let mut rounds = 0..KILL_ROUNDS;
                while rounds.next().is_some() && send(&[Signal::KILL]) {}
            }
        }
    }
}
