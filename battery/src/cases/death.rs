//! Processes that die: before, in, at the end of and between turns.

use anyhow::{Result, ensure};

use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 2,
        tier: 1,
        name: "a crash on reading a prompt",
        injects: "exit 7 on reading prompt k of 50, for each k from 1 to 50",
        alone: false,
        run: |lab| Box::pin(crash_on_read(lab)),
    },
    Case {
        number: 5,
        tier: 1,
        name: "a crash in the middle of an answer",
        injects: "exit 9 after b bytes of an answer of 4,096, for 141 values of b from 0 to 4,096",
        alone: false,
        run: |lab| Box::pin(crash_in_the_answer(lab)),
    },
    Case {
        number: 6,
        tier: 1,
        name: "a crash behind the end of an answer",
        injects: "exit 3 behind the end mark of each second answer, 50 times",
        alone: false,
        run: |lab| Box::pin(crash_behind_the_end(lab)),
    },
];

/// Each of ten instances plays five of the fifty rounds.
async fn crash_on_read(lab: &Lab) -> Result<Counted> {
    const ROUNDS: usize = 50;
    const INSTANCES: usize = 10;
    let profile = lab.standin(&["on prompt ~crash exit 7"])?;
    let rig = lab.launch(profile, INSTANCES, |builder| builder).await?;
    let players = (0..INSTANCES).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for k in (instance..ROUNDS).step_by(INSTANCES) {
                for turn in 0..ROUNDS {
                    let crashes = turn == k;
                    let word = if crashes { "crash" } else { "fine" };
                    let said = rig
                        .ask_on(instance, &format!("{word}: round {k}, turn {turn}"))
                        .await?;
                    if crashes {
                        said.must_be("indeterminate", "crashed")?;
                    } else {
                        said.must_be("completed", "")?;
                    }
                }
            }
            rig.until(instance, "ready again", |status| status.generation == 6)
                .await?;
            anyhow::Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    let restarts = sums.spawned - INSTANCES as u64;
    ensure!(
        restarts == ROUNDS as u64,
        "{restarts} restarts, one for each crash is right"
    );
    Ok(Counted::new(format!("{sums}, {restarts} restarts")))
}

async fn crash_in_the_answer(lab: &Lab) -> Result<Counted> {
    const LENGTH: usize = 4096;
    // No two positions look alike, so a piece that is missing or doubled is seen.
    let answer: String = (0..LENGTH / 8).map(|place| format!("{place:>8}")).collect();
    let places: Vec<usize> = (0..=64)
        .chain((65..LENGTH).step_by(54))
        .chain([LENGTH])
        .collect();
    let mut rules = vec![format!("on every 1 reply \"{answer}\"")];
    rules.extend(
        places
            .iter()
            .map(|b| format!("on prompt ~\"after {b} bytes\" byte {b} exit 9")),
    );
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut profile = lab.standin(&[])?;
    let script = lab.folder().join("script");
    std::fs::write(&script, rules.join("\n"))?;
    profile
        .args
        .extend(["--script".to_owned(), script.display().to_string()]);
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    let mut kept = 0;
    for b in &places {
        let cut = rig
            .ask(&format!("after {b} bytes"))
            .await?
            .must_be("indeterminate", "crashed")?;
        ensure!(
            answer.get(..*b) == Some(&cut.text),
            "after {b} bytes these are kept: {:?}",
            cut.text
        );
        kept += cut.text.len();
        // Otherwise the breaker would trip at the fifth failure in a row.
        let fine = Answer::Given(answer.clone());
        rig.ask_so(
            &format!("fine before the one behind {b}"),
            fine,
            |submission| submission,
        )
        .await?
        .must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; {kept} bytes were written before the ends and all are kept"
    )))
}

async fn crash_behind_the_end(lab: &Lab) -> Result<Counted> {
    const CRASHES: u64 = 50;
    let profile = lab.standin(&["on turn 2 exit 3 after end"])?;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    for turn in 0..2 * CRASHES {
        rig.ask(&format!("question {turn}"))
            .await?
            .must_be("completed", "")?;
        if turn % 2 == 1 {
            // A prompt that is written before the end is seen would be lost with the process; that is another case.
            rig.until(0, "restarted", |status| {
                status.generation > turn.div_ceil(2)
            })
            .await?;
        }
    }
    let status = rig.status(0).await?;
    ensure!(
        status.turns_failed == 0,
        "{} turns count as failed",
        status.turns_failed
    );
    let sums = rig.close().await?;
    let restarts = sums.spawned - 1;
    ensure!(restarts == CRASHES, "{restarts} restarts");
    Ok(Counted::new(format!(
        "{sums}, {restarts} restarts, no failed turn"
    )))
}
