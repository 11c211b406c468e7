//! What a breaker lets through, and when.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use toolpool::{BreakerConfig, ClusterBuilder, EventKind, Submission};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::Rig;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 40,
        tier: 1,
        name: "a breaker opens at the k-th failure in a row",
        injects: "k - 1 crashes, an answer, k - 1 crashes, then one more, for each k from 1 to 10",
        alone: false,
        run: |lab| Box::pin(kth_failure(lab)),
    },
    Case {
        number: 41,
        tier: 1,
        name: "a half-open breaker and many callers",
        injects: "64 callers at once before an open breaker, whose prompts all crash the tool",
        alone: false,
        run: |lab| Box::pin(half_open(lab)),
    },
    Case {
        number: 52,
        tier: 1,
        name: "all breakers are open",
        injects: "4 instances with open breakers, a queue of 8, and 100 prompts too many",
        alone: true,
        run: |lab| Box::pin(all_open(lab)),
    },
];

/// A breaker that trips at the k-th failure and stays open for so long.
pub(super) fn trips_at(
    k: u32,
    open_for: Duration,
) -> impl FnOnce(ClusterBuilder) -> ClusterBuilder {
    move |builder| {
        builder.breaker(BreakerConfig {
            failures: k,
            open_for,
            open_for_max: open_for * 2,
        })
    }
}

pub(super) async fn crash(rig: &Rig, instance: usize, prompt: &str) -> Result<()> {
    let said = rig.ask_on(instance, prompt).await?;
    said.must_be("indeterminate", "crashed")?;
    Ok(())
}

async fn kth_failure(lab: &Lab) -> Result<Counted> {
    const MOST: u32 = 10;
    let (mut offered, mut opened) = (0, 0);
    for k in 1..=MOST {
        let witness = Witness::default();
        let profile = lab.standin(&["on prompt ~crash exit 1"])?;
        let rig = lab
            .launch(profile, 1, |builder| {
                trips_at(k, Duration::from_millis(50))(builder).sink(witness.clone())
            })
            .await?;
        for round in 0..2 {
            for number in 1..k {
                crash(&rig, 0, &format!("crash {number} of round {round}")).await?;
            }
            if round == 0 {
                rig.ask("fine").await?.must_be("completed", "")?;
            }
        }
        ensure!(
            witness.breaker("open") == 0,
            "it opened before failure {k} in a row"
        );
        crash(&rig, 0, "the crash that is one more").await?;
        rig.until(0, "open", |_| witness.breaker("open") == 1)
            .await?;
        rig.ask("fine again").await?.must_be("completed", "")?;
        offered += rig.close().await?.offered;
        ensure!(witness.breaker("open") == 1, "it opened twice");
        ensure!(witness.breaker("closed") == 1, "a good probe closes it");
        opened += 1;
    }
    Ok(Counted::new(format!(
        "{offered} offered to {MOST} clusters; each breaker opened once, at failure k in a row, {opened} of {MOST}"
    )))
}

async fn half_open(lab: &Lab) -> Result<Counted> {
    const CALLERS: usize = 64;
    let witness = Witness::default();
    let profile = lab.standin(&["on prompt ~crash exit 1"])?;
    let rig = lab
        .launch(profile, 1, |builder| {
            trips_at(1, Duration::from_millis(10))(builder).sink(witness.clone())
        })
        .await?;
    crash(&rig, 0, "the crash that opens it").await?;
    let callers = (0..CALLERS).map(|caller| {
        let rig = rig.clone();
        tokio::spawn(async move { crash(&rig, 0, &format!("crash of caller {caller}")).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let admitted = witness.all(admitted_by_state);
    let sums = rig.close().await?;
    let (while_open, by_probes) = admitted?;
    ensure!(
        while_open == 0,
        "{while_open} prompts began while it was open"
    );
    ensure!(
        by_probes == vec![1; CALLERS],
        "the probes let these numbers of prompts out: {by_probes:?}"
    );
    Ok(Counted::new(format!(
        "{sums}; {CALLERS} probes let out 1 prompt each, and 0 began while it was open"
    )))
}

/// How many turns began while the breaker was open, and in each of its half-open times.
fn admitted_by_state(events: &[EventKind]) -> Result<(usize, Vec<usize>)> {
    let (mut state, mut while_open, mut by_probes) = ("closed", 0, Vec::new());
    for event in events {
        match event {
            EventKind::BreakerChanged { to, .. } => {
                state = to;
                if *to == "half_open" {
                    by_probes.push(0);
                }
            }
            EventKind::TurnStarted { .. } if state == "open" => while_open += 1,
            EventKind::TurnStarted { .. } if state == "half_open" => {
                *by_probes.last_mut().context("no half-open time")? += 1;
            }
            _ => {}
        }
    }
    Ok((while_open, by_probes))
}

async fn all_open(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const QUEUE: usize = 8;
    const TOO_MANY: usize = 100;
    let profile = lab.standin(&["on prompt ~crash exit 1"])?;
    let witness = Witness::default();
    let rig = lab
        .launch(profile, INSTANCES, |builder| {
            trips_at(1, Duration::from_secs(4))(builder)
                .queue_limit(QUEUE)
                .sink(witness.clone())
        })
        .await?;
    let crashes: Vec<String> = (0..INSTANCES)
        .map(|number| format!("crash {number}"))
        .collect();
    let crashes = crashes.iter().enumerate();
    for crashed in crashes.map(|(instance, prompt)| crash(&rig, instance, prompt)) {
        crashed.await?;
    }
    for instance in 0..INSTANCES {
        rig.until(instance, "open", |status| status.breaker == "open")
            .await?;
    }
    let begun = witness.len();
    let mut waiting = Vec::new();
    for number in 0..QUEUE {
        // Each second one does not wait for the probes.
        let hasty = |submission: Submission| submission.queue_timeout(Duration::from_millis(100));
        let patient = |submission: Submission| submission;
        let prompt = format!("queued {number}");
        let asked = if number % 2 == 0 {
            rig.begin(&prompt, Answer::Formula, hasty).await?
        } else {
            rig.begin(&prompt, Answer::Formula, patient).await?
        };
        waiting.push(asked.ok().context("it was refused")?);
    }
    let mut slowest = Duration::ZERO;
    for number in 0..TOO_MANY {
        let offered = Instant::now();
        let said = rig.ask(&format!("too many {number}")).await?;
        said.must_be("refused", "queue_full")?;
        slowest = slowest.max(offered.elapsed());
    }
    for (number, asked) in waiting.into_iter().enumerate() {
        let end = if number % 2 == 0 {
            "expired"
        } else {
            "completed"
        };
        asked.end().await?.must_be(end, "")?;
    }
    let sums = rig.close().await?;
    let early = witness.all(|events| {
        let later = events[begun..].iter();
        let before_a_probe = later.take_while(
            |event| !matches!(event, EventKind::BreakerChanged { to, .. } if *to == "half_open"),
        );
        before_a_probe
            .filter(|event| matches!(event, EventKind::TurnStarted { .. }))
            .count()
    });
    ensure!(early == 0, "{early} prompts began before the first probe");
    // Ten times what is demanded, since machines may be slow; the figure shows what it is.
    ensure!(
        slowest < Duration::from_millis(100),
        "refused after {slowest:?}"
    );
    Ok(Counted::new(format!(
        "{sums}; 0 prompts were written while all breakers were open"
    ))
    .figure(
        "the slowest refusal",
        format!("{:.1} ms", slowest.as_secs_f64() * 1e3),
    ))
}
