//! One function for each thing that can be wrong.
//!
//! Owns the checks. Must not know how they are shown. Invariant: a check changes nothing that outlives it.

use std::path::Path;

use toolpool::worktree::Repository;
use toolpool::{
    ClusterError, Containment, Isolation, LaunchError, LaunchOptions, ToolProfile, launch_cluster,
};

use super::{Check, Verdict};
use crate::probe::{self, ToolReport};
use crate::{settings, version};

/// The first git with `merge-tree --write-tree --merge-base`.
const GIT: &str = ">=2.40";

/// The protocol of tools that work elsewhere, where nothing is known of them before they are asked.
const JOB: &str = "job";

pub(super) fn check(name: &str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check {
        name: name.to_owned(),
        verdict,
        detail: detail.into(),
        fix: None,
    }
}

impl Check {
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// How far a tool and what it starts are contained.
pub(super) fn containment() -> Check {
    let name = "toolpool";
    let own = env!("CARGO_PKG_VERSION");
    let kept = "so that all it starts ends with it, also when toolpool is killed";
    match toolpool::containment() {
        Containment::Cgroup => check(
            name,
            Verdict::Ok,
            format!("{own}; containment: a keeper and a cgroup for each tool, {kept}"),
        ),
        Containment::Keeper => check(
            name,
            Verdict::Ok,
            format!("{own}; containment: a keeper for each tool, {kept}; no cgroups, since none may be made here"),
        ),
        Containment::ProcessGroup => check(
            name,
            Verdict::Note,
            format!("{own}; containment: process groups only, since its own program file cannot be found; what leaves the group of its tool survives, and so do tools when toolpool is killed"),
        )
        .fix("mount /proc, and start toolpool from a file that stays where it is"),
    }
}

pub(super) async fn git() -> Check {
    let name = "git";
    match probe::version_of(Path::new("git"), &["--version".to_owned()]).await {
        None => check(
            name,
            Verdict::Problem,
            "not found; editing tools in a git repository need it",
        )
        .fix("apt-get install git"),
        Some(found) if version::is_in(&found, GIT) == Some(true) => check(
            name,
            Verdict::Ok,
            format!("{found}; instances can have worktrees"),
        ),
        Some(found) => check(
            name,
            Verdict::Problem,
            format!("{found} is too old for worktrees"),
        )
        .fix("install git 2.40 or newer, or use `--isolation shared`"),
    }
}

/// The working folder, as an editing tool would find it.
pub(super) async fn folder(cwd: &Path) -> Check {
    let name = "folder";
    let shown = cwd.canonicalize().unwrap_or_else(|_| cwd.to_owned());
    let shown = shown.display();
    if !cwd.is_dir() {
        return check(
            name,
            Verdict::Problem,
            format!("{shown} is not there or is no folder"),
        )
        .fix("create it, or choose another with --cwd");
    }
    match Repository::discover(cwd).await {
        Ok(None) => check(
            name,
            Verdict::Note,
            format!("{shown} is in no git repository: instances of editing tools would share it"),
        )
        .fix("git init, and commit something, if instances are to be kept apart"),
        Ok(Some(repository)) => match repository.landing_branch() {
            Ok(branch) => check(
                name,
                Verdict::Ok,
                format!("{shown} is in a git repository; changes would land on {branch}"),
            ),
            Err(error) => check(name, Verdict::Problem, error.to_string()).fix("git switch BRANCH"),
        },
        Err(error) => check(name, Verdict::Problem, error.to_string())
            .fix("see there, or use `--isolation shared`"),
    }
}

/// What earlier runs could not land, one check for each branch that keeps it.
pub(super) async fn work_left(cwd: &Path) -> Vec<Check> {
    // What keeps it from being found is told by the check of the folder.
    let Ok(Some(repository)) = Repository::discover(cwd).await else {
        return Vec::new();
    };
    let leftovers = repository.leftovers().await.unwrap_or_default();
    let shown = leftovers.iter().map(|left| {
        let place = left
            .worktree
            .as_ref()
            .map(|path| format!(" in {}", path.display()))
            .unwrap_or_default();
        let detail = format!("left by an earlier run{place}: {}", left.reason);
        check(&left.branch, Verdict::Note, detail).fix(format!(
            "look at it (`{}`), then take what you need and throw it away (`{}`)",
            left.show,
            left.discard()
        ))
    });
    shown.collect()
}

pub(super) fn temporary_folder() -> Check {
    let name = "temporary folder";
    let folder = std::env::temp_dir();
    match tempfile::tempdir() {
        Ok(_) => check(
            name,
            Verdict::Ok,
            format!("{} can be written", folder.display()),
        ),
        Err(error) => check(
            name,
            Verdict::Problem,
            format!(
                "{}: {error}; every instance keeps its private files there",
                folder.display()
            ),
        )
        .fix("make room there, or set TMPDIR to a folder that can be written"),
    }
}

/// A tool; one that was asked for by name has to be there.
pub(super) fn tool(
    report: &ToolReport,
    profile: Option<ToolProfile>,
    cwd: &Path,
    wanted: bool,
) -> Check {
    let missing = if wanted {
        Verdict::Problem
    } else {
        Verdict::Note
    };
    let name = report.name.as_str();
    let Some(profile) = profile.map(settings::embed) else {
        return check(
            name,
            Verdict::Problem,
            report.problem.clone().unwrap_or_default(),
        )
        .fix("correct its profile, or remove the file");
    };
    let options = LaunchOptions {
        cwd: cwd.to_owned(),
        ..LaunchOptions::default()
    };
    let anywhere = LaunchOptions {
        trust_folder: true,
        ..LaunchOptions::default()
    };
    if let Err(LaunchError::NotLoggedIn {
        variable, login, ..
    }) = toolpool::check(&profile, &anywhere)
    {
        return check(name, missing, format!("{variable} is not set"))
            .fix(login.unwrap_or_else(|| "set it".to_owned()));
    }
    if report.program.is_none() {
        let fix = report.install.clone().unwrap_or_else(|| {
            "install it, or set `program` in its profile to its path".to_owned()
        });
        return check(
            name,
            missing,
            format!("{} was not found on PATH", profile.program),
        )
        .fix(fix);
    }
    if cwd.is_dir()
        && let Err(error) = toolpool::check(&profile, &options)
    {
        return check(name, missing, error.to_string())
            .fix("look at the file, then remove it or use --trust-folder");
    }
    let version = report.version.as_deref().unwrap_or("of unknown version");
    if profile.protocol_name() == JOB {
        let way = match profile.program.is_empty() {
            true => "over its API",
            false => version,
        };
        return check(
            name,
            Verdict::Ok,
            format!("{way}; `toolpool doctor {name}` asks the service whether it knows you"),
        );
    }
    if report.logged_in == Some(false) {
        let fix = profile.login.unwrap_or_else(|| "log in".to_owned());
        return check(
            name,
            Verdict::Note,
            format!("{version}; no sign of a login"),
        )
        .fix(fix);
    }
    match (&report.proven, report.is_proven) {
        (Some(proven), Some(false)) => check(
            name,
            Verdict::Ok,
            format!("{version}; the profile was proven on {proven}, so watch its first turns"),
        ),
        (Some(proven), _) => check(name, Verdict::Ok, format!("{version}; proven on {proven}")),
        (None, _) => check(name, Verdict::Ok, version),
    }
}

/// Whether the service of a remote tool knows the user and the folder's repository. No prompt is sent.
pub(super) async fn service(profile: ToolProfile, cwd: &Path) -> Option<Check> {
    if profile.protocol_name() != JOB {
        return None;
    }
    let name = profile.name.clone();
    let launched = launch_cluster(profile)
        .cwd(cwd)
        .isolation(Isolation::Shared)
        .await;
    let reason = match launched {
        Ok(cluster) => {
            cluster.shutdown().await;
            let detail = "ready; each prompt is a remote job: no stream, no attach, no cancel";
            return Some(check(&name, Verdict::Ok, detail));
        }
        Err(ClusterError::NoneReady { reason, .. }) => reason,
        Err(error) => error.to_string(),
    };
    // The driver's reasons name the next step.
    Some(check(&name, Verdict::Problem, reason).fix("see there"))
}
