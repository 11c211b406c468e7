//! The pinned real tools, in the user's cache.
//!
//! Owns where they lie and how a folder is known to be whole. Must not know how a tool is installed: that is
//! [`venv`]'s. Invariant: the path of an executable is only handed out when the folder's stamp says that
//! this very set of packages was installed to its end, and one process at a time works on a folder.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::venv;

/// A tool that the tests run for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// aider 0.86.2, from PyPI, in a Python environment of its own.
    Aider,
}

/// The exact packages of a tool.
pub(crate) struct Pin {
    /// Its name here, and that of its executable.
    pub(crate) name: &'static str,
    /// Its name on PyPI.
    pub(crate) package: &'static str,
    /// The tool's own version.
    pub(crate) version: &'static str,
    /// The versions of all packages, as pip constraints.
    pub(crate) constraints: &'static str,
}

impl Tool {
    fn pin(self) -> Pin {
        match self {
            Self::Aider => Pin {
                name: "aider",
                package: "aider-chat",
                version: "0.86.2",
                constraints: include_str!("../tools/aider-0.86.2.txt"),
            },
        }
    }
}

/// Written last, with the constraints as its contents: the folder is whole.
const COMPLETE: &str = ".complete";
/// Written first: an installation began here and has not ended.
const INCOMPLETE: &str = ".incomplete";

/// Installs one tool, or all, and prints the paths of their executables, one a line, on stdout.
///
/// # Errors
/// If one cannot be installed.
pub(crate) fn print_paths(only: Option<Tool>) -> Result<()> {
    for tool in Tool::value_variants() {
        if only.is_none_or(|only| only == *tool) {
            println!("{}", install(*tool)?.display());
        }
    }
    Ok(())
}

/// Installs a tool unless it is there already, and answers the path of its executable.
///
/// # Errors
/// If something that it needs is missing, or the installation fails. The next call then begins anew.
pub(crate) fn install(tool: Tool) -> Result<PathBuf> {
    let pin = tool.pin();
    let tools = cache_folder()?.join("tools");
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let folder = tools.join(format!("{}-{}", pin.name, pin.version));
    let _lock = lock(&tools.join(format!("{}-{}.lock", pin.name, pin.version)))?;

    let executable = venv::executable(&folder, pin.name);
    match state(&folder, &pin) {
        State::Complete => return Ok(executable),
        State::Unmarked if venv::check(&folder, &pin).is_ok() => {
            eprintln!(
                "{} {} in {} works; keeping it",
                pin.name,
                pin.version,
                folder.display()
            );
        }
        State::Unmarked | State::Unusable => {
            // A virtual environment holds its own path in its scripts, so it is built where it will stay, and a mark
            // in it says whether it is finished.
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            fs::create_dir(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            mark(&folder, INCOMPLETE, "")?;
            venv::create(&folder, &pin)?;
            venv::check(&folder, &pin)?;
            eprintln!(
                "{} {} is installed in {}",
                pin.name,
                pin.version,
                folder.display()
            );
        }
    }
    mark(&folder, INCOMPLETE, pin.constraints)?;
    fs::rename(folder.join(INCOMPLETE), folder.join(COMPLETE))
        .with_context(|| format!("cannot mark {} as complete", folder.display()))?;
    Ok(executable)
}

/// What the marks in a tool's folder say.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Installed to its end from these constraints.
    Complete,
    /// No mark at all: somebody installed it by hand, it may be good.
    Unmarked,
    /// Not there, not finished, or from other constraints.
    Unusable,
}

fn state(folder: &Path, pin: &Pin) -> State {
    if folder.join(INCOMPLETE).exists() {
        return State::Unusable;
    }
    let whole = venv::executable(folder, pin.name).exists();
    match fs::read_to_string(folder.join(COMPLETE)) {
        Ok(constraints) if whole && constraints == pin.constraints => State::Complete,
        Err(_) if whole => State::Unmarked,
        _ => State::Unusable,
    }
}

fn mark(folder: &Path, name: &str, contents: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
}

/// Waits until no other process works on the folder. The lock ends with the returned file, or with this process.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            eprintln!("another process holds {}; waiting for it", path.display());
        }
        Err(TryLockError::Error(_)) => {}
    }
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// `$XDG_CACHE_HOME/toolpool`, or `~/.cache/toolpool`. A relative `XDG_CACHE_HOME` is to be ignored, says its standard.
fn cache_folder() -> Result<PathBuf> {
    let folder = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME is an absolute path; set one of them")?
        .join("toolpool"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as an installation would leave it, with these marks.
    fn state_with(marks: &[(&str, &str)], executable: bool) -> State {
        let folder = tempfile::tempdir().unwrap();
        let pin = Tool::Aider.pin();
        if executable {
            let path = venv::executable(folder.path(), pin.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for (name, contents) in marks {
            mark(folder.path(), name, contents).unwrap();
        }
        state(folder.path(), &pin)
    }

    #[test]
    fn only_a_finished_folder_of_these_constraints_is_complete() {
        let pinned = Tool::Aider.pin().constraints;
        assert_eq!(state_with(&[(COMPLETE, pinned)], true), State::Complete);
        assert_eq!(state_with(&[], true), State::Unmarked);
        assert_eq!(state_with(&[], false), State::Unusable);
        assert_eq!(state_with(&[(COMPLETE, pinned)], false), State::Unusable);
        assert_eq!(state_with(&[(COMPLETE, "other==1")], true), State::Unusable);
        assert_eq!(state_with(&[(INCOMPLETE, pinned)], true), State::Unusable);
        assert_eq!(
            state_with(&[(INCOMPLETE, ""), (COMPLETE, pinned)], true),
            State::Unusable
        );
    }

    #[test]
    fn the_constraints_pin_the_tool_itself_and_nothing_loosely() {
        for tool in Tool::value_variants() {
            let pin = tool.pin();
            let mut lines = pin
                .constraints
                .lines()
                .filter(|line| !line.starts_with('#'));
            assert!(
                lines
                    .clone()
                    .any(|line| line == format!("{}=={}", pin.package, pin.version))
            );
            assert!(lines.all(|line| {
                line.split_once("==")
                    .is_some_and(|(name, at)| !name.is_empty() && !at.is_empty())
            }));
        }
    }

    #[test]
    fn a_lock_excludes_a_second_holder_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool.lock");
        let held = lock(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        second.try_lock().unwrap();
    }
}
