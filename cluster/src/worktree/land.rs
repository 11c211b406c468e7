//! Owns how the work of one item comes home: as one commit on the starting branch, or kept on a branch of its own.
//!
//! Must not know prompts or tools. Invariant: at every point the work is reachable from a branch, and the user's
//! uncommitted changes and current branch stay as they are. Where the two collide, the user's files win and the work waits.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::git::{Git, into_path};
use super::names::{message, numbered, show_diff, slug};
use super::repository::{Facts, KEPT};
use super::site::Site;
use super::{Landed, WorktreeError};

/// How often a landing begins anew because the user moved the branch or was running git meanwhile.
const TRIES: u32 = 10;
/// How long it waits for a git command of the user to end, each time.
const PAUSE: Duration = Duration::from_millis(50);

/// Lands what is in the worktree, and resets it for the next item.
pub(super) fn land(site: &mut Site, item: &str) -> Result<Landed, WorktreeError> {
    let branch = site.facts.landing_branch()?.to_owned();
    site.check()?;
    let tool_head = site.git.commit("HEAD")?;
    let head = site.commit_leftovers(&message(item))?;
    check_branch(site, &head)?;
    let git = site.facts.git();
    let fork = git.call(["merge-base", &site.base, &head]).output()?.text();
    let (landed, next) = if fork.is_empty() {
        let reason = "the tool's commits have no history in common with the branch".to_owned();
        (
            keep(site, item, &head, Obstacle::Blocked(reason))?,
            site.base.clone(),
        )
    } else if git.tree(&fork)? == git.tree(&head)? {
        (
            Landed::Nothing,
            site.facts.tip().unwrap_or_else(|_| site.base.clone()),
        )
    } else {
        let tool_commit = tool_head.filter(|commit| *commit != fork);
        let credit = Credit::of(&git, tool_commit.as_deref().unwrap_or(&head))?;
        match advance(&site.facts, &branch, &fork, &head, &credit, &slug(item))? {
            Ok(landed) => {
                let next = if let Landed::Commit { commit, .. } = &landed {
                    commit.clone()
                } else {
                    site.facts.tip()?
                };
                (landed, next)
            }
            Err(obstacle) => {
                let kept = keep(site, item, &head, obstacle)?;
                (kept, site.facts.tip().unwrap_or_else(|_| site.base.clone()))
            }
        }
    };
    site.reset(&next)?;
    site.base = next;
    Ok(landed)
}

/// Keeps what is in the worktree on a branch of its own without landing it, and resets the worktree for the next item.
pub(super) fn set_aside(site: &mut Site, item: &str) -> Result<Landed, WorktreeError> {
    site.check()?;
    let head = site.commit_leftovers(&message(item))?;
    check_branch(site, &head)?;
    let git = site.facts.git();
    let kept = if git.tree(&site.base)? == git.tree(&head)? {
        Landed::Nothing
    } else {
        let reason = "its turn did not complete".to_owned();
        keep(site, item, &head, Obstacle::Blocked(reason))?
    };
    let next = site.facts.tip().unwrap_or_else(|_| site.base.clone());
    site.reset(&next)?;
    site.base = next;
    Ok(kept)
}

/// Fails if commits on the worktree's branch would be left behind, because the tool went on elsewhere without them.
fn check_branch(site: &Site, head: &str) -> Result<(), WorktreeError> {
    let git = site.facts.git();
    let Some(own) = git.commit(&format!("refs/heads/{}", site.branch))? else {
        return Ok(());
    };
    if git.is_ancestor(&own, head)? || git.is_ancestor(&own, &site.base)? {
        return Ok(());
    }
    let reason = format!("HEAD moved away from commits on branch `{}`", site.branch);
    let show = show_diff(&site.facts.top, site.facts.onto(), &site.branch);
    Err(WorktreeError::Unlanded {
        path: site.path.clone(),
        reason,
        show,
    })
}

/// Why work cannot be put on the branch.
enum Obstacle {
    Conflict(Vec<PathBuf>),
    Blocked(String),
}

