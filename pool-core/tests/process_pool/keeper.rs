//! That nothing outlives a tool, wherever it went and whoever dies first.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use toolpool_pool_core::ProcessPool;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::shim::{self, Containment};

use crate::support::{
    LONG, Watched, answer, ask, launch, parent, pid, report, signal, sleepers, standin,
    standin_tool, until, watch,
};

/// A stand-in that starts one process in its group and two that nobody can find by it, none of which ends when told to.
fn forking(more: &[&str]) -> ToolProfile {
    let mut rules = vec![
        "on prompt ~fork fork 1 ignore TERM INT HUP",
        "on prompt ~fork fork 1 setsid ignore TERM INT HUP",
        "on prompt ~fork fork 1 orphan setsid ignore TERM INT HUP",
        "on prompt ~report report",
    ];
    rules.extend(more);
    standin(&rules)
}

/// Lets instance 0 fork; all that it has started.
async fn fork(pool: &ProcessPool) -> Vec<Watched> {
    answer(pool, "fork").await;
    let started: Vec<Watched> = sleepers(&report(pool).await)
        .into_iter()
        .map(watch)
        .collect();
    assert_eq!(started.len(), 3);
    assert!(!started.iter().any(Watched::is_gone));
    started
}

#[tokio::test]
async fn a_shutdown_is_over_when_everything_is_gone_that_the_tool_had_started() {
    let pool = launch(forking(&[]), 1).await;
    let started = fork(&pool).await;
    assert_eq!(pool.shutdown(LONG).await.terminated, [0]);
    assert!(started.iter().all(Watched::is_gone));
}

#[tokio::test]
async fn so_it_is_after_a_kill() {
    let pool = launch(forking(&["on prompt ~fork ignore TERM"]), 1).await;
    let started = fork(&pool).await;
    assert_eq!(pool.shutdown(std::time::Duration::ZERO).await.killed, [0]);
    assert!(started.iter().all(Watched::is_gone));
}

#[tokio::test]
async fn what_holds_the_output_of_a_dead_tool_from_elsewhere_is_gone_when_its_end_is_heard() {
    let pool = launch(forking(&["on prompt ~exit exit 5"]), 1).await;
    let started = fork(&pool).await;
    let response = ask(&pool, "exit").await;
    assert_eq!(response.outcome.word(), "indeterminate");
    assert_eq!(pool.get_status()[0].return_code, Some(5));
    assert!(started.iter().all(Watched::is_gone));
}

#[tokio::test]
async fn a_pool_that_is_dropped_leaves_nothing_either() {
    let pool = launch(forking(&[]), 1).await;
    let mut started = fork(&pool).await;
    started.push(watch(pid(&pool, 0)));
    started.push(watch(parent(pid(&pool, 0))));
    drop(pool);
    for process in started {
        process.gone().await;
    }
}

#[tokio::test]
async fn the_end_of_a_tool_is_told_as_it_was() {
    for (order, end) in [
        ("exit 0", "exit code 0"),
        ("exit 1", "exit code 1"),
        ("exit 255", "exit code 255"),
        ("signal HUP", "signal 1"),
        ("signal INT", "signal 2"),
        ("signal QUIT", "signal 3"),
        ("signal ABRT", "signal 6"),
        ("signal KILL", "signal 9"),
        ("signal USR1", "signal 10"),
        ("signal SEGV", "signal 11"),
        ("signal ALRM", "signal 14"),
        ("signal TERM", "signal 15"),
    ] {
        let pool = launch(standin(&[&format!("on turn 1 {order}")]), 1).await;
        let told = format!("{:?}", ask(&pool, "end").await.outcome);
        // As a whole: "signal 1" is no "signal 11".
        let mut words =
            told.split(|character: char| !character.is_alphanumeric() && character != ' ');
        assert!(words.any(|words| words.ends_with(end)), "{order}: {told}");
    }
}

