//! Runs one check after the other and says how each went.
//!
//! Owns the steps' lines, their times and the list of what was skipped. Must not know what the checks are. Invariant:
//! the first step that fails is the last one that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// A run of checks.
pub(crate) struct Runner {
    started: Instant,
    passed: usize,
    skipped: Vec<String>,
}

impl Runner {
    /// A run that begins now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            passed: 0,
            skipped: Vec::new(),
        }
    }

    /// Does one step and prints one line with its time.
    ///
    /// # Errors
    /// What `check` says, with the name of the step.
    pub(crate) fn step<T>(&mut self, name: &str, check: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("---- {name}");
        let started = Instant::now();
        let result = check();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(value) => {
                self.passed += 1;
                println!("ok   {name} ({seconds:.1} s)");
                Ok(value)
            }
            Err(error) => {
                println!("FAIL {name} ({seconds:.1} s)");
                Err(error.context(format!("step `{name}` failed; the later steps did not run")))
            }
        }
    }

    /// Says that a step is not done, why, and how to have it done.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("SKIP {name}: {why}");
        self.skipped.push(name.to_owned());
    }

    /// Prints the last line.
    pub(crate) fn finish(self) {
        let skipped = match self.skipped.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "{} steps passed in {seconds:.1} s; skipped steps: {skipped}",
            self.passed
        );
    }
}

/// `cargo` in the workspace's root, as if called from a shell: without the variables that `cargo run` sets for this
/// program, which would make build scripts believe that something changed.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.current_dir(workspace()).args(arguments);
    command
}

/// The workspace's root.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in a folder of the workspace")
}

/// Runs a command to its end with our own terminal.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!(
            "{} ended with {status}; its output is above",
            shown(command)
        );
    }
    Ok(())
}

/// Runs a command to its end, showing each line of its output as it comes, and returns all lines.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub(crate) fn run_and_read(command: &mut Command) -> Result<Vec<String>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let stdout = child.stdout.take().expect("stdout was piped");
    let stderr = child.stderr.take().expect("stderr was piped");
    // Both at once: a full pipe that nobody reads would stop the command.
    let lines = std::thread::scope(|scope| {
        let from_stderr = scope.spawn(|| show_and_read(stderr, std::io::stderr()));
        let mut lines = show_and_read(stdout, std::io::stdout());
        lines.append(&mut from_stderr.join().expect("reading lines does not panic"));
        lines
    });
    let status = child.wait().context("cannot wait for the command")?;
    if !status.success() {
        bail!(
            "{} ended with {status}; its output is above",
            shown(command)
        );
    }
    Ok(lines)
}

fn show_and_read(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A terminal that went away is no reason to fail the check.
        let _ = writeln!(to, "{line}");
        lines.push(line);
    }
    lines
}

/// True if a command starts and exits with 0; its output is not shown.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    format!("`{line}`")
}
