//! Owns how the `git` program is run.
//!
//! Must not know worktrees or landing. Invariant: a repository cannot make these commands run a program, ask a question or
//! reach the network: hooks, fsmonitor, signing, pagers, editors and transports are off, the `GIT_*` variables of our
//! caller do not leak in, and [`Git::refuse_programs`] rejects what cannot be switched off without changing contents.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::WorktreeError;

/// `merge-tree --write-tree --merge-base` appeared in git 2.40.
const OLDEST: (u32, u32) = (2, 40);

/// Settings that no configuration file may overrule.
const SETTINGS: [&str; 13] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "commit.gpgSign=false",
    "merge.verifySignatures=false",
    "log.showSignature=false",
    "merge.autoStash=false",
    "submodule.recurse=false",
    // Housekeeping would run in the background, after the command that we wait for.
    "gc.auto=0",
    "maintenance.auto=false",
    // Messages and names travel through us as UTF-8.
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "advice.addEmbeddedRepo=false",
];

/// Variables of the caller that say who the user is and where their own configuration lies. Everything else that begins
/// with `GIT_` is dropped: set by a hook that started us, it would point git at another repository.
const KEPT_VARIABLES: [&str; 7] = [
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
];

/// Where git commands run.
#[derive(Debug, Clone)]
pub(super) enum Git {
    /// In a folder, letting git look upward for the repository.
    At(PathBuf),
    /// On one repository folder and its files, named outright. A worktree lies inside the user's own checkout, so if git
    /// were left to look upward from a damaged one it would find, and change, the user's files.
    Pinned {
        /// The repository folder (of a linked worktree: its own one).
        git_dir: PathBuf,
        /// The checked-out files, if the command needs any.
        work_tree: Option<PathBuf>,
    },
}

impl Git {
    /// Begins a git command.
    pub(super) fn call<I>(&self, arguments: I) -> Call
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_")
                && !KEPT_VARIABLES.iter().any(|kept| name == *kept)
            {
                command.env_remove(name);
            }
        }
        command.env_remove("LANGUAGE").env("LC_ALL", "C");
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_EDITOR", ":");
        // Reading must not take the index lock from the tool or the user.
        command.env("GIT_OPTIONAL_LOCKS", "0");
        // A partial clone would otherwise fetch, with whatever transport its configuration names.
        command
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none");
        command.arg("--no-pager").arg("-C").arg(self.whence());
        if let Self::Pinned { git_dir, work_tree } = self {
            command.arg("--git-dir").arg(git_dir);
            if let Some(work_tree) = work_tree {
                command.arg("--work-tree").arg(work_tree);
            }
        }
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.args(arguments);
        // A Ctrl-C in the terminal is for us to handle: it must not kill git halfway through a landing.
        command.process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Call {
            command,
            input: None,
            whence: self.whence().to_owned(),
        }
    }

    /// Fails if the repository's own configuration names filters, merge drivers or hooks: git would run them, and
    /// silently leaving them out would commit other contents than the user's own git does (git-crypt, git-lfs).
    pub(super) fn refuse_programs(&self) -> Result<(), WorktreeError> {
        let listing = self
            .call(["config", "--list", "--show-scope", "--includes", "-z"])
            .ok("read its configuration")?;
        let keys = programs(&listing.text());
        if keys.is_empty() {
            Ok(())
        } else {
            Err(WorktreeError::RunsPrograms {
                top: self.whence().to_owned(),
                keys,
            })
        }
    }

    /// The repository folder this is pinned to.
    pub(super) fn git_dir(&self) -> &Path {
        match self {
            Self::At(dir) => dir,
            Self::Pinned { git_dir, .. } => git_dir,
        }
    }

    /// The commit that `revision` names, if it names one.
    pub(super) fn commit(&self, revision: &str) -> Result<Option<String>, WorktreeError> {
        let peeled = format!("{revision}^{{commit}}");
        let output = self
            .call([
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                &peeled,
            ])
            .output()?;
        Ok(output.succeeded().then(|| output.text()))
    }

    /// The tree of a commit.
    pub(super) fn tree(&self, commit: &str) -> Result<String, WorktreeError> {
        Ok(self
            .call(["rev-parse", "--verify", &format!("{commit}^{{tree}}")])
            .ok("find the files of a commit")?
            .text())
    }

    /// Whether `new` contains `old`.
    pub(super) fn is_ancestor(&self, old: &str, new: &str) -> Result<bool, WorktreeError> {
        let output = self
            .call(["merge-base", "--is-ancestor", old, new])
            .output()?;
        match output.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(output.error("compare two commits")),
        }
    }

    fn whence(&self) -> &Path {
        match self {
            Self::At(dir)
            | Self::Pinned {
                work_tree: Some(dir),
                ..
            } => dir,
            Self::Pinned {
                git_dir,
                work_tree: None,
            } => git_dir,
        }
    }
}

