//! The TOML form of a profile: everything optional, so that one may be laid over another.
//!
//! Owns parsing, merging, validation and their errors. Must not know where files come from. Invariant: a key that is not
//! known is an error, never ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{ProtocolKind, ToolProfile};
use crate::protocol::acp::AcpQuirks;
use crate::protocol::codex::Approvals;
use crate::protocol::lines::{LinesConfig, LinesFile};
use crate::protocol::oneshot::{OneshotConfig, OneshotFile};
use crate::protocol::screen::{ScreenConfig, ScreenFile};

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Nobody knows a tool of that name.
    #[error("unknown tool {name:?}{}; known tools: {}. A tool of your own is one TOML file: give its path", nearest.as_ref().map(|nearest| format!(" (did you mean {nearest:?}?)")).unwrap_or_default(), known.join(", "))]
    UnknownTool {
        /// What was asked for.
        name: String,
        /// The known name most like it, if one is near.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// The file or folder cannot be read.
    #[error("cannot read the profile {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a profile.
    #[error("{origin}: {message}")]
    Invalid {
        /// The file, or which built-in profile.
        origin: String,
        /// Line, key and reason.
        message: String,
    },
}

impl ProfileError {
    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn unknown(name: &str, known: &[String]) -> Self {
        let nearest = known
            .iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
            .min()
            .filter(|(distance, _)| *distance <= 2.max(name.len() / 3))
            .map(|(_, candidate)| candidate.clone());
        Self::UnknownTool {
            name: name.to_owned(),
            nearest,
            known: known.to_vec(),
        }
    }
}

