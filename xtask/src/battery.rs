//! The battery of fault cases.
//!
//! Owns how its program is started. Must not know a case.

use std::process::Command;

use anyhow::Result;

use crate::runner::{cargo, run};

/// What `cargo xtask battery` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Up to which tier: 1 are those of every `cargo xtask test`, 2 those that take long.
    #[arg(long)]
    tier: Option<u8>,
    /// Only this number, or the cases with this in their names; may be repeated. Of any tier.
    #[arg(long, value_name = "N|TEXT")]
    case: Vec<String>,
    /// Write the table into docs/reliability.md, instead of comparing it.
    #[arg(long)]
    write: bool,
}

/// Runs the cases.
///
/// # Errors
/// If one fails, or the table says something else.
pub(crate) fn run_cases(options: &Options) -> Result<()> {
    let mut command = program();
    if let Some(tier) = options.tier {
        command.args(["--tier", &tier.to_string()]);
    }
    for case in &options.case {
        command.args(["--case", case]);
    }
    command.args(options.write.then_some("--write"));
    run(&mut command)
}

/// The program with its cases of tier 1.
pub(crate) fn program() -> Command {
    cargo(&["run", "--quiet", "--package", "toolpool-battery", "--"])
}
