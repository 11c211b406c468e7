//! Tools that fall silent, speak slowly, or take nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use toolpool::Submission;
use toolpool_testkit::ledgers::{Answer, answer_to};

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 9,
        tier: 1,
        name: "a turn without a first byte",
        injects: "a hang before the first byte of 5 answers, with 500 ms for it",
        alone: true,
        run: |lab| Box::pin(no_first_byte(lab)),
    },
    Case {
        number: 10,
        tier: 1,
        name: "a stall in the middle of an answer",
        injects: "a hang behind byte 20 of 5 answers, with 500 ms of silence allowed",
        alone: true,
        run: |lab| Box::pin(stalls(lab)),
    },
    Case {
        number: 11,
        tier: 1,
        name: "an answer of one byte at a time",
        injects: "a byte every 30 ms for 3 s with 1 s of silence allowed, and the same with 1 s for the whole turn",
        alone: false,
        run: |lab| Box::pin(slow_answer(lab)),
    },
    Case {
        number: 19,
        tier: 1,
        name: "a tool that stops reading",
        injects: "5 prompts of 1 MiB to processes that read nothing more, with 300 ms for a write, beside 4 others",
        alone: false,
        run: |lab| Box::pin(stops_reading(lab)),
    },
];

const LIMIT: Duration = Duration::from_millis(500);

async fn no_first_byte(lab: &Lab) -> Result<Counted> {
    let profile = lab.standin(&["on prompt ~hang hang"])?;
    let rig = lab
        .launch(profile, 1, |builder| builder.first_byte_timeout(LIMIT))
        .await?;
    let mut slowest = Duration::ZERO;
    for number in 0..5 {
        let begun = Instant::now();
        let said = rig.ask(&format!("hang {number}")).await?;
        said.must_be("indeterminate", "timed_out")?;
        let took = begun.elapsed();
        ensure!(took >= LIMIT, "it was ended after {took:?}");
        slowest = slowest.max(took - LIMIT);
        rig.ask(&format!("fine {number}"))
            .await?
            .must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(
        Counted::new(format!("{sums}, {} restarts", sums.spawned - 1)).figure(
            "slowest end after the limit",
            format!("{} ms", slowest.as_millis()),
        ),
    )
}

async fn stalls(lab: &Lab) -> Result<Counted> {
    let profile = lab.standin(&["on prompt ~stall byte 20 hang"])?;
    let rig = lab
        .launch(profile, 1, |builder| builder.silence_timeout(LIMIT))
        .await?;
    let mut slowest = Duration::ZERO;
    for number in 0..5 {
        let begun = Instant::now();
        let prompt = format!("stall {number}");
        let said = rig
            .ask(&prompt)
            .await?
            .must_be("indeterminate", "timed_out")?;
        slowest = slowest.max(begun.elapsed().saturating_sub(LIMIT));
        ensure!(
            said.text == answer_to(lab.seed(), &prompt)[..20],
            "{:?} is kept",
            said.text
        );
        rig.ask(&format!("fine {number}"))
            .await?
            .must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, 20 bytes of each kept, {} restarts",
        sums.spawned - 1
    ))
    .figure(
        "slowest end after the limit",
        format!("{} ms", slowest.as_millis()),
    ))
}

async fn slow_answer(lab: &Lab) -> Result<Counted> {
    let profile = lab.standin(&["on every 1 stream 1B 30ms"])?;
    let rig = lab
        .launch(profile, 2, |builder| {
            builder.silence_timeout(Duration::from_secs(1))
        })
        .await?;
    let limited = |submission: Submission| {
        submission
            .on_instance(1)
            .turn_timeout(Duration::from_secs(1))
    };
    let (slow, cut) = tokio::join!(
        rig.ask_on(0, "slow"),
        rig.ask_so("cut", Answer::Formula, limited)
    );
    slow?.must_be("completed", "")?;
    let cut = cut?.must_be("indeterminate", "timed_out")?;
    ensure!(
        answer_to(lab.seed(), "cut").starts_with(&cut.text),
        "{:?} is kept",
        cut.text
    );
    Ok(Counted::new(rig.close().await?))
}

async fn stops_reading(lab: &Lab) -> Result<Counted> {
    const OTHERS: usize = 4;
    let profile = lab.standin(&["on prompt ~stop stop-reading"])?;
    let rig = lab
        .launch(profile, 1 + OTHERS, |builder| {
            builder.write_timeout(Duration::from_millis(300))
        })
        .await?;
    let beside = {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in 0..50 {
                for instance in 1..=OTHERS {
                    let prompt = format!("beside {instance} {number}");
                    rig.ask_on(instance, &prompt)
                        .await?
                        .must_be("completed", "")?;
                }
            }
            anyhow::Ok(())
        })
    };
    for number in 0..5 {
        rig.ask_on(0, &format!("stop reading {number}"))
            .await?
            .must_be("completed", "")?;
        let long = format!("{number}{}", "x".repeat(1 << 20));
        let said = rig.ask_on(0, &long).await?;
        said.must_be("indeterminate", "timed_out")?;
    }
    beside.await??;
    rig.until(0, "started again", |status| status.generation == 6)
        .await?;
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, {} restarts",
        sums.spawned - 1 - OTHERS as u64
    )))
}
