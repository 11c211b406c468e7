//! The scripted stand-in tool: an interactive program that answers by formula and misbehaves on command.
//!
//! Owns the command line and the exit codes. Must not start any runtime or thread: it is also the other end of the
//! throughput benchmark, so a plain turn is one `read` and one `write`. Invariant: what it does depends only on its
//! arguments, its script and what it reads, never on chance.

mod acp;
mod deeds;
mod grammar;
mod input;
mod options;
mod report;
mod script;
mod signals;
mod sleeper;
mod tool;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use options::Command;
use tool::{Stop, Tool};

/// What `--help` prints; also the reference of the script's language.
const HELP: &str = include_str!("standin/help.txt");

/// Exit code of a wrong command line or script (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;
/// Exit code after a line that is no prompt (`EX_DATAERR`).
const DATA: u8 = 65;
/// Exit code after a failed system call (`EX_IOERR`).
const IO: u8 = 74;

/// Runs the stand-in tool until its input ends or its script ends it. `args` are the arguments after the program's name
/// (and after the name of the subcommand, where it is one). It reads and writes file descriptors 0, 1 and 2 directly,
/// so nobody else in the process may use them.
///
/// Exit codes: 0 at the end of input or when the reader of its output has gone; 64 for a wrong command line or script;
/// 65 for a line that is no prompt; 74 for a failed system call; else what the script says.
pub fn main(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    let (code, complaint) = match options::parse(&args) {
        Err(problem) => (USAGE, Some(problem)),
        Ok(Command::Help) => show(HELP),
        Ok(Command::PrintEnvironment) => show(&format!(
            "{}\n",
            report::describe(&report::open_files(), &[])
        )),
        Ok(Command::Sleep(sleeper)) => match sleeper::sleep(&sleeper, &args) {
            Ok(()) => (0, None),
            Err(error) => (IO, Some(error.to_string())),
        },
        Ok(Command::Run(options)) => {
            match Tool::new(options, &args).and_then(|mut tool| tool.run()) {
                Ok(()) => (0, None),
                Err(Stop::Exit(code)) => (code, None),
                // An interruption of no turn is nothing to complain about.
                Err(Stop::Interrupted) => (0, None),
                Err(Stop::BadLine(problem)) => (DATA, Some(problem)),
                Err(Stop::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => (0, None),
                Err(Stop::Io(error)) => (IO, Some(error.to_string())),
            }
        }
    };
    if let Some(complaint) = complaint {
        // Nobody may be reading standard error; the exit code says the same.
        let _ = writeln!(std::io::stderr(), "standin: {complaint}");
    }
    ExitCode::from(code)
}

/// What a rule of a script can say, for people.
pub fn rules() -> &'static str {
    HELP.find("RULES\n").map_or(HELP, |at| &HELP[at..])
}

/// Whether the stand-in would start with these arguments.
///
/// # Errors
/// What is wrong with which of them, such as a rule that makes no sense or a script that cannot be read.
pub fn check(args: &[String]) -> Result<(), String> {
    options::parse(args).map(drop)
}

fn show(text: &str) -> (u8, Option<String>) {
    // A reader that has gone needs no text.
    let _ = std::io::stdout().write_all(text.as_bytes());
    (0, None)
}
