//! The repository that the demonstration plays in.
//!
//! Owns a temporary folder with one commit. Must not know the play. Invariant: nobody's settings of git take part, and
//! the folder is gone with this value.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::error::CliError;
use crate::exit::Exit;

pub(super) struct Scene(TempDir);

impl Scene {
    pub(super) async fn build() -> Result<Self, CliError> {
        let folder = tempfile::Builder::new()
            .prefix("toolpool-demo-")
            .tempdir()
            .map_err(|error| CliError::usage("folder", format!("cannot make a temporary folder: {error}; set TMPDIR to one that can be written")))?;
        let scene = Self(folder);
        let write = |name: &str, text: &str| {
            let path = scene.0.path().join(name);
            path.parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::write(&path, text))
        };
        write("README.md", "# A project\n")
            .and_then(|()| write("docs/index.md", "# Documentation\n"))
            .map_err(|error| {
                CliError::usage(
                    "folder",
                    format!("cannot write to a temporary folder: {error}"),
                )
            })?;
        for arguments in [
            &["init", "--quiet", "--initial-branch=main", "--template="][..],
            &["config", "user.name", "toolpool demo"],
            &["config", "user.email", "demo@localhost"],
            &["add", "."],
            &["commit", "--quiet", "--no-gpg-sign", "--message=A project"],
        ] {
            scene.git(arguments).await?;
        }
        Ok(scene)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.0
            .path()
            .canonicalize()
            .unwrap_or_else(|_| self.0.path().to_owned())
    }

    /// What has landed, newest first: the short id and the subject of each commit.
    pub(super) async fn commits(&self) -> Vec<String> {
        let log = self
            .git(&["log", "--format=%h %s", "main"])
            .await
            .unwrap_or_default();
        let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
        // The first commit is the scene's own.
        lines.pop();
        lines
    }

    pub(super) fn remove(self) -> Result<(), CliError> {
        let path = self.0.path().to_owned();
        self.0.close().map_err(|error| {
            CliError::new(
                Exit::TurnFailed,
                "folder",
                format!("cannot remove {}: {error}", path.display()),
            )
        })
    }

    async fn git(&self, arguments: &[&str]) -> Result<String, CliError> {
        let output = command(self.0.path())
            .args(arguments)
            .output()
            .await
            .map_err(|error| {
                CliError::new(
                    Exit::ToolUnusable,
                    "git",
                    format!("the demo needs git: {error}; install git 2.40 or newer"),
                )
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(CliError::usage(
            "git",
            format!(
                "git {} failed in {}: {}",
                arguments.join(" "),
                self.0.path().display(),
                said.trim()
            ),
        ))
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    // Set by a hook that started us, these would lead to another repository.
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
    ] {
        command.env_remove(variable);
    }
    command
}
