//! Names that callers make up, and what they cost.

use anyhow::{Result, ensure};
use toolpool::Routing;
use toolpool_testkit::ledgers::{Answer, answer_to};

use crate::case::{Case, Counted};
use crate::lab::Lab;

pub(super) const CASES: &[Case] = &[Case {
    number: 82,
    tier: 1,
    name: "very many names",
    injects: "10 sessions with names that nobody has foreseen, then 10,000, with as many labels",
    alone: false,
    run: |lab| Box::pin(many_names(lab)),
}];

async fn many_names(lab: &Lab) -> Result<Counted> {
    let (few, _) = series_with(lab, 10).await?;
    let (many, sums) = series_with(lab, 10_000).await?;
    ensure!(
        few == many,
        "10 sessions have {few} series of metrics, and 10,000 have {many}"
    );
    Ok(Counted::new(format!(
        "{sums}; as many series of metrics as with 10 sessions"
    )))
}

/// How many series the metrics have after a prompt in each of so many sessions, and the sums of all accounts.
async fn series_with(lab: &Lab, sessions: usize) -> Result<(usize, String)> {
    const CALLERS: usize = 20;
    let rig = lab
        .launch(lab.standin(&[])?, 4, |builder| {
            builder.routing(Routing::Sticky)
        })
        .await?;
    let callers = (0..CALLERS).map(|caller| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for session in (caller..sessions).step_by(CALLERS) {
                let name = answer_to("name", &session.to_string());
                let prompt = format!("prompt of {name}");
                let wish = |wish: toolpool::Submission| wish.session(&name).label("item", &name);
                let said = rig.ask_so(&prompt, Answer::Formula, wish).await?;
                said.must_be("completed", "")?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let series = rig.series();
    Ok((series, rig.close().await?.to_string()))
}
