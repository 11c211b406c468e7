//! What is typed into a terminal.

use anyhow::{Result, bail, ensure};
use toolpool::{Submission, ToolProfile};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 35,
        tier: 1,
        name: "long lines on a terminal that edits lines itself",
        injects: "lines of 4,000 to 10,000 bytes, around the 4,095 that a terminal hands on whole",
        alone: false,
        run: |lab| Box::pin(long_lines(lab)),
    },
    Case {
        number: 36,
        tier: 1,
        name: "every character up to U+00FF on a terminal",
        injects: "256 prompts, each with one of the characters U+0000 to U+00FF in the middle",
        alone: false,
        run: |lab| Box::pin(every_character(lab)),
    },
    Case {
        number: 37,
        tier: 1,
        name: "the end of a paste inside a prompt",
        injects: "7 prompts with ends of pastes, nested, cut and in 8 bits, before a command, to bash on a terminal",
        alone: false,
        run: |lab| Box::pin(paste_ends(lab)),
    },
];

async fn long_lines(lab: &Lab) -> Result<Counted> {
    let rig = lab
        .launch(lab.on_terminal(&[])?, 1, |builder| builder)
        .await?;
    for length in [4000, 4094, 4095, 4096, 4097, 5000, 10_000] {
        let said = rig.ask(&"x".repeat(length)).await?;
        match (length, said.outcome, said.cause) {
            (..=4095, "completed", _) | (4096.., "failed", "refused") => {}
            _ => bail!(
                "{length} bytes: {} ({}): {}",
                said.outcome,
                said.cause,
                said.detail
            ),
        }
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!("{sums}, 0 cut")))
}

async fn every_character(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    let rig = lab
        .launch(lab.on_terminal(&[])?, INSTANCES, |builder| builder)
        .await?;
    let players = (0..INSTANCES).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in (instance..256).step_by(INSTANCES) {
                let character = char::from(u8::try_from(number)?);
                let said = rig.ask_on(instance, &format!("a{character}b")).await?;
                match (said.outcome, said.cause) {
                    ("completed", _) | ("failed", "refused") => {}
                    _ => bail!(
                        "{character:?}: {} ({}): {}",
                        said.outcome,
                        said.cause,
                        said.detail
                    ),
                }
            }
            anyhow::Ok(())
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await??;
    }
    let sums = rig.close().await?;
    ensure!(
        sums.spawned == INSTANCES as u64,
        "{} processes",
        sums.spawned
    );
    ensure!(sums.reads == sums.of("completed"), "{sums}");
    Ok(Counted::new(format!(
        "{sums}, {INSTANCES} processes from the first to the last"
    )))
}

async fn paste_ends(lab: &Lab) -> Result<Counted> {
    // bash's line editor takes pastes, as editors of prompts do.
    let file = lab.folder().join("bash.toml");
    let profile = "name = \"bash-terminal\"\nprogram = \"bash\"\nargs = [\"--noprofile\", \"--norc\"]\n\
                   protocol = \"screen\"\n[env.set]\nPS1 = \"bash$ \"\nHISTFILE = \"\"\n[screen]\nend = '^bash\\$ $'\n";
    std::fs::write(&file, profile)?;
    let bash = ToolProfile::from_file(&file)?;
    let canary = lab.folder().join("canary");
    let touch = format!("touch {}", canary.display());
    let rig = lab.launch(bash, 1, |builder| builder).await?;
    for end in [
        "\u{1b}[201~\r",
        "\u{1b}[201~\n",
        "\u{1b}[200~\u{1b}[201~\u{1b}[201~\r",
        "\u{1b}[20\u{1b}[201~1~\r",
        "\u{9b}201~\r",
        "\u{1b}\r",
        "\u{3}\r",
    ] {
        let prompt = format!("true{end}{touch}\r");
        let said = rig
            .ask_so(&prompt, Answer::Formula, |submission: Submission| {
                submission
            })
            .await?;
        said.must_be("failed", "refused")?;
    }
    ensure!(!canary.exists(), "a part of a prompt was run");
    let sums = rig.close().await?;
    Ok(Counted::new(format!("{sums}, 0 commands run")))
}