/// A profile as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProfileFile {
    pub(super) base: Option<String>,
    pub(super) name: Option<String>,
    title: Option<String>,
    program: Option<String>,
    args: Option<Vec<String>>,
    ask_args: Option<Vec<String>>,
    edits: Option<bool>,
    quiet_until_output: Option<bool>,
    protocol: Option<String>,
    install: Option<String>,
    login: Option<String>,
    login_marks: Option<Vec<String>>,
    version_args: Option<Vec<String>>,
    versions: Option<String>,
    start_timeout: Option<String>,
    max_prompt_bytes: Option<usize>,
    max_reply_bytes: Option<usize>,
    refuse_files: Option<Vec<String>>,
    litter: Option<Vec<String>>,
    env: EnvFile,
    files: BTreeMap<String, String>,
    commands: CommandsFile,
    acp: Option<AcpQuirks>,
    lines: Option<LinesFile>,
    screen: Option<ScreenFile>,
    oneshot: Option<OneshotFile>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnvFile {
    pass: Option<Vec<String>>,
    require: Option<Vec<String>>,
    set: BTreeMap<String, String>,
    ask: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CommandsFile {
    allow: Option<Vec<String>>,
    bare: Option<Vec<String>>,
}

impl ProfileFile {
    pub(super) fn builtin(name: &str) -> Option<Self> {
        let text = super::builtin::text(name)?;
        let mut profile = Self::parse(text, name).expect("built-in profiles are tested to parse");
        match profile.base.take() {
            Some(base) => Some(profile.over(Self::builtin(&base)?)),
            None => Some(profile),
        }
    }

    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        toml::from_str(text).map_err(|error| ProfileError::Invalid {
            origin: origin.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// This profile's values where it has them, the base's elsewhere.
    pub(super) fn over(self, base: Self) -> Self {
        let mut set = base.env.set;
        set.extend(self.env.set);
        let mut ask = base.env.ask;
        ask.extend(self.env.ask);
        let mut files = base.files;
        files.extend(self.files);
        Self {
            base: None,
            name: self.name.or(base.name),
            title: self.title.or(base.title),
            program: self.program.or(base.program),
            args: self.args.or(base.args),
            ask_args: self.ask_args.or(base.ask_args),
            edits: self.edits.or(base.edits),
            quiet_until_output: self.quiet_until_output.or(base.quiet_until_output),
            protocol: self.protocol.or(base.protocol),
            install: self.install.or(base.install),
            login: self.login.or(base.login),
            login_marks: self.login_marks.or(base.login_marks),
            version_args: self.version_args.or(base.version_args),
            versions: self.versions.or(base.versions),
            start_timeout: self.start_timeout.or(base.start_timeout),
            max_prompt_bytes: self.max_prompt_bytes.or(base.max_prompt_bytes),
            max_reply_bytes: self.max_reply_bytes.or(base.max_reply_bytes),
            refuse_files: self.refuse_files.or(base.refuse_files),
            litter: self.litter.or(base.litter),
            env: EnvFile {
                pass: self.env.pass.or(base.env.pass),
                require: self.env.require.or(base.env.require),
                set,
                ask,
            },
            files,
            commands: CommandsFile {
                allow: self.commands.allow.or(base.commands.allow),
                bare: self.commands.bare.or(base.commands.bare),
            },
            acp: self.acp.or(base.acp),
            lines: self.lines.or(base.lines),
            screen: self.screen.or(base.screen),
            oneshot: self.oneshot.or(base.oneshot),
        }
    }

    pub(super) fn validate(self, origin: &str) -> Result<ToolProfile, ProfileError> {
        let invalid = |message: String| ProfileError::Invalid {
            origin: origin.to_owned(),
            message,
        };
        let name = self
            .name
            .ok_or_else(|| invalid("key `name` is missing".to_owned()))?;
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        {
            return Err(invalid(format!(
                "key `name`: {name:?} must be lower-case letters, digits, `-` and `_`"
            )));
        }
        let is_job = self.protocol.as_deref() == Some("job");
        let program = match self.program.filter(|program| !program.is_empty()) {
            Some(program) => program,
            None if is_job => String::new(),
            None => {
                let missing = "key `program` is missing: the command to run, a name or a path";
                return Err(invalid(missing.to_owned()));
            }
        };
        let start_timeout = match self.start_timeout {
            Some(text) => parse_duration(&text)
                .map_err(|reason| invalid(format!("key `start_timeout`: {reason}")))?,
            None => Duration::from_secs(60),
        };
        let protocol = match (self.protocol.as_deref(), self.lines) {
            (Some("aider"), _) => ProtocolKind::Aider,
            (Some("codex"), _) => ProtocolKind::Codex(Approvals::None),
            (Some("claude"), _) => ProtocolKind::Claude,
            (Some("acp"), _) => ProtocolKind::Acp(self.acp.unwrap_or_default()),
            (Some("job"), _) => ProtocolKind::Job,
            (Some("oneshot"), _) => ProtocolKind::Oneshot(
                OneshotConfig::from_file(self.oneshot.unwrap_or_default())
                    .map_err(|message| invalid(format!("table [oneshot], {message}")))?,
            ),
            (Some("lines") | None, Some(lines)) => ProtocolKind::Lines(
                LinesConfig::from_file(lines)
                    .map_err(|message| invalid(format!("table [lines], {message}")))?,
            ),
            (Some("lines") | None, None) => {
                return Err(invalid(
                    "table [lines] is missing: say how a reply ends (`end`, or `end_pattern`)"
                        .to_owned(),
                ));
            }
            (Some("screen"), _) => {
                let screen = self.screen.unwrap_or_default();
                ProtocolKind::Screen(
                    ScreenConfig::from_file(screen)
                        .map_err(|message| invalid(format!("table [screen], {message}")))?,
                )
            }
            (Some(other), _) => {
                return Err(invalid(format!(
                    "key `protocol`: {other:?} is not known; known are \"acp\", \"aider\", \"claude\", \"codex\", \"job\", \"lines\", \"oneshot\" and \"screen\""
                )));
            }
        };
        for file in self.files.keys() {
            if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(invalid(format!(
                    "table [files]: {file:?} must be a file name, with folders at most: no empty part, no `.`, no `..`"
                )));
            }
        }
        Ok(ToolProfile {
            title: self.title.unwrap_or_else(|| name.clone()),
            name,
            program,
            args: self.args.unwrap_or_default(),
            ask_args: self.ask_args.unwrap_or_default(),
            edits: self.edits.unwrap_or(false),
            quiet_until_output: self.quiet_until_output.unwrap_or(false),
            protocol,
            install: self.install,
            login: self.login,
            login_marks: self.login_marks.unwrap_or_default(),
            version_args: self.version_args.unwrap_or_default(),
            versions: self.versions,
            start_timeout,
            max_prompt_bytes: self.max_prompt_bytes.unwrap_or(16 << 20),
            max_reply_bytes: self.max_reply_bytes.unwrap_or(16 << 20),
            env_pass: self.env.pass.unwrap_or_default(),
            env_require: self.env.require.unwrap_or_default(),
            env_set: self.env.set,
            ask_env: self.env.ask,
            files: self.files,
            commands: self.commands.allow.unwrap_or_default(),
            bare_commands: self.commands.bare.unwrap_or_default(),
            refuse_files: self.refuse_files.unwrap_or_default(),
            litter: self.litter.unwrap_or_default(),
        })
    }
}

/// Reads `90s`, `1m 30s`, `250ms`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let hint = "write a duration such as \"90s\", \"1m 30s\" or \"250ms\"";
    text.parse::<jiff::SignedDuration>()
        .map_err(|_| format!("{text:?} is not a duration; {hint}"))
        .and_then(|duration| {
            Duration::try_from(duration).map_err(|_| format!("{text:?} is negative; {hint}"))
        })
}

#[cfg(test)]
mod tests {
    use super::super::{Catalog, ToolProfile, builtin_names};

    fn error_of(text: &str) -> String {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, text).expect("write");
        ToolProfile::from_file(&path)
            .expect_err("must be refused")
            .to_string()
            .replace(&folder.path().display().to_string(), "")
    }

    #[test]
    fn every_builtin_profile_is_valid_and_carries_its_own_name() {
        for name in builtin_names() {
            assert_eq!(ToolProfile::builtin(name).expect("valid").name, name);
        }
    }

    #[test]
    fn an_unknown_tool_is_answered_with_the_nearest_name_and_the_list() {
        let message = Catalog::builtin()
            .get("aidr")
            .expect_err("unknown")
            .to_string();
        assert!(message.contains("did you mean \"aider\"?"), "{message}");
        assert!(message.contains("aider, aider-message, bash"), "{message}");
        let message = Catalog::builtin()
            .get("zzzzzzzzz")
            .expect_err("unknown")
            .to_string();
        assert!(!message.contains("did you mean"), "{message}");
    }

    #[test]
    fn a_bad_profile_is_refused_with_file_line_and_key() {
        let message = error_of("name = \"mine\"\nprogam = \"x\"\n");
        assert!(message.contains("mine.toml"), "{message}");
        assert!(message.contains("line 2"), "{message}");
        assert!(message.contains("progam"), "{message}");
        let message = error_of("program = \"x\"\n[lines]\nend = \"{nonce}\"\nready = \"(\"\n");
        assert!(message.contains("ready"), "{message}");
        let message =
            error_of("program = \"x\"\nstart_timeout = \"soon\"\n[lines]\nend = \"{nonce}\"\n");
        assert!(message.contains("start_timeout"), "{message}");
        let message = error_of("program = \"x\"\nprotocol = \"screen\"\n");
        assert!(
            message.contains("table [screen], key `end` is missing"),
            "{message}"
        );
        let message = error_of("program = \"x\"\nprotocol = \"telepathy\"\n");
        assert!(message.contains("telepathy"), "{message}");
    }

    #[test]
    fn a_tool_that_can_ask_is_made_to_ask_by_its_profile() {
        for name in builtin_names() {
            let plain = ToolProfile::builtin(name).expect("valid");
            let (args, more) = (plain.args.clone(), plain.ask_args.clone());
            let can_ask = matches!(plain.protocol_name(), "acp" | "claude" | "codex");
            let asking = plain.asking();
            assert_eq!(asking.is_some(), can_ask, "{name}");
            if let Some(asking) = asking {
                assert_eq!(asking.args, [args, more].concat(), "{name}");
            }
        }
    }

    #[test]
    fn only_aider_writes_more_than_its_answer() {
        let writes_more = |name: &&str| {
            let profile = ToolProfile::builtin(name).expect("valid");
            !profile.streams_exactly()
        };
        let names = builtin_names().filter(writes_more);
        assert_eq!(names.collect::<Vec<_>>(), ["aider", "aider-message"]);
    }

    #[test]
    fn a_profile_with_a_base_changes_only_what_it_names() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("bash.toml");
        std::fs::write(
            &path,
            "base = \"bash\"\ntitle = \"my bash\"\n[env.set]\nX = \"1\"\n",
        )
        .expect("write");
        let catalog = Catalog::with_folder(folder.path()).expect("folder");
        let mine = catalog.get("bash").expect("profile");
        let theirs = ToolProfile::builtin("bash").expect("profile");
        assert_eq!(mine.title, "my bash");
        assert_eq!(mine.program, theirs.program);
        assert_eq!(mine.env_set.get("X").map(String::as_str), Some("1"));
    }
}
