//! Owns how a worktree comes to be: a new one, or one left from an earlier run that holds nothing.
//!
//! Must not know landing. Invariant: worktrees are made one at a time (parallel `git worktree add` fails on
//! `config.lock`: 2 of 3, measured with git 2.47), and one that holds work, or that a live process uses, is never touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::lock::LockFile;
use super::names::{ATTEMPTS, numbered, slug};
use super::repository::{Facts, WORKING};
use super::site::Site;
use super::{Leftover, WorktreeError};

/// Makes a worktree called `name`, or as near to that as possible; and tells what it had to step around.
pub(super) fn add(facts: &Arc<Facts>, name: &str) -> Result<(Site, Vec<Leftover>), WorktreeError> {
    let git = facts.git();
    git.refuse_programs()?;
    let stem = slug(name);
    let _one_at_a_time = facts.lock()?;
    if git.commit(&format!("refs/heads/{WORKING}"))?.is_some() {
        return Err(WorktreeError::PrefixTaken {
            taken: WORKING.to_owned(),
        });
    }
    let tip = facts.tip()?;
    facts.make_folder()?;
    facts.exclude(&[".toolpool/"])?;
    let mut passed_over = Vec::new();
    for name in numbered(&stem) {
        match try_name(facts, &name, &tip)? {
            Ok(site) => return Ok((site, passed_over)),
            Err(leftover) => passed_over.push(leftover),
        }
    }
    Err(WorktreeError::NoFreeName {
        name: stem,
        tried: ATTEMPTS,
    })
}

/// Takes one name, unless work or a live process holds it.
fn try_name(
    facts: &Arc<Facts>,
    name: &str,
    tip: &str,
) -> Result<Result<Site, Leftover>, WorktreeError> {
    let path = facts.worktree_path(name);
    let branch = format!("{WORKING}/{name}");
    let pass = |reason: &str, path: &Path| {
        let show = "git worktree list".to_owned();
        let worktree = path.exists().then(|| path.to_owned());
        Ok(Err(Leftover {
            branch: branch.clone(),
            worktree,
            reason: reason.to_owned(),
            show,
        }))
    };
    let Some(lock) = LockFile::try_take(&facts.lock_path(name)?)? else {
        return pass("in use by a running toolpool", &path);
    };
    let checkouts = facts.checkouts()?;
    let full = format!("refs/heads/{branch}");
    if let Some(elsewhere) = checkouts
        .iter()
        .find(|c| c.branch.as_deref() == Some(&*full) && c.path != path)
    {
        return pass("checked out in another folder", &elsewhere.path);
    }
    let registered = checkouts.iter().any(|c| c.path == path);
    let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
    if empty && !registered && !path.is_symlink() {
        fs::remove_dir(&path).map_err(|source| WorktreeError::io("remove", &path, source))?;
    }
    if let Some(leftover) = facts.at_stake(name, &path, &[tip])? {
        return Ok(Err(leftover));
    }
    let git = facts.git();
    if registered && path.exists() {
        let site = Site::open(facts, name, tip, lock)?;
        site.reset(tip)?;
        return Ok(Ok(site));
    }
    if registered {
        // Its folder was deleted. This forgets that one worktree only; `git worktree prune` would forget the user's too.
        let forget = git.call([
            "worktree".as_ref(),
            "remove".as_ref(),
            "--force".as_ref(),
            path.as_os_str(),
        ]);
        forget.ok("forget a worktree whose folder was deleted")?;
    }
    let add = ["worktree", "add", "--quiet", "--no-track", "-B", &branch].map(AsRef::as_ref);
    git.call(add.into_iter().chain([path.as_os_str(), tip.as_ref()]))
        .ok("add a worktree")?;
    Ok(Ok(Site::open(facts, name, tip, lock)?))
}
