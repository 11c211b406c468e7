//! The conformance suite, on the pinned tools.
//!
//! Owns which tools it gets and how its program is started. Must not know a case. Invariant: a tool that is asked for is
//! installed first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::runner::{cargo, run};
use crate::tools::{self, Tool};

/// What `cargo xtask conformance` takes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these tools: aider, claude, … claude-print, … or bash, python, …
    tools: Vec<String>,
    /// Only cases with this in their names; may be repeated.
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
    /// Write the tables into docs/tools.md, instead of comparing them.
    #[arg(long)]
    write: bool,
    /// Measure the tools instead: start, memory, overhead of a turn.
    #[arg(long)]
    figures: bool,
}

/// Installs the tools that are asked for, and examines them.
///
/// # Errors
/// If a tool cannot be installed, a case fails, or the tables say something else.
pub(crate) fn examine(options: &Options) -> Result<()> {
    let mut installed = Vec::new();
    for tool in Tool::value_variants() {
        // `codex-exec` is codex, started otherwise.
        let named = |name: &String| name.split('-').next() == Some(tool.name());
        if options.tools.is_empty() || options.tools.iter().any(named) {
            installed.push((*tool, tools::install(*tool)?));
        }
    }
    let mut command = program(&installed, options.figures);
    command.args(&options.tools);
    for case in &options.case {
        command.args(["--case", case]);
    }
    command.args(options.write.then_some("--write"));
    command.args(options.figures.then_some("--figures"));
    run(&mut command)
}

/// The program with these tools; what is measured is compiled for speed.
pub(crate) fn program(installed: &[(Tool, PathBuf)], fast: bool) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package", "toolpool-conformance"]);
    command.args(fast.then_some("--release")).arg("--");
    for (tool, path) in installed {
        command.env(tool.variable(), path);
    }
    command
}
