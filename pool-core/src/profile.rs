//! Tool profiles: how one CLI family is started, made ready and spoken to, as data.
//!
//! Owns the TOML schema, the built-in profiles and the merging of a user's changes over them. Must not know processes.
//! Invariant: a [`ToolProfile`] that exists is valid; every error names the file, and the line or the key.

mod builtin;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use builtin::builtin_names;
pub use file::ProfileError;
pub(crate) use file::parse_duration;

use crate::launcher::TerminalSize;
use crate::outcome::Grade;
use crate::protocol::Protocol;
use crate::protocol::acp::{Acp, AcpConfig, AcpQuirks};
use crate::protocol::aider::{Aider, AiderConfig};
use crate::protocol::claude::{Claude, ClaudeConfig};
use crate::protocol::codex::{Approvals, Codex, CodexConfig};
use crate::protocol::job::{Job, JobConfig};
use crate::protocol::lines::{Lines, LinesConfig};
use crate::protocol::oneshot::{Oneshot, OneshotConfig, Output};
use crate::protocol::screen::{ScreenConfig, ScreenLimits, ScreenText};

/// How to talk to a tool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProtocolKind {
    /// aider's own protocol on plain pipes.
    Aider,
    /// codex's app-server: JSON-RPC; whether codex asks before it acts.
    Codex(Approvals),
    /// Claude Code: a stream of JSON.
    Claude,
    /// The Agent Client Protocol.
    Acp(AcpQuirks),
    /// Remote jobs of Jules: over its command-line program, or over its REST API where the profile names no program.
    Job,
    /// Any line-oriented program.
    Lines(LinesConfig),
    /// A program that needs a terminal.
    Screen(ScreenConfig),
    /// A process for each prompt, behind one that stays.
    Oneshot(OneshotConfig),
}

/// How one CLI family is started, made ready, prompted and stopped.
#[derive(Clone, Debug)]
pub struct ToolProfile {
    /// The tool's name: lower case, digits, `-` and `_`.
    pub name: String,
    /// One line for listings.
    pub title: String,
    /// The program: a name to look up on `PATH`, or a path. Empty for remote jobs over an API, which need none.
    pub program: String,
    /// Arguments; `{state}` stands for the instance's private folder.
    pub args: Vec<String>,
    /// Arguments behind `args` for a tool that is to ask before it acts, see [`ToolProfile::asking`].
    pub ask_args: Vec<String>,
    /// Whether the tool changes files in its working folder, so that instances need folders of their own.
    pub edits: bool,
    /// Whether the tool does nothing that can be seen outside before its first output in a turn, so that a prompt whose
    /// process died before that may be given to another. No built-in profile claims it: agents think and act in silence.
    pub quiet_until_output: bool,
    /// How to talk to it.
    pub protocol: ProtocolKind,
    /// The command that installs it, for error messages.
    pub install: Option<String>,
    /// How to log in, for error messages: what follows "is not set; ".
    pub login: Option<String>,
    /// What shows that somebody has logged in, any one of them: a variable, or a file that begins with `~/` or with a
    /// variable, as `$HOME/`. Empty for a tool without a login.
    pub login_marks: Vec<String>,
    /// Arguments that make the program print its version.
    pub version_args: Vec<String>,
    /// The range of versions this profile was proven on, for listings and warnings.
    pub versions: Option<String>,
    /// Longest time from spawn to ready.
    pub start_timeout: Duration,
    /// Longest prompt, in bytes.
    pub max_prompt_bytes: usize,
    /// Longest reply, in bytes; a longer one poisons the process.
    pub max_reply_bytes: usize,
    /// Environment variables that the tool may inherit.
    pub env_pass: Vec<String>,
    /// Environment variables that the tool inherits and cannot do without; a launch refuses to start where one is missing.
    pub env_require: Vec<String>,
    /// Environment variables that the tool always gets.
    pub env_set: BTreeMap<String, String>,
    /// Variables over `env_set` for a tool that is to ask before it acts.
    pub ask_env: BTreeMap<String, String>,
    /// Files written into the instance's private folder before the start, by name.
    pub files: BTreeMap<String, String>,
    /// The tool's own commands that callers may send, with any arguments.
    pub commands: Vec<String>,
    /// Commands that callers may send only without arguments.
    pub bare_commands: Vec<String>,
    /// Files in the working folder that would let the folder take the tool over; a launch refuses to start beside them.
    pub refuse_files: Vec<String>,
    /// Patterns of the tool's own files in its working folder, such as `.aider*`, which are not part of its work.
    pub litter: Vec<String>,
}