#[tokio::test]
async fn a_tool_whose_keeper_is_killed_dies_and_is_missed() {
    let pool = launch(
        standin(&["on start fork 1 ignore TERM", "on turn 1 report"]),
        1,
    )
    .await;
    let mut processes: Vec<_> = sleepers(&report(&pool).await)
        .into_iter()
        .map(watch)
        .collect();
    processes.push(watch(pid(&pool, 0)));
    signal(parent(pid(&pool, 0)), Signal::KILL);
    until(&pool, |pool| !pool.get_status()[0].alive).await;
    for process in processes {
        process.gone().await;
    }
}

/// The folder of the cgroup that a process is in, where cgroup v2 is mounted at its root.
fn cgroup(pid: u32) -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("they can be read");
    let place = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find_map(|fields| (fields[2] == "cgroup2").then_some(fields[1]))
        .expect("it is mounted");
    let memberships = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .expect("it is in one");
    PathBuf::from(place).join(path)
}

#[tokio::test]
async fn a_cgroup_ends_what_had_left_the_group_of_a_tool_whose_keeper_is_killed_and_goes() {
    let pool = launch(forking(&[]), 1).await;
    if shim::containment() < Containment::Cgroup {
        eprintln!("skipped: no cgroups may be made here");
        return;
    }
    let started = fork(&pool).await;
    let (tool, keeper) = (pid(&pool, 0), parent(pid(&pool, 0)));
    let folder = cgroup(tool);
    assert_ne!(folder, cgroup(keeper));
    assert_eq!(folder.parent(), Some(cgroup(keeper).as_path()));
    signal(keeper, Signal::KILL);
    until(&pool, |pool| !pool.get_status()[0].alive).await;
    assert!(started.iter().all(Watched::is_gone));
    assert!(!folder.exists());
}

#[tokio::test]
async fn the_cgroup_of_a_tool_is_gone_when_its_end_is_heard() {
    let pool = launch(forking(&["on prompt ~exit exit 0"]), 1).await;
    if shim::containment() < Containment::Cgroup {
        eprintln!("skipped: no cgroups may be made here");
        return;
    }
    let folder = cgroup(pid(&pool, 0));
    fork(&pool).await;
    assert!(folder.exists());
    ask(&pool, "exit").await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_keeper_that_is_asked_to_end_ends_everything() {
    for asked in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let pool = launch(forking(&[]), 1).await;
        let started = fork(&pool).await;
        signal(parent(pid(&pool, 0)), asked);
        until(&pool, |pool| !pool.get_status()[0].alive).await;
        assert!(started.iter().all(Watched::is_gone));
    }
}

#[tokio::test]
async fn a_keeper_holds_nothing_of_its_tool() {
    let pool = launch(standin(&[]), 1).await;
    let tool = pid(&pool, 0);
    let links = |pid: u32| -> HashSet<_> {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it lives")
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .collect()
    };
    // It lets go of them once the tool has been started, which is not before the tool itself runs.
    let free = async {
        while !links(parent(tool)).is_disjoint(&links(tool)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, free).await.expect("it lets go");
    // One end of each of three pipes is here, the other one there.
    assert_eq!(links(tool).len(), 3);
}

#[tokio::test]
async fn a_manager_that_is_killed_leaves_neither_processes_nor_private_folders() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut manager = tokio::process::Command::new(standin_tool())
        .arg("manage")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs");
    let entries = || std::fs::read_dir(folder.path()).expect("a folder").count();
    let mut lines = BufReader::new(manager.stdout.take().expect("a pipe")).lines();
    let mut processes = Vec::new();
    for _ in 0..2 {
        let line = lines.next_line().await.expect("text").expect("a line");
        let pids: Vec<u32> = serde_json::from_str(&line).expect("process ids");
        assert_eq!(pids.len(), 4);
        // The tool is the first of them.
        processes.push(watch(parent(pids[0])));
        processes.extend(pids.into_iter().map(watch));
    }
    assert_eq!(entries(), 2);
    manager.kill().await.expect("it lives");
    for process in processes {
        process.gone().await;
    }
    assert_eq!(entries(), 0);
}
