//! Owns what can go wrong with worktrees, in words for the person who has to act.
//!
//! Must not know how it came about. Invariant: each message says what happened, to which path or branch, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a worktree operation did not happen. Whatever it says, no work was thrown away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorktreeError {
    /// The `git` program could not be started.
    #[error("cannot run `git`: {0}; install git 2.40 or newer and make sure it is on PATH")]
    GitMissing(#[source] io::Error),
    /// The installed git lacks `merge-tree --write-tree --merge-base`, which came with 2.40.
    #[error("`{found}` is too old for worktrees; install git 2.40 or newer")]
    GitTooOld {
        /// What `git version` printed.
        found: String,
    },
    /// A git command failed in a way that has no variant of its own.
    #[error("git could not {doing} ({whence}): {said}")]
    Git {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// The repository or worktree it ran on.
        whence: PathBuf,
        /// What git printed to stderr.
        said: String,
    },
    /// A file operation of our own failed.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A repository without a commit has nothing a worktree could start from.
    #[error("the repository {top} has no commit yet, and a worktree needs one to start from; make one, for example with \
             `git commit --allow-empty -m start`", top = top.display())]
    NoCommit {
        /// The top level of the repository.
        top: PathBuf,
    },
    /// The folder belongs to a repository, but there are no files checked out around it.
    #[error("{dir} is in a git repository but not in a folder with checked-out files ({why}); \
             start toolpool in a normal checkout", dir = dir.display())]
    NoCheckout {
        /// Where the search began.
        dir: PathBuf,
        /// What exactly is unusual.
        why: String,
    },
    /// The repository's own configuration names programs that git would run for us.
    #[error("the configuration of the repository {top} would make git run programs ({}); toolpool does not run what a \
             repository asks for. If you trust them, move these settings to your own configuration \
             (`git config --global`)", keys.join(", "), top = top.display())]
    RunsPrograms {
        /// The repository or worktree.
        top: PathBuf,
        /// The keys, as git spells them.
        keys: Vec<String>,
    },
    /// Landing was asked for, but HEAD was on no branch when toolpool started.
    #[error("{top} is on no branch (detached HEAD at {head}), so finished work has no branch to land on; \
             switch to a branch (`git switch <branch>`) and start again", top = top.display())]
    Detached {
        /// The top level of the repository.
        top: PathBuf,
        /// The commit HEAD was at.
        head: String,
    },
    /// The branch toolpool started on is not there any more.
    #[error(
        "the branch `{branch}`, on which toolpool was started, does not exist any more; \
             create it again (`git branch {branch} <commit>`) or start again on another branch"
    )]
    BranchGone {
        /// The starting branch.
        branch: String,
    },
    /// A branch `toolpool` leaves no room for branches `toolpool/…`: git keeps them in one tree of names.
    #[error(
        "a branch named `{taken}` is in the way of toolpool's branches `{taken}/…`; rename it \
             (`git branch -m {taken} <other name>`)"
    )]
    PrefixTaken {
        /// The branch in the way.
        taken: String,
    },
    /// Something that is not a plain folder stands where worktrees are kept.
    #[error("{path} is not a plain folder, so toolpool puts no worktrees there; move it away", path = path.display())]
    NotAFolder {
        /// What stands in the way.
        path: PathBuf,
    },
    /// Every name like the wanted one is taken by work that must be kept.
    #[error(
        "no worktree for `{name}`: {tried} names like it all hold unfinished work or are in use; \
             look through `git branch --list 'toolpool/{name}*'` and remove what is no longer needed"
    )]
    NoFreeName {
        /// The wanted name.
        name: String,
        /// How many names were tried.
        tried: u32,
    },
    /// The worktree's folder, or its link to the repository, is gone or replaced.
    #[error("the worktree {path} was removed or replaced while it was in use; commits made in it are still on branch \
             `{branch}`; restart the instance to get a new worktree", path = path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// Its branch.
        branch: String,
    },
    /// There is work in the worktree that has not landed, so it cannot move on.
    #[error("the worktree {path} still holds work ({reason}); land it or look at it with `{show}`", path = path.display())]
    Unlanded {
        /// The worktree.
        path: PathBuf,
        /// What it holds.
        reason: String,
        /// The command that shows it.
        show: String,
    },
    /// The tool left git in the middle of something.
    #[error("the tool left {what} in its worktree {path}; finish or abort it there, then land again", path = path.display())]
    Unfinished {
        /// The worktree.
        path: PathBuf,
        /// For example "an unfinished rebase".
        what: String,
    },
    /// The tool made a repository of its own inside the worktree: committing it would keep a pointer and lose the files.
    #[error("the tool made a separate git repository in {path}, which cannot be committed without losing its files; \
             remove its `.git` folder or move it away, then land again", path = path.display())]
    Embedded {
        /// The folder of the inner repository.
        path: PathBuf,
    },
    /// A git process is at work in the worktree, or was killed there.
    #[error("the lock {lock} is held: a git process is still running in the worktree, or one was killed there; \
             when none is left, clear the stale lock", lock = lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// The folder is not inside the repository, so it has no counterpart in a worktree.
    #[error("{dir} is not inside the repository {top}, so it has no counterpart in a worktree", dir = dir.display(), top = top.display())]
    Outside {
        /// The folder asked about.
        dir: PathBuf,
        /// The top level of the repository.
        top: PathBuf,
    },
    /// The async runtime was shutting down, so the operation never began.
    #[error("toolpool is shutting down, so the worktree was left as it is")]
    ShuttingDown,
}

impl WorktreeError {
    /// A failed file operation.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
