//! TALKS: the `toolpool` command.
//!
//! Owns the command line and what is printed. Must not decide anything about clusters. Invariants: stdout is the answer
//! and stderr the story; before anything else this program is a tool's shim, or the stand-in tool, if it was started as
//! one.

mod args;
mod ask;
mod batch;
mod bench;
mod console;
mod demo;
mod doctor;
mod documents;
mod duration;
mod error;
mod events;
mod exit;
mod exporter;
mod groups;
mod help;
mod history;
mod inherited;
mod interrupts;
mod journal;
mod kept;
mod logs;
mod person;
mod probe;
mod prompt;
mod rehearse;
mod resolve;
mod running;
mod schema;
mod settings;
mod size;
mod story;
mod table;
mod tools;
mod version;
mod when;
mod whole_file;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use console::write_stderr;
use error::CliError;
use exit::Exit;

fn main() -> ExitCode {
    toolpool::init();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "standin") {
        let rest = arguments[1..]
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned());
        return toolpool_testkit::standin::main(rest);
    }
    inherited::mend_signals();
    let (json, ended) = match Cli::try_parse() {
        Ok(Cli { command }) => {
            let json = command.as_ref().is_some_and(Command::wants_json);
            (json, run(command))
        }
        Err(wrong) => (
            args::seems_to_want_json(&arguments),
            misunderstood(&wrong, &arguments),
        ),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Who closes the pipe knows; everybody else is told.
            if error.exit != Exit::PipeClosed {
                write_stderr(&if json {
                    error.json()
                } else {
                    console::printable(&error.text()).into_owned()
                });
            }
            error.exit.into()
        }
    }
}

fn run(command: Option<Command>) -> Result<Exit, CliError> {
    match command {
        None => help::welcome(),
        Some(Command::Help(args)) => help::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        // It measures runtimes, so it builds its own.
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Demo(args)) => wait_for(demo::run(args)),
        Some(Command::Rehearse(args)) => wait_for(rehearse::run(args)),
        Some(Command::Ask(args)) => wait_for(ask::run(args)),
        Some(Command::Batch(args)) => wait_for(batch::run(args)),
        Some(Command::History(args)) => history::run(args),
        Some(Command::Logs(args)) => logs::run(&args),
        Some(Command::Events(args)) => wait_for(events::run(args)),
        Some(Command::Resolve(args)) => resolve::run(&args),
        Some(Command::Tools(args)) => wait_for(tools::run(args)),
        Some(Command::Doctor(args)) => wait_for(doctor::run(args)),
    }
}

fn wait_for(command: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| {
        CliError::new(
            Exit::NotReady,
            "system",
            format!("cannot start the runtime: {error}; too many threads or open files?"),
        )
    })?;
    let ended = runtime.block_on(command);
    // A thread that still waits for standard input must not keep the program.
    runtime.shutdown_background();
    ended
}

/// Help and version that were asked for, or what is wrong with the command line.
fn misunderstood(wrong: &clap::Error, arguments: &[OsString]) -> Result<Exit, CliError> {
    if !wrong.use_stderr() {
        wrong.print()?;
        return Ok(Exit::Done);
    }
    if args::seems_to_want_json(arguments) {
        let text = wrong.to_string();
        let message = text
            .split("\n\nFor more information")
            .next()
            .unwrap_or_default();
        return Err(
            CliError::usage("usage", message.trim_start_matches("error: ").trim_end())
                .next("toolpool help"),
        );
    }
    wrong.print().ok();
    Ok(Exit::Usage)
}
