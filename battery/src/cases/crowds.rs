//! Very many processes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use toolpool::{EventKind, InstanceState};
use toolpool_testkit::ledgers::Answer;

use crate::case::{Case, Counted};
use crate::lab::{LONG, Lab};
use crate::own;
use crate::rig::Rig;
use crate::witness::Witness;

pub(super) const CASES: &[Case] = &[
    Case {
        number: 46,
        tier: 2,
        name: "a thousand processes die at once",
        injects: "SIGKILL to each of 1,000 processes, as fast as they can be sent",
        alone: true,
        run: |lab| Box::pin(all_die(lab)),
    },
    Case {
        number: 62,
        tier: 2,
        name: "a thousand instances",
        injects: "1,000 instances on pipes with 100,000 prompts, then 500 on terminals with 500",
        alone: true,
        run: |lab| Box::pin(thousand(lab)),
    },
];

async fn all_die(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 1000;
    let witness = Witness::default();
    let rig = lab
        .launch(lab.standin(&[])?, INSTANCES, |builder| {
            builder.sink(witness.clone())
        })
        .await?;
    let status = rig.cluster.status().await?;
    let pids = status.instances.iter().filter_map(|instance| instance.pid);
    let pids: Vec<u32> = pids.collect();
    let (begun, used) = (Instant::now(), own::cpu()?);
    for pid in &pids {
        let pid = Pid::from_raw(pid.cast_signed()).context("a process id")?;
        kill_process(pid, Signal::KILL)?;
    }
    let killed = begun.elapsed();
    // To ask for the status of a thousand would be most of the work.
    let all_ready = async {
        while witness.count(is_ready) < 2 * INSTANCES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let all_ready = tokio::time::timeout(10 * LONG, all_ready).await;
    all_ready.context("some never became ready again")?;
    let took = begun.elapsed();
    let used = (own::cpu()? - used).as_secs_f64() / took.as_secs_f64();
    let most = witness.all(most_starts);
    ask_each(&rig, INSTANCES, 1, 0).await?;
    let sums = rig.close().await?;
    let limit = 2 * std::thread::available_parallelism()?.get();
    ensure!(
        most <= limit,
        "{most} starts at once, and {limit} are right"
    );
    ensure!(used < 1.0, "toolpool used {used:.1} cores");
    Ok(Counted::new(format!(
        "{sums}; {} processes, never more than 2 starts for each core at once",
        sums.spawned
    ))
    .figure("SIGKILL to the last of 1,000 after", seconds(killed))
    .figure("all ready again after", seconds(took))
    .figure(
        "processor of toolpool meanwhile",
        format!("{:.0} % of a core", used * 100.0),
    ))
}

fn is_ready(event: &EventKind) -> bool {
    matches!(
        event,
        EventKind::InstanceChanged {
            to: InstanceState::Ready,
            ..
        }
    )
}

/// The most processes that were on their way from spawn to ready at the same time.
fn most_starts(events: &[EventKind]) -> usize {
    let (mut starting, mut most) = (BTreeSet::new(), 0);
    for event in events {
        match event {
            EventKind::InstanceSpawned { instance, .. } => {
                starting.insert(instance);
                most = most.max(starting.len());
            }
            EventKind::InstanceChanged {
                instance,
                from: InstanceState::Starting,
                ..
            } => {
                starting.remove(instance);
            }
            _ => {}
        }
    }
    most
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

async fn thousand(lab: &Lab) -> Result<Counted> {
    const ON_PIPES: usize = 1000;
    const ON_TERMINALS: usize = 500;
    const EACH: usize = 100;
    let before = own::resident()?;
    let begun = Instant::now();
    let rig = lab
        .launch(lab.standin(&[])?, ON_PIPES, |builder| builder)
        .await?;
    let ready = begun.elapsed();
    let idle = idle_cpu().await?;
    let resident = own::resident()?.saturating_sub(before);
    let begun = Instant::now();
    ask_each(&rig, ON_PIPES, 1, 0).await?;
    let one_each = begun.elapsed();
    let begun = Instant::now();
    ask_each(&rig, ON_PIPES, EACH - 1, 1).await?;
    let rest = begun.elapsed();
    let begun = Instant::now();
    let pipes = rig.close().await?;
    let stop = begun.elapsed();
    let begun = Instant::now();
    let rig = lab
        .launch(lab.on_terminal(&[])?, ON_TERMINALS, |builder| builder)
        .await?;
    let ready_on_terminals = begun.elapsed();
    for instance in 0..ON_TERMINALS {
        let prompt = format!("on terminal {instance}");
        let on = |wish: toolpool::Submission| wish.on_instance(instance);
        let said = rig.ask_so(&prompt, Answer::Around, on).await?;
        said.must_be("completed", "")?;
    }
    let terminals = rig.close().await?;
    let rate = (ON_PIPES * (EACH - 1)) as f64 / rest.as_secs_f64();
    Ok(
        Counted::new(format!("on pipes {pipes}; on terminals {terminals}"))
            .figure("1,000 on pipes: all ready", seconds(ready))
            .figure(
                "processor of toolpool while they idle",
                format!("{:.1} % of a core", idle * 100.0),
            )
            .figure("memory of toolpool for them", own::mib(resident))
            .figure("one turn of each, all at once", seconds(one_each))
            .figure(
                "turns in a second, of a build for tests",
                format!("{rate:.0}"),
            )
            .figure("all stopped and the accounts reconciled", seconds(stop))
            .figure("500 on terminals: all ready", seconds(ready_on_terminals)),
    )
}

/// The share of a core that this process uses in two seconds in which nothing happens.
async fn idle_cpu() -> Result<f64> {
    const WHILE: Duration = Duration::from_secs(2);
    let before = own::cpu()?;
    tokio::time::sleep(WHILE).await;
    Ok((own::cpu()? - before).as_secs_f64() / WHILE.as_secs_f64())
}

/// So many prompts to each instance, to all of them at the same time.
async fn ask_each(rig: &Rig, instances: usize, each: usize, first: usize) -> Result<()> {
    let callers = (0..instances).map(|instance| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for number in first..first + each {
                let prompt = format!("prompt {number} to {instance}");
                let said = rig.ask_on(instance, &prompt).await?;
                said.must_be("completed", "")?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(())
}
