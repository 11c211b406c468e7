//! Processes that are to go, while there is work.

use anyhow::{Context as _, Result, ensure};
use toolpool::{EventKind, InstanceState, OnLoss, Routing};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::{Asked, Rig};
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[Case {
    number: 84,
    tier: 1,
    name: "a drain, of an instance and of a cluster",
    injects: "100 prompts of 20 sessions on 4 instances; one is drained in the middle, then all",
    alone: false,
    run: |lab| Box::pin(drain(lab)),
}];

async fn drain(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const SESSIONS: usize = 20;
    let witness = Witness::default();
    let rig = lab
        .launch(
            lab.standin(&["on every 1 delay 2ms"])?,
            INSTANCES,
            |builder| builder.routing(Routing::Sticky).sink(witness.clone()),
        )
        .await?;
    let mut asked = ask_all(&rig, SESSIONS, 3).await?;
    rig.until(0, "busy", |status| status.state == InstanceState::Busy)
        .await?;
    rig.cluster.drain_instance(0).await?;
    rig.until(0, "drained", |status| {
        status.state == InstanceState::Stopped
    })
    .await?;
    let drained = witness.len();
    asked.extend(ask_all(&rig, SESSIONS, 2).await?);
    let closing = tokio::spawn({
        let cluster = rig.cluster.clone();
        async move { cluster.shutdown_within(crate::lab::LONG).await }
    });
    // From now on nothing is taken in, and what was taken in ends.
    while witness.count(|event| matches!(event, EventKind::ClusterDraining)) == 0 {
        tokio::task::yield_now().await;
    }
    let said = rig.ask("too late").await?;
    let refused = said.must_be("refused", "draining");
    for asked in asked {
        asked.end().await?.must_be("completed", "")?;
    }
    let report = closing.await?;
    refused?;
    ensure!(
        report.books.completed as usize == 5 * SESSIONS,
        "{report:?}"
    );
    let after = witness.turns_of(INSTANCES, drained)[0];
    ensure!(after == 0, "{after} turns began on the drained instance");
    let sums = rig.settle(report).await?;
    Ok(Counted::new(format!(
        "{sums}; 0 prompts began on the drained instance, and 0 failed"
    )))
}

/// Sends so many prompts of each session without waiting. A session that loses its instance begins anew.
async fn ask_all(rig: &Rig, sessions: usize, each: usize) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for number in 0..each {
        for session in 0..sessions {
            let session = rig.cluster.session(format!("session {session}"));
            let session = session.on_loss(OnLoss::Fresh);
            let prompt = format!("prompt {number} of {each} of {}", session.key());
            let asked = rig.begin_in(&session, &prompt, Answer::Formula).await?;
            all.push(asked.ok().context("it was refused")?);
        }
    }
    Ok(all)
}
