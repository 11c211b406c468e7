//! Owns the facts about the user's repository: where it is, the branch toolpool was started on, who has what checked out.
//!
//! Must not know items or instances. Invariant: nothing here changes the user's files, index or branches.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::git::{self, Git, into_path};
use super::lock::LockFile;
use super::names::{quoted, show_diff, show_status};
use super::{Leftover, WorktreeError};

/// The branches of worktrees.
pub(super) const WORKING: &str = "toolpool";
/// The branches of work that could not land. Not under `toolpool/`: git cannot have both `toolpool/a` and `toolpool/a/b`.
pub(super) const KEPT: &str = "toolpool-kept";
/// Where worktrees live, below the top level.
const FOLDER: [&str; 2] = [".toolpool", "worktrees"];

/// What [`super::Repository`] shares with its worktrees.
#[derive(Debug)]
pub(super) struct Facts {
    /// The top level of the checkout toolpool was started in, without symbolic links.
    pub(super) top: PathBuf,
    /// The repository folder that all checkouts share.
    pub(super) common: PathBuf,
    /// The starting branch, without `refs/heads/`; `None` if HEAD was detached.
    pub(super) branch: Option<String>,
    /// The commit HEAD was at.
    pub(super) head: String,
}

/// One entry of `git worktree list`.
#[derive(Debug)]
pub(super) struct Checkout {
    /// Its top level.
    pub(super) path: PathBuf,
    /// The full name of its branch; `None` if detached (which it is during a rebase).
    pub(super) branch: Option<String>,
}

impl Facts {
    /// Looks upward from `dir` for a repository.
    pub(super) fn discover(dir: &Path) -> Result<Option<Self>, WorktreeError> {
        git::require_version()?;
        let dir = dir
            .canonicalize()
            .map_err(|source| WorktreeError::io("find", dir, source))?;
        let git = Git::At(dir.clone());
        let found = git
            .call(["rev-parse", "--path-format=absolute", "--git-common-dir"])
            .output()?;
        if !found.succeeded() {
            // Any other refusal, such as a repository that belongs to somebody else, is for the user to see.
            let absent = found.stderr.contains("not a git repository");
            return if absent {
                Ok(None)
            } else {
                Err(found.error("look for a repository"))
            };
        }
        let common = found.path();
        let top = git
            .call(["rev-parse", "--path-format=absolute", "--show-toplevel"])
            .output()?;
        if !top.succeeded() {
            return Err(WorktreeError::NoCheckout {
                dir,
                why: top.stderr,
            });
        }
        let top = top.path();
        let top = top
            .canonicalize()
            .map_err(|source| WorktreeError::io("find", &top, source))?;
        if !dir.starts_with(&top) {
            let why = format!("its configuration puts the files at {}", top.display());
            return Err(WorktreeError::NoCheckout { dir, why });
        }
        let Some(head) = git.commit("HEAD")? else {
            return Err(WorktreeError::NoCommit { top });
        };
        let branch = git
            .call(["symbolic-ref", "--quiet", "HEAD"])
            .output()?
            .text();
        let branch = branch.strip_prefix("refs/heads/").map(str::to_owned);
        Ok(Some(Self {
            top,
            common,
            branch,
            head,
        }))
    }

    /// Git on what all checkouts share.
    pub(super) fn git(&self) -> Git {
        Git::Pinned {
            git_dir: self.common.clone(),
            work_tree: None,
        }
    }

    /// Git on the checkout at `path`; `None` if that is not an intact checkout of this repository.
    pub(super) fn git_at(&self, path: &Path) -> Result<Option<Git>, WorktreeError> {
        if !path.join(".git").exists() {
            return Ok(None);
        }
        let ask = |what: &str| {
            Git::At(path.to_owned())
                .call(["rev-parse", "--path-format=absolute", what])
                .output()
        };
        let (top, common, git_dir) = (
            ask("--show-toplevel")?,
            ask("--git-common-dir")?,
            ask("--git-dir")?,
        );
        let real = path
            .canonicalize()
            .map_err(|source| WorktreeError::io("find", path, source))?;
        let ours = top.succeeded() && top.path() == real && common.path() == self.common;
        Ok(ours.then(|| Git::Pinned {
            git_dir: git_dir.path(),
            work_tree: Some(path.to_owned()),
        }))
    }

