//! From a profile to a running process.
//!
//! Owns the checks before a start, the private folder of a process and its environment. Must not know turns. Invariant:
//! a tool sees an environment of allow-listed variables only, and every refusal names the next step.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::conversation::{self, Conversation};
use crate::folder::Folder;
use crate::launcher::LaunchSpec;
use crate::profile::{ProtocolKind, ToolProfile};
use crate::{job, shim, turn_runner};

/// Variables that any tool may see; a profile adds its own.
const ENV_ALWAYS: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
];

/// What a program with a terminal is told of it; a profile may say something else.
const TERMINAL_KIND: &str = "xterm-256color";

/// What a caller adds to a profile for one start.
#[derive(Clone, Debug)]
pub struct LaunchOptions {
    /// The working folder; by default this program's own.
    pub cwd: PathBuf,
    /// Arguments behind the profile's own.
    pub args: Vec<String>,
    /// Variables over the profile's own.
    pub env: Vec<(String, String)>,
    /// Start although the working folder holds files that can take the tool over.
    pub trust_folder: bool,
    /// Where its private folder is made, so that it can be [kept](crate::Connection::keep_folder); by default among the
    /// temporary files. Made if it is not there, for this user alone.
    pub keep_in: Option<PathBuf>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self {
            cwd: PathBuf::from("."),
            args: Vec::new(),
            env: Vec::new(),
            trust_folder: false,
            keep_in: None,
        }
    }
}

/// Why a tool was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The program is not there.
    #[error("{tool}: the program {program:?} was not found on PATH; {}", install.as_ref().map_or_else(|| "install it, or set `program` in its profile to its path".to_owned(), |install| format!("install it with `{install}`, or set `program` in its profile to its path")))]
    ProgramNotFound {
        /// The tool's name.
        tool: String,
        /// What was looked for.
        program: String,
        /// The command that installs it.
        install: Option<String>,
    },
    /// The program is there but is not a program.
    #[error(
        "{tool}: {program} is not executable; make it so with `chmod +x {program}`, or set `program` in the profile to another path"
    )]
    NotExecutable {
        /// The tool's name.
        tool: String,
        /// The path.
        program: String,
    },
    /// The working folder is not there.
    #[error(
        "{tool}: the working folder {cwd} is not there or is no folder; create it or choose another"
    )]
    NoFolder {
        /// The tool's name.
        tool: String,
        /// The path.
        cwd: PathBuf,
    },
    /// The working folder holds files that configure the tool.
    #[error(
        "{tool}: {file} would let this folder run commands through the tool; look at it, then remove it or start with `trust_folder` (`--trust-folder`)"
    )]
    UntrustedFolder {
        /// The tool's name.
        tool: String,
        /// The file found.
        file: PathBuf,
    },
    /// A variable is not set that the tool cannot be used without.
    #[error("{tool}: the variable {variable} is not set; {}", login.as_deref().unwrap_or("set it"))]
    NotLoggedIn {
        /// The tool's name.
        tool: String,
        /// The variable.
        variable: String,
        /// How to log in, from the profile.
        login: Option<String>,
    },
    /// The tool is driven by the program that launches it, which cannot be started again.
    #[error(
        "{tool}: it is driven by this very program, which was not prepared for it; call `toolpool::init()` first in `main`"
    )]
    NoDriver {
        /// The tool's name.
        tool: String,
    },
    /// The system refused.
    #[error("{tool}: cannot {what}: {source}")]
    System {
        /// The tool's name.
        tool: String,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl LaunchError {
    /// Whether trying again cannot help until somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::System { source, .. } => source.kind() == io::ErrorKind::Unsupported,
            _ => true,
        }
    }
}

/// Checks everything that can be checked before a start, and answers where the tool's program is.
///
/// # Errors
/// What is missing, and what to do about it.
pub fn check(profile: &ToolProfile, options: &LaunchOptions) -> Result<PathBuf, LaunchError> {
    let tool = || profile.name.clone();
    if !options.cwd.is_dir() {
        return Err(LaunchError::NoFolder {
            tool: tool(),
            cwd: options.cwd.clone(),
        });
    }
    if !options.trust_folder
        && let Some(file) = profile
            .refuse_files
            .iter()
            .map(|name| options.cwd.join(name))
            .find(|file| file.symlink_metadata().is_ok())
    {
        return Err(LaunchError::UntrustedFolder { tool: tool(), file });
    }
    let program = find_program(profile, options)?;
    match profile
        .env_require
        .iter()
        .find(|variable| !is_set(variable, profile, options))
    {
        Some(variable) => Err(LaunchError::NotLoggedIn {
            tool: tool(),
            variable: variable.clone(),
            login: profile.login.clone(),
        }),
        None => Ok(program),
    }
}

/// What shows that somebody has logged in to the tool; None if nothing does, which need not mean that nobody has.
pub fn login_mark<'a>(profile: &'a ToolProfile, options: &LaunchOptions) -> Option<&'a str> {
    let is_there = |mark: &&String| match mark.split_once('/') {
        None => is_set(mark, profile, options),
        Some((base, rest)) => {
            let variable = if base == "~" {
                "HOME"
            } else {
                base.trim_start_matches('$')
            };
            std::env::var_os(variable).is_some_and(|base| Path::new(&base).join(rest).exists())
        }
    };
    profile
        .login_marks
        .iter()
        .find(is_there)
        .map(String::as_str)
}

