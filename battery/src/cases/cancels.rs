//! Callers who change their minds, with a journal that has to say the same as they were told.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use toolpool::journal::Journal;
use toolpool::{Approvals, InstanceState};
use toolpool_testkit::ledgers::{Answer, answer_to, reads};

use super::load::{begin, go_on, hold};
use crate::case::{Case, Counted};
use crate::dam::Dam;
use crate::lab::Lab;
use crate::rig::{Rig, in_time};

pub(super) const CASES: &[Case] = &[Case {
    number: 59,
    tier: 1,
    name: "a cancel in each state",
    injects: "with a journal: 1,000 cancels in the queue, 1,000 at any moment, 100 in a turn, 50 while a person is asked, 1,000 after the end; 50 each while the record of the acceptance, of the dispatch and of the end is not durable; 200 callers that leave at any moment",
    alone: false,
    run: |lab| Box::pin(cancels(lab)),
}];

const INSTANCES: usize = 4;

/// How many in the queue.
const QUEUED: usize = 1000;

/// How many at each of the records.
const HELD: usize = 50;

async fn cancels(lab: &Lab) -> Result<Counted> {
    let profile = lab.standin(&[
        "on prompt ~stop signal STOP",
        "on prompt ~slow stream 1B 50ms",
    ])?;
    let path = lab.folder().join("journal.db");
    let dam = Dam::before(Journal::open(&path)?);
    let rig = lab
        .launch(profile, INSTANCES, |builder| {
            builder
                .interrupt_grace(Duration::from_millis(1))
                .stop_grace(Duration::from_millis(500))
                .journal(dam.clone())
        })
        .await?
        .with_journal(path);
    in_the_queue(&rig).await?;
    for number in 0..HELD {
        before_it_is_accepted(&rig, &dam, number).await?;
        before_it_is_sent(&rig, &dam, number).await?;
        before_its_end_is_told(&rig, &dam, number).await?;
    }
    drop(dam);
    let callers = (0..INSTANCES).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            let mut ended = BTreeMap::new();
            for number in 0..25 {
                in_a_turn(&rig, instance, number).await?;
            }
            for number in 0..250 {
                let outcome = at_any_moment(&rig, instance, number).await?;
                *ended.entry(outcome).or_insert(0) += 1;
                after_the_end(&rig, instance, number).await?;
            }
            for number in 0..50 {
                leaves(&rig, instance, number).await?;
            }
            anyhow::Ok(ended)
        })
    });
    let mut ended = BTreeMap::new();
    for caller in callers.collect::<Vec<_>>() {
        for (outcome, count) in caller.await?? {
            *ended.entry(outcome).or_insert(0) += count;
        }
    }
    none_was_read(lab)?;
    // How many of those at any moment ended how is left to chance; that each has one end is not.
    let sums = rig.close().await?;
    let asked = while_a_person_is_asked(lab).await?;
    let of = |outcome| ended.get(outcome).copied().unwrap_or(0_u32);
    Ok(Counted::new(format!(
        "{} offered, each ended once and has one end in the journal, the one that its caller was told; in the queue, and while the acceptance or the dispatch was not durable, all were cancelled and 0 read; those in a turn are indeterminate; {asked} questions were answered with no; after the end all stayed completed",
        sums.offered + asked
    ))
    .figure(
        "1,000 at any moment: cancelled, completed, indeterminate",
        format!("{}, {}, {}", of("cancelled"), of("completed"), of("indeterminate")),
    ))
}

/// No tool has read what was withdrawn before it was sent.
fn none_was_read(lab: &Lab) -> Result<()> {
    let ledger = std::fs::read_to_string(lab.ledger())?;
    let read: HashSet<String> = reads(&ledger)
        .map_err(|wrong| anyhow!(wrong))?
        .into_iter()
        .map(|read| read.sha256)
        .collect();
    let queued = (0..QUEUED).map(|number| format!("in the queue {number}"));
    let held = (0..HELD)
        .flat_map(|number| ["unaccepted", "unsent"].map(|name| format!("{name} {number}")));
    for prompt in queued.chain(held) {
        // A tool writes down the hash of the prompt alone.
        ensure!(!read.contains(&answer_to("", &prompt)), "{prompt} was read");
    }
    Ok(())
}

async fn in_the_queue(rig: &Rig) -> Result<()> {
    let mut held = Vec::new();
    for instance in 0..INSTANCES {
        held.push(hold(rig, instance).await?);
    }
    let mut queued = Vec::new();
    for number in 0..QUEUED {
        queued.push(begin(rig, &format!("in the queue {number}"), |wish| wish).await?);
    }
    for asked in queued {
        asked.stream.cancel().await;
        asked.end().await?.must_be("cancelled", "")?;
    }
    for (instance, held) in held.into_iter().enumerate() {
        go_on(rig, instance, held).await?;
    }
    Ok(())
}

