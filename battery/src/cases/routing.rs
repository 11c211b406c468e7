//! Who gets the next prompt.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use toolpool::{EventKind, InstanceState, Routing};
use toolpool_testkit::ledgers::Answer;

use super::breaker::{crash, trips_at};
use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::Rig;
use crate::witness::{Witness, place};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 53,
        tier: 1,
        name: "round-robin, one instance leaves",
        injects: "5,000 prompts one after the other to 10 instances, of which one is drained midway",
        alone: false,
        run: |lab| Box::pin(round_robin(lab)),
    },
    Case {
        number: 54,
        tier: 1,
        name: "least-busy, one instance is slow",
        injects: "1,000 prompts of 5 callers to 10 instances, of which one is 10 times as slow",
        alone: false,
        run: |lab| Box::pin(least_busy(lab)),
    },
    Case {
        number: 55,
        tier: 2,
        name: "ten thousand sessions",
        injects: "10,000 sessions of 10 prompts that are sent without waiting, to 100 instances",
        alone: true,
        run: |lab| Box::pin(sessions(lab)),
    },
    Case {
        number: 60,
        tier: 1,
        name: "an instance comes back",
        injects: "one of 4 instances crashes until its breaker opens; when it is back, 40 prompts one after the other and 40 of 8 callers, round-robin and least-busy",
        alone: false,
        run: |lab| Box::pin(comes_back(lab)),
    },
];

async fn round_robin(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 10;
    const EACH_EPOCH: usize = 2500;
    let witness = Witness::default();
    let rig = lab
        .launch(lab.standin(&[])?, INSTANCES, |builder| {
            builder.routing(Routing::RoundRobin).sink(witness.clone())
        })
        .await?;
    let mut spreads = Vec::new();
    for epoch in 0..2 {
        let begun = witness.len();
        for number in 0..EACH_EPOCH {
            let prompt = format!("prompt {number} of epoch {epoch}");
            rig.ask(&prompt).await?.must_be("completed", "")?;
        }
        let mut turns = witness.turns_of(INSTANCES, begun);
        if epoch == 0 {
            rig.cluster.drain_instance(4).await?;
            rig.until(4, "drained", |status| !status.alive).await?;
        } else {
            let on_drained = turns.remove(4);
            ensure!(on_drained == 0, "{on_drained} prompts went to the drained");
        }
        let least = turns.iter().min().context("instances")?;
        let most = turns.iter().max().context("instances")?;
        ensure!(most - least <= 1, "the instances got {turns:?}");
        spreads.push(match most - least {
            0 => format!("{most}"),
            _ => format!("{least} or {most}"),
        });
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; {} to each of the 10, then {} to each of the 9 and 0 to the drained one",
        spreads[0], spreads[1]
    )))
}