    /// The branch that finished work lands on.
    pub(super) fn landing_branch(&self) -> Result<&str, WorktreeError> {
        let detached = || WorktreeError::Detached {
            top: self.top.clone(),
            head: self.head.clone(),
        };
        self.branch.as_deref().ok_or_else(detached)
    }

    /// The commit that the starting branch is at now (or HEAD was at, if it was detached).
    pub(super) fn tip(&self) -> Result<String, WorktreeError> {
        let Some(branch) = &self.branch else {
            return Ok(self.head.clone());
        };
        let tip = self.git().commit(&format!("refs/heads/{branch}"))?;
        tip.ok_or_else(|| WorktreeError::BranchGone {
            branch: branch.clone(),
        })
    }

    /// How the starting point is called in commands for people.
    pub(super) fn onto(&self) -> &str {
        self.branch.as_deref().unwrap_or(&self.head)
    }

    /// Waits for, and takes, the lock under which worktrees come and go and branches advance. Blocks the thread.
    pub(super) fn lock(&self) -> Result<LockFile, WorktreeError> {
        LockFile::take(&self.lock_folder()?.join("lock"))
    }

    /// The file whose lock says that a live process uses the worktree `name`. To be opened only under [`Facts::lock`].
    pub(super) fn lock_path(&self, name: &str) -> Result<PathBuf, WorktreeError> {
        Ok(self.lock_folder()?.join(format!("worktree-{name}.lock")))
    }

    /// Where the worktree `name` belongs.
    pub(super) fn worktree_path(&self, name: &str) -> PathBuf {
        FOLDER
            .iter()
            .fold(self.top.clone(), |path, part| path.join(part))
            .join(name)
    }

