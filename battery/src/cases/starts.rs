//! Processes that take their time to be ready, or never are.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::ToolProfile;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 17,
        tier: 1,
        name: "a start that is slow, and one that never ends",
        injects: "ready after 300 ms, 5 restarts with a prompt waiting; and never ready",
        alone: false,
        run: |lab| Box::pin(slow_starts(lab)),
    },
    Case {
        number: 38,
        tier: 1,
        name: "a program that keeps its output back until it ends",
        injects: "sed on pipes, which writes when 4 KiB are together or its input ends",
        alone: false,
        run: |lab| Box::pin(keeps_back(lab)),
    },
];

const PATIENCE: Duration = Duration::from_millis(500);

async fn slow_starts(lab: &Lab) -> Result<Counted> {
    let rig = lab
        .launch(lab.standin(&["on start delay 300ms"])?, 1, |builder| {
            builder
        })
        .await?;
    for number in 0..5 {
        let pid = rig.status(0).await?.pid.context("it lives")?;
        kill_process(
            Pid::from_raw(pid.cast_signed()).context("a number")?,
            Signal::KILL,
        )?;
        rig.until(0, "dead", |status| {
            !status.alive || status.generation > number + 1
        })
        .await?;
        let said = rig
            .ask(&format!("question {number}"))
            .await?
            .must_be("completed", "")?;
        let reply = said.reply.context("it completed")?;
        ensure!(
            reply.generation == number + 2,
            "generation {}",
            reply.generation
        );
    }
    let sums = rig.close().await?;
    let mut never = lab.standin(&["on start never-ready"])?;
    never.start_timeout = PATIENCE;
    let error = refusal(lab, never).await?;
    ensure!(error.contains("not ready within 500ms"), "{error}");
    Ok(Counted::new(format!(
        "{sums}; never ready: given up after its time, 0 left"
    )))
}

/// Why a cluster of a tool that is never ready was not launched; not before its time was up, and nothing is left.
async fn refusal(lab: &Lab, profile: ToolProfile) -> Result<String> {
    let begun = Instant::now();
    let Err(error) = lab.launch(profile, 2, |builder| builder).await else {
        anyhow::bail!("it was ready");
    };
    ensure!(
        begun.elapsed() >= PATIENCE,
        "it was given up after {:?}",
        begun.elapsed()
    );
    let left = lab.census().alive();
    ensure!(left.is_empty(), "these are left: {left:?}");
    Ok(format!("{error:#}"))
}

async fn keeps_back(lab: &Lab) -> Result<Counted> {
    let path = lab.folder().join("sed.toml");
    let lines = "name = \"sed\"\nprogram = \"sed\"\nargs = [\"s/^/echo /\"]\n[lines]\n\
                 sentinel = \"{nonce}\\n\"\nend = \"echo {nonce}\"\n";
    std::fs::write(&path, lines)?;
    let mut profile = ToolProfile::from_file(&path)?;
    profile.start_timeout = PATIENCE;
    let error = refusal(lab, profile).await?;
    ensure!(error.contains("not ready within 500ms"), "{error}");
    Ok(Counted::new(
        "2 processes given up after their time and not before, 0 prompts, 0 left",
    ))
}
