//! Gives each instance its own git worktree, and brings finished work home.
//!
//! Tools that share one working tree lose each other's commits (two aiders: up to 6 of 45, measured with aider 0.86.2).
//! So each instance works in `<top>/.toolpool/worktrees/<name>` on branch `toolpool/<name>`, and after each item what
//! it did becomes one commit on the branch toolpool was started on.
//!
//! Owns worktrees, their branches and landing. Must not know prompts, turns or queues. Invariants:
//! - The user's uncommitted changes (staged, unstaged, untracked, ignored) and current branch are never disturbed.
//! - Work is never lost: a worktree or branch that holds any is kept, and the answer says where and how to see it.
//! - A repository cannot make these operations run a program (see `git`). What the *tool* runs is not ours to judge.
//!
//! A process that uses the worktree must be between turns during [`Worktree::begin_item`] and [`Worktree::land`] (it may
//! stay alive, its folder stays where it is), and must have ended before [`Worktree::release`].
//!
//! # Cancel safety
//!
//! Git is run by blocking code on tokio's blocking threads. Dropping one of the futures does not interrupt the
//! operation: once begun it goes on to its end with its locks held, only its answer is lost. The next call on the same
//! worktree waits for it.

mod create;
mod error;
mod git;
mod land;
mod lock;
mod names;
mod repository;
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::WorktreeError;
use tokio::sync::Mutex;

use lock::LockFile;
use names::{quoted, show_diff};
use repository::{Facts, KEPT, WORKING};
use site::Site;

/// The user's repository, as it was when toolpool started in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    facts: Arc<Facts>,
}

/// Work from earlier that is waiting for somebody to look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The branch it is on.
    pub branch: String,
    /// The worktree it is in, if there is one.
    pub worktree: Option<PathBuf>,
    /// What is there, or why it could not be taken.
    pub reason: String,
    /// A shell command that shows it, to be run from anywhere inside the repository.
    pub show: String,
}

impl Leftover {
    /// A shell command that throws it away for good, to be run from anywhere inside the repository.
    pub fn discard(&self) -> String {
        let branch = format!("git branch -D {}", quoted(&self.branch));
        match &self.worktree {
            Some(path) => {
                let path = quoted(&path.to_string_lossy());
                format!("git worktree remove --force {path} && {branch}")
            }
            None => branch,
        }
    }
}

/// What became of an item's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landed {
    /// There was no change, or the branch had it already.
    Nothing,
    /// It is one commit on the starting branch.
    Commit {
        /// The commit's id.
        commit: String,
        /// The files it changes, relative to the top level.
        files: Vec<PathBuf>,
    },
    /// It contradicts what others landed meanwhile. It is kept on a branch.
    Conflict {
        /// The branch that keeps it.
        branch: String,
        /// The files both changed, relative to the top level.
        files: Vec<PathBuf>,
        /// A shell command that shows the work, to be run from anywhere.
        show: String,
    },
    /// Something of the user's is in the way. It is kept on a branch.
    Blocked {
        /// The branch that keeps it.
        branch: String,
        /// What is in the way.
        reason: String,
        /// A shell command that shows the work, to be run from anywhere.
        show: String,
    },
}

/// What became of a worktree that is no longer needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Folder and branch are gone; they held nothing. Files that git ignores (build results) went with them.
    Removed,
    /// It holds work, so it stays.
    Kept(Leftover),
}

impl Repository {
    /// Finds the repository around `dir`; `None` if there is none.
    ///
    /// # Errors
    /// Git is missing or older than 2.40, the repository has no commit or no checked-out files, or git refuses to read it.
    pub async fn discover(dir: &Path) -> Result<Option<Self>, WorktreeError> {
        let dir = dir.to_owned();
        let facts = blocking(move || Facts::discover(&dir)).await?;
        Ok(facts.map(|facts| Self {
            facts: Arc::new(facts),
        }))
    }

    /// The top level of the user's checkout, without symbolic links.
    pub fn top(&self) -> &Path {
        &self.facts.top
    }

    /// The commit that HEAD was at.
    pub fn head(&self) -> &str {
        &self.facts.head
    }