    /// Makes the folder for worktrees. A symbolic link there, which a repository can bring along, would lead elsewhere.
    pub(super) fn make_folder(&self) -> Result<(), WorktreeError> {
        let mut path = self.top.clone();
        for part in FOLDER {
            path.push(part);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(WorktreeError::NotAFolder { path }),
                Err(_) => fs::create_dir(&path)
                    .map_err(|source| WorktreeError::io("make", &path, source))?,
            }
        }
        Ok(())
    }

    /// Adds patterns to `info/exclude`, which hides files from git in all checkouts without being part of the project.
    pub(super) fn exclude(&self, patterns: &[&str]) -> Result<(), WorktreeError> {
        let path = self.common.join("info").join("exclude");
        let failed = |source| WorktreeError::io("write", &path, source);
        fs::create_dir_all(self.common.join("info")).map_err(failed)?;
        let before = if path.exists() {
            fs::read(&path).map_err(failed)?
        } else {
            Vec::new()
        };
        let mut added = String::new();
        for pattern in patterns {
            let there = before
                .split(|byte| *byte == b'\n')
                .any(|line| line.trim_ascii_end() == pattern.as_bytes());
            if !there {
                added.push_str(pattern);
                added.push('\n');
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        if !before.is_empty() && !before.ends_with(b"\n") {
            added.insert(0, '\n');
        }
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        file.write_all(added.as_bytes()).map_err(failed)
    }

    /// All checkouts of the repository, the user's own ones too.
    pub(super) fn checkouts(&self) -> Result<Vec<Checkout>, WorktreeError> {
        let listing = self
            .git()
            .call(["worktree", "list", "--porcelain", "-z"])
            .ok("list the worktrees")?;
        let mut checkouts: Vec<Checkout> = Vec::new();
        for field in listing.fields() {
            if let Some(path) = field.strip_prefix(b"worktree ") {
                checkouts.push(Checkout {
                    path: into_path(path),
                    branch: None,
                });
            } else if let (Some(branch), Some(last)) =
                (field.strip_prefix(b"branch "), checkouts.last_mut())
            {
                last.branch = Some(String::from_utf8_lossy(branch).into_owned());
            }
        }
        Ok(checkouts)
    }

    /// What would be lost if `branch` (full name) and the checkout at `path` disappeared; `None` if nothing.
    ///
    /// `safe` are commits that are known to survive; what they contain survives too.
    pub(super) fn at_stake(
        &self,
        name: &str,
        path: &Path,
        safe: &[&str],
    ) -> Result<Option<Leftover>, WorktreeError> {
        let branch = format!("{WORKING}/{name}");
        let worktree = path.symlink_metadata().is_ok().then(|| path.to_owned());
        let stake = |reason: String, show: String| {
            Ok(Some(Leftover {
                branch: branch.clone(),
                worktree: worktree.clone(),
                reason,
                show,
            }))
        };
        let git = self.git();
        let unlanded = |commit: &str| -> Result<Option<String>, WorktreeError> {
            for survivor in safe {
                if git.is_ancestor(commit, survivor)? {
                    return Ok(None);
                }
            }
            let count = git
                .call(["rev-list", "--count", commit, "--not"].iter().chain(safe))
                .ok("count commits")?
                .text();
            Ok(Some(format!("commits that have not landed: {count}")))
        };
        if let Some(commit) = git.commit(&format!("refs/heads/{branch}"))?
            && let Some(reason) = unlanded(&commit)?
        {
            return stake(reason, show_diff(&self.top, self.onto(), &branch));
        }
        if worktree.is_none() {
            return Ok(None);
        }
        let Some(checkout) = self.git_at(path)? else {
            let list = format!("ls -la {}", quoted(&path.to_string_lossy()));
            return stake(
                "a folder that is not a worktree of this repository".to_owned(),
                list,
            );
        };
        checkout.refuse_programs()?;
        if let Some(what) = unfinished(&checkout) {
            return stake(what.to_owned(), show_status(path));
        }
        let dirty = status(&checkout)?.len();
        if dirty > 0 {
            return stake(format!("uncommitted files: {dirty}"), show_status(path));
        }
        if let Some(commit) = checkout.commit("HEAD")?
            && let Some(reason) = unlanded(&commit)?
        {
            return stake(reason, show_diff(&self.top, self.onto(), &commit));
        }
        Ok(None)
    }

    fn lock_folder(&self) -> Result<PathBuf, WorktreeError> {
        let path = self.common.join(WORKING);
        fs::create_dir_all(&path).map_err(|source| WorktreeError::io("make", &path, source))?;
        Ok(path)
    }
}

/// What git is in the middle of in a checkout, if anything. It stays in the middle even when the files look clean.
pub(super) fn unfinished(checkout: &Git) -> Option<&'static str> {
    let marks = [
        ("rebase-merge", "an unfinished rebase"),
        ("rebase-apply", "an unfinished rebase"),
        ("MERGE_HEAD", "an unfinished merge"),
        ("CHERRY_PICK_HEAD", "an unfinished cherry-pick"),
        ("REVERT_HEAD", "an unfinished revert"),
    ];
    marks
        .iter()
        .find(|(mark, _)| checkout.git_dir().join(mark).exists())
        .map(|(_, what)| *what)
}

/// The uncommitted changes of a checkout, untracked files included, as two letters, a space and a path.
pub(super) fn status(checkout: &Git) -> Result<Vec<Vec<u8>>, WorktreeError> {
    let how = [
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
    ];
    Ok(checkout
        .call(how)
        .ok("compare the files with the last commit")?
        .fields()
        .map(<[u8]>::to_owned)
        .collect())
}