impl ToolProfile {
    /// The built-in profile of that name.
    ///
    /// # Errors
    /// [`ProfileError::UnknownTool`] with the nearest name and the list.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        Catalog::builtin().get(name)
    }

    /// Reads one profile from a file. A profile with `base = "NAME"` changes only what it names.
    ///
    /// # Errors
    /// If the file cannot be read or is not a valid profile.
    pub fn from_file(path: &Path) -> Result<Self, ProfileError> {
        Catalog::builtin().load(path)
    }

    /// A fresh protocol machine for one process that works in the folder `cwd`, an absolute path.
    pub fn protocol(&self, cwd: &Path) -> Box<dyn Protocol> {
        match &self.protocol {
            ProtocolKind::Aider => Box::new(Aider::new(AiderConfig {
                commands: self.commands.clone(),
                bare_commands: self.bare_commands.clone(),
                max_prompt_bytes: self.max_prompt_bytes,
            })),
            ProtocolKind::Codex(approvals) => Box::new(Codex::new(CodexConfig {
                approvals: *approvals,
                max_prompt_bytes: self.max_prompt_bytes,
            })),
            ProtocolKind::Claude => Box::new(Claude::new(ClaudeConfig {
                commands: self.commands.clone(),
                bare_commands: self.bare_commands.clone(),
                max_prompt_bytes: self.max_prompt_bytes,
            })),
            ProtocolKind::Acp(quirks) => Box::new(Acp::new(AcpConfig {
                cwd: cwd.to_owned(),
                commands: self.commands.clone(),
                bare_commands: self.bare_commands.clone(),
                max_prompt_bytes: self.max_prompt_bytes,
                quirks: quirks.clone(),
            })),
            ProtocolKind::Job => Box::new(Job::new(JobConfig {
                max_prompt_bytes: self.max_prompt_bytes,
                grade: self.grade(),
            })),
            ProtocolKind::Lines(config) => {
                Box::new(Lines::new(config.clone(), self.max_prompt_bytes))
            }
            ProtocolKind::Screen(config) => Box::new(ScreenText::new(
                config.clone(),
                ScreenLimits {
                    commands: self.commands.clone(),
                    bare_commands: self.bare_commands.clone(),
                    max_prompt_bytes: self.max_prompt_bytes,
                },
            )),
            ProtocolKind::Oneshot(config) => {
                Box::new(Oneshot::new(config.clone(), self.max_prompt_bytes))
            }
        }
    }

    /// The same tool, made to ask before every act that it does not know to be harmless. None if it cannot ask.
    pub fn asking(mut self) -> Option<Self> {
        match &mut self.protocol {
            ProtocolKind::Codex(approvals) => *approvals = Approvals::Ask,
            ProtocolKind::Acp(quirks) => {
                quirks.mode = quirks.ask_mode.take().or(quirks.mode.take())
            }
            ProtocolKind::Claude => {}
            ProtocolKind::Aider
            | ProtocolKind::Job
            | ProtocolKind::Lines(_)
            | ProtocolKind::Oneshot(_)
            | ProtocolKind::Screen(_) => return None,
        }
        self.args.append(&mut self.ask_args);
        self.env_set.append(&mut self.ask_env);
        Some(self)
    }

    /// How surely its replies can be told apart.
    pub fn grade(&self) -> Grade {
        match self.protocol {
            ProtocolKind::Acp(_) | ProtocolKind::Codex(_) | ProtocolKind::Claude => Grade::A,
            ProtocolKind::Oneshot(_) => Grade::B,
            // The API's answers carry the session's id; what the program prints is text for people.
            ProtocolKind::Job if self.program.is_empty() => Grade::A,
            ProtocolKind::Aider | ProtocolKind::Job | ProtocolKind::Lines(_) => Grade::C,
            ProtocolKind::Screen(_) => Grade::D,
        }
    }

    /// Whether a turn can be stopped so that the process lives on. Where it cannot, a cancel kills the process.
    pub fn can_interrupt(&self) -> bool {
        match &self.protocol {
            ProtocolKind::Lines(config) => config.interrupt.is_some(),
            _ => true,
        }
    }

    /// Whether a prompt finds the conversation, or whatever else its tool keeps, as the one before it left it.
    pub fn keeps_conversations(&self) -> bool {
        !matches!(self.protocol, ProtocolKind::Oneshot(_) | ProtocolKind::Job)
    }

    /// Whether a text is a message to a model, whatever it says, and is never run.
    pub fn talks_to_a_model(&self) -> bool {
        matches!(
            self.protocol,
            ProtocolKind::Aider
                | ProtocolKind::Codex(_)
                | ProtocolKind::Claude
                | ProtocolKind::Acp(_)
        )
    }

    /// Whether the pieces of a reply are the reply and nothing else. aider writes lines of its own between them, for a person
    /// at a terminal; the whole reply is without those.
    pub fn streams_exactly(&self) -> bool {
        match &self.protocol {
            ProtocolKind::Aider => false,
            ProtocolKind::Oneshot(config) => config.output != Output::Aider,
            _ => true,
        }
    }

    /// The protocol's name for listings.
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            ProtocolKind::Aider => "aider",
            ProtocolKind::Codex(_) => "codex",
            ProtocolKind::Claude => "claude",
            ProtocolKind::Acp(_) => "acp",
            ProtocolKind::Job => "job",
            ProtocolKind::Lines(_) => "lines",
            ProtocolKind::Screen(_) => "screen",
            ProtocolKind::Oneshot(_) => "oneshot",
        }
    }

    /// Whether a process of this very program stands between the protocol and the tool.
    pub(crate) fn is_driven(&self) -> bool {
        matches!(self.protocol, ProtocolKind::Job)
    }

    /// Whether one of its processes can hold several conversations at once, as [`SharingLauncher`] needs it.
    ///
    /// [`SharingLauncher`]: crate::SharingLauncher
    pub fn shares(&self) -> bool {
        matches!(self.protocol, ProtocolKind::Codex(_) | ProtocolKind::Acp(_))
    }

    /// Whether a new process can go on with the conversation of an earlier one, as far as the profile can tell: an agent
    /// says itself whether it can.
    pub fn resumes(&self) -> bool {
        matches!(
            self.protocol,
            ProtocolKind::Codex(_) | ProtocolKind::Claude | ProtocolKind::Acp(_)
        )
    }

    /// The arguments by which a process goes on with a conversation, for the tools that are not asked on their pipes.
    pub(crate) fn resume_args(&self, conversation: &str) -> Vec<String> {
        match self.protocol {
            ProtocolKind::Claude => vec!["--resume".to_owned(), conversation.to_owned()],
            _ => Vec::new(),
        }
    }

    /// Whether stderr must share stdout's pipe.
    pub(crate) fn merges_stderr(&self) -> bool {
        matches!(&self.protocol, ProtocolKind::Lines(config) if config.merge_stderr)
    }

    /// The terminal it needs, if it needs one.
    pub(crate) fn terminal(&self) -> Option<TerminalSize> {
        match &self.protocol {
            ProtocolKind::Screen(config) => Some(config.size),
            _ => None,
        }
    }
}