/// Whether the tool will see a value of the variable.
fn is_set(variable: &str, profile: &ToolProfile, options: &LaunchOptions) -> bool {
    let given = options
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == variable)
        .map(|(_, value)| value)
        .or_else(|| profile.env_set.get(variable));
    match given {
        Some(value) => !value.trim().is_empty(),
        None => std::env::var_os(variable).is_some_and(|value| !value.is_empty()),
    }
}

fn find_program(profile: &ToolProfile, options: &LaunchOptions) -> Result<PathBuf, LaunchError> {
    if profile.is_driven() && profile.program.is_empty() {
        return driver(profile).cloned();
    }
    let path = options
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| OsString::from(value))
        .or_else(|| std::env::var_os("PATH"));
    // A relative path is looked up from here: the working folder may be anywhere, and may not be trusted.
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    which::which_in(&profile.program, path, here).map_err(|_| {
        if profile.program.contains('/') && Path::new(&profile.program).exists() {
            LaunchError::NotExecutable {
                tool: profile.name.clone(),
                program: profile.program.clone(),
            }
        } else {
            LaunchError::ProgramNotFound {
                tool: profile.name.clone(),
                program: profile.program.clone(),
                install: profile.install.clone(),
            }
        }
    })
}

/// Writes a file that only this user may read, whatever the umask: a profile's settings and prompts can hold secrets.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(contents)
}

/// The program that drives remote jobs: this one.
fn driver(profile: &ToolProfile) -> Result<&'static PathBuf, LaunchError> {
    shim::program().ok_or_else(|| LaunchError::NoDriver {
        tool: profile.name.clone(),
    })
}

/// Checks, makes the private folder, or writes the profile's files into that of the process which has left the
/// conversation to go on with, and puts the command together.
pub(crate) fn prepare(
    profile: &ToolProfile,
    options: &LaunchOptions,
    left: Option<&Conversation>,
) -> Result<LaunchSpec, LaunchError> {
    let program = check(profile, options)?;
    let system = |what: &str, source| LaunchError::System {
        tool: profile.name.clone(),
        what: what.to_owned(),
        source,
    };
    conversation::remove_ownerless_once();
    let state = match left {
        Some(left) => Arc::clone(&left.state),
        None => Folder::make(&profile.name, options.keep_in.as_deref())
            .map(Arc::new)
            .map_err(|source| system("make its private folder", source))?,
    };
    for (name, contents) in &profile.files {
        let path = state.path().join(name);
        path.parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| write_private(&path, contents.as_ref()))
            .map_err(|source| system(&format!("write its file {name}"), source))?;
    }
    let folder = state.path().to_string_lossy();
    let args = profile
        .args
        .iter()
        .map(|arg| arg.replace("{state}", &folder))
        .chain(options.args.iter().cloned())
        .chain(left.map_or_else(Vec::new, |left| profile.resume_args(&left.name)))
        .map(OsString::from)
        .collect();
    let (program, args) = match &profile.protocol {
        ProtocolKind::Oneshot(config) => turn_runner::launch(program, args, config, state.path())
            .ok_or_else(|| LaunchError::NoDriver {
            tool: profile.name.clone(),
        })?,
        ProtocolKind::Job => {
            let mut first: Vec<OsString> = vec![job::ARGUMENT.into()];
            if profile.program.is_empty() {
                first.push("api".into());
            } else {
                first.extend(["program".into(), program.into()]);
            }
            first.extend(args);
            (driver(profile)?.clone(), first)
        }
        _ => (program, args),
    };
    Ok(LaunchSpec {
        program,
        args,
        env: environment(profile, options, &folder),
        // Some protocols name the folder, and want its whole path.
        cwd: std::path::absolute(&options.cwd)
            .map_err(|source| system("find its working folder", source))?,
        merge_stderr: profile.merges_stderr(),
        terminal: profile.terminal(),
        state,
    })
}

fn environment(
    profile: &ToolProfile,
    options: &LaunchOptions,
    state: &str,
) -> Vec<(OsString, OsString)> {
    let inherited = ENV_ALWAYS
        .iter()
        .copied()
        .chain(profile.env_pass.iter().map(String::as_str))
        .chain(profile.env_require.iter().map(String::as_str))
        .filter_map(|key| Some((OsString::from(key), std::env::var_os(key)?)));
    let set = profile.env_set.iter().map(|(key, value)| {
        (
            OsString::from(key),
            OsString::from(value.replace("{state}", state)),
        )
    });
    let added = options
        .env
        .iter()
        .map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let terminal = profile
        .terminal()
        .map(|_| (OsString::from("TERM"), OsString::from(TERMINAL_KIND)));
    inherited.chain(terminal).chain(set).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_shown_by_a_variable_or_by_a_file() {
        let mut profile = ToolProfile::builtin("bash").expect("built in");
        let plain = LaunchOptions::default();
        assert_eq!(login_mark(&profile, &plain), None);
        profile.login_marks = ["NO_SUCH_KEY", "$NO_SUCH_FOLDER/creds", "~/no/such/file"]
            .map(str::to_owned)
            .into();
        assert_eq!(login_mark(&profile, &plain), None);
        let keyed = LaunchOptions {
            env: vec![("NO_SUCH_KEY".to_owned(), "secret".to_owned())],
            ..LaunchOptions::default()
        };
        assert_eq!(login_mark(&profile, &keyed), Some("NO_SUCH_KEY"));
        // The tests' own program lies below the folder that cargo names.
        profile
            .login_marks
            .push("$CARGO_MANIFEST_DIR/Cargo.toml".to_owned());
        assert_eq!(
            login_mark(&profile, &plain),
            Some("$CARGO_MANIFEST_DIR/Cargo.toml")
        );
    }
}
