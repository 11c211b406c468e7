//! What a tool is given, and that nothing of it is left.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::Signal;
use serde_json::Value;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{LaunchOptions, ProcessPool, ShutdownReport, shim};

use crate::support::{
    LONG, Watched, answer, launch, pid, read, report, signal, sleepers, standin, standin_tool,
    until, watch,
};

#[tokio::test]
async fn a_tool_has_its_own_session_and_group_and_its_process_id_is_known() {
    let pool = launch(standin(&["on turn 1 report"]), 1).await;
    let report = report(&pool).await;
    let pid = pid(&pool, 0);
    assert_eq!(report["pid"], pid);
    assert_eq!(report["pgid"], pid);
    assert_eq!(report["sid"], pid);
}

#[tokio::test]
async fn a_tool_sees_three_pipes_and_no_other_file() {
    // Two files that somebody opened without close-on-exec.
    let leaks = [std::io::stderr().as_fd(), std::io::stdin().as_fd()]
        .map(|fd| rustix::io::dup(fd).expect("it is open"));
    assert!(leaks.iter().all(|leak| {
        !rustix::io::fcntl_getfd(leak)
            .expect("open")
            .contains(FdFlags::CLOEXEC)
    }));
    let pool = launch(standin(&["on turn 1 report"]), 3).await;
    pool.send_prompt(2, "report").expect("accepted");
    let response = pool.read_response(2, LONG).await.expect("a response");
    let report: Value = serde_json::from_str(&response.text).expect("a report is JSON");
    let files = report["open_fds"].as_array().expect("a list");
    let numbers: Vec<_> = files.iter().map(|file| &file["fd"]).collect();
    assert_eq!(numbers, [0, 1, 2]);
    let targets: std::collections::HashSet<_> = files
        .iter()
        .filter_map(|file| file["target"].as_str())
        .collect();
    assert_eq!(targets.len(), 3, "{files:?}");
    // A Unix socket pair would do for a pipe too.
    assert!(
        targets
            .iter()
            .all(|target| target.starts_with("pipe:") || target.starts_with("socket:")),
        "{files:?}"
    );
    assert_eq!(report["isatty"]["stdin"], false);
}

#[tokio::test]
async fn a_tool_sees_no_variable_that_nobody_allowed() {
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
        "cargo sets it, so there is something to hide"
    );
    let mut profile = standin(&["on turn 1 report"]);
    profile
        .env_set
        .insert("FROM_PROFILE".to_owned(), "1".to_owned());
    profile.env_pass.push("CARGO_PKG_NAME".to_owned());
    shim::init_with(standin_tool());
    let options = LaunchOptions {
        env: vec![("FROM_OPTIONS".to_owned(), "1".to_owned())],
        ..LaunchOptions::default()
    };
    let pool = ProcessPool::launch(profile, 1, options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<String> =
        serde_json::from_value(report(&pool).await["env"].clone()).expect("names");
    let always = [
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    ];
    for name in &names {
        let allowed = ["FROM_PROFILE", "CARGO_PKG_NAME", "FROM_OPTIONS"].contains(&name.as_str());
        assert!(
            allowed || always.contains(&name.as_str()),
            "{name} in {names:?}"
        );
    }
    for name in ["PATH", "FROM_PROFILE", "CARGO_PKG_NAME", "FROM_OPTIONS"] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} in {names:?}"
        );
    }
}

