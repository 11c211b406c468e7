//! Long prompts and long answers, and readers that are slow.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use toolpool::Submission;
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 20,
        tier: 1,
        name: "a reader of 1 KiB in a millisecond",
        injects: "a prompt of 512 KiB to a process that reads 1 KiB at a time and waits between, beside 4 others",
        alone: true,
        run: |lab| Box::pin(slow_reader(lab)),
    },
    Case {
        number: 21,
        tier: 1,
        name: "both pipes full at once",
        injects: "a prompt of 10 MiB to a process that writes 10 MiB before it reads it",
        alone: false,
        run: |lab| Box::pin(both_full(lab)),
    },
];

async fn slow_reader(lab: &Lab) -> Result<Counted> {
    const OTHERS: usize = 4;
    const QUESTIONS: usize = 100;
    let profile = lab.standin(&["on prompt ~slow read-slowly 1KiB 1ms after end"])?;
    let rig = lab.launch(profile, 1 + OTHERS, |builder| builder).await?;
    rig.ask_on(0, "be slow from now on")
        .await?
        .must_be("completed", "")?;
    let alone = slowest(&rig, "alone", OTHERS, QUESTIONS).await?;
    let long = "long prompt\n".repeat((512 << 10) / 12);
    let slow = {
        let rig = rig.clone();
        let begun = Instant::now();
        tokio::spawn(async move {
            rig.ask_on(0, &long).await?.must_be("completed", "")?;
            anyhow::Ok(begun.elapsed())
        })
    };
    let beside = slowest(&rig, "beside", OTHERS, QUESTIONS).await?;
    let took = slow.await??;
    let sums = rig.close().await?;
    Ok(Counted::new(sums)
        .figure("the slow turn", format!("{} ms", took.as_millis()))
        .figure(
            "99th percentile of the others' turns before",
            format!("{alone:.1?}"),
        )
        .figure("and beside it", format!("{beside:.1?}")))
}

/// The 99th percentile of the turns of all instances but the first.
async fn slowest(
    rig: &crate::rig::Rig,
    what: &str,
    others: usize,
    questions: usize,
) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..questions {
        for instance in 1..=others {
            let begun = Instant::now();
            let said = rig
                .ask_on(instance, &format!("{what} {instance} {number}"))
                .await?;
            said.must_be("completed", "")?;
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}

async fn both_full(lab: &Lab) -> Result<Counted> {
    const SIZE: usize = 10 << 20;
    // It begins to write when the first bytes of the next prompt are there, and reads them when it has written all.
    let profile = lab.standin(&[
        "on prompt ~next await-input after end",
        "on prompt ~next flood 10MiB after end",
    ])?;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    rig.ask("flood at the next one")
        .await?
        .must_be("completed", "")?;
    let wish = |submission: Submission| submission;
    let said = rig.ask_so(&"x".repeat(SIZE), Answer::Around, wish).await?;
    let said = said.must_be("completed", "")?;
    ensure!(
        said.text.len() == SIZE + 64,
        "the reply has {} bytes",
        said.text.len()
    );
    let sums = rig.close().await?;
    Ok(Counted::new(format!("{sums}, 10 MiB each way")))
}