/// Moves `branch` on by one commit that holds the changes from `fork` to `head`.
fn advance(
    facts: &Facts,
    branch: &str,
    fork: &str,
    head: &str,
    credit: &Credit,
    slug: &str,
) -> Result<Result<Landed, Obstacle>, WorktreeError> {
    let git = facts.git();
    let _one_at_a_time = facts.lock()?;
    let mut reason = String::new();
    for _ in 0..TRIES {
        let tip = match facts.tip() {
            Err(WorktreeError::BranchGone { branch }) => {
                return Ok(Err(Obstacle::Blocked(format!(
                    "the branch `{branch}` does not exist any more"
                ))));
            }
            tip => tip?,
        };
        let merge = [
            "merge-tree",
            "--write-tree",
            "-z",
            "--name-only",
            "--no-messages",
        ];
        let merged = git
            .call(merge.into_iter().chain(["--merge-base", fork, &tip, head]))
            .output()?;
        if !matches!(merged.code, Some(0 | 1)) {
            return Err(merged.error("merge the work with the branch"));
        }
        let mut fields = merged.fields();
        let tree = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
        if merged.code == Some(1) {
            return Ok(Err(Obstacle::Conflict(fields.map(into_path).collect())));
        }
        if tree == git.tree(&tip)? {
            return Ok(Ok(Landed::Nothing));
        }
        let commit = credit.commit(&git, &tree, &tip)?;
        match put(facts, branch, &tip, &commit, slug)? {
            Put::Done => {
                let listing = git.call([
                    "diff-tree",
                    "-r",
                    "-z",
                    "--name-only",
                    "--no-renames",
                    &tip,
                    &commit,
                ]);
                let files = listing
                    .ok("list the landed files")?
                    .fields()
                    .map(into_path)
                    .collect();
                return Ok(Ok(Landed::Commit { commit, files }));
            }
            Put::Moved => {
                reason = format!("the branch `{branch}` kept moving while the work was landing")
            }
            Put::Busy(checkout) => {
                reason = format!(
                    "another git command is running in {} (it holds index.lock)",
                    checkout.display()
                );
                thread::sleep(PAUSE);
            }
            Put::Refused(reason) => return Ok(Err(Obstacle::Blocked(reason))),
        }
    }
    Ok(Err(Obstacle::Blocked(reason)))
}

/// What came of putting a commit on a branch.
enum Put {
    Done,
    /// The branch is not where it was.
    Moved,
    /// Another git process holds the index of the checkout at this path.
    Busy(PathBuf),
    Refused(String),
}

/// Moves `branch` from `old` to its child `new`, together with the files of whoever has it checked out.
fn put(
    facts: &Facts,
    branch: &str,
    old: &str,
    new: &str,
    slug: &str,
) -> Result<Put, WorktreeError> {
    let full = format!("refs/heads/{branch}");
    let git = facts.git();
    let moved =
        || -> Result<bool, WorktreeError> { Ok(git.commit(&full)?.as_deref() != Some(old)) };
    let mut holder = None;
    for checkout in facts.checkouts()? {
        if checkout.branch.as_deref() == Some(&*full) {
            holder = Some(checkout.path);
        } else if checkout.branch.is_none()
            && let Some(git) = facts.git_at(&checkout.path)?
            && let Some(what) = in_progress(&git, branch)
        {
            return Ok(Put::Refused(format!(
                "{what} of `{branch}` is in progress in {}",
                checkout.path.display()
            )));
        }
    }
    let action = format!("toolpool: {slug}");
    let Some(path) = holder else {
        let update = git
            .call(["update-ref", "-m", &action, &full, new, old])
            .output()?;
        return match update.succeeded() {
            true => Ok(Put::Done),
            false if moved()? => Ok(Put::Moved),
            false => Err(update.error("move the branch")),
        };
    };
    let Some(checkout) = facts.git_at(&path)? else {
        return Ok(Put::Refused(format!(
            "`{branch}` is checked out in {}, which is damaged",
            path.display()
        )));
    };
    checkout.refuse_programs()?;
    // Ignored files are the user's too: without `--no-overwrite-ignore` git would replace them without a word.
    let merge = [
        "merge",
        "--ff-only",
        "--no-autostash",
        "--no-overwrite-ignore",
        "--no-stat",
        "--quiet",
        new,
    ];
    let merge = checkout.call(merge).env("GIT_REFLOG_ACTION", &action);
    // Options for `git merge` may hide in the branch's configuration. This way of overruling allows any branch name.
    let merge = merge
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_VALUE_0", "");
    let merge = merge
        .env("GIT_CONFIG_KEY_0", &format!("branch.{branch}.mergeOptions"))
        .output()?;
    if merge.succeeded() {
        // If the user switched branches at this very moment, another branch has advanced and ours is still to do.
        let there = git.is_ancestor(new, &full)?;
        return Ok(if there { Put::Done } else { Put::Moved });
    }
    if moved()? {
        return Ok(Put::Moved);
    }
    if checkout.git_dir().join("index.lock").exists() || merge.stderr.contains("index.lock") {
        return Ok(Put::Busy(path));
    }
    Ok(Put::Refused(refusal(&path, &merge.stderr)))
}

