//! Starting a process, and the handle to it.
//!
//! Owns the [`Launcher`] seam, the choice between pipes and a terminal, the pipes and the signals to a process group. Must
//! not know protocols, turns or restarts. Invariant: dropping a [`Process`] kills its whole process group, and the
//! [keeper](crate::shim::init) of the process, if it has one, then kills whatever else descends from it.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::num::NonZeroU16;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::cgroup::Cgroup;
use crate::folder::Folder;
use crate::planted::planted;
use crate::spawner::{self, Spawned};
use crate::{keeper, procfs, pty, shim};

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
    /// The process's private folder, removed when nobody holds it any more; by its keeper, if this program dies; unless it
    /// is kept. A process that goes on with a conversation has that of the process before.
    pub(crate) state: Arc<Folder>,
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

/// The way to a process's standard input.
pub trait Stdin: AsyncWrite + Send + Sync + Unpin {
    /// Bytes that were written and that nobody has read or ever will: every process that could has ended. None if somebody
    /// may still read, or where it cannot be known.
    fn unread_for_ever(&self) -> Option<usize> {
        None
    }
}

impl Stdin for tokio::process::ChildStdin {
    fn unread_for_ever(&self) -> Option<usize> {
        // The kernel reports an error on the writing end of a pipe that has no readers, and still counts what lies in it.
        let mut looked = [PollFd::new(self, PollFlags::OUT)];
        poll(&mut looked, Some(&Timespec::default())).ok()?;
        let forsaken = looked[0].revents().contains(PollFlags::ERR);
        let unread = rustix::io::ioctl_fionread(self).ok()?;
        usize::try_from(unread).ok().filter(|_| forsaken)
    }
}

/// A terminal, whose readers cannot be told apart from who holds it open.
impl Stdin for pipe::Sender {}

/// A launcher's own transport.
impl Stdin for tokio::io::DuplexStream {}

/// Nobody reads, and nobody is to be told.
impl Stdin for tokio::io::Sink {}

/// What a process writes.
pub type Output = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// A running process: its pipes, its exit, its group.
pub struct Process {
    /// The process id, if it is a local process.
    pub pid: Option<u32>,
    /// The way to its standard input.
    pub stdin: Box<dyn Stdin>,
    /// The way from its standard output.
    pub stdout: Output,
    /// The way from its standard error.
    pub stderr: Output,
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
            if planted("pid_only") {
                rustix::process::kill_process(group, signal).ok();
            } else {
                kill_process_group(group, signal).ok();
            }
        };
        match signal {
            GroupSignal::Interrupt => send(Signal::INT),
            GroupSignal::Terminate => {
                send(Signal::TERM);
                if !planted("cont_forgotten") {
                    send(Signal::CONT);
                }
            }
            GroupSignal::Kill => send(Signal::KILL),
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
    let kept = shim::keeper_command(&spec.program, spec.state.path(), false);
    let is_kept = kept.is_some();
    let plain = || {
        let mut command = std::process::Command::new(&spec.program);
        command.process_group(0);
        command
    };
    let mut command = command(spec, kept.unwrap_or_else(plain));
    command.stdin(Stdio::piped());
    let merged = if spec.merge_stderr {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Some(reader)
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    let mut spawned = spawn(command, is_kept).await?;
    let missing = || io::Error::other("a standard stream was not connected");
    let child = &mut spawned.child;
    let stdin = Box::new(child.stdin.take().ok_or_else(missing)?);
    let (mut stdout, stderr): (Output, Output) = match merged {
        Some(reader) => (
            Box::new(pipe::Receiver::from_owned_fd(reader.into())?),
            Box::new(tokio::io::empty()),
        ),
        None => (
            Box::new(child.stdout.take().ok_or_else(missing)?),
            Box::new(child.stderr.take().ok_or_else(missing)?),
        ),
    };
    let mut pid = child.id();
    if is_kept {
        (pid, stdout) = pid_of_kept(stdout).await;
    }
    Ok(Process {
        pid,
        stdin,
        stdout,
        stderr,
        exit: exit_of(spawned, Arc::clone(&spec.state)),
        group: Box::new(OsGroup(AtomicI32::new(pid.map_or(0, u32::cast_signed)))),
    })
}

/// Takes the process id of a tool with a keeper off the front of its output. None if the tool could not be started; the
/// output then begins with what came instead.
pub(crate) async fn pid_of_kept(mut output: Output) -> (Option<u32>, Output) {
    match shim::read_pid(&mut output).await {
        Ok(pid) => (Some(pid), output),
        Err(instead) => {
            let whole = AsyncReadExt::chain(io::Cursor::new(instead), output);
            (None, Box::new(whole))
        }
    }
}

/// Spawns a command; `is_kept` if it is a keeper.
pub(crate) async fn spawn(command: std::process::Command, is_kept: bool) -> io::Result<Spawned> {
    // Covers the moments in which no `Process` exists yet; its drop kills the whole group, and then does the same.
    let at_drop = if is_kept { keeper::END } else { Signal::KILL };
    spawner::spawn(command.into(), at_drop).await
}

/// How a process ends whose private folder is `state`.
pub(crate) fn exit_of(
    mut spawned: Spawned,
    state: Arc<Folder>,
) -> Pin<Box<dyn Future<Output = Exit> + Send + Sync>> {
    Box::pin(async move {
        let end = spawned.child.wait().await;
        if let Some(cgroup) = Cgroup::left(state.path()) {
            end_what_is_left(&cgroup).await;
        }
        match end {
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

/// Ends what a keeper that was killed has left.
async fn end_what_is_left(cgroup: &Cgroup) {
    let until = Instant::now() + keeper::GIVE_UP;
    cgroup.kill();
    while !cgroup.remove() && Instant::now() < until {
        tokio::time::sleep(keeper::LOOK).await;
    }
}
