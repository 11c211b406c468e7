//! Tools that ask before they act.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use toolpool::{Approvals, ClusterBuilder, InstanceState, Submission};
use toolpool_testkit::ledgers::{Answer, answer_to};

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[Case {
    number: 34,
    tier: 1,
    name: "a tool that asks for permission",
    injects: "a structured question under each policy, one that a person answers, one that nobody answers; and a question in plain text",
    alone: false,
    run: |lab| Box::pin(asks(lab)),
}];

const SECOND: Duration = Duration::from_secs(1);

async fn asks(lab: &Lab) -> Result<Counted> {
    let mut sums = Vec::new();
    type Change = fn(ClusterBuilder) -> ClusterBuilder;
    let policies: [(&str, Change, &str); 4] = [
        (
            "denies",
            |builder| builder.approvals(Approvals::None),
            "denied",
        ),
        (
            "reads only",
            |builder| builder.approvals(Approvals::Reads),
            "denied",
        ),
        (
            "allows",
            |builder| builder.approvals(Approvals::All),
            "allowed",
        ),
        (
            "nobody there",
            |builder| {
                builder
                    .approvals(Approvals::Ask)
                    .approval_timeout(SECOND / 5)
            },
            "denied",
        ),
    ];
    for (policy, change, answer) in policies {
        let rig = lab
            .launch(lab.agent(&["on every 1 ask rm -r x"])?, 1, change)
            .await?;
        let prompt = format!("a policy that {policy}");
        let given = Answer::Given(format!("{} {answer}", answer_to(lab.seed(), &prompt)));
        let said = rig.ask_so(&prompt, given, |submission| submission).await?;
        said.must_be("completed", "")?;
        sums.push(rig.close().await?);
    }
    for (answer, told) in [
        (toolpool::Answer::Allow, "allowed"),
        (toolpool::Answer::Deny, "denied"),
    ] {
        let rig = lab
            .launch(lab.agent(&["on every 1 ask rm -r x"])?, 1, |builder| {
                builder.approvals(Approvals::Ask)
            })
            .await?;
        let prompt = format!("a person: {told}");
        let given = Answer::Given(format!("{} {told}", answer_to(lab.seed(), &prompt)));
        let Ok(asked) = rig.begin(&prompt, given, |submission| submission).await? else {
            bail!("it was refused");
        };
        let status = rig
            .until(0, "waiting", |status| {
                status.state == InstanceState::Waiting
            })
            .await?;
        let waiting = status.waiting.first().context("it waits for something")?;
        ensure!(waiting.question.contains("rm -r x"), "{waiting:?}");
        rig.cluster.answer(waiting.permission, answer).await?;
        let again = rig
            .cluster
            .answer(waiting.permission, toolpool::Answer::Allow)
            .await;
        ensure!(again.is_err(), "a second answer was taken");
        asked.end().await?.must_be("completed", "")?;
        sums.push(rig.close().await?);
    }
    // A text is no question: nothing answers it, whatever the policy, and the turn's own time ends it.
    let rig = lab
        .launch(
            lab.standin(&["on prompt ~text ask rm -r x"])?,
            1,
            |builder| builder.approvals(Approvals::All),
        )
        .await?;
    let limit = |submission: Submission| submission.turn_timeout(SECOND / 2);
    let text = rig.ask_so("a text", Answer::Formula, limit).await?;
    text.must_be("indeterminate", "timed_out")?;
    rig.ask("the next one").await?.must_be("completed", "")?;
    let text = rig.close().await?;
    let (asked, completed) = (
        sums.len(),
        sums.iter().map(|sums| sums.of("completed")).sum::<u64>(),
    );
    Ok(Counted::new(format!(
        "{asked} structured questions: {completed} completed, 2 allowed and 4 denied; a text: {text}, 0 allowed"
    )))
}