/// Its caller cannot know it yet, and can only leave. That it was cancelled all accounts have to say.
async fn before_it_is_accepted(rig: &Rig, dam: &Dam<Journal>, number: usize) -> Result<()> {
    let prompt = format!("unaccepted {number}");
    dam.shut("accepted");
    let offer = rig.cluster.stream(prompt.as_str());
    let turn = in_time(async {
        tokio::select! {
            _ = offer => bail!("{prompt}: it was accepted before that was durable"),
            turn = dam.until_it_holds() => Ok(turn),
        }
    })
    .await??;
    rig.left_unheard(&prompt, turn, "cancelled");
    let_go(rig, dam).await
}

async fn before_it_is_sent(rig: &Rig, dam: &Dam<Journal>, number: usize) -> Result<()> {
    dam.shut("dispatching");
    let asked = begin(rig, &format!("unsent {number}"), |wish| wish).await?;
    in_time(dam.until_it_holds()).await?;
    asked.stream.cancel().await;
    let_go(rig, dam).await?;
    asked.end().await?.must_be("cancelled", "")?;
    Ok(())
}

async fn before_its_end_is_told(rig: &Rig, dam: &Dam<Journal>, number: usize) -> Result<()> {
    dam.shut("ended");
    let asked = begin(rig, &format!("untold {number}"), |wish| wish).await?;
    in_time(dam.until_it_holds()).await?;
    asked.stream.cancel().await;
    let_go(rig, dam).await?;
    asked.end().await?.must_be("completed", "")?;
    Ok(())
}

/// The cluster has heard of the cancel when it answers what came after it; then its journal may have the records.
async fn let_go(rig: &Rig, dam: &Dam<Journal>) -> Result<()> {
    rig.status(0).await?;
    dam.open();
    Ok(())
}

/// With a first piece of the answer there, the turn runs for sure.
async fn in_a_turn(rig: &Rig, instance: usize, number: usize) -> Result<()> {
    let prompt = format!("slow {number} on {instance}");
    let mut asked = begin(rig, &prompt, |wish| wish.on_instance(instance)).await?;
    asked.stream.chunk().await.context("a first piece")?;
    asked.stream.cancel().await;
    let said = asked.end().await?;
    said.must_be("indeterminate", "cancel_unconfirmed")?;
    Ok(())
}

/// From at once to about when the answer is there.
async fn some_moments(number: usize) {
    for _ in 0..number % 10 {
        tokio::task::yield_now().await;
    }
}

/// Gives the outcome.
async fn at_any_moment(rig: &Rig, instance: usize, number: usize) -> Result<&'static str> {
    let prompt = format!("at any moment {number} on {instance}");
    let asked = begin(rig, &prompt, |wish| wish.on_instance(instance)).await?;
    some_moments(number).await;
    asked.stream.cancel().await;
    let said = asked.end().await?;
    let cause = said.cause;
    ensure!(
        matches!(said.outcome, "cancelled" | "completed")
            || (said.outcome, cause) == ("indeterminate", "cancel_unconfirmed"),
        "{prompt} ended as {} ({cause})",
        said.outcome
    );
    Ok(said.outcome)
}

async fn leaves(rig: &Rig, instance: usize, number: usize) -> Result<()> {
    let prompt = format!("left {number} on {instance}");
    let asked = begin(rig, &prompt, |wish| wish.on_instance(instance)).await?;
    some_moments(number).await;
    asked.leave();
    Ok(())
}

async fn after_the_end(rig: &Rig, instance: usize, number: usize) -> Result<()> {
    let prompt = format!("after the end {number} on {instance}");
    let mut asked = begin(rig, &prompt, |wish| wish.on_instance(instance)).await?;
    while asked.stream.chunk().await.is_some() {}
    asked.stream.cancel().await;
    asked.end().await?.must_be("completed", "")?;
    Ok(())
}

/// Cancels turns that wait for a person's answer; gives their number.
async fn while_a_person_is_asked(lab: &Lab) -> Result<u64> {
    let profile = lab.agent(&["on prompt ~ask ask \"rm -r /\""])?;
    let path = lab.folder().join("asked.db");
    let journal = Journal::open(&path)?;
    let rig = lab
        .launch(profile, 1, |builder| {
            builder.approvals(Approvals::Ask).journal(journal)
        })
        .await?
        .with_journal(path);
    for number in 0..50 {
        let prompt = format!("ask {number}");
        let asked = rig.begin(&prompt, Answer::Around, |wish| wish).await?;
        let asked = asked.ok().context("it was refused")?;
        rig.until(0, "asked", |status| status.state == InstanceState::Waiting)
            .await?;
        asked.stream.cancel().await;
        // The tool is told no, and ends the turn by itself.
        let said = asked.end().await?.must_be("completed", "")?;
        ensure!(said.text.ends_with(" denied"), "it said {:?}", said.text);
        let open = rig.status(0).await?.waiting.len();
        ensure!(open == 0, "{open} questions are still open");
    }
    Ok(rig.close().await?.offered)
}