async fn least_busy(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 10;
    const CALLERS: usize = 5;
    const EACH: usize = 200;
    let mut profile = lab.standin(&[])?;
    // Only one of them can make the folder.
    lab.behind(
        &mut profile,
        "if mkdir slow 2>/dev/null; then echo \"$TOOLPOOL_INSTANCE\" > slow/name; set -- \"$@\" --do 'on every 1 delay 50ms'; \
         else set -- \"$@\" --do 'on every 1 delay 5ms'; fi",
    );
    let witness = Witness::default();
    let rig = lab
        .launch(profile, INSTANCES, |builder| {
            builder.routing(Routing::LeastBusy).sink(witness.clone())
        })
        .await?;
    let callers = (0..CALLERS).map(|caller| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let prompt = format!("prompt {number} of caller {caller}");
                rig.ask(&prompt).await?.must_be("completed", "")?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let turns = witness.turns_of(INSTANCES, 0);
    let doubled = witness.all(turns_at_once);
    let sums = rig.close().await?;
    ensure!(doubled <= 1, "{doubled} turns at once on one instance");
    let slow = place(std::fs::read_to_string(lab.folder().join("slow/name"))?.trim());
    let even = CALLERS * EACH / INSTANCES;
    ensure!(turns[slow] < even, "{slow} is slow, and they got {turns:?}");
    let share = 100.0 * turns[slow] as f64 / (CALLERS * EACH) as f64;
    Ok(Counted::new(format!(
        "{sums}; never more than 1 turn at once on an instance, and the slow one got less than an even share"
    ))
    .figure("share of the slow one; a tenth would be even", format!("{share:.1} %")))
}

/// The most turns that ran on one instance at the same time.
fn turns_at_once(events: &[EventKind]) -> i64 {
    let mut running: BTreeMap<&str, i64> = BTreeMap::new();
    let mut most = 0;
    for event in events {
        match event {
            EventKind::TurnStarted { instance, .. } => {
                let now = running.entry(instance).or_default();
                *now += 1;
                most = most.max(*now);
            }
            EventKind::TurnEnded {
                instance: Some(instance),
                ..
            } => *running.entry(instance).or_default() -= 1,
            _ => {}
        }
    }
    most
}

async fn comes_back(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const PROMPTS: usize = 40;
    const CALLERS: usize = 8;
    let mut all = Vec::new();
    for routing in [Routing::RoundRobin, Routing::LeastBusy] {
        let witness = Witness::default();
        let profile = lab.standin(&["on prompt ~crash exit 1"])?;
        let opens = trips_at(3, Duration::from_millis(300));
        let rig = lab
            .launch(profile, INSTANCES, |builder| {
                opens(builder.routing(routing)).sink(witness.clone())
            })
            .await?;
        for number in 0..3 {
            crash(&rig, 0, &format!("crash {number}")).await?;
        }
        let away = witness.len();
        for number in 0..PROMPTS {
            rig.ask(&format!("away {number}"))
                .await?
                .must_be("completed", "")?;
        }
        // Without a probe nothing is routed to it, so whatever it has had came after its return.
        rig.until(0, "back", |status| status.state == InstanceState::Ready)
            .await?;
        let back = witness.len();
        for number in 0..PROMPTS {
            rig.ask(&format!("back {number}"))
                .await?
                .must_be("completed", "")?;
        }
        let returned = witness.turns_of(INSTANCES, back)[0];
        ensure!(
            returned <= PROMPTS / INSTANCES + 1,
            "{routing:?}: the one that came back got {returned} of {PROMPTS}"
        );
        let callers = (0..CALLERS).map(|caller| {
            let rig = rig.clone();
            tokio::spawn(async move {
                for number in (caller..PROMPTS).step_by(CALLERS) {
                    rig.ask(&format!("together {number}"))
                        .await?
                        .must_be("completed", "")?;
                }
                anyhow::Ok(())
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await??;
        }
        let at_once = witness.all(|events| turns_at_once(&events[away..]));
        ensure!(at_once == 1, "{at_once} turns at once on one instance");
        all.push(format!("{}", rig.close().await?));
    }
    Ok(Counted::new(format!(
        "round-robin: {}; least-busy: {}; the one that came back got at most its share and 1 more, and 1 turn at a time",
        all[0], all[1]
    )))
}

async fn sessions(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 100;
    const SESSIONS: usize = 10_000;
    const CALLERS: usize = 20;
    let rig = lab
        .launch(lab.standin(&[])?, INSTANCES, |builder| {
            builder.routing(Routing::Sticky)
        })
        .await?;
    let begun = std::time::Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for session in (caller..SESSIONS).step_by(CALLERS) {
                one_session(&rig, session).await?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let took = begun.elapsed();
    let status = rig.cluster.status().await?;
    ensure!(
        status.sessions == SESSIONS,
        "{} sessions are bound",
        status.sessions
    );
    let sums = rig.close().await?;
    let per_second = sums.offered as f64 / took.max(Duration::from_millis(1)).as_secs_f64();
    Ok(Counted::new(format!(
        "{sums}; {SESSIONS} sessions ran in order, each in one process"
    ))
    .figure(
        "turns in a second, of a build for tests",
        format!("{per_second:.0}"),
    ))
}

/// Sends all prompts of a session at once; they must run in order and in one process.
async fn one_session(rig: &Rig, session: usize) -> Result<()> {
    const TURNS: usize = 10;
    let key = format!("session {session}");
    let mut asked = Vec::with_capacity(TURNS);
    for turn in 0..TURNS {
        let prompt = format!("prompt {turn} of {key}");
        let begun = rig
            .begin(&prompt, Answer::Formula, |wish| wish.session(&key))
            .await?;
        asked.push(begun.ok().context("it was refused")?);
    }
    let mut home = None;
    for asked in asked {
        let said = asked.end().await?.must_be("completed", "")?;
        let reply = said.reply.context("it has a reply")?;
        let process = (reply.instance.clone(), reply.generation);
        let at_home = home.get_or_insert_with(|| process.clone());
        ensure!(process == *at_home, "{key} went to {process:?}");
    }
    Ok(())
}
