//! The keeper: a small process between this program and each tool, which lets nothing outlive the tool.
//!
//! Owns everything that the tool starts, wherever it goes: as a subreaper the keeper becomes the parent of every orphan
//! below it, also of those that have left the tool's session. Must not touch what the tool reads and writes. Invariants:
//! it ends after the last of them, and as the tool ended; when this program dies, even by SIGKILL, the kernel tells it;
//! when it dies itself, the kernel kills the tool.
//!
//! It is this program's own binary, started again with the [shim](crate::shim), and blocking: it has one thread and
//! sleeps until something ends.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::exit;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, setsid, wait,
};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cgroup::Cgroup;
use crate::planted::planted;
use crate::{folder, procfs, shim};

/// Asks a keeper to end the tool and everything else, at once.
pub(crate) const END: Signal = Signal::TERM;

/// What the kernel sends to a keeper whose program has died. It differs from [`END`], since only then nobody else removes
/// the private folder.
const ORPHANED: (Signal, i32) = (Signal::USR1, SIGUSR1);

/// How often to look for what is left after a SIGKILL; nothing tells.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// What survives SIGKILL for this long waits in the kernel, or belongs to another user: it is not waited for.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(1);

/// Starts the tool, waits for its end, ends what it has left and then ends as it did. `arguments`: the process id of the
/// program that asks for it, the tool's private folder, how the shim is to become the tool, the tool and its arguments.
/// Returns only why there is no tool.
pub(crate) fn keep(mut arguments: impl Iterator<Item = OsString>) -> String {
    let parent = arguments.next().as_deref().and_then(shim::parse_pid);
    let (Some(folder), Some(how), Some(tool)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return "the keeper is internal: it takes a process id, a folder and a command".to_owned();
    };
    match start(parent, Path::new(&folder), &how, &tool, arguments) {
        Ok((mut signals, mut family)) => {
            let told = family.watch(&mut signals);
            family.end();
            if let Some(cgroup) = &family.cgroup {
                cgroup.remove();
            }
            // A tool whose input has ended may be quicker than the word of its program's death.
            let told = told || signals.pending().any(|signal| signal == ORPHANED.1);
            if (told || getppid() != parent) && !folder::is_marked(Path::new(&folder)) {
                std::fs::remove_dir_all(Path::new(&folder)).ok();
            }
            end_as(family.end)
        }
        Err(reason) => format!("{} was not started: {reason}", tool.display()),
    }
}

fn start(
    parent: Option<Pid>,
    folder: &Path,
    how: &OsString,
    tool: &OsString,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(Signals, Family), String> {
    let step = |what: &'static str| move |error: Errno| format!("cannot {what}: {error}");
    // What was blocked where this program was started would stay so in all that the tool starts, and keep its ends from
    // being heard of here: the standard library passes it on.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|error| format!("cannot unblock signals: {error}"))?;
    // Before anything that could send them.
    let signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, ORPHANED.1])
        .map_err(|error| format!("cannot listen to signals: {error}"))?;
    // Ctrl-C at the terminal is for this program to judge.
    setsid().map_err(step("leave the session"))?;
    set_child_subreaper(Some(getpid())).map_err(step("become the parent of orphans"))?;
    set_parent_process_death_signal(Some(ORPHANED.0)).map_err(step("be tied to its parent"))?;
    // The parent may have died before the line above: then the signal will never come.
    if getppid() != parent {
        return Err("its supervisor is gone".to_owned());
    }
    shim::write_no_core();
    shim::close_foreign_files();
    let works = folder::occupy(folder);
    let mut command = shim::tool_command(how, tool);
    command.args(arguments);
    let (child, cgroup) = Cgroup::around(folder, || command.spawn());
    let family = Family {
        tool: match child {
            Ok(child) => Pid::from_child(&child),
            Err(error) => {
                if let Some(cgroup) = &cgroup {
                    cgroup.remove();
                }
                return Err(format!("cannot start again: {error}"));
            }
        },
        cgroup,
        end: None,
        _works: works,
    };
    // The tool alone holds the far ends of the pipes, and its working folder.
    let_go().ok();
    Ok((signals, family))
}

/// Lets go of what the keeper has in common with the tool.
fn let_go() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

/// The tool, and every process that descends from it.
struct Family {
    tool: Pid,
    /// What they are all in, where there is such a thing.
    cgroup: Option<Cgroup>,
    /// How the tool ended.
    end: Option<WaitStatus>,
    /// The lock which says that somebody works in the private folder.
    _works: Option<File>,
}

impl Family {
    /// Waits until the tool ends or everything is to end; whether this program is dead.
    fn watch(&mut self, signals: &mut Signals) -> bool {
        loop {
            let seen: Vec<i32> = signals.wait().collect();
            self.collect();
            let told = seen.iter().any(|signal| *signal != SIGCHLD);
            if told || self.end.is_some() {
                return seen.contains(&ORPHANED.1);
            }
        }
    }

    /// Collects those that have ended; whether any is left.
    fn collect(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.tool => self.end = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Kills until none is left.
    fn end(&mut self) {
        if !self.collect() || planted("pid_only") {
            return;
        }
        let until = Instant::now() + GIVE_UP;
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // Most families are one group, which this ends at once.
        kill_process_group(self.tool, Signal::KILL).ok();
        while self.collect() && Instant::now() < until {
            std::thread::sleep(LOOK);
            if !self.collect() {
                return;
            }
            // Killing the children is enough: theirs become ours then. None of these numbers can have passed to another
            // process, since nobody but this one collects them.
            for child in procfs::children(getpid()) {
                kill_process(child, Signal::KILL).ok();
            }
        }
    }
}

/// Ends this process as the tool ended.
fn end_as(end: Option<WaitStatus>) -> ! {
    match end.map(|end| (end.exit_status(), end.terminating_signal())) {
        Some((Some(code), _)) => exit(code),
        Some((None, Some(signal))) => {
            signal_hook::low_level::emulate_default_handler(signal).ok();
        }
        // It was killed and has not ended yet.
        _ => {}
    }
    kill_process(getpid(), Signal::KILL).ok();
    exit(shim::EXEC_FAILED)
}
