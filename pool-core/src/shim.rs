//! The re-exec shim: our own binary prepares itself in safe code and then becomes the tool.
//!
//! Owns what must happen between spawn and exec: own session, own terminal if asked for, no core dumps, no open files but
//! the standard streams, death together with the parent. Must not know profiles, nor what other work the program is
//! started again for. Invariant: the process id that was spawned is the tool's. A `pre_exec` hook would need `unsafe` and
//! would make the standard library fork instead of using `posix_spawn`: with 1 GiB of memory in use that costs 141 ms a
//! spawn, the shim 0.2 ms (measured).

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, ioctl_tiocsctty, set_parent_process_death_signal,
    setrlimit, setsid,
};
use signal_hook::consts::signal::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};

use crate::job;
use crate::turn_runner::{self, RUN_ARGUMENT};

/// The first argument that turns a program which calls [`init`] into the shim.
const SHIM_ARGUMENT: &str = "__toolpool-exec";

/// The same for a tool that gets the terminal at its standard input as its own.
const TERMINAL_ARGUMENT: &str = "__toolpool-exec-on-terminal";

/// The same for the command of one turn, which stays in the session of its [turn runner](crate::turn_runner).
const TURN_ARGUMENT: &str = "__toolpool-turn";

/// A tool gets its three standard streams and no file descriptor from this one on.
const FIRST_FOREIGN_FD: i32 = 3;

/// Exit code of a shim that could not become the tool; the reason is on its stderr.
pub const EXEC_FAILED: i32 = 127;

static SHIM: OnceLock<PathBuf> = OnceLock::new();

/// Makes this program its own shim. Call it first in `main`, before threads and arguments are looked at.
///
/// Without it, tools still run in their own process group, but not in their own session, they are not killed by the kernel
/// when this program dies, and they see files that somebody opened without close-on-exec.
///
/// If the program was started as a shim, this does not return: the process becomes the tool, or exits with 127. Nor does
/// it return in a turn runner or in the driver of remote jobs, which are this program too.
pub fn init() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == job::ARGUMENT {
        std::process::exit(job::main(arguments));
    }
    let reason = if first == SHIM_ARGUMENT || first == TERMINAL_ARGUMENT {
        let prepared = own_session(first == TERMINAL_ARGUMENT);
        Some(prepared.map_or_else(|reason| reason, |()| become_tool(arguments)))
    } else if first == TURN_ARGUMENT {
        Some(become_tool(arguments))
    } else if first == RUN_ARGUMENT {
        match turn_runner::run(arguments) {
            Ok(()) => std::process::exit(0),
            Err(reason) => Some(reason),
        }
    } else {
        None
    };
    if let Some(reason) = reason {
        // Standard error is the tool's own here: the supervisor keeps its last lines as evidence.
        std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("toolpool: {reason}\n").as_bytes(),
        )
        .ok();
        std::process::exit(EXEC_FAILED);
    }
    if let Ok(path) = std::env::current_exe() {
        init_with(path);
    }
}

/// Makes another program the shim: one whose `main` begins with [`init`]. For code that cannot own `main`, such as
/// plug-ins and test harnesses. The first call counts.
pub fn init_with(program: PathBuf) {
    SHIM.set(program).ok();
}

/// Whether there is a shim, so that processes get their own session.
pub fn is_initialized() -> bool {
    SHIM.get().is_some()
}

/// The program that is the shim.
pub(crate) fn program() -> Option<&'static PathBuf> {
    SHIM.get()
}

/// The command that starts `program` through the shim, or without it where there is none.
pub(crate) fn command(program: &Path) -> Command {
    match SHIM.get() {
        Some(shim) => through(shim, SHIM_ARGUMENT, program),
        None => {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        }
    }
}

/// The command that starts `program` with its standard input as its own terminal. None where there is no shim.
pub(crate) fn terminal_command(program: &Path) -> Option<Command> {
    SHIM.get()
        .map(|shim| through(shim, TERMINAL_ARGUMENT, program))
}

fn through(shim: &Path, argument: &str, program: &Path) -> Command {
    let mut command = Command::new(shim);
    command
        .arg(argument)
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

/// The command that starts a turn's `program` from this process, a turn runner.
pub(crate) fn turn_command(program: &OsStr) -> Command {
    // This very program, even if its file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(TURN_ARGUMENT)
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

/// Puts this process into a session of its own, with the terminal at its standard input as the session's if asked for.
fn own_session(on_terminal: bool) -> Result<(), String> {
    setsid().map_err(|error| format!("cannot start a session: {error}"))?;
    if on_terminal {
        ioctl_tiocsctty(std::io::stdin())
            .map_err(|error| format!("cannot give the tool its terminal: {error}"))?;
    }
    Ok(())
}

/// Prepares this process and executes the tool; returns only the reason why it could not.
fn become_tool(mut arguments: impl Iterator<Item = OsString>) -> String {
    let parent = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .and_then(Pid::from_raw);
    let Some(program) = arguments.next() else {
        return format!(
            "{SHIM_ARGUMENT} is internal: it takes the parent's process id and a command"
        );
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot tie {} to its parent: {error}", program.display());
    }
    // The parent may have died before the line above: then the signal will never come.
    if getppid() != parent {
        return format!(
            "{} was not started: its supervisor is gone",
            program.display()
        );
    }
    // What this program's parent, or a library in it, left open must not reach the tool.
    close_fds::set_fds_cloexec(FIRST_FOREIGN_FD, &[]);
    // Signals that our own parent ignored (a shell's `&`, nohup) would stay ignored in the tool: aider, for one, then
    // never sees an interrupt. A signal with a handler, however, is back at its default after `exec`.
    for signal in [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGTSTP, SIGTTIN,
        SIGTTOU,
    ] {
        signal_hook::flag::register(signal, Arc::default()).ok();
    }
    // A core file would hold prompts and keys.
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .ok();
    let error = Command::new(&program).args(arguments).exec();
    format!("cannot execute {}: {error}", program.display())
}
