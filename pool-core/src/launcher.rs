//! Starting a process, and the handle to it.
//!
//! Owns the [`Launcher`] seam, the choice between pipes and a terminal, the pipes and the signals to a process group. Must
//! not know protocols, turns or restarts. Invariant: dropping a [`Process`] kills its whole process group.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use async_trait::async_trait;
use rustix::process::{Pid, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::process::Child;

use crate::{procfs, pty, shim, spawner};

/// What to start.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Whether stderr goes into stdout's pipe.
    pub merge_stderr: bool,
    /// The terminal it needs instead of pipes.
    pub terminal: Option<TerminalSize>,
    /// The process's private folder, removed when nobody holds it any more.
    pub(crate) state: Arc<TempDir>,
}

/// The size of a terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Its height.
    pub rows: NonZeroU16,
    /// Its width.
    pub cols: NonZeroU16,
}

/// Starts processes. Tests and other transports plug in here.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Starts a process whose three standard streams are connected to the answer.
    ///
    /// # Errors
    /// If the process could not be started; nothing is left behind then.
    async fn launch(&self, spec: &LaunchSpec) -> io::Result<Process>;
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "unknown end"),
        }
    }
}

/// What can be sent to a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupSignal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM, then SIGCONT, since a stopped process does not see the first before the second.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// The process group of one process.
pub trait ProcessGroup: Send + Sync {
    /// Sends a signal to every process of the group; a group that is gone is fine.
    fn signal(&self, signal: GroupSignal);
    /// Whether no process of the group lives. Asked only after the process itself has ended; where it cannot be known
    /// the answer is yes.
    fn is_empty(&self) -> bool {
        true
    }
}

/// A running process: its pipes, its exit, its group.
pub struct Process {
    /// The process id, if it is a local process.
    pub pid: Option<u32>,
    /// The way to its standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    /// The way from its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// The way from its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// Resolves once, when the process itself has ended, whoever still holds its pipes.
    pub exit: Pin<Box<dyn Future<Output = Exit> + Send + Sync>>,
    /// Its process group.
    pub group: Box<dyn ProcessGroup>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.signal(GroupSignal::Kill);
    }
}

/// Processes of this machine: with a terminal where the spec asks for one, with pipes otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalLauncher;

#[async_trait]
impl Launcher for LocalLauncher {
    async fn launch(&self, spec: &LaunchSpec) -> io::Result<Process> {
        match spec.terminal {
            Some(size) => pty::launch(spec, size).await,
            None => launch_on_pipes(spec).await,
        }
    }
}

/// The number of a group, or 0 once it was seen empty: from then on the number may come to name another group.
struct OsGroup(AtomicI32);

impl OsGroup {
    fn number(&self) -> Option<Pid> {
        Pid::from_raw(self.0.load(Ordering::Relaxed))
    }
}

impl ProcessGroup for OsGroup {
    fn is_empty(&self) -> bool {
        let empty = self.number().is_none_or(procfs::group_is_empty);
        if empty {
            self.0.store(0, Ordering::Relaxed);
        }
        empty
    }

    fn signal(&self, signal: GroupSignal) {
        let Some(group) = self.number() else { return };
        let send = |signal| {
            kill_process_group(group, signal).ok();
        };
        match signal {
            GroupSignal::Interrupt => send(rustix::process::Signal::INT),
            GroupSignal::Terminate => {
                send(rustix::process::Signal::TERM);
                send(rustix::process::Signal::CONT);
            }
            GroupSignal::Kill => send(rustix::process::Signal::KILL),
        }
    }
}

/// The command of a spec, its standard streams still open.
pub(crate) fn command(
    spec: &LaunchSpec,
    mut command: std::process::Command,
) -> std::process::Command {
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&spec.cwd);
    command
}

async fn launch_on_pipes(spec: &LaunchSpec) -> io::Result<Process> {
    let mut command = command(spec, shim::command(&spec.program));
    command.stdin(Stdio::piped());
    let merged = if spec.merge_stderr {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Some(reader)
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    let mut child = spawn(command).await?;
    let missing = || io::Error::other("a standard stream was not connected");
    let stdin = Box::new(child.stdin.take().ok_or_else(missing)?);
    let (stdout, stderr): (
        Box<dyn AsyncRead + Send + Sync + Unpin>,
        Box<dyn AsyncRead + Send + Sync + Unpin>,
    ) = match merged {
        Some(reader) => (
            Box::new(pipe::Receiver::from_owned_fd(reader.into())?),
            Box::new(tokio::io::empty()),
        ),
        None => (
            Box::new(child.stdout.take().ok_or_else(missing)?),
            Box::new(child.stderr.take().ok_or_else(missing)?),
        ),
    };
    let pid = child.id();
    Ok(Process {
        pid,
        stdin,
        stdout,
        stderr,
        exit: exit_of(child),
        group: Box::new(OsGroup(AtomicI32::new(pid.map_or(0, u32::cast_signed)))),
    })
}

pub(crate) async fn spawn(command: std::process::Command) -> io::Result<Child> {
    let mut command = tokio::process::Command::from(command);
    // Covers the moments in which no `Process` exists yet; afterwards its drop kills the whole group.
    command.kill_on_drop(true);
    spawner::spawn(command).await
}

pub(crate) fn exit_of(mut child: Child) -> Pin<Box<dyn Future<Output = Exit> + Send + Sync>> {
    Box::pin(async move {
        match child.wait().await {
            Ok(status) => Exit {
                code: status.code(),
                signal: status.signal(),
            },
            Err(_) => Exit {
                code: None,
                signal: None,
            },
        }
    })
}
