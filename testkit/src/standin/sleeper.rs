//! Processes that hold standard output and sleep for ever, as a tool's forgotten grandchildren do.
//!
//! Owns their start and their sleep. Must not wait for them: a tool that forgets its children does not either.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use super::options::SLEEPER;
use super::script::Sleeper;
use super::signals;

/// Starts one by running this program again, and returns when it sleeps as ordered. `args` are the arguments that the
/// stand-in was given; what stands before them in the process's own leads to the stand-in.
pub(super) fn start(sleeper: &Sleeper, args: &[String]) -> io::Result<Child> {
    let own: Vec<String> = std::env::args().skip(1).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(own.strip_suffix(args).unwrap_or_default())
        .arg(SLEEPER);
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
    command
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut ready = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut ready)?;
    }
    if ready == READY {
        Ok(child)
    } else {
        Err(io::Error::other(format!(
            "the sleeper did not start: {ready}"
        )))
    }
}

/// What a sleeper writes to standard error, before closing it, when it has done what it was told.
const READY: &str = "asleep";

/// Does as told and sleeps for ever; returns only what went wrong.
pub(super) fn sleep(sleeper: &Sleeper) -> io::Error {
    let prepared = (|| {
        if sleeper.setsid {
            rustix::process::setsid()?;
        }
        signals::ignore(&sleeper.ignore)?;
        io::stderr().write_all(READY.as_bytes())?;
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        Ok(rustix::stdio::dup2_stderr(null)?)
    })();
    match prepared {
        Ok(()) => loop {
            std::thread::park();
        },
        Err(error) => error,
    }
}
