//! Tools from PyPI, each in a Python environment of its own.
//!
//! Owns how such an environment is made. Must not know where it lies or when it is needed. Invariant:
//! nothing is written to stdout, which belongs to the caller's answer.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::runner::{run, works};
use crate::tools::Pin;

/// Makes the environment and installs the tool into it. Takes about half a minute and 700 MB for aider 0.86.2.
///
/// # Errors
/// If Python, its `venv` module or git is missing, or pip fails. The message has the next step.
pub(crate) fn create(folder: &Path, pin: &Pin, package: &str, pinned: &str) -> Result<()> {
    if !works(Command::new("git").arg("--version")) {
        bail!(
            "{} needs git and `git --version` does not work; install it, e.g. `apt-get install git`",
            pin.name
        );
    }
    let python = python(pin.name)?;
    eprintln!(
        "installing {} {} with {python} into {}; this takes a minute",
        pin.name,
        pin.version,
        folder.display()
    );
    run(Command::new(python)
        .args(["-m", "venv"])
        .arg(folder)
        .stdout(io::stderr()))?;

    let constraints = folder.join("constraints.txt");
    fs::write(&constraints, pinned)
        .with_context(|| format!("cannot write {}", constraints.display()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ])
    .arg("--constraint")
    .arg(constraints)
    .arg(format!("{package}=={}", pin.version))
    .stdout(io::stderr());
    run(&mut pip)
        .context("cannot install from PyPI; see that it can be reached, then run this again")
}

/// Pythons that the pinned packages exist for, the one that they were listed with first.
const PYTHONS: [&str; 4] = ["python3.11", "python3.12", "python3.10", "python3"];

/// Exits with 3 if the version does not fit, with 4 if virtual environments cannot be made.
const PROBE: &str = "\
import sys
if not (3, 10) <= sys.version_info < (3, 13): sys.exit(3)
try: import venv, ensurepip
except ImportError: sys.exit(4)
";

fn python(tool: &str) -> Result<&'static str> {
    let mut without_venv = None;
    for name in PYTHONS {
        let status = Command::new(name)
            .args(["-c", PROBE])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match status.ok().and_then(|status| status.code()) {
            Some(0) => return Ok(name),
            Some(4) => without_venv = without_venv.or(Some(name)),
            _ => {}
        }
    }
    match without_venv {
        Some(name) => bail!(
            "{name} cannot make virtual environments, which {tool} is installed in; install the missing part, e.g. \
             `apt-get install {name}-venv`"
        ),
        None => bail!(
            "{tool} needs Python 3.10, 3.11 or 3.12, and none of {} is one; install one, e.g. \
             `apt-get install python3 python3-venv`",
            PYTHONS.join(", ")
        ),
    }
}