    /// The starting branch, on which finished work lands. Ask before the first item, not after it.
    ///
    /// # Errors
    /// [`WorktreeError::Detached`] if HEAD was on no branch.
    pub fn landing_branch(&self) -> Result<&str, WorktreeError> {
        self.facts.landing_branch()
    }

    /// Hides files from git in all checkouts, by patterns in `.git/info/exclude`: bookkeeping of tools that must not land,
    /// such as `.aider*`. (An aider that finds its files ignored also leaves the user's `.gitignore` alone.)
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn exclude(&self, patterns: &[&str]) -> Result<(), WorktreeError> {
        let facts = self.facts.clone();
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        blocking(move || {
            let _one_at_a_time = facts.lock()?;
            facts.exclude(&patterns.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
    }

    /// Makes a worktree on the current commit of the starting branch. Any text will do as a name.
    ///
    /// One left from an earlier run is used again if it holds nothing. If the name is in use or holds work, `<name>-2`,
    /// `<name>-3`, … is taken, and [`Worktree::passed_over`] tells what was stepped around.
    ///
    /// # Errors
    /// The repository configures programs ([`WorktreeError::RunsPrograms`]), something is in the way, or git failed.
    pub async fn add_worktree(&self, name: &str) -> Result<Worktree, WorktreeError> {
        let (facts, name) = (self.facts.clone(), name.to_owned());
        let (site, passed_over) = blocking(move || create::add(&facts, &name)).await?;
        let (facts, path, branch) = (self.facts.clone(), site.path.clone(), site.branch.clone());
        Ok(Worktree {
            facts,
            path,
            branch,
            passed_over,
            site: Arc::new(Mutex::new(site)),
        })
    }

    /// Work that earlier runs could not land, and that no running toolpool is busy with: worktrees and kept branches.
    ///
    /// # Errors
    /// The starting branch is gone, or git failed.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, WorktreeError> {
        let facts = self.facts.clone();
        blocking(move || leftovers(&facts)).await
    }
}

/// A worktree in use. Other processes keep off it until this value is dropped.
///
/// Dropping it leaves folder and branch for the next run; [`Worktree::release`] removes them.
#[derive(Debug)]
pub struct Worktree {
    facts: Arc<Facts>,
    path: PathBuf,
    branch: String,
    passed_over: Vec<Leftover>,
    site: Arc<Mutex<Site>>,
}

impl Worktree {
    /// Its top level.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// What kept this worktree from having the name that was asked for.
    pub fn passed_over(&self) -> &[Leftover] {
        &self.passed_over
    }

    /// The folder in the worktree that corresponds to `user_cwd` in the user's checkout. It is made if it is missing, as
    /// it is when it holds no committed files. Does a few file operations on the calling thread.
    ///
    /// # Errors
    /// `user_cwd` is not in the repository, or the folder cannot be made.
    pub fn cwd_for(&self, user_cwd: &Path) -> Result<PathBuf, WorktreeError> {
        let canonical = |path: &Path| {
            path.canonicalize()
                .map_err(|source| WorktreeError::io("find", path, source))
        };
        let outside = |dir: &Path| WorktreeError::Outside {
            dir: dir.to_owned(),
            top: self.facts.top.clone(),
        };
        let user_cwd = canonical(user_cwd)?;
        let below = user_cwd
            .strip_prefix(&self.facts.top)
            .map_err(|_| outside(&user_cwd))?;
        if below.as_os_str().is_empty() {
            return Ok(self.path.clone());
        }
        let cwd = self.path.join(below);
        fs::create_dir_all(&cwd).map_err(|source| WorktreeError::io("make", &cwd, source))?;
        // What is a folder in the user's checkout may be a committed link to anywhere in this one.
        if canonical(&cwd)?.starts_with(&self.path) {
            Ok(cwd)
        } else {
            Err(outside(&cwd))
        }
    }

    /// Puts the worktree on the newest commit of the starting branch, for the next item.
    ///
    /// # Errors
    /// [`WorktreeError::Unlanded`] if it holds work, [`WorktreeError::Gone`] if somebody removed it,
    /// [`WorktreeError::Locked`] if a git process is or was at work in it.
    pub async fn begin_item(&mut self) -> Result<(), WorktreeError> {
        self.with_site(Site::begin_item).await
    }

    /// Brings the work since [`Worktree::begin_item`] to the starting branch as one commit, with the message and author of
    /// the tool's last commit, and readies the worktree for the next item.
    ///
    /// What the tool left uncommitted is committed first, as `toolpool: <item>`. If the user has the branch checked out,
    /// their files follow, unless uncommitted changes are in the way. Landings happen one at a time. After an error the
    /// work is still in the worktree, and landing can be tried again.
    ///
    /// # Errors
    /// [`WorktreeError::Detached`], [`WorktreeError::Gone`], [`WorktreeError::Locked`], [`WorktreeError::Unfinished`]
    /// (the tool left a rebase or merge half done), [`WorktreeError::Embedded`], [`WorktreeError::Unlanded`] (the tool
    /// switched away from commits it made), or git failed.
    pub async fn land(&mut self, item: &str) -> Result<Landed, WorktreeError> {
        let item = item.to_owned();
        self.with_site(move |site| land::land(site, &item)).await
    }

    /// Keeps the work since [`Worktree::begin_item`] on a branch of its own, as [`Landed::Blocked`], and readies the worktree
    /// for the next item. For turns that did not complete: what they did is not to land by itself.
    ///
    /// # Errors
    /// As [`Worktree::land`].
    pub async fn set_aside(&mut self, item: &str) -> Result<Landed, WorktreeError> {
        let item = item.to_owned();
        self.with_site(move |site| land::set_aside(site, &item))
            .await
    }

    /// Removes git's lock files that a killed process left in this worktree, and returns which. The caller guarantees
    /// that no process of the instance is left: a live git whose lock is taken away damages its index.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub async fn clear_stale_lock(&mut self) -> Result<Vec<PathBuf>, WorktreeError> {
        self.with_site(|site| site.clear_stale_lock()).await
    }

    /// Removes the worktree and its branch, if that loses nothing; else leaves both and says why.
    ///
    /// # Errors
    /// Git failed; then worktree and branch are still there.
    pub async fn release(self) -> Result<Released, WorktreeError> {
        self.with_site(|site| site.release()).await
    }

    async fn with_site<T, F>(&self, operation: F) -> Result<T, WorktreeError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Site) -> Result<T, WorktreeError> + Send + 'static,
    {
        // The guard goes along, so an operation whose caller went away still keeps the next one waiting.
        let mut site = self.site.clone().lock_owned().await;
        blocking(move || operation(&mut site)).await
    }
}

