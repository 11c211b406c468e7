//! Puts known bugs into the cores, one after the other, to see that the tests find them.
//!
//! Owns the list of bugs and the verdict. Must not know the tests: whichever fails has found it. Invariant: a name without
//! a bug behind it changes nothing, so that it survives and is seen.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::runner::{cargo, workspace};

/// The bugs, each under its name in `cluster/src`, and what it would do to people.
const BUGS: [(&str, &str); 16] = [
    (
        "sent_again",
        "a prompt that was read by a dead process is sent again",
    ),
    (
        "kept_after_timeout",
        "a process lives on after its turn timed out",
    ),
    (
        "second_process",
        "a restart does not wait for the old process",
    ),
    ("start_while_open", "a start while the breaker is open"),
    ("probe_early", "a probe before its time"),
    ("backoff_zero", "no wait before a restart"),
    (
        "wait_without_timer",
        "a stop that waits for the process for ever",
    ),
    ("stale_end", "the late end of another turn ends this one"),
    (
        "turn_lost",
        "a turn for an instance that is not ready vanishes",
    ),
    (
        "process_unchecked",
        "a turn for an old process runs on the new one",
    ),
    (
        "answer_to_another",
        "a person's answer goes to another question",
    ),
    (
        "place_leaked",
        "a prompt that left the queue keeps its place",
    ),
    ("ended_twice", "a turn that did not run ends twice"),
    (
        "withdrawn_sent",
        "a turn is sent elsewhere after its cancel",
    ),
    (
        "deadline_forgotten",
        "a turn that was handed back never expires",
    ),
    (
        "loss_untold",
        "a session goes on in a process that does not know it",
    ),
];

/// Runs the tests of the cores with each bug in them, and says which found it.
///
/// # Errors
/// If the tests fail without a bug, or pass with one.
pub(crate) fn find_all() -> Result<()> {
    let tests = build()?;
    if let Some(found) = failed(&tests, None)? {
        bail!(
            "without any bug these fail: {}; `cargo test -p toolpool-cluster --lib` tells more",
            found.join(", ")
        );
    }
    let mut survivors = Vec::new();
    for (bug, harm) in BUGS {
        match failed(&tests, Some(bug))? {
            Some(found) => println!("found    {bug}: {harm}\n         by {}", found.join(", ")),
            None => {
                println!("SURVIVED {bug}: {harm}");
                survivors.push(bug);
            }
        }
    }
    if !survivors.is_empty() {
        bail!("no test has found {}", survivors.join(", "));
    }
    println!("{} of {0} planted bugs found", BUGS.len());
    Ok(())
}

/// The unit tests of the cores, as a program.
fn build() -> Result<String> {
    let mut command = cargo(&[
        "test",
        "-p",
        "toolpool-cluster",
        "--lib",
        "--no-run",
        "--message-format=json",
    ]);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(str::to_owned)
    });
    programs
        .last()
        .filter(|_| output.status.success())
        .context("cannot build the tests of toolpool-cluster; `cargo test -p toolpool-cluster --lib --no-run` tells why")
}

/// The tests that fail; None if all pass.
fn failed(tests: &str, bug: Option<&str>) -> Result<Option<Vec<String>>> {
    let mut command = Command::new(tests);
    command
        .current_dir(workspace().join("cluster"))
        .args(["instance::", "scheduler::", "simulation::", "breaker::", "backoff::"])
        .env_remove("TOOLPOOL_PLANTED")
        .env("RUST_BACKTRACE", "0")
        // What a bug makes fail is no lesson for later runs.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0");
    if let Some(bug) = bug {
        command.env("TOOLPOOL_PLANTED", bug);
    }
    let output = command
        .output()
        .with_context(|| format!("cannot start {tests}"))?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().filter_map(|line| {
        let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        test.rsplit("::").next().map(str::to_owned)
    });
    Ok(Some(found.collect()))
}
