//! How many instances the limits of this machine leave room for.
//!
//! Owns what an instance needs and where its limits are found. Must not know how a check is shown. Invariant: the tightest
//! limit counts, and is named.

use std::path::Path;

use rustix::process::{Resource, geteuid, getrlimit};

use super::checks::check;
use super::{Check, Verdict};

/// What a running tool and everything beside need, as the library reckons.
const FILES_PER_PROCESS: u64 = 4;
const FILES_BESIDE: u64 = 256;

/// The keeper, and a tool with its threads and a helper or two: node 20 alone has 11 threads when it is idle.
const TASKS_PER_INSTANCE: u64 = 16;

/// The soft limit counts for nothing: a cluster raises it as far as it needs when it starts.
pub(super) fn open_files() -> Check {
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
    };
    let room = limit.maximum.map_or(u64::MAX, |most| {
        most.saturating_sub(FILES_BESIDE) / FILES_PER_PROCESS
    });
    let detail = format!(
        "{} now, {} at most",
        shown(limit.current),
        shown(limit.maximum)
    );
    room_for(
        "open files",
        room,
        &detail,
        "raise the hard limit (`ulimit -Hn`)",
    )
}

/// Processes and threads together, which the kernel counts alike.
pub(super) fn tasks() -> Check {
    let name = "processes";
    let all = kernel().into_iter().chain(cgroups()).chain(user());
    match all.min_by_key(|ceiling| ceiling.free) {
        None => check(name, Verdict::Ok, "no limit was found"),
        Some(Ceiling {
            free,
            name: by,
            fix,
        }) => {
            let detail = format!("{free} more with their threads, by {by}");
            room_for(name, free / TASKS_PER_INSTANCE, &detail, fix)
        }
    }
}

/// One limit.
struct Ceiling {
    /// Tasks that may come.
    free: u64,
    name: String,
    fix: &'static str,
}

fn room_for(name: &str, room: u64, detail: &str, fix: &str) -> Check {
    let room = room.min(toolpool::MAX_COUNT as u64);
    let detail = format!("{detail}: room for {room} instances");
    match room {
        100.. => check(name, Verdict::Ok, detail),
        1.. => check(name, Verdict::Note, detail).fix(format!("{fix}, if more are needed")),
        0 => check(name, Verdict::Problem, detail).fix(fix),
    }
}

/// The machine's own.
fn kernel() -> Vec<Ceiling> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let now = tasks_of_load(&load).unwrap_or(0);
    let ceiling = |name: &str| {
        let most = number(&Path::new("/proc/sys/kernel").join(name))?;
        Some(Ceiling {
            free: most.saturating_sub(now),
            name: format!("kernel.{name}"),
            fix: "raise it with `sysctl -w`",
        })
    };
    ["pid_max", "threads-max"]
        .into_iter()
        .filter_map(ceiling)
        .collect()
}

/// `0.20 0.18 0.12 1/80 11206` tells of 80 tasks.
fn tasks_of_load(load: &str) -> Option<u64> {
    let (_, tasks) = load.split(' ').nth(3)?.split_once('/')?;
    tasks.parse().ok()
}

/// The user's, which does not hold for root.
fn user() -> Option<Ceiling> {
    if geteuid().is_root() {
        return None;
    }
    // How many there are already is not counted: few, beside the limits that are set.
    let limit = getrlimit(Resource::Nproc).current;
    limit.map(|free| Ceiling {
        free,
        name: "the user's limit".to_owned(),
        fix: "raise it (`ulimit -u`)",
    })
}

/// Those of the control groups that this program is in, from its own up to the root.
fn cgroups() -> Vec<Ceiling> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut ceilings = Vec::new();
    for (root, path) in membership.lines().filter_map(group) {
        let own = Path::new(root).join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|it| it.starts_with(root)) {
            // A group without a limit says `max`.
            let most = number(&folder.join("pids.max"));
            if let (Some(most), Some(now)) = (most, number(&folder.join("pids.current"))) {
                ceilings.push(Ceiling {
                    free: most.saturating_sub(now),
                    name: folder.join("pids.max").display().to_string(),
                    fix: "raise it (`TasksMax=` of the service, or the container's limit)",
                });
            }
        }
    }
    ceilings
}

/// Where the group of a line of `/proc/self/cgroup` is, if it may limit tasks: `0::/a` in version 2, `8:pids:/a` in 1.
fn group(line: &str) -> Option<(&'static str, &str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if number == "0" && controllers.is_empty() {
        return Some(("/sys/fs/cgroup", path));
    }
    let limits = controllers.split(',').any(|name| name == "pids");
    limits.then_some(("/sys/fs/cgroup/pids", path))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_that_may_limit_tasks_are_found_in_both_versions() {
        for (line, found) in [
            ("9:name=systemd:/", None),
            ("4:memory:/x", None),
            ("8:pids:/a:b", Some(("/sys/fs/cgroup/pids", "/a:b"))),
            (
                "0::/user.slice/s",
                Some(("/sys/fs/cgroup", "/user.slice/s")),
            ),
            ("", None),
        ] {
            assert_eq!(group(line), found, "{line}");
        }
    }

    #[test]
    fn tasks_are_read_off_the_load() {
        assert_eq!(tasks_of_load("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(tasks_of_load("junk"), None);
    }

    #[test]
    fn too_little_room_comes_with_its_fix() {
        for (room, verdict, fix) in [
            (1_000_000, Verdict::Ok, None),
            (99, Verdict::Note, Some("raise it, if more are needed")),
            (0, Verdict::Problem, Some("raise it")),
        ] {
            let check = room_for("x", room, "5 more", "raise it");
            assert_eq!((check.verdict, check.fix.as_deref()), (verdict, fix));
            assert!(check.detail.starts_with("5 more: room for "));
        }
    }
}
