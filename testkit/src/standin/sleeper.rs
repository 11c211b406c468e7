//! Processes that hold standard output and sleep for ever, as a tool's forgotten grandchildren do.
//!
//! Owns their start and their sleep. Must not wait for them: a tool that forgets its children does not either.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::process::getpid;

use super::options::SLEEPER;
use super::script::Sleeper;
use super::signals;

/// Starts one by running this program again, and returns its process id when it sleeps as ordered. `args` are the
/// arguments that the stand-in was given; what stands before them in the process's own leads to the stand-in.
pub(super) fn start(sleeper: &Sleeper, args: &[String]) -> io::Result<u32> {
    let own: Vec<String> = std::env::args().skip(1).collect();
    let mut child = command(sleeper, own.strip_suffix(args).unwrap_or_default())?
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    if sleeper.orphan {
        child.wait()?;
    }
    said.strip_prefix(READY)
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| io::Error::other(format!("the sleeper did not start: {said}")))
}

fn command(sleeper: &Sleeper, lead: &[String]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(lead).arg(SLEEPER);
    if sleeper.orphan {
        command.arg("orphan");
    }
    if sleeper.setsid {
        command.arg("setsid");
    }
    if !sleeper.ignore.is_empty() {
        command.arg("ignore").args(
            sleeper
                .ignore
                .iter()
                .map(|signal| signal.as_raw().to_string()),
        );
    }
    Ok(command)
}

/// What a sleeper writes to standard error before its process id, when it has done what it was told; then it closes it.
const READY: &str = "asleep ";

/// Does as told and sleeps for ever; returns only what went wrong, or nothing from the process between an orphan and its
/// tool. `args` are the arguments that this stand-in was given.
pub(super) fn sleep(sleeper: &Sleeper, args: &[String]) -> io::Result<()> {
    if sleeper.orphan {
        let own: Vec<String> = std::env::args().skip(1).collect();
        let last = Sleeper {
            orphan: false,
            ..sleeper.clone()
        };
        command(&last, own.strip_suffix(args).unwrap_or_default())?.spawn()?;
        return Ok(());
    }
    if sleeper.setsid {
        rustix::process::setsid()?;
    }
    signals::ignore(&sleeper.ignore)?;
    write!(io::stderr(), "{READY}{}", getpid().as_raw_nonzero())?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(null)?;
    loop {
        std::thread::park();
    }
}
