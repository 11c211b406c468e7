//! The re-exec shim: our own binary prepares itself in safe code and then becomes the tool.
//!
//! Owns what must happen between spawn and exec: own session, own terminal if asked for, no core dumps, no open files but
//! the standard streams, death together with the parent. Must not know profiles, nor what other work the program is
//! started again for. Invariant: a tool is started by this program starting itself as the tool's keeper, and the keeper
//! starting itself as the tool. A `pre_exec` hook would need `unsafe` and would make the standard library fork instead of
//! using `posix_spawn`: with 1 GiB of memory in use that costs 141 ms a spawn, starting again 0.2 ms (measured).

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, ioctl_tiocsctty,
    set_parent_process_death_signal, setrlimit, setsid,
};
use signal_hook::consts::signal::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::planted::planted;
use crate::turn_runner::{self, RUN_ARGUMENT};
use crate::{cgroup, job, keeper};

/// The first argument that turns a program which calls [`init`] into a keeper.
const KEEP_ARGUMENT: &str = "__toolpool-keep";

/// The first argument that turns a keeper's own program into the tool, in a session of its own.
const EXEC_ARGUMENT: &str = "__toolpool-exec";

/// The same for a tool that gets the terminal at its standard input as its own.
const TERMINAL_ARGUMENT: &str = "__toolpool-exec-on-terminal";

/// The same for the command of one turn, which stays in the session of its [turn runner](crate::turn_runner).
const TURN_ARGUMENT: &str = "__toolpool-turn";

/// A tool gets its three standard streams and no file descriptor from this one on.
const FIRST_FOREIGN_FD: i32 = 3;

/// How many digits of its process id the tool-to-be writes.
const PID_DIGITS: usize = 10;

/// Exit code of a shim that could not become the tool; the reason is on its stderr.
pub const EXEC_FAILED: i32 = 127;

static SHIM: OnceLock<PathBuf> = OnceLock::new();

/// Makes this program its own shim. Call it first in `main`, before threads and arguments are looked at.
///
/// Without it, tools still run in their own process group, but not in their own session; what leaves the group is not
/// found at a stop; nothing is killed when this program dies; tools see files that somebody opened without
/// close-on-exec; and tools that need a terminal, a process for each prompt or a remote job are refused.
///
/// If the program was started as a shim, this does not return: the process becomes the tool or its keeper, a turn runner
/// or the driver of remote jobs, or exits with 127.
pub fn init() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    let reason = match first.to_str() {
        Some(KEEP_ARGUMENT) => keeper::keep(arguments),
        Some(EXEC_ARGUMENT) => {
            without_end(own_session(false).and_then(|()| become_tool(arguments)))
        }
        Some(TERMINAL_ARGUMENT) => {
            without_end(own_session(true).and_then(|()| become_tool(arguments)))
        }
        Some(TURN_ARGUMENT) => without_end(become_tool(arguments)),
        Some(RUN_ARGUMENT) => match turn_runner::run(arguments) {
            Ok(()) => std::process::exit(0),
            Err(reason) => reason,
        },
        Some(job::ARGUMENT) => std::process::exit(job::main(arguments)),
        _ => {
            if let Ok(path) = std::env::current_exe() {
                init_with(path);
            }
            return;
        }
    };
    // Standard error is the tool's own here: the supervisor keeps its last lines as evidence.
    io::stderr()
        .write_all(format!("toolpool: {reason}\n").as_bytes())
        .ok();
    std::process::exit(EXEC_FAILED);
}

/// Makes another program the shim: one whose `main` begins with [`init`]. For code that cannot own `main`, such as
/// plug-ins and test harnesses. The first call counts.
pub fn init_with(program: PathBuf) {
    SHIM.set(program).ok();
}

/// Whether there is a shim, so that each process gets its own session and a keeper.
pub fn is_initialized() -> bool {
    SHIM.get().is_some()
}

/// How far what a tool starts is contained. Each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containment {
    /// What leaves the process group of its tool survives a stop, and tools survive this program.
    ProcessGroup,
    /// A keeper for each tool: nothing outlives the tool, nor this program.
    Keeper,
    /// A cgroup, too: nor does it outlive a keeper that is killed, or escape one by starting processes faster than they
    /// can be listed.
    Cgroup,
}

/// The containment of the tools that this program starts. To know whether it may make cgroups it makes one and removes it.
pub fn containment() -> Containment {
    if !is_initialized() {
        Containment::ProcessGroup
    } else if cgroup::is_available() {
        Containment::Cgroup
    } else {
        Containment::Keeper
    }
}

