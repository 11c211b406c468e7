//! How processes end, and what is told of it; starts that fail again and again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::{BreakerConfig, Evidence, InstanceState, RestartLimit, Submission, ToolProfile};
use toolpool_testkit::ledgers::Answer;

use super::doubt::never;
use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::{Rig, in_time};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 1,
        tier: 1,
        name: "a process that ends before it is ready, at each start",
        injects: "exit 1 before readiness at every start but the first, until the cause is mended; a prompt with 300 ms to wait",
        alone: false,
        run: |lab| Box::pin(loops(lab)),
    },
    Case {
        number: 8,
        tier: 1,
        name: "ends of every kind",
        injects: "SIGSEGV, SIGKILL, SIGABRT, and exit codes 1, 2, 127, 255 in the middle of a turn; then 125",
        alone: false,
        run: |lab| Box::pin(kinds(lab)),
    },
    Case {
        number: 33,
        tier: 1,
        name: "a program that speaks something else",
        injects: "an HTML page, a help text and another protocol's banner instead of readiness",
        alone: false,
        run: |lab| Box::pin(speaks_otherwise(lab)),
    },
];

/// A stand-in that runs only while a file is there, and `otherwise` in its place; with that file.
fn while_there(lab: &Lab, otherwise: &str) -> Result<(ToolProfile, PathBuf)> {
    let file = lab.folder().join("there");
    std::fs::write(&file, "")?;
    let mut profile = lab.standin(&[])?;
    let script = format!("[ -e there ] || {{ {otherwise}; }}; exec \"$0\" \"$@\"");
    let program = std::mem::replace(&mut profile.program, "sh".to_owned());
    profile
        .args
        .splice(0..0, ["-c".to_owned(), script, program]);
    Ok((profile, file))
}

async fn kill(rig: &Rig) -> Result<()> {
    let pid = rig.status(0).await?.pid.context("it lives")?;
    kill_process(
        Pid::from_raw(pid.cast_signed()).context("a number")?,
        Signal::KILL,
    )?;
    Ok(())
}

/// Looks until the first instance is explained so.
async fn until_explained(rig: &Rig, what: &str, seen: impl Fn(&Evidence) -> bool) -> Result<()> {
    let look = async {
        while !seen(&rig.cluster.explain(0).await?.evidence) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(())
    };
    in_time(look).await?.with_context(|| what.to_owned())
}

async fn loops(lab: &Lab) -> Result<Counted> {
    let (profile, file) = while_there(lab, "exit 1")?;
    let burst = RestartLimit {
        restarts: 5,
        within: Duration::from_secs(60),
    };
    // The breaker would trip first; here the limit of restarts alone is to be seen, with its times.
    let breaker = BreakerConfig {
        open_for: Duration::from_secs(2),
        open_for_max: Duration::from_secs(2),
        ..never()
    };
    let rig = lab
        .launch(profile, 1, |builder| {
            builder.restart_limits(burst, burst).breaker(breaker)
        })
        .await?;
    std::fs::remove_file(&file)?;
    kill(&rig).await?;
    until_explained(&rig, "crash-looping", |evidence| evidence.crash_looping).await?;
    let restarts = rig.status(0).await?.generation - 1;
    ensure!(restarts == 5, "crash-looping after {restarts} restarts");
    let brief = |submission: Submission| submission.queue_timeout(Duration::from_millis(300));
    let said = rig.ask_so("in the loop", Answer::Formula, brief).await?;
    said.must_be("expired", "")?;
    std::fs::write(&file, "")?;
    rig.ask("mended").await?.must_be("completed", "")?;
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, {restarts} restarts until it counts as crash-looping, healed by a probe"
    )))
}

const KINDS: [(&str, Option<i32>, Option<i32>); 7] = [
    ("signal SEGV", None, Some(11)),
    ("signal KILL", None, Some(9)),
    ("signal ABRT", None, Some(6)),
    ("exit 1", Some(1), None),
    ("exit 2", Some(2), None),
    ("exit 127", Some(127), None),
    ("exit 255", Some(255), None),
];

async fn kinds(lab: &Lab) -> Result<Counted> {
    let mut rules: Vec<String> = KINDS
        .iter()
        .map(|(end, _, _)| format!("on prompt ~\"{end};\" {end}"))
        .collect();
    rules.push("on prompt ~for-good exit 125".to_owned());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let rig = lab
        .launch(lab.standin(&rules)?, 1, |builder| builder.breaker(never()))
        .await?;
    for (end, code, signal) in KINDS {
        let said = rig.ask(&format!("{end};")).await?;
        said.must_be("indeterminate", "crashed")?;
        let status = rig.status(0).await?;
        let told = (status.return_code, status.signal);
        ensure!(told == (code, signal), "{end}: told as {told:?}");
        rig.ask(&format!("after {end}"))
            .await?
            .must_be("completed", "")?;
    }
    let said = rig.ask("for-good").await?;
    said.must_be("indeterminate", "crashed")?;
    let status = rig
        .until(0, "failed", |status| status.state == InstanceState::Failed)
        .await?;
    ensure!(status.return_code == Some(125), "{status:?}");
    rig.cluster.restart_instance(0).await?;
    rig.ask("again").await?.must_be("completed", "")?;
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, each code and signal told exactly, {} processes, none after 125 but by order",
        sums.spawned
    )))
}

async fn speaks_otherwise(lab: &Lab) -> Result<Counted> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let wrong = [
        (
            "a page",
            "echo '<!DOCTYPE html><title>Sign in</title>'; exec sleep 1000",
            "<!DOCTYPE html>",
        ),
        (
            "a help text",
            "echo 'usage: tool [options]'; exit 0",
            "usage: tool",
        ),
        (
            "a banner",
            "echo '{\"jsonrpc\":\"2.0\",\"method\":\"hello\"}'; exec sleep 1000",
            "\"hello\"",
        ),
    ];
    let mut failed = 0;
    for (what, otherwise, said) in wrong {
        let (profile, file) = while_there(lab, otherwise)?;
        let rig = lab
            .launch(profile, 1, |builder| builder.start_timeout(PATIENCE))
            .await?;
        std::fs::remove_file(&file)?;
        kill(&rig).await?;
        until_explained(&rig, what, |evidence| {
            let printed = evidence.printed.as_ref();
            printed.is_some_and(|printed| printed.stdout.first.contains(said))
        })
        .await?;
        let brief = |submission: Submission| submission.queue_timeout(Duration::from_millis(100));
        let prompt = format!("into {what}");
        let said = rig.ask_so(&prompt, Answer::Formula, brief).await?;
        said.must_be("expired", "")?;
        let sums = rig.close().await?;
        ensure!(sums.reads == 0, "{sums}");
        failed += 1;
    }
    Ok(Counted::new(format!(
        "{failed} programs that never became ready, what each printed is kept, {failed} prompts expired, 0 read"
    )))
}
