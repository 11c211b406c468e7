//! A user with a repository, and what a tool does in a worktree of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use toolpool_cluster::worktree::{Landed, Repository, Worktree};

/// A repository of a user, in a folder with a space in its name, with one commit on `main`.
pub(crate) struct User {
    _folder: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) top: PathBuf,
}

impl User {
    pub(crate) fn new() -> Self {
        let user = Self::without_commit();
        user.write("README", "start\n");
        user.write("sub/deep/file.txt", "deep\n");
        user.git(&["add", "."]);
        user.git(&["commit", "-q", "-m", "start"]);
        user
    }

    pub(crate) fn without_commit() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("it exists");
        let user = Self {
            _folder: folder,
            home: root.join("home"),
            top: root.join("the project"),
        };
        for dir in [&user.home, &user.top] {
            fs::create_dir(dir).expect("a new folder");
        }
        user.git(&["init", "-q", "-b", "main"]);
        // In the repository, because a test cannot change the environment of its own process.
        user.git(&["config", "user.name", "User"]);
        user.git(&["config", "user.email", "user@example.org"]);
        user
    }

    pub(crate) fn try_git_in(&self, dir: &Path, args: &[&str]) -> Output {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(dir)
            .args(args)
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            let name = if dir == self.top {
                "User"
            } else {
                "Tool (aider)"
            };
            git.env(format!("GIT_{who}_NAME"), name)
                .env(format!("GIT_{who}_EMAIL"), "who@example.org");
        }
        git.output().expect("git runs")
    }

    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let output = self.try_git_in(dir, args);
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.top, args)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.top.join(path), text);
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.top.join(path)).expect("the file is there")
    }

    pub(crate) fn commit(&self, path: &str, text: &str) {
        self.write(path, text);
        self.git(&["add", path]);
        self.git(&["commit", "-q", "-m", &format!("user: {path}")]);
    }

    /// What a tool does that commits by itself.
    pub(crate) fn tool_commits(&self, worktree: &Worktree, path: &str, text: &str, message: &str) {
        write(&worktree.path().join(path), text);
        self.git_in(worktree.path(), &["add", "--all"]);
        self.git_in(worktree.path(), &["commit", "-q", "-m", message]);
    }

    pub(crate) async fn repository(&self) -> Repository {
        Repository::discover(&self.top)
            .await
            .expect("no error")
            .expect("a repository")
    }

    pub(crate) fn shell(&self, command: &str) -> String {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir("/")
            .env("HOME", &self.home)
            .output();
        let output = output.expect("a shell");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Everything about the user's checkout that is theirs: branch, staged and unstaged changes, all files' bytes.
    pub(crate) fn state(&self) -> (String, String, String, BTreeMap<PathBuf, Vec<u8>>) {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.ends_with(".git") || path.ends_with(".toolpool") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path)
                } else {
                    drop(files.insert(path.clone(), fs::read(path).expect("a file")))
                }
            }
        }
        let head = self.git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
        (
            head,
            self.git(&["status", "--porcelain"]),
            self.git(&["diff", "--cached"]),
            files,
        )
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a file");
}

pub(crate) async fn worktree(repository: &Repository, name: &str) -> Worktree {
    let worktree = repository.add_worktree(name).await.expect("a worktree");
    assert_eq!(
        worktree.path(),
        repository.top().join(".toolpool/worktrees").join(name)
    );
    worktree
}

/// Brings the worktree's work home.
pub(crate) async fn lands(worktree: &mut Worktree, item: &str) {
    let landed = worktree.land(item).await.expect("a landing");
    assert!(matches!(landed, Landed::Commit { .. }), "{landed:?}");
}

pub(crate) fn blocked(landed: Landed) -> (String, String, String) {
    match landed {
        Landed::Blocked {
            branch,
            reason,
            show,
        } => (branch, reason, show),
        other => panic!("expected Blocked, got {other:?}"),
    }
}
