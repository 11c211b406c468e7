//! Processes that stop, stall and ignore.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::{EventKind, Submission};
use toolpool_testkit::ledgers::Answer;

use super::doubt::is_stopped;
use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::Rig;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 12,
        tier: 1,
        name: "a stopped process",
        injects: "SIGSTOP in the middle of 20 turns; SIGCONT for 10 of them, never for the others",
        alone: false,
        run: |lab| Box::pin(stopped(lab)),
    },
    Case {
        number: 31,
        tier: 1,
        name: "an answer after the timeout",
        injects: "an answer 300 ms after the end of the turn's time, from a process that ignores SIGTERM, 10 times",
        alone: false,
        run: |lab| Box::pin(late_answer(lab)),
    },
    Case {
        number: 13,
        tier: 1,
        name: "a process that ignores every request to end",
        injects: "SIGTERM, SIGINT and SIGHUP ignored by 20 processes that are to stop",
        alone: true,
        run: |lab| Box::pin(ignores(lab)),
    },
];

async fn stopped(lab: &Lab) -> Result<Counted> {
    const EACH: usize = 10;
    // Nobody waits for its end: a stopped process goes on to see the signal that ends it.
    const GRACE: Duration = Duration::from_secs(5);
    let witness = Witness::default();
    let profile = lab.standin(&["on prompt ~stop signal STOP"])?;
    let rig = lab
        .launch(profile, 2, |builder| {
            builder.stop_grace(GRACE).sink(witness.clone())
        })
        .await?;
    for number in 0..EACH {
        let on_first = |submission: Submission| submission.on_instance(0);
        let prompt = format!("stop and go on {number}");
        let Ok(goes_on) = rig.begin(&prompt, Answer::Formula, on_first).await? else {
            bail!("it was refused")
        };
        let pid = until_stopped(&rig, 0).await?;
        kill_process(pid, Signal::CONT)?;
        goes_on.end().await?.must_be("completed", "")?;
        let limited = |submission: Submission| {
            submission
                .on_instance(1)
                .turn_timeout(Duration::from_millis(100))
        };
        let prompt = format!("stop for ever {number}");
        let never = rig.ask_so(&prompt, Answer::Formula, limited).await?;
        never.must_be("indeterminate", "timed_out")?;
        let terminated = witness.count(|event| {
            let signal = Signal::TERM.as_raw();
            matches!(event, EventKind::InstanceExited { signal: Some(it), .. } if *it == signal)
        });
        ensure!(
            terminated == number + 1,
            "{terminated} of {} ended by SIGTERM",
            number + 1
        );
        // A failure in between would be the fifth in a row, at which the breaker trips.
        let fine = rig
            .ask_on(1, &format!("fine {number}"))
            .await?
            .must_be("completed", "")?;
        let generation = fine.generation();
        ensure!(
            generation == number as u64 + 2,
            "generation {generation} answers"
        );
    }
    let sums = rig.close().await?;
    let restarts = sums.spawned - 2;
    ensure!(restarts == EACH as u64, "{restarts} restarts");
    Ok(Counted::new(format!("{sums}, {restarts} restarts")))
}

/// Waits until the kernel has stopped the process of an instance.
async fn until_stopped(rig: &Rig, instance: usize) -> Result<Pid> {
    let stopped = |pid: Option<u32>| pid.is_some_and(is_stopped);
    let status = rig
        .until(instance, "stopped", |status| stopped(status.pid))
        .await?;
    let pid = status.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    pid.context("it has no process")
}

async fn late_answer(lab: &Lab) -> Result<Counted> {
    const TIMES: usize = 10;
    let rules = ["on start ignore TERM", "on prompt ~late delay 400ms"];
    // The grace is longer than the answer takes, so it is written to somebody who does not listen any more.
    let rig = lab
        .launch(lab.standin(&rules)?, 2, |builder| {
            builder.stop_grace(Duration::from_millis(600))
        })
        .await?;
    let players = (0..2).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in 0..TIMES / 2 {
                let limited = |submission: Submission| {
                    submission
                        .on_instance(instance)
                        .turn_timeout(Duration::from_millis(100))
                };
                let prompt = format!("late {instance} {number}");
                let late = rig.ask_so(&prompt, Answer::Formula, limited).await?;
                let late = late.must_be("indeterminate", "timed_out")?;
                ensure!(
                    late.text.is_empty(),
                    "it came into the reply: {:?}",
                    late.text
                );
                rig.ask_on(instance, &format!("next {instance} {number}"))
                    .await?
                    .must_be("completed", "")?;
            }
            Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, 0 late answers told, {} restarts",
        sums.spawned - 2
    )))
}

async fn ignores(lab: &Lab) -> Result<Counted> {
    const COUNT: usize = 20;
    const GRACE: Duration = Duration::from_millis(500);
    let profile = lab.standin(&["on start ignore TERM INT HUP"])?;
    let rig = lab
        .launch(profile, COUNT, |builder| builder.stop_grace(GRACE))
        .await?;
    rig.ask("fine").await?.must_be("completed", "")?;
    let begun = Instant::now();
    let sums = rig.close().await?;
    let took = begun.elapsed();
    ensure!(
        took >= GRACE,
        "they were killed after {took:?}, before the grace was over"
    );
    // Ten times what is expected, since machines may be slow; the figure shows what it is.
    ensure!(
        took < GRACE + Duration::from_millis(2500),
        "gone after {took:?}"
    );
    Ok(
        Counted::new(format!("{sums}, {COUNT} killed after the grace, 0 left")).figure(
            "gone after a grace of 500 ms",
            format!("{} ms", took.as_millis()),
        ),
    )
}
