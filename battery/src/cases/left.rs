//! What processes leave behind.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::own;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 15,
        tier: 1,
        name: "output that is held open by a grandchild",
        injects: "exit 3 while a double-forked grandchild in its own session holds the output, 20 times on pipes, 20 on terminals",
        alone: true,
        run: |lab| Box::pin(held_output(lab)),
    },
    Case {
        number: 16,
        tier: 1,
        name: "a process that closes its output or its input and lives on",
        injects: "output closed in the middle of 3 turns, input closed behind the end of 3",
        alone: true,
        run: |lab| Box::pin(closed_pipes(lab)),
    },
    Case {
        number: 14,
        tier: 1,
        name: "grandchildren of every kind",
        injects: "5 processes from each of 4 tools: in the group, in sessions of their own, double-forked, all deaf to SIGTERM",
        alone: true,
        run: |lab| Box::pin(grandchildren(lab)),
    },
];

async fn held_output(lab: &Lab) -> Result<Counted> {
    const TIMES: u64 = 20;
    const RULES: [&str; 2] = [
        "on prompt ~leave fork 1 orphan setsid ignore TERM HUP",
        "on prompt ~leave exit 3",
    ];
    let mut slowest = [Duration::ZERO; 2];
    let mut texts = Vec::new();
    let profiles = [
        ("pipes", lab.standin(&RULES)?),
        ("terminals", lab.on_terminal(&RULES)?),
    ];
    for (slowest, (what, profile)) in slowest.iter_mut().zip(profiles) {
        let rig = lab.launch(profile, 1, |builder| builder).await?;
        for number in 0..TIMES {
            let said = rig.ask(&format!("leave {number} on {what}")).await?;
            let ended = Instant::now();
            let said = said.must_be("indeterminate", "crashed")?;
            ensure!(said.detail.contains("exit code 3"), "{}", said.detail);
            let fine = rig.ask(&format!("fine {number} on {what}")).await?;
            fine.must_be("completed", "")?;
            *slowest = (*slowest).max(ended.elapsed());
        }
        let alive = rig.census.alive().len();
        ensure!(
            alive == 2,
            "{alive} processes live, a tool and its keeper are right"
        );
        texts.push(format!("{what}: {}", rig.close().await?));
    }
    Ok(
        Counted::new(format!("{}; 0 grandchildren left", texts.join("; ")))
            .figure(
                "slowest answer of a new process after an end on pipes",
                format!("{} ms", slowest[0].as_millis()),
            )
            .figure(
                "the same on terminals",
                format!("{} ms", slowest[1].as_millis()),
            ),
    )
}

async fn closed_pipes(lab: &Lab) -> Result<Counted> {
    const TIMES: usize = 3;
    let profile = lab.standin(&[
        "on prompt ~output close-stdout",
        "on prompt ~input close-stdin after end",
    ])?;
    let rig = lab.launch(profile, 2, |builder| builder).await?;
    let (begun, before) = (Instant::now(), own::cpu()?);
    for number in 0..TIMES {
        let output = rig.ask_on(0, &format!("close output {number}")).await?;
        output.must_be("indeterminate", "protocol_lost")?;
        rig.ask_on(1, &format!("close input {number}"))
            .await?
            .must_be("completed", "")?;
        // A prompt that is written before the input is closed would lie in the pipe, unread; that is another case.
        rig.until(1, "deaf", |status| {
            let input = format!("/proc/{}/fd/0", status.pid.unwrap_or_default());
            std::fs::read_link(input).is_ok_and(|input| input.ends_with("null"))
        })
        .await?;
        // Nothing of it can be written, so it goes to the next process.
        let next = rig
            .ask_on(1, &format!("next {number}"))
            .await?
            .must_be("completed", "")?;
        ensure!(
            next.generation() == number as u64 + 2,
            "generation {}",
            next.generation()
        );
    }
    let share = (own::cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    ensure!(
        share < 0.5,
        "{:.0} % of a processor were used, so something spins",
        share * 100.0
    );
    let sums = rig.close().await?;
    Ok(
        Counted::new(format!("{sums}, {} restarts", sums.spawned - 2)).figure(
            "processor time meanwhile",
            format!("{:.1} %", share * 100.0),
        ),
    )
}

async fn grandchildren(lab: &Lab) -> Result<Counted> {
    const TOOLS: usize = 4;
    let profile = lab.standin(&[
        "on start fork 1 ignore TERM INT HUP",
        "on start fork 2 setsid ignore TERM INT HUP",
        "on start fork 1 orphan ignore TERM INT HUP",
        "on start fork 1 orphan setsid ignore TERM INT HUP",
    ])?;
    let rig = lab
        .launch(profile, TOOLS, |builder| {
            builder.stop_grace(Duration::from_millis(200))
        })
        .await?;
    for instance in 0..TOOLS {
        rig.ask_on(instance, &format!("question {instance}"))
            .await?
            .must_be("completed", "")?;
    }
    // Each tool has its keeper and five others.
    let alive = rig.census.alive().len();
    ensure!(alive == 7 * TOOLS, "{alive} processes live");
    let begun = Instant::now();
    let sums = rig.close().await?;
    let took = begun.elapsed();
    Ok(Counted::new(format!(
        "{sums}, {alive} processes before the stop and 0 after it"
    ))
    .figure(
        "all gone after the stop began",
        format!("{} ms", took.as_millis()),
    ))
}
