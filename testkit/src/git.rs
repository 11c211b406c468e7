//! git as tests run it: by itself, whatever the user has configured.
//!
//! Owns who commits and that no configuration but the repository's own is read. Must not know a repository. Invariant: the
//! same commands make the same history on each machine.

use std::path::Path;
use std::process::Command;

/// Runs git in a folder; what it prints.
///
/// # Panics
/// If there is no git, or the command fails.
pub fn git(folder: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(args);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "User"),
        ("GIT_AUTHOR_EMAIL", "user@example.org"),
        ("GIT_COMMITTER_NAME", "User"),
        ("GIT_COMMITTER_EMAIL", "user@example.org"),
    ] {
        git.env(name, value);
    }
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