/// Whether a rebase or bisection that will come back to `branch` is under way: HEAD is detached meanwhile.
fn in_progress(checkout: &Git, branch: &str) -> Option<&'static str> {
    let says = |file: &str, text: &str| {
        std::fs::read_to_string(checkout.git_dir().join(file))
            .is_ok_and(|found| found.trim_end() == text)
    };
    let full = format!("refs/heads/{branch}");
    if says("rebase-merge/head-name", &full) || says("rebase-apply/head-name", &full) {
        return Some("a rebase");
    }
    says("BISECT_START", branch).then_some("a bisection")
}

/// Why the checkout could not follow, from git's complaint: it lists the files, one per line, after a tab.
fn refusal(checkout: &Path, complaint: &str) -> String {
    let files: Vec<&str> = complaint
        .lines()
        .filter_map(|line| line.strip_prefix('\t'))
        .collect();
    if files.is_empty() {
        return format!(
            "the checkout {} could not follow: {complaint}",
            checkout.display()
        );
    }
    format!(
        "files in {} that are not committed would be overwritten: {}",
        checkout.display(),
        files.join(", ")
    )
}

/// Puts work that could not land on a branch of its own.
fn keep(site: &Site, item: &str, head: &str, obstacle: Obstacle) -> Result<Landed, WorktreeError> {
    let git = site.facts.git();
    let stem = slug(item);
    if git.commit(&format!("refs/heads/{KEPT}"))?.is_some() {
        return Err(WorktreeError::PrefixTaken {
            taken: KEPT.to_owned(),
        });
    }
    for slug in numbered(&stem) {
        let branch = format!("{KEPT}/{}/{slug}", site.name);
        let full = format!("refs/heads/{branch}");
        if git.commit(&full)?.is_some() {
            continue;
        }
        // The empty old value makes git refuse if the branch appears in this moment.
        let create = [
            "update-ref",
            "-m",
            "toolpool: work that could not land",
            &full,
            head,
            "",
        ];
        git.call(create)
            .ok("keep the work on a branch of its own")?;
        let show = show_diff(&site.facts.top, site.facts.onto(), &branch);
        return Ok(match obstacle {
            Obstacle::Conflict(files) => Landed::Conflict {
                branch,
                files,
                show,
            },
            Obstacle::Blocked(reason) => Landed::Blocked {
                branch,
                reason,
                show,
            },
        });
    }
    let name = format!("{}/{stem}", site.name);
    Err(WorktreeError::NoFreeName {
        name,
        tried: super::names::ATTEMPTS,
    })
}

/// Who wrote a commit and what they said of it, to be repeated on the commit that lands.
struct Credit {
    /// Values for `GIT_AUTHOR_*` and `GIT_COMMITTER_*`.
    people: Vec<(&'static str, String)>,
    message: String,
}

impl Credit {
    fn of(git: &Git, commit: &str) -> Result<Self, WorktreeError> {
        let format = "--format=%an%x00%ae%x00%ad%x00%cn%x00%ce%x00%B";
        let log = git.call([
            "log",
            "-1",
            "--no-mailmap",
            "--no-notes",
            "--date=raw",
            format,
            commit,
            "--",
        ]);
        let log = log.ok("read the tool's commit")?.text();
        let mut fields = log.splitn(6, '\0');
        let mut next = || fields.next().unwrap_or_default().to_owned();
        let mut people = vec![("GIT_AUTHOR_NAME", next()), ("GIT_AUTHOR_EMAIL", next())];
        people.push(("GIT_AUTHOR_DATE", format!("@{}", next())));
        people.extend([
            ("GIT_COMMITTER_NAME", next()),
            ("GIT_COMMITTER_EMAIL", next()),
        ]);
        // Git takes an empty name from a variable as an error, and a missing one as "the user".
        people.retain(|(_, value)| !value.is_empty());
        Ok(Self {
            people,
            message: next(),
        })
    }

    /// Makes a commit, which no branch has yet.
    fn commit(&self, git: &Git, tree: &str, parent: &str) -> Result<String, WorktreeError> {
        let mut call = git
            .call(["commit-tree", tree, "-p", parent, "-F", "-"])
            .input(&self.message);
        for (variable, value) in &self.people {
            call = call.env(variable, value);
        }
        Ok(call.ok("make the landing commit")?.text())
    }
}
