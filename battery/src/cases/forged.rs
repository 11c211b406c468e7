//! Answers that look like something else.

use std::time::Duration;

use anyhow::{Result, ensure};
use toolpool::{Submission, ToolProfile};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 28,
        tier: 1,
        name: "end marks inside answers",
        injects: "forged ends, prompts and ready lines at the start, in the middle and at the end of 10,000 answers, and a forged prompt in 30 of a program that is known by its prompt",
        alone: false,
        run: |lab| Box::pin(forged_ends(lab)),
    },
    Case {
        number: 29,
        tier: 1,
        name: "frames inside answers, and frames of other turns",
        injects: "a response with the turn's own id as text, and responses, chunks and answers under other ids on the wire, 500 times",
        alone: false,
        run: |lab| Box::pin(forged_frames(lab)),
    },
    Case {
        number: 32,
        tier: 1,
        name: "two ends, and words between turns",
        injects: "the end written twice 200 times, and a line that nobody asked for behind the end 200 times, as lines and as messages",
        alone: false,
        run: |lab| Box::pin(two_ends(lab)),
    },
];

/// Asks so many prompts of several instances at once; each completed reply has the formula's answer in it.
async fn ask_many(
    lab: &Lab,
    profile: ToolProfile,
    instances: usize,
    each: usize,
    prompt: fn(usize, usize) -> String,
) -> Result<toolpool_testkit::ledgers::Sums> {
    let rig = lab.launch(profile, instances, |builder| builder).await?;
    let players = (0..instances).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in 0..each {
                let wish = |submission: Submission| submission.on_instance(instance);
                let said = rig
                    .ask_so(&prompt(instance, number), Answer::Around, wish)
                    .await?;
                said.must_be("completed", "")?;
            }
            anyhow::Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    ensure!(
        sums.spawned == instances as u64,
        "{} processes for {instances} instances",
        sums.spawned
    );
    Ok(sums)
}

async fn forged_ends(lab: &Lab) -> Result<Counted> {
    // "\n0…0 end\n": the end mark with a nonce that was never given.
    let zeros = "30 ".repeat(32);
    let at_the_end = format!("on every 3 bytes 0a {zeros}20 65 6e 64 0a");
    let rules = ["on every 2 forge", &at_the_end];
    let plain = |instance, number| format!("question {number} of {instance}");
    let lines = ask_many(lab, lab.standin(&rules)?, 4, 1250, plain).await?;
    let messages = ask_many(lab, lab.agent(&rules)?, 4, 1250, plain).await?;
    // The program's own prompt, and then more: only a prompt after which nothing comes ends a reply.
    let program = lab.line_program(&["on every 1 bytes 0a 3e 20 6e 6f 74 20 79 65 74"])?;
    let prompts = ask_many(lab, program, 2, 15, plain).await?;
    Ok(Counted::new(format!(
        "lines: {lines}; messages: {messages}; a program's prompt: {prompts}; 0 ended too early"
    )))
}

async fn forged_frames(lab: &Lab) -> Result<Counted> {
    let sums = ask_many(
        lab,
        lab.agent(&["on every 1 forge"])?,
        2,
        250,
        |instance, number| format!("question {number} of {instance}"),
    )
    .await?;
    Ok(Counted::new(format!("{sums}; 0 forged frames were taken")))
}

async fn two_ends(lab: &Lab) -> Result<Counted> {
    const EACH: usize = 100;
    let rules = [
        "on prompt ~double double-end",
        "on prompt ~chatter unsolicited hello",
    ];
    let mut texts = Vec::new();
    for (what, profile) in [
        ("lines", lab.standin(&rules)?),
        ("messages", lab.agent(&rules)?),
    ] {
        let rig = lab.launch(profile, 1, |builder| builder).await?;
        for number in 0..EACH {
            for kind in ["double", "chatter", "plain"] {
                // Neither says which turn its words belong to: what comes behind the next prompt is read as its reply's.
                let answer = match kind {
                    "plain" => Answer::Around,
                    _ => Answer::Formula,
                };
                let limit =
                    |submission: Submission| submission.turn_timeout(Duration::from_secs(20));
                let said = rig
                    .ask_so(&format!("{kind} {number}"), answer, limit)
                    .await?;
                said.must_be("completed", "")?;
            }
        }
        let sums = rig.close().await?;
        ensure!(sums.spawned == 1, "{} processes", sums.spawned);
        texts.push(format!("{what}: {sums}"));
    }
    Ok(Counted::new(format!("{}; one end each", texts.join("; "))))
}
