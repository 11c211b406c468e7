//! Puts known bugs into the cores, one after the other, to see that the tests find them.
//!
//! Owns the list of bugs and the verdict. Must not know the tests: whichever fails has found it. Invariant: a name without
//! a bug behind it changes nothing, so that it survives and is seen.

use anyhow::{Context, Result, bail};

use crate::runner::cargo;

/// The bugs, each under its name in `cluster/src`, and what it would do to people.
const BUGS: [(&str, &str); 27] = [
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
        "restarts_unlimited",
        "one that works a little and dies is restarted for ever",
    ),
    (
        "permanent_restarted",
        "a tool that says that another start cannot help is started again",
    ),
    (
        "silence_ignored",
        "a tool that shows no life keeps its turn",
    ),
    (
        "human_counted",
        "a turn is killed as silent because a human thought for long",
    ),
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
    (
        "client_unfair",
        "a client that asks much is served as long as it asks",
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
    (
        "all_at_once",
        "more starts at once than the machine can take",
    ),
    ("place_kept", "a start that is over keeps its place"),
    (
        "each_for_itself",
        "instances that fail alike are restarted each for itself",
    ),
    ("probes_together", "a pause lets every start out as a probe"),
    (
        "limit_ignored",
        "a tool that named a time is asked before it",
    ),
    ("spare_idle", "a spare stays idle while another is missing"),
];

/// The tests of the cores, by the beginnings of their names.
const CORES: [&str; 7] = [
    "instance::",
    "scheduler::",
    "simulation::",
    "starting::",
    "breaker::",
    "backoff::",
    "restarts::",
];

/// Runs the tests of the cores with each bug in them, and says which found it.
///
/// # Errors
/// If the tests fail without a bug, or pass with one.
pub(crate) fn find_all() -> Result<()> {
    if let Some(found) = failed(None)? {
        bail!(
            "without any bug these fail: {}; `cargo test -p toolpool-cluster --lib` tells more",
            found.join(", ")
        );
    }
    let mut survivors = Vec::new();
    for (bug, harm) in BUGS {
        match failed(Some(bug))? {
            Some(found) => println!("found    {bug}: {harm} ({})", told(&found)),
            None => {
                println!("SURVIVED {bug}: {harm}");
                survivors.push(bug);
            }
        }
    }
    if !survivors.is_empty() {
        bail!("no test has found {}", survivors.join(", "));
    }
    println!("all of {} planted bugs were found", BUGS.len());
    Ok(())
}

/// Who found it, short enough for a line.
fn told(found: &[String]) -> String {
    match found {
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => "nobody".to_owned(),
    }
}

/// The tests of the cores that fail; None if all pass.
fn failed(bug: Option<&str>) -> Result<Option<Vec<String>>> {
    let mut command = cargo(&["test", "-p", "toolpool-cluster", "--lib", "--"]);
    command
        .args(CORES)
        .env_remove("TOOLPOOL_PLANTED")
        // What a bug makes fail is no lesson for later runs.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0");
    if let Some(bug) = bug {
        command.env("TOOLPOOL_PLANTED", bug);
    }
    let output = command.output().context("cannot start cargo")?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().filter_map(|line| {
        let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        test.rsplit("::").next().map(str::to_owned)
    });
    let found: Vec<String> = found.collect();
    if found.is_empty() {
        bail!(
            "no test failed, and neither did they pass:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(Some(found))
}
