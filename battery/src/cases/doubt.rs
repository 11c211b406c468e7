//! What is in doubt when a process dies, and what is not.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::{BreakerConfig, InstanceState};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 3,
        tier: 1,
        name: "a crash before a prompt is read",
        injects: "SIGKILL to a stopped process with the whole prompt in its pipe, 100 times",
        alone: false,
        run: |lab| Box::pin(unread(lab)),
    },
    Case {
        number: 4,
        tier: 1,
        name: "a crash after one byte of a prompt",
        injects: "exit 3 when one byte of the prompt is read, 100 times",
        alone: false,
        run: |lab| Box::pin(one_byte(lab)),
    },
    Case {
        number: 7,
        tier: 1,
        name: "exit code 0",
        injects: "exit 0 between turns 20 times, and in the middle of a turn 20 times",
        alone: false,
        run: |lab| Box::pin(exit_zero(lab)),
    },
    Case {
        number: 18,
        tier: 2,
        name: "an end that races with the next prompt",
        injects: "exit 0 behind the end of each of 1,000 answers, while the next prompt is on its way",
        alone: false,
        run: |lab| Box::pin(races(lab)),
    },
];

/// A breaker that never trips: every turn of the case is to run.
pub(super) fn never() -> BreakerConfig {
    BreakerConfig {
        failures: u32::MAX,
        ..BreakerConfig::default()
    }
}

async fn unread(lab: &Lab) -> Result<Counted> {
    const TIMES: u64 = 100;
    let rig = lab.launch(lab.standin(&[])?, 1, |builder| builder).await?;
    for number in 0..TIMES {
        let pid = rig.status(0).await?.pid.context("it lives")?;
        let process = Pid::from_raw(pid.cast_signed()).context("a number")?;
        kill_process(process, Signal::STOP)?;
        rig.until(0, "stopped", |_| is_stopped(pid)).await?;
        let prompt = format!("question {number}");
        let asked = rig
            .begin(&prompt, Answer::Formula, |submission| submission)
            .await?;
        let Ok(asked) = asked else {
            bail!("it was refused");
        };
        rig.until(0, "busy", |status| status.state == InstanceState::Busy)
            .await?;
        kill_process(process, Signal::KILL)?;
        let said = asked.end().await?.must_be("completed", "")?;
        ensure!(
            said.generation() == number + 2,
            "generation {}",
            said.generation()
        );
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, {TIMES} handed back by proof, 0 read twice"
    )))
}

/// Whether the kernel has stopped a process.
pub(super) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

async fn one_byte(lab: &Lab) -> Result<Counted> {
    const TIMES: u64 = 100;
    let profile = lab.standin(&[
        "on start await-input after ready",
        "on start read 1B after ready",
        "on start exit 3 after ready",
    ])?;
    let rig = lab
        .launch(profile, 2, |builder| builder.breaker(never()))
        .await?;
    for number in 0..TIMES {
        let said = rig.ask(&format!("question {number}")).await?;
        said.must_be("indeterminate", "crashed")?;
    }
    rig.until(0, "ready", |status| status.alive).await?;
    rig.until(1, "ready", |status| status.alive).await?;
    let sums = rig.close().await?;
    ensure!(sums.spawned == TIMES + 2, "{} processes", sums.spawned);
    Ok(Counted::new(format!(
        "{sums} whole, {TIMES} processes read a byte, 0 sent again"
    )))
}

async fn exit_zero(lab: &Lab) -> Result<Counted> {
    const TIMES: u64 = 20;
    let profile = lab.standin(&["on signal USR1 exit 0", "on prompt ~ends exit 0"])?;
    let rig = lab.launch(profile, 2, |builder| builder).await?;
    for number in 0..TIMES {
        let pid = rig.status(0).await?.pid.context("it lives")?;
        let pid = Pid::from_raw(pid.cast_signed()).context("a number")?;
        kill_process(pid, Signal::USR1)?;
        let status = rig
            .until(0, "started again", |status| status.generation == number + 2)
            .await?;
        ensure!(
            status.return_code == Some(0),
            "exit code {:?}",
            status.return_code
        );
        rig.ask_on(0, &format!("idle {number}"))
            .await?
            .must_be("completed", "")?;

        let busy = rig.ask_on(1, &format!("ends {number}")).await?;
        let busy = busy.must_be("indeterminate", "crashed")?;
        ensure!(busy.detail.contains("exit code 0"), "{}", busy.detail);
        rig.ask_on(1, &format!("busy {number}"))
            .await?
            .must_be("completed", "")?;
    }
    for instance in 0..2 {
        let breaker = rig.status(instance).await?.breaker;
        ensure!(breaker == "closed", "the breaker is {breaker}");
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, {} restarts, breakers closed",
        sums.spawned - 2
    )))
}

async fn races(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const EACH: usize = 250;
    let profile = lab.standin(&["on every 1 exit 0 after end"])?;
    let rig = lab
        .launch(profile, INSTANCES, |builder| builder.breaker(never()))
        .await?;
    let players = (0..INSTANCES).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let said = rig
                    .ask_on(instance, &format!("{number} of {instance}"))
                    .await?;
                match (said.outcome, said.cause) {
                    ("completed", _) | ("indeterminate", "crashed") => {}
                    other => bail!("{other:?}: {}", said.detail),
                }
            }
            anyhow::Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{} offered, each completed or in doubt, 0 read twice",
        sums.offered
    ))
    .figure("prompts in doubt", sums.of("indeterminate")))
}
