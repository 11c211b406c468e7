//! The developer's one entry: `cargo xtask test`, `tools`, `fuzz`, `conformance`, `battery`, `planted`.
//!
//! Owns what is checked and in which order, and the pinned tools that the real-tool tests run. Must not know toolpool's
//! own crates: it starts cargo like a person would. Invariant: whatever was not checked is said at the end.

mod battery;
mod checks;
mod conformance;
mod fuzz;
mod npm;
mod planted;
mod runner;
mod tools;
mod venv;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::tools::Tool;

/// The developer's one entry to toolpool.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything: format, lints, tests, docs, licenses, and the tests against real tools.
    Test {
        /// Leave out the tests that install and run real tools.
        #[arg(long)]
        without_tools: bool,
    },
    /// Feed the protocols, the profiles and the journal with what a fuzzer makes up.
    Fuzz {
        /// Only this one.
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Run the conformance cases on the pinned tools, and compare the tables in docs/tools.md.
    Conformance(conformance::Options),
    /// Run the numbered fault cases, and compare the table in docs/reliability.md.
    Battery(battery::Options),
    /// Put known bugs in, one after the other: the tests and the battery must find each.
    Planted(planted::Options),
    /// Install the pinned tools into the user's cache and print the paths of their executables.
    Tools {
        /// Only this one.
        name: Option<Tool>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test { without_tools } => checks::run_all(without_tools),
        Task::Fuzz { target, seconds } => fuzz::run_targets(target.as_deref(), seconds),
        Task::Conformance(options) => conformance::examine(&options),
        Task::Battery(options) => battery::run_cases(&options),
        Task::Planted(options) => planted::find_all(&options),
        Task::Tools { name } => tools::print_paths(name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
