//! Probes that do not end as they should.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use toolpool::{InstanceState, Submission};
use toolpool_testkit::ledgers::Answer;

use super::breaker::{crash, trips_at};
use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 42,
        tier: 1,
        name: "a probe that hangs",
        injects: "3 probes whose start hangs, and 20 whose turn does",
        alone: false,
        run: |lab| Box::pin(probe_hangs(lab)),
    },
    Case {
        number: 43,
        tier: 1,
        name: "a probe whose caller goes away",
        injects: "10 probes are cancelled in the middle of their turn, and the callers of 10 leave",
        alone: true,
        run: |lab| Box::pin(probe_abandoned(lab)),
    },
];

async fn probe_hangs(lab: &Lab) -> Result<Counted> {
    const STARTS: usize = 3;
    const TURNS: usize = 20;
    let mut profile = lab.standin(&["on prompt ~crash exit 1", "on prompt ~hang hang"])?;
    // A start that hangs while a file says so, and says that it does.
    lab.behind(
        &mut profile,
        "[ -e hang ] && { echo >> hung; exec sleep 1000; }",
    );
    profile.start_timeout = Duration::from_secs(2);
    let witness = Witness::default();
    let rig = lab
        .launch(profile, 1, |builder| {
            trips_at(1, Duration::from_millis(5))(builder)
                .stop_grace(Duration::from_millis(100))
                .sink(witness.clone())
        })
        .await?;
    let (flag, hung) = (lab.folder().join("hang"), lab.folder().join("hung"));
    std::fs::write(&flag, "")?;
    crash(&rig, 0, "the crash that opens it").await?;
    let tries = || std::fs::read_to_string(&hung).map_or(0, |lines| lines.lines().count());
    rig.until(0, "probed", |_| tries() == STARTS).await?;
    // The last one sleeps already, and the next one only starts when that was ended.
    std::fs::remove_file(&flag)?;
    rig.ask("fine").await?.must_be("completed", "")?;
    let opened = witness.breaker("open");
    ensure!(opened == 1 + STARTS, "it opened {opened} ×");
    for number in 0..TURNS {
        crash(&rig, 0, &format!("crash {number}")).await?;
        let prompt = format!("hang as a probe {number}");
        let said = rig
            .ask_so(&prompt, Answer::Formula, |submission: Submission| {
                submission.turn_timeout(Duration::from_millis(50))
            })
            .await?;
        said.must_be("indeterminate", "timed_out")?;
        let prompt = format!("fine {number}");
        rig.ask(&prompt).await?.must_be("completed", "")?;
    }
    let opened = witness.breaker("open") - opened;
    ensure!(opened == 2 * TURNS, "it opened {opened} × more");
    let sums = rig.close().await?;
    let closed = witness.breaker("closed");
    ensure!(closed == 1 + TURNS, "it closed {closed} ×");
    Ok(Counted::new(format!(
        "{sums}; {} probes that hang opened it again, {closed} good ones closed it",
        STARTS + TURNS
    )))
}

async fn probe_abandoned(lab: &Lab) -> Result<Counted> {
    const EACH: usize = 10;
    let profile = lab.standin(&["on prompt ~crash exit 1", "on prompt ~hang hang"])?;
    let witness = Witness::default();
    let rig = lab
        .launch(profile, 1, |builder| {
            trips_at(1, Duration::from_millis(5))(builder)
                .interrupt_grace(Duration::from_millis(20))
                .stop_grace(Duration::from_millis(500))
                .sink(witness.clone())
        })
        .await?;
    let mut longest = Duration::ZERO;
    for number in 0..2 * EACH {
        crash(&rig, 0, &format!("crash {number}")).await?;
        let prompt = format!("hang as a probe {number}");
        let asked = rig.begin(&prompt, Answer::Formula, |wish| wish).await?;
        let asked = asked.ok().context("it was refused")?;
        rig.until(0, "probed", |status| {
            status.state == InstanceState::Busy && status.breaker == "half_open"
        })
        .await?;
        let left = Instant::now();
        if number < EACH {
            asked.stream.cancel().await;
            let said = asked.end().await?;
            said.must_be("indeterminate", "cancel_unconfirmed")?;
        } else {
            asked.leave();
        }
        let prompt = format!("fine {number}");
        rig.ask(&prompt).await?.must_be("completed", "")?;
        longest = longest.max(left.elapsed());
    }
    let sums = rig.close().await?;
    let closed = witness.breaker("closed");
    ensure!(closed == 2 * EACH, "it closed {closed} ×");
    Ok(Counted::new(format!(
        "{sums}; the next probe was let out {closed} of {closed} times"
    ))
    .figure(
        "from the end of a caller's interest to the next probe's answer, after a grace of 20 ms, at most",
        format!("{} ms", longest.as_millis()),
    ))
}
