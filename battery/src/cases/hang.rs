//! Processes that stop, stall and ignore.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::Submission;
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

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
        number: 13,
        tier: 1,
        name: "a process that ignores every request to end",
        injects: "SIGTERM, SIGINT and SIGHUP ignored by 20 processes that are to stop",
        alone: true,
        run: |lab| Box::pin(ignores(lab)),
    },
];

async fn stopped(lab: &mut Lab) -> Result<Counted> {
    const EACH: usize = 10;
    let profile = lab.standin(&["on prompt ~stop signal STOP"])?;
    let rig = lab
        .launch(profile, 2, |builder| {
            builder.stop_grace(Duration::from_millis(500))
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
async fn until_stopped(rig: &crate::rig::Rig, instance: usize) -> Result<Pid> {
    let is_stopped = |pid: Option<u32>| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.unwrap_or_default()));
        stat.is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    };
    let status = rig
        .until(instance, "stopped", |status| is_stopped(status.pid))
        .await?;
    let pid = status.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
    pid.ok_or_else(|| anyhow::anyhow!("it has no process"))
}

async fn ignores(lab: &mut Lab) -> Result<Counted> {
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
