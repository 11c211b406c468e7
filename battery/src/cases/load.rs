//! More than there is room or time for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::{InstanceStatus, Submission};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::{Asked, Rig};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 56,
        tier: 1,
        name: "one client asks much more than the others",
        injects: "4 clients of 25 prompts, one after the other, alone and beside a client that sends 2,500 at once; 8 instances",
        alone: true,
        run: |lab| Box::pin(one_client_floods(lab)),
    },
    Case {
        number: 57,
        tier: 1,
        name: "a full queue",
        injects: "1 prompt that stays, 1,024 that fill the queue, and 10,000 more",
        alone: true,
        run: |lab| Box::pin(full_queue(lab)),
    },
    Case {
        number: 58,
        tier: 1,
        name: "time is up, in the queue and after it",
        injects: "100 prompts with 20 ms in the queue, 20 with 50 ms for a turn that hangs, 20 with time enough",
        alone: false,
        run: |lab| Box::pin(time_is_up(lab)),
    },
];

/// Begins a prompt that is not refused.
pub(super) async fn begin(
    rig: &Rig,
    prompt: &str,
    wish: impl FnOnce(Submission) -> Submission,
) -> Result<Asked> {
    let asked = rig.begin(prompt, Answer::Formula, wish).await?;
    asked.map_err(|refused| anyhow::anyhow!("{prompt}: {}", refused.detail))
}

/// Keeps an instance busy until [`go_on`].
pub(super) async fn hold(rig: &Rig, instance: usize) -> Result<Asked> {
    let prompt = format!("stop instance {instance}");
    let held = begin(rig, &prompt, |wish| wish.on_instance(instance)).await?;
    rig.until(instance, "stopped", is_stopped).await?;
    Ok(held)
}

fn is_stopped(status: &InstanceStatus) -> bool {
    let pid = status.pid.unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

pub(super) async fn go_on(rig: &Rig, instance: usize, held: Asked) -> Result<()> {
    let pid = rig
        .status(instance)
        .await?
        .pid
        .context("it has a process")?;
    let pid = Pid::from_raw(pid.cast_signed()).context("a process id")?;
    kill_process(pid, Signal::CONT)?;
    held.end().await?.must_be("completed", "")?;
    Ok(())
}

async fn one_client_floods(lab: &Lab) -> Result<Counted> {
    const FLOOD: usize = 2500;
    let rig = lab
        .launch(lab.standin(&["on every 1 delay 30ms"])?, 8, |builder| {
            builder.queue_limit(FLOOD)
        })
        .await?;
    let alone = ask_in_turn(&rig, "alone").await?;
    let mut flood = Vec::with_capacity(FLOOD);
    for number in 0..FLOOD {
        let prompt = format!("flood {number}");
        flood.push(begin(&rig, &prompt, |wish| wish.client("flood")).await?);
    }
    let beside = ask_in_turn(&rig, "beside").await?;
    // The last of the flood is still to come, so all of it was beside them.
    let last = flood.pop().context("there is a flood")?;
    last.stream.cancel().await;
    last.end().await?.must_be("cancelled", "")?;
    for asked in &flood {
        asked.stream.cancel().await;
    }
    for asked in flood {
        asked.end().await?;
    }
    rig.close().await?;
    // Five times what is demanded, since machines may be slow; without turns it would be a hundred and fifty times.
    ensure!(beside < alone * 10, "{beside:?} beside it, {alone:?} alone");
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    Ok(
        Counted::new("100 completed alone, and 100 beside a flood that did not end before them")
            .figure(
                "99 % of the others' answers, against those without the flood",
                format!("{ratio:.2} times as long"),
            ),
    )
}

/// Four clients ask one prompt after the other; in what time 99 of 100 answers came.
async fn ask_in_turn(rig: &Rig, when: &str) -> Result<Duration> {
    let client = |name: usize| {
        let rig = rig.clone();
        let when = when.to_owned();
        async move {
            let mut took = Vec::new();
            for number in 0..25 {
                let prompt = format!("{when} {name} {number}");
                let asked = Instant::now();
                let wish = |wish: Submission| wish.client(format!("client {name}"));
                let said = rig.ask_so(&prompt, Answer::Formula, wish).await?;
                said.must_be("completed", "")?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        }
    };
    let (a, b, c, d) = tokio::try_join!(client(0), client(1), client(2), client(3))?;
    let mut took = [a, b, c, d].concat();
    took.sort_unstable();
    Ok(took[98])
}

async fn full_queue(lab: &Lab) -> Result<Counted> {
    const LIMIT: usize = 1024;
    const MORE: usize = 10_000;
    let rig = lab
        .launch(
            lab.standin(&["on prompt ~stop signal STOP"])?,
            1,
            |builder| builder,
        )
        .await?;
    let held = hold(&rig, 0).await?;
    let mut queued = Vec::with_capacity(LIMIT);
    for number in 0..LIMIT {
        queued.push(begin(&rig, &format!("queued {number}"), |wish| wish).await?);
    }
    let mut took = Vec::with_capacity(MORE);
    for number in 0..MORE {
        let offered = Instant::now();
        let said = rig.ask(&format!("too many {number}")).await?;
        said.must_be("refused", "queue_full")?;
        took.push(offered.elapsed());
    }
    go_on(&rig, 0, held).await?;
    for asked in queued {
        asked.end().await?.must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    took.sort_unstable();
    let p99 = took[MORE * 99 / 100];
    // Ten times what is demanded, since machines may be slow; the figure shows what it is.
    ensure!(p99 < Duration::from_millis(100), "refused after {p99:?}");
    Ok(Counted::new(format!("{sums}")).figure(
        "a refusal, 99 % of them within",
        format!("{:.2} ms", p99.as_secs_f64() * 1e3),
    ))
}

async fn time_is_up(lab: &Lab) -> Result<Counted> {
    const QUEUED: usize = 100;
    const RUNNING: usize = 20;
    let profile = lab.standin(&["on prompt ~stop signal STOP", "on prompt ~hang hang"])?;
    let rig = lab.launch(profile, 1, |builder| builder).await?;
    let held = hold(&rig, 0).await?;
    let mut queued = Vec::new();
    for number in 0..QUEUED {
        let hasty = |wish: Submission| wish.queue_timeout(Duration::from_millis(20));
        queued.push(begin(&rig, &format!("hasty {number}"), hasty).await?);
    }
    for asked in queued {
        asked.end().await?.must_be("expired", "")?;
    }
    go_on(&rig, 0, held).await?;
    for number in 0..RUNNING {
        let limited = |wish: Submission| wish.turn_timeout(Duration::from_millis(50));
        let prompt = format!("hang {number}");
        let said = rig.ask_so(&prompt, Answer::Formula, limited).await?;
        said.must_be("indeterminate", "timed_out")?;
        let enough = |wish: Submission| {
            let wish = wish.turn_timeout(Duration::from_secs(30));
            wish.queue_timeout(Duration::from_secs(30))
        };
        let prompt = format!("fine {number}");
        let said = rig.ask_so(&prompt, Answer::Formula, enough).await?;
        said.must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; {} processes were ended for turns whose time was up",
        sums.spawned - 1
    )))
}
