//! A batch on the real aider that toolpool does not live to see the end of. Without `TOOLPOOL_AIDER` it says that it was
//! skipped; `cargo xtask test` sets it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use toolpool_conformance::lab::Lab;

const FILES: usize = 24;

/// As many have ended when toolpool is killed; three more are under way.
const ENDED: usize = 7;

/// Longer than anything takes on a machine that is merely slow.
const LONG: Duration = Duration::from_secs(60);

/// The same command each time, but for the form of its report.
fn batch(lab: &Lab, format: &str) -> Command {
    let (args, env) = lab.settings();
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolpool"));
    command
        .args(["batch", "--tool", "aider", "-n", "3", "file_*.txt"])
        .args(["-p", "[[model: edit={file} text=edited {file}]]"])
        .args(["-o", format]);
    for (key, value) in env {
        command.args(["--env", &format!("{key}={value}")]);
    }
    let program = std::path::Path::new(lab.program());
    let folder = program.parent().expect("a folder").display();
    let path = std::env::var("PATH").expect("PATH");
    command
        .arg("--")
        .args(args)
        .current_dir(lab.repo())
        .env("PATH", format!("{folder}:{path}"))
        .env("XDG_STATE_HOME", lab.outside("state"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The items of a whole run with their ends, and the exit code.
fn run(lab: &Lab) -> (i32, Vec<(String, String)>) {
    let output = batch(lab, "json").output().expect("toolpool runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("{stderr}"));
    assert!(code == 0 || code == 7, "{code}: {stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let items = report["items"].as_array().expect("items");
    let ends = items
        .iter()
        .map(|item| (text(&item["item"]), text(&item["end"])));
    (code, ends.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_ends_a_batch_whose_toolpool_was_killed_and_edits_each_file_once() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    let files: Vec<String> = (1..=FILES).map(|n| format!("file_{n:02}.txt")).collect();
    for file in &files {
        lab.commit(file, "first line\nlast line\n");
    }

    let mut killed = batch(&lab, "jsonl").spawn().expect("toolpool runs");
    let stdout = killed.stdout.take().expect("it is piped");
    let told = BufReader::new(stdout).lines().take(ENDED);
    let told: Vec<String> = told.collect::<Result<_, _>>().expect("text");
    assert_eq!(told.len(), ENDED, "it ended before it could be killed");
    killed.kill().expect("it lives");
    killed.wait().expect("it ends");
    let deadline = Instant::now() + LONG;
    while !lab.census().is_empty() {
        assert!(Instant::now() < deadline, "{:?} are left", lab.census());
        std::thread::yield_now();
    }

    let (code, ends) = run(&lab);
    let names: Vec<&String> = ends.iter().map(|(item, _)| item).collect();
    assert_eq!(
        names,
        files.iter().collect::<Vec<_>>(),
        "each has its one end"
    );
    let doubtful = ends.iter().filter(|(_, end)| end == "indeterminate");
    let doubtful = doubtful.count();
    assert!(doubtful <= 3, "no more than were under way: {ends:?}");
    assert_eq!(code, if doubtful == 0 { 0 } else { 7 });
    for (file, end) in &ends {
        let edits = lab.git(&["log", "--format=%h", "main", "--", file]);
        let edits = edits.lines().count() - 1;
        match end.as_str() {
            "ok" => assert_eq!(edits, 1, "{file}"),
            "indeterminate" => assert!(edits <= 1, "{file}: {edits} edits"),
            other => panic!("{file}: {other}"),
        }
    }

    // Nothing is left to do, and nothing is done.
    let asked = lab.server.requests().len();
    assert_eq!(run(&lab), (code, ends));
    assert_eq!(lab.server.requests().len(), asked);
    assert_eq!(lab.census(), Vec::<u32>::new());
}