/// The profiles at hand: the built-in ones, and a user's own over them.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    files: BTreeMap<String, PathBuf>,
}

impl Catalog {
    /// The built-in profiles alone.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// The built-in profiles, and every `NAME.toml` of a folder over them. A folder that does not exist adds nothing.
    ///
    /// # Errors
    /// If the folder exists and cannot be listed.
    pub fn with_folder(folder: &Path) -> Result<Self, ProfileError> {
        let mut files = BTreeMap::new();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ProfileError::unreadable(folder, source)),
        };
        for entry in entries {
            let path = entry
                .map_err(|source| ProfileError::unreadable(folder, source))?
                .path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
                && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            {
                files.insert(stem.to_owned(), path.clone());
            }
        }
        Ok(Self { files })
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = builtin_names().map(str::to_owned).collect();
        names.extend(self.files.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// The profile for `name`. A name that ends in `.toml` is a path.
    ///
    /// # Errors
    /// [`ProfileError::UnknownTool`] with the nearest name and the list, or what is wrong with its file.
    pub fn get(&self, name: &str) -> Result<ToolProfile, ProfileError> {
        if name.ends_with(".toml") {
            return self.load(Path::new(name));
        }
        if let Some(path) = self.files.get(name) {
            return self.load(path);
        }
        file::ProfileFile::builtin(name)
            .ok_or_else(|| ProfileError::unknown(name, &self.names()))?
            .validate(&format!("built-in profile {name}"))
    }

    fn load(&self, path: &Path) -> Result<ToolProfile, ProfileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ProfileError::unreadable(path, source))?;
        let origin = path.display().to_string();
        let mut profile = file::ProfileFile::parse(&text, &origin)?;
        if let Some(base) = profile.base.take() {
            // A file may change the built-in profile of its own name, so the base is always a built-in one.
            let base = file::ProfileFile::builtin(&base).ok_or_else(|| {
                ProfileError::unknown(
                    &base,
                    &builtin_names().map(str::to_owned).collect::<Vec<_>>(),
                )
            })?;
            profile = profile.over(base);
        } else if profile.name.is_none() {
            profile.name = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .map(str::to_owned);
        }
        profile.validate(&origin)
    }
}