/// One git command, not yet run.
pub(super) struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    whence: PathBuf,
}

impl Call {
    /// Sets one variable of its environment.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it something to read. Only for commands that read all of it before they write.
    pub(super) fn input(mut self, text: &str) -> Self {
        self.input = Some(text.as_bytes().to_owned());
        self
    }

    /// Runs it to its end, whatever its exit status.
    pub(super) fn output(mut self) -> Result<Output, WorktreeError> {
        if self.input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.spawn().map_err(WorktreeError::GitMissing)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input) {
            // A command that ends before it has read everything says why on stderr: that is the better message.
            let _ = stdin.write_all(&input);
        }
        let output = child
            .wait_with_output()
            .map_err(|source| WorktreeError::io("run git in", &self.whence, source))?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(Output {
            code: output.status.code(),
            stdout: output.stdout,
            stderr,
            whence: self.whence,
        })
    }

    /// Runs it, and fails unless it succeeds.
    pub(super) fn ok(self, doing: &'static str) -> Result<Output, WorktreeError> {
        let output = self.output()?;
        if output.succeeded() {
            Ok(output)
        } else {
            Err(output.error(doing))
        }
    }
}

/// What a git command answered.
pub(super) struct Output {
    /// The exit status; `None` if it was killed.
    pub(super) code: Option<i32>,
    /// Everything it printed.
    pub(super) stdout: Vec<u8>,
    /// Everything it complained about, trimmed.
    pub(super) stderr: String,
    whence: PathBuf,
}

impl Output {
    /// Whether it ended with status 0.
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The output as text, without the last line end.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.stdout);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// The output as one path, without the last line end.
    pub(super) fn path(&self) -> PathBuf {
        into_path(self.stdout.strip_suffix(b"\n").unwrap_or(&self.stdout))
    }

    /// The fields of an output made with `-z`.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.stdout
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty())
    }

    /// This as an error.
    pub(super) fn error(self, doing: &'static str) -> WorktreeError {
        let said = if self.stderr.is_empty() {
            format!("status {:?}", self.code)
        } else {
            self.stderr
        };
        WorktreeError::Git {
            doing,
            whence: self.whence,
            said,
        }
    }
}

/// A path as git printed it: any bytes, not only UTF-8.
pub(super) fn into_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_owned()))
}

/// Checks once per process that git is there and new enough.
pub(super) fn require_version() -> Result<(), WorktreeError> {
    static CHECKED: OnceLock<()> = OnceLock::new();
    if CHECKED.get().is_some() {
        return Ok(());
    }
    let found = Git::At(PathBuf::from("/"))
        .call(["version"])
        .ok("tell its version")?
        .text();
    match version(&found) {
        Some(version) if version >= OLDEST => {
            CHECKED.get_or_init(|| ());
            Ok(())
        }
        _ => Err(WorktreeError::GitTooOld { found }),
    }
}

/// Reads "git version 2.47.3 (Apple Git-1)".
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The keys, in `git config --list --show-scope -z`, by which the repository itself (not its user) names programs that
/// the commands of this module would run.
fn programs(listing: &str) -> Vec<String> {
    let fields: Vec<&str> = listing.split('\0').collect();
    let mut keys = Vec::new();
    for pair in fields.chunks_exact(2) {
        let (scope, (key, value)) = (pair[0], pair[1].split_once('\n').unwrap_or((pair[1], "")));
        let runs = match (key.split('.').next(), key.rsplit('.').next()) {
            (Some("filter"), Some("clean" | "smudge" | "process")) => true,
            (Some("merge"), Some("driver")) => true,
            // Hooks in the configuration are newer than `core.hooksPath`, which does not switch them off.
            (Some("hook"), Some("command")) => true,
            _ => false,
        };
        if runs && !value.is_empty() && matches!(scope, "local" | "worktree") {
            keys.push(key.to_owned());
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_every_vendor_prints_them() {
        for (text, expected) in [
            ("git version 2.47.3", Some((2, 47))),
            ("git version 2.39.5 (Apple Git-154)", Some((2, 39))),
            ("git version 2.41.0.windows.1", Some((2, 41))),
            ("git version 3.0", Some((3, 0))),
            ("jj 0.20", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn programs_named_by_the_repository_are_found_and_those_of_the_user_are_not() {
        let listing = "global\0filter.lfs.clean\ngit-lfs clean -- %f\0local\0filter.a.b.clean\nevil\0\
                       local\0core.bare\nfalse\0worktree\0merge.x.driver\nevil %A\0local\0merge.conflictstyle\ndiff3\0\
                       local\0filter.off.smudge\n\0command\0filter.y.clean\nx\0local\0hook.z.command\nevil\0";
        assert_eq!(
            programs(listing),
            ["filter.a.b.clean", "hook.z.command", "merge.x.driver"]
        );
    }
}