#[tokio::test]
async fn a_tool_has_no_signal_blocked_or_ignored_and_writes_no_core() {
    let pool = launch(ToolProfile::builtin("bash").expect("built in"), 1).await;
    let text = answer(
        &pool,
        "grep -E '^Sig(Blk|Ign)' /proc/self/status; ulimit -c",
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    let [blocked, ignored, core] = lines[..] else {
        panic!("{text}")
    };
    assert_eq!((blocked, core), ("SigBlk:\t0000000000000000", "0"));
    let mask = ignored
        .strip_prefix("SigIgn:\t")
        .map(|mask| u64::from_str_radix(mask, 16));
    // glibc's `posix_spawn` leaves its own two signals, 32 and 33, ignored; the others are the first 31 bits.
    assert_eq!(
        mask.map(|mask| mask.map(|mask| mask & 0x7fff_ffff)),
        Some(Ok(0)),
        "{ignored}"
    );
}

#[tokio::test]
async fn what_a_dead_tool_left_in_its_group_dies_before_the_next_one_starts() {
    let pool = launch(
        standin(&["on turn 1 fork 2 ignore TERM HUP", "on turn 2 report"]),
        1,
    )
    .await;
    answer(&pool, "fork").await;
    let children: Vec<_> = sleepers(&report(&pool).await)
        .into_iter()
        .map(watch)
        .collect();
    assert_eq!(children.len(), 2);
    signal(pid(&pool, 0), Signal::KILL);
    until(&pool, |pool| !pool.get_status()[0].alive).await;
    assert!(children.iter().all(Watched::is_gone));
}

#[tokio::test]
async fn the_private_folder_goes_with_the_process() {
    let mut profile = ToolProfile::builtin("bash").expect("built in");
    profile
        .env_set
        .insert("STATE".to_owned(), "{state}".to_owned());
    profile.files.insert("notes".to_owned(), "hello".to_owned());
    let pool = launch(profile, 1).await;
    assert_eq!(answer(&pool, "cat $STATE/notes").await, "hello");
    let folder = answer(&pool, "printf %s \"$STATE\"").await;
    assert!(Path::new(&folder).is_dir());
    pool.shutdown(LONG).await;
    assert!(!Path::new(&folder).exists());
}

#[tokio::test]
async fn a_shutdown_says_who_needed_a_kill() {
    let pool = launch(
        standin(&["on prompt ~deaf ignore TERM", "on prompt ~exit exit 0"]),
        3,
    )
    .await;
    let processes: Vec<_> = (0..3).map(|index| watch(pid(&pool, index))).collect();
    pool.send_prompt(0, "deaf").expect("accepted");
    pool.send_prompt(1, "exit").expect("accepted");
    read(&pool).await;
    pool.read_response(1, LONG).await.expect("a response");
    let report = pool.shutdown(Duration::from_millis(200)).await;
    assert_eq!(
        report,
        ShutdownReport {
            terminated: vec![2],
            killed: vec![0],
            already_dead: vec![1],
            survivors: vec![],
        }
    );
    for process in processes {
        process.gone().await;
    }
    assert_eq!(
        pool.send_prompt(0, "x")
            .expect_err("it is over")
            .to_string(),
        "the pool was shut down; launch another"
    );
    assert_eq!(pool.shutdown(LONG).await, ShutdownReport::default());
}

#[tokio::test]
async fn a_stopped_process_still_gets_its_termination() {
    let pool = launch(standin(&[]), 1).await;
    signal(pid(&pool, 0), Signal::STOP);
    assert_eq!(pool.shutdown(LONG).await.terminated, [0]);
}

#[tokio::test]
async fn a_shutdown_answers_what_runs_and_what_waits() {
    let pool = launch(standin(&["on prompt ~hang hang"]), 1).await;
    pool.send_prompt(0, "hang").expect("accepted");
    pool.send_prompt(0, "waits").expect("accepted");
    until(&pool, |pool| pool.get_status()[0].busy).await;
    pool.shutdown(LONG).await;
    assert_ne!(read(&pool).await.outcome.word(), "completed");
    let outcome = format!("{:?}", read(&pool).await.outcome);
    assert!(outcome.contains("the pool was shut down"), "{outcome}");
    assert!(pool.read_response(0, LONG).await.is_err());
}

#[tokio::test]
async fn a_launch_that_fails_leaves_no_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The first to make the folder becomes ready; the other one finds it there and ends.
    let script = "mkdir one && echo $$ >> pids && echo standin ready && exec sleep 1000; exit 1";
    let mut profile = standin(&[]);
    profile.program = "bash".to_owned();
    profile.args = vec!["-c".to_owned(), script.to_owned()];
    let options = LaunchOptions {
        cwd: folder.path().to_owned(),
        ..LaunchOptions::default()
    };
    shim::init_with(standin_tool());
    let error = ProcessPool::launch(profile, 2, options)
        .await
        .err()
        .expect("one of them ended");
    assert!(
        error
            .to_string()
            .contains("ended before it was ready (exit code 1)"),
        "{error}"
    );
    for pid in std::fs::read_to_string(folder.path().join("pids"))
        .unwrap_or_default()
        .lines()
    {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || !stat.contains("sleep"), "{stat}");
    }
}

#[tokio::test]
async fn dropping_the_pool_leaves_no_process() {
    let pool = launch(
        standin(&["on turn 1 fork 1 ignore TERM", "on turn 2 report"]),
        2,
    )
    .await;
    answer(&pool, "fork").await;
    let mut processes = vec![watch(pid(&pool, 0)), watch(pid(&pool, 1))];
    processes.extend(sleepers(&report(&pool).await).into_iter().map(watch));
    assert_eq!(processes.len(), 3);
    drop(pool);
    for process in processes {
        process.gone().await;
    }
}

#[test]
fn a_runtime_that_ends_takes_its_processes_with_it() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (pool, process) = runtime.block_on(async {
        let pool = launch(standin(&[]), 1).await;
        let process = watch(pid(&pool, 0));
        (pool, process)
    });
    drop(runtime);
    process.block_until_gone();
    drop(pool);
}