/// The program that is the shim.
pub(crate) fn program() -> Option<&'static PathBuf> {
    SHIM.get()
}

/// The command that starts `program` with a keeper, which removes the private folder if this program dies; None where
/// there is no shim. `on_terminal`: with its standard input as its own terminal. What it starts first writes what
/// [`read_pid`] reads.
pub(crate) fn keeper_command(program: &Path, folder: &Path, on_terminal: bool) -> Option<Command> {
    let mut command = Command::new(SHIM.get()?);
    command
        .arg(KEEP_ARGUMENT)
        .arg(std::process::id().to_string())
        .arg(folder)
        .arg(if on_terminal {
            TERMINAL_ARGUMENT
        } else {
            EXEC_ARGUMENT
        })
        .arg(program);
    Some(command)
}

/// The command that starts `program` from this process, a keeper; `how` is what [`keeper_command`] said.
pub(crate) fn tool_command(how: &OsStr, program: &OsStr) -> Command {
    // This very program, even if its file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(how)
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

/// The command that starts a turn's `program` from this process, a turn runner.
pub(crate) fn turn_command(program: &OsStr) -> Command {
    tool_command(TURN_ARGUMENT.as_ref(), program)
}

/// Reads the process id that a tool-to-be writes before it becomes the tool.
///
/// # Errors
/// What came instead, if the tool could not be started: there is an exit to follow, and a reason on standard error.
pub(crate) async fn read_pid(
    output: &mut (impl AsyncRead + Unpin + ?Sized),
) -> Result<u32, Vec<u8>> {
    let mut text = Vec::with_capacity(PID_DIGITS);
    while text.len() < PID_DIGITS && text.iter().all(u8::is_ascii_digit) {
        match output.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    let pid = std::str::from_utf8(&text)
        .ok()
        .filter(|digits| digits.len() == PID_DIGITS)
        .and_then(|digits| digits.parse().ok());
    pid.ok_or(text)
}

/// Puts this process into a session of its own, with the terminal at its standard input as the session's if asked for,
/// and tells its number: the keeper stands between, so nobody else knows it.
fn own_session(on_terminal: bool) -> Result<(), String> {
    write!(io::stdout(), "{:0PID_DIGITS$}", getpid().as_raw_nonzero())
        .and_then(|()| io::stdout().flush())
        .map_err(|error| format!("cannot tell the process id: {error}"))?;
    setsid().map_err(|error| format!("cannot start a session: {error}"))?;
    if on_terminal {
        ioctl_tiocsctty(io::stdin())
            .map_err(|error| format!("cannot give the tool its terminal: {error}"))?;
    }
    Ok(())
}

fn without_end(never: Result<Infallible, String>) -> String {
    match never {
        Err(reason) => reason,
    }
}

/// Prepares this process and executes the tool; returns only the reason why it could not.
fn become_tool(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, String> {
    let parent = arguments.next().as_deref().and_then(parse_pid);
    let Some(program) = arguments.next() else {
        return Err(
            "the shim is internal: it takes the parent's process id and a command".to_owned(),
        );
    };
    let shown = program.display();
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot tie {shown} to its parent: {error}"))?;
    // The parent may have died before the line above: then the signal will never come.
    if getppid() != parent {
        return Err(format!("{shown} was not started: its keeper is gone"));
    }
    close_foreign_files();
    // Signals that our own parent ignored (a shell's `&`, nohup) would stay ignored in the tool: aider, for one, then
    // never sees an interrupt. A signal with a handler, however, is back at its default after `exec`.
    for signal in [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGTSTP, SIGTTIN,
        SIGTTOU,
    ] {
        signal_hook::flag::register(signal, Arc::default()).ok();
    }
    write_no_core();
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("cannot execute {shown}: {error}"))
}

/// A process id as an argument.
pub(crate) fn parse_pid(text: &OsStr) -> Option<Pid> {
    Pid::from_raw(text.to_str()?.parse().ok()?)
}

/// What this program's parent, or a library in it, left open must not reach the tool.
pub(crate) fn close_foreign_files() {
    if !planted("files_passed_on") {
        close_fds::set_fds_cloexec(FIRST_FOREIGN_FD, &[]);
    }
}

/// A core file would hold prompts and keys.
pub(crate) fn write_no_core() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).ok();
}
