//! What processes leave behind.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[Case {
    number: 14,
    tier: 1,
    name: "grandchildren of every kind",
    injects: "5 processes from each of 4 tools: in the group, in sessions of their own, double-forked, all deaf to SIGTERM",
    alone: true,
    run: |lab| Box::pin(grandchildren(lab)),
}];

async fn grandchildren(lab: &mut Lab) -> Result<Counted> {
    const TOOLS: usize = 4;
    let profile = lab.standin(&[
        "on start fork 1 ignore TERM INT HUP",
        "on start fork 2 setsid ignore TERM INT HUP",
        "on start fork 1 orphan ignore TERM INT HUP",
        "on start fork 1 orphan setsid ignore TERM INT HUP",
    ])?;
    let rig = lab
        .launch(profile, TOOLS, |builder| {
            builder.stop_grace(Duration::from_millis(200))
        })
        .await?;
    for instance in 0..TOOLS {
        rig.ask_on(instance, &format!("question {instance}"))
            .await?
            .must_be("completed", "")?;
    }
    // Each tool has its keeper and five others.
    let alive = rig.census.alive().len();
    ensure!(alive == 7 * TOOLS, "{alive} processes live");
    let begun = Instant::now();
    let sums = rig.close().await?;
    let took = begun.elapsed();
    Ok(Counted::new(format!(
        "{sums}, {alive} processes before the stop and 0 after it"
    ))
    .figure(
        "all gone after the stop began",
        format!("{} ms", took.as_millis()),
    ))
}
