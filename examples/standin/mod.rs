//! Lets an example be its own tool: with `standin` as its first argument it is the scripted stand-in, so that every
//! example runs without an account. `--tool NAME` runs it on a real one, with what follows `--` as the tool's arguments;
//! repeated, it chooses several tools, for an example that can use them.

#![allow(dead_code, reason = "each example uses a part of this")]

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use toolpool::{ClusterBuilder, ToolProfile, launch_cluster};

/// What the command line of an example asks for.
pub(crate) struct Choice {
    /// The real tool's name; None runs on the stand-in.
    pub(crate) tool: Option<String>,
    /// Further tools' names.
    pub(crate) more_tools: Vec<String>,
    /// Arguments for the real tool.
    pub(crate) tool_args: Vec<String>,
    /// Everything else.
    pub(crate) rest: Vec<String>,
}

/// Call it first in `main`: it does not return when this process is a tool.
pub(crate) fn init() {
    toolpool::init();
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq("standin").is_some() {
        let ended = toolpool_testkit::standin::main(args);
        std::process::exit(i32::from(ended != std::process::ExitCode::SUCCESS));
    }
}

impl Choice {
    /// Reads the command line.
    pub(crate) fn from_args() -> Result<Self> {
        let mut choice = Self {
            tool: None,
            more_tools: Vec::new(),
            tool_args: Vec::new(),
            rest: Vec::new(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--tool" => {
                    let tool = args.next().context("--tool needs a tool's name")?;
                    match &choice.tool {
                        None => choice.tool = Some(tool),
                        Some(_) => choice.more_tools.push(tool),
                    }
                }
                "--" => choice.tool_args.extend(args.by_ref()),
                _ => choice.rest.push(arg),
            }
        }
        Ok(choice)
    }

    /// The cluster to build on.
    pub(crate) fn cluster(&self) -> Result<ClusterBuilder> {
        if let Some(tool) = &self.tool {
            return Ok(launch_cluster(tool.as_str()).args(&self.tool_args));
        }
        Ok(launch_cluster(profile("standin")?))
    }
}

/// The stand-in under a name.
pub(crate) fn profile(name: &str) -> Result<ToolProfile> {
    let mut profile = ToolProfile::builtin("standin")?;
    profile.name = name.to_owned();
    profile.program = std::env::current_exe()?.display().to_string();
    profile.args = vec!["standin".to_owned(), "--edits".to_owned()];
    Ok(profile)
}

/// A git repository with a few small files, for the stand-in to work on.
pub(crate) fn repository(files: &[String]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for file in files {
        std::fs::write(folder.path().join(file), format!("# {file}\n"))?;
    }
    git(folder.path(), &["init", "--quiet", "--initial-branch=main"])?;
    git(folder.path(), &["config", "user.name", "Example"])?;
    git(
        folder.path(),
        &["config", "user.email", "example@example.invalid"],
    )?;
    git(folder.path(), &["add", "."])?;
    git(folder.path(), &["commit", "--quiet", "--message", "start"])?;
    Ok(folder)
}

/// Runs git and gives its output.
pub(crate) fn git(folder: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .output()?;
    ensure!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
