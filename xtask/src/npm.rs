//! Tools from npm, each in a folder of its own.
//!
//! Owns how packages become a folder with one executable. Must not know where it lies or when it is needed. Invariant:
//! no package's install script runs, and nothing is written to stdout, which belongs to the caller's answer.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::runner::{run, works};
use crate::tools::Pin;

/// Installs the packages, and writes the executable: a script that becomes the tool, so that its process id stays.
///
/// # Errors
/// If npm is missing or fails. The message has the next step.
pub(crate) fn create(folder: &Path, pin: &Pin, packages: &str, command: &[&str]) -> Result<()> {
    fetch(folder, pin, packages)?;
    let words: String = command
        .iter()
        .map(|part| format!(" {}", quoted(folder, part)))
        .collect();
    write_script(folder, pin, &format!("exec{words} \"$@\"\n"))
}

/// Installs the packages, and writes the executable: the interpreter, which says the version of the library as its own.
///
/// # Errors
/// As [`create`].
pub(crate) fn create_library(
    folder: &Path,
    pin: &Pin,
    packages: &str,
    library: &str,
    interpreter: &str,
) -> Result<()> {
    fetch(folder, pin, packages)?;
    let interpreter = quoted(folder, interpreter);
    let manifest = quoted(folder, &format!("{library}/package.json"));
    write_script(
        folder,
        pin,
        &format!(
            "if [ \"$1\" = --version ]; then\n  exec {interpreter} -p 'require(process.argv[1]).version' {manifest}\nfi\n\
             exec {interpreter} \"$@\"\n"
        ),
    )
}

fn fetch(folder: &Path, pin: &Pin, packages: &str) -> Result<()> {
    if !works(Command::new("npm").arg("--version")) {
        bail!(
            "{} comes from npm and `npm --version` does not work; install it, e.g. `apt-get install npm`",
            pin.name
        );
    }
    eprintln!(
        "installing {} {} into {}",
        pin.name,
        pin.version,
        folder.display()
    );
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--silent",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--save-exact",
        "--prefix",
    ])
    .arg(folder)
    .args(packages.split(' '))
    .stdout(io::stderr());
    run(&mut npm)
        .context("cannot install from npm; see that it can be reached, then run this again")
}

/// The path of a part of a package, for a shell.
fn quoted(folder: &Path, part: &str) -> String {
    let path = folder.join("node_modules").join(part);
    // A quote in the cache's path would end the word early.
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn write_script(folder: &Path, pin: &Pin, text: &str) -> Result<()> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let script = bin.join(pin.name);
    fs::write(&script, format!("#!/bin/sh\n{text}"))
        .with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", script.display()))
}
