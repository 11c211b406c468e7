//! Owns one worktree while it is in use: its folder, its branch, and the commit its current item began at.
//!
//! Must not know the starting branch's future (that is `land`). Invariant: every command is pinned to this worktree's own
//! repository folder and is preceded by [`Site::check`]. The worktree lies inside the user's checkout, so a git that
//! looked upward from a damaged worktree would find, commit and reset the user's files instead.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::git::Git;
use super::lock::LockFile;
use super::names::show_status;
use super::repository::{Facts, WORKING, status, unfinished};
use super::{Leftover, Released, WorktreeError};

/// A worktree that this process holds.
#[derive(Debug)]
pub(super) struct Site {
    /// The repository it belongs to.
    pub(super) facts: Arc<Facts>,
    /// Its name, which is one component of paths and branches.
    pub(super) name: String,
    /// Its top level.
    pub(super) path: PathBuf,
    /// Its branch, without `refs/heads/`.
    pub(super) branch: String,
    /// Git on it and nothing else.
    pub(super) git: Git,
    /// The commit its current item began at. A commit that was on the starting branch, so nothing in it is ours to lose.
    pub(super) base: String,
    /// What its `.git` file must say.
    link: Vec<u8>,
    /// Tells other processes that it is in use.
    lock: LockFile,
}

impl Site {
    /// Holds the existing worktree `name`, which stands at `base`.
    pub(super) fn open(
        facts: &Arc<Facts>,
        name: &str,
        base: &str,
        lock: LockFile,
    ) -> Result<Self, WorktreeError> {
        let (path, branch) = (facts.worktree_path(name), format!("{WORKING}/{name}"));
        let gone = || WorktreeError::Gone {
            path: path.clone(),
            branch: branch.clone(),
        };
        let git = facts.git_at(&path)?.ok_or_else(gone)?;
        let link = fs::read(path.join(".git")).map_err(|_| gone())?;
        let (facts, name, base) = (facts.clone(), name.to_owned(), base.to_owned());
        Ok(Self {
            facts,
            name,
            git,
            base,
            link,
            lock,
            path,
            branch,
        })
    }

    /// Fails if the worktree is not what it was, or if a git process is (or died) at work in it.
    pub(super) fn check(&self) -> Result<(), WorktreeError> {
        if !self.is_intact() {
            return Err(WorktreeError::Gone {
                path: self.path.clone(),
                branch: self.branch.clone(),
            });
        }
        if let Some(lock) = self.lock_files().into_iter().find(|lock| lock.exists()) {
            return Err(WorktreeError::Locked { lock });
        }
        self.git.refuse_programs()
    }

    /// Puts a clean worktree on the newest commit of the starting branch.
    pub(super) fn begin_item(&mut self) -> Result<(), WorktreeError> {
        self.check()?;
        // What the base contains was the user's or has landed, even if the user has rewritten the branch since.
        if let Some(Leftover { reason, show, .. }) =
            self.facts.at_stake(&self.name, &self.path, &[&self.base])?
        {
            return Err(WorktreeError::Unlanded {
                path: self.path.clone(),
                reason,
                show,
            });
        }
        let tip = self.facts.tip()?;
        self.reset(&tip)?;
        self.base = tip;
        Ok(())
    }

    /// Puts the worktree and its branch on `commit`, dropping what is there. The caller has made sure that nothing is lost.
    pub(super) fn reset(&self, commit: &str) -> Result<(), WorktreeError> {
        let checkout = [
            "checkout",
            "--quiet",
            "--force",
            "--no-track",
            "-B",
            &self.branch,
            commit,
            "--",
        ];
        self.git.call(checkout).ok("put the worktree on a commit")?;
        Ok(())
    }

