//! Processes that write without end.

use std::time::Instant;

use anyhow::{Result, ensure};
use toolpool::Submission;
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::own;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 22,
        tier: 1,
        name: "1 GiB of output without a newline",
        injects: "1 GiB between turns, and 1 GiB in a turn whose reply may have 8 MiB",
        alone: true,
        run: |lab| Box::pin(output(lab)),
    },
    Case {
        number: 23,
        tier: 1,
        name: "a message without end, and one that is nested without end",
        injects: "a line of 256 MiB and one of 1,000,000 opening brackets to a protocol of JSON lines",
        alone: true,
        run: |lab| Box::pin(messages(lab)),
    },
    Case {
        number: 24,
        tier: 1,
        name: "1 GiB of errors",
        injects: "1 GiB on standard error in a turn, and nothing on standard output meanwhile",
        alone: true,
        run: |lab| Box::pin(errors(lab)),
    },
];

/// How much memory a flood may take besides what is kept of it.
const SLACK: u64 = 32 << 20;

async fn output(lab: &Lab) -> Result<Counted> {
    let mut profile = lab.standin(&[
        "on prompt ~afterwards flood 1GiB after end",
        "on prompt ~afterwards exit 3 after end",
        "on prompt ~meanwhile flood 1GiB",
    ])?;
    profile.max_reply_bytes = 8 << 20;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    let resident = own::resident()?;
    own::forget_peak()?;
    let (begun, before) = (Instant::now(), own::cpu()?);
    rig.ask("afterwards").await?.must_be("completed", "")?;
    // It ends when somebody has read all of it.
    rig.until(0, "at the end of its flood", |status| {
        status.generation == 2
    })
    .await?;
    let (took, cpu) = (begun.elapsed(), own::cpu()? - before);
    let between = own::peak()?.saturating_sub(resident);
    let said = rig
        .ask("meanwhile")
        .await?
        .must_be("indeterminate", "output_limit")?;
    ensure!(
        said.text.len() <= 8 << 20,
        "{} bytes are kept",
        said.text.len()
    );
    let in_turn = own::peak()?.saturating_sub(resident);
    drop(said);
    ensure!(between <= SLACK, "{} more memory", own::mib(between));
    ensure!(in_turn <= SLACK, "{} more memory", own::mib(in_turn));
    let sums = rig.close().await?;
    Ok(
        Counted::new(format!("{sums}, cut at 8 MiB, at most 32 MiB more memory"))
            .figure("more memory under 1 GiB between turns", own::mib(between))
            .figure("more memory under 1 GiB in a turn", own::mib(in_turn))
            .figure(
                "1 GiB read and dropped",
                format!(
                    "{:.1} s, {:.1} s of a processor",
                    took.as_secs_f64(),
                    cpu.as_secs_f64()
                ),
            ),
    )
}

async fn messages(lab: &Lab) -> Result<Counted> {
    let profile = lab.agent(&[
        "on prompt ~line flood 256MiB",
        "on prompt ~nest nest 1000000",
    ])?;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    let resident = own::resident()?;
    own::forget_peak()?;
    rig.ask("nest").await?.must_be("completed", "")?;
    let nested = own::peak()?.saturating_sub(resident);
    rig.ask("line")
        .await?
        .must_be("indeterminate", "protocol_lost")?;
    let line = own::peak()?.saturating_sub(resident);
    rig.ask("afterwards").await?.must_be("completed", "")?;
    ensure!(nested <= SLACK, "{} more memory", own::mib(nested));
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}, the brackets are no message, the line cost its process"
    ))
    .figure("more memory under 1,000,000 brackets", own::mib(nested))
    .figure(
        "more memory under the line, of which 64 MiB may be kept",
        own::mib(line),
    ))
}

async fn errors(lab: &Lab) -> Result<Counted> {
    let profile = lab.standin(&[
        "on prompt ~flood flood-stderr 1GiB",
        "on prompt ~flood exit 4 after end",
    ])?;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    let resident = own::resident()?;
    own::forget_peak()?;
    let begun = Instant::now();
    let wish = |submission: Submission| submission;
    rig.ask_so("flood", Answer::Formula, wish)
        .await?
        .must_be("completed", "")?;
    let took = begun.elapsed();
    let more = own::peak()?.saturating_sub(resident);
    ensure!(more <= SLACK, "{} more memory", own::mib(more));
    rig.ask("afterwards").await?.must_be("completed", "")?;
    let sums = rig.close().await?;
    Ok(Counted::new(format!("{sums}, at most 32 MiB more memory"))
        .figure("more memory under 1 GiB of errors", own::mib(more))
        .figure(
            "1 GiB of errors read in",
            format!("{:.1} s", took.as_secs_f64()),
        ))
}