/// Runs blocking code off the async threads.
async fn blocking<T, F>(operation: F) -> Result<T, WorktreeError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, WorktreeError> + Send + 'static,
{
    match tokio::task::spawn_blocking(operation).await {
        Ok(result) => result,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(WorktreeError::ShuttingDown),
    }
}

fn leftovers(facts: &Facts) -> Result<Vec<Leftover>, WorktreeError> {
    let git = facts.git();
    git.refuse_programs()?;
    let _one_at_a_time = facts.lock()?;
    let tip = facts.tip()?;
    let patterns = [
        format!("refs/heads/{WORKING}/"),
        format!("refs/heads/{KEPT}/"),
    ];
    let listing = git.call([
        "for-each-ref",
        "--format=%(refname:lstrip=2)",
        &patterns[0],
        &patterns[1],
    ]);
    let mut found = Vec::new();
    for branch in listing.ok("list the branches")?.text().lines() {
        let name = branch
            .strip_prefix(WORKING)
            .and_then(|rest| rest.strip_prefix('/'));
        match name {
            Some(name) if !name.contains('/') => {
                let Some(lock) = LockFile::try_take(&facts.lock_path(name)?)? else {
                    continue;
                };
                found.extend(facts.at_stake(name, &facts.worktree_path(name), &[&tip])?);
                drop(lock);
            }
            _ if !git.is_ancestor(&format!("refs/heads/{branch}"), &tip)? => {
                let (reason, show) = (
                    "work that could not land",
                    show_diff(&facts.top, facts.onto(), branch),
                );
                let (branch, reason) = (branch.to_owned(), reason.to_owned());
                found.push(Leftover {
                    branch,
                    worktree: None,
                    reason,
                    show,
                });
            }
            _ => {}
        }
    }
    Ok(found)
}