    /// Commits what the tool left uncommitted; returns the new HEAD, or the old one if nothing was left.
    pub(super) fn commit_leftovers(&self, message: &str) -> Result<String, WorktreeError> {
        let gone = || WorktreeError::Gone {
            path: self.path.clone(),
            branch: self.branch.clone(),
        };
        if let Some(what) = unfinished(&self.git) {
            return Err(WorktreeError::Unfinished {
                path: self.path.clone(),
                what: what.to_owned(),
            });
        }
        let head = self.git.commit("HEAD")?.ok_or_else(gone)?;
        let changes = status(&self.git)?;
        if changes.is_empty() {
            return Ok(head);
        }
        for change in &changes {
            let (code, path) = change.split_at(change.len().min(3));
            if code.starts_with(b"U")
                || code[1..].starts_with(b"U")
                || matches!(code, b"DD " | b"AA ")
            {
                let what = format!("a merge conflict in {}", String::from_utf8_lossy(path));
                return Err(WorktreeError::Unfinished {
                    path: self.path.clone(),
                    what,
                });
            }
            // With all untracked files listed one by one, the only folders in the list are repositories.
            if code == b"?? " && path.ends_with(b"/") {
                return Err(WorktreeError::Embedded {
                    path: self.path.join(OsStr::from_bytes(path)),
                });
            }
        }
        self.git
            .call(["add", "--all"])
            .ok("stage what the tool left uncommitted")?;
        let tree = self
            .git
            .call(["write-tree"])
            .ok("commit what the tool left uncommitted")?
            .text();
        if tree == self.git.tree(&head)? {
            return Ok(head);
        }
        let commit = self
            .git
            .call(["commit-tree", &tree, "-p", &head, "-F", "-"])
            .input(message);
        let commit = commit.ok("commit what the tool left uncommitted")?.text();
        let update = [
            "update-ref",
            "-m",
            "toolpool: uncommitted work",
            "HEAD",
            &commit,
            &head,
        ];
        self.git
            .call(update)
            .ok("commit what the tool left uncommitted")?;
        Ok(commit)
    }

    /// Removes lock files of git processes that are no more; returns which.
    pub(super) fn clear_stale_lock(&self) -> Result<Vec<PathBuf>, WorktreeError> {
        let mut removed = Vec::new();
        for lock in self.lock_files() {
            if lock.exists() {
                fs::remove_file(&lock)
                    .map_err(|source| WorktreeError::io("remove", &lock, source))?;
                removed.push(lock);
            }
        }
        Ok(removed)
    }

    /// Removes worktree and branch if that loses nothing.
    pub(super) fn release(&self) -> Result<Released, WorktreeError> {
        let git = self.facts.git();
        let _one_at_a_time = self.facts.lock()?;
        let mut safe = vec![self.base.clone()];
        safe.extend(self.facts.tip().ok());
        let safe: Vec<&str> = safe.iter().map(String::as_str).collect();
        if let Some(leftover) = self.facts.at_stake(&self.name, &self.path, &safe)? {
            return Ok(Released::Kept(leftover));
        }
        let full = format!("refs/heads/{}", self.branch);
        let commit = git.commit(&full)?;
        // Without `--force`, git checks once more that nothing is lost.
        let remove = git
            .call([
                "worktree".as_ref(),
                "remove".as_ref(),
                self.path.as_os_str(),
            ])
            .output()?;
        if !remove.succeeded() {
            let (worktree, show) = (Some(self.path.clone()), show_status(&self.path));
            let reason = remove.stderr;
            return Ok(Released::Kept(Leftover {
                branch: self.branch.clone(),
                worktree,
                reason,
                show,
            }));
        }
        if let Some(commit) = commit {
            git.call(["update-ref", "-d", &full, &commit])
                .ok("delete a branch without work")?;
        }
        self.lock.remove_file()?;
        Ok(Released::Removed)
    }

    /// Whether the folder still is this worktree.
    fn is_intact(&self) -> bool {
        fs::read(self.path.join(".git")).is_ok_and(|link| link == self.link)
            && self.git.git_dir().is_dir()
    }

    /// The lock files that only git processes in this worktree make.
    fn lock_files(&self) -> [PathBuf; 3] {
        let own = self.git.git_dir();
        let branch = self
            .facts
            .common
            .join("refs")
            .join("heads")
            .join(format!("{}.lock", self.branch));
        [own.join("index.lock"), own.join("HEAD.lock"), branch]
    }
}
