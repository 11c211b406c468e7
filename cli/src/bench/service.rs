//! The same work through toolpool, on its whole path.
//!
//! Owns the clusters that are measured. Must not take a short cut: callers use `ask`, as users do. Invariant: each
//! cluster is shut down before the next measurement begins.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use toolpool::journal::Journal;
use toolpool::{ClusterBuilder, ToolProfile, launch_cluster};

use super::floor::WARM_UP;
use super::stop::Stop;
use super::{PROMPT, own_rss};

/// Which of tokio's runtimes.
#[derive(Clone, Copy)]
pub(super) enum Runtime {
    CurrentThread,
    MultiThread,
}

impl Runtime {
    fn build(self) -> Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread(),
            Self::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        };
        builder
            .enable_all()
            .build()
            .context("cannot start the runtime")
    }
}

/// What a cluster does under load.
pub(super) struct Load {
    pub(super) per_second: f64,
    pub(super) first_byte_p50: Duration,
    pub(super) first_byte_p99: Duration,
    pub(super) rss_bytes: u64,
}

fn cluster(profile: &ToolProfile, count: u32) -> ClusterBuilder {
    launch_cluster(profile.clone()).count(count as usize)
}

/// One turn through `ask`, one caller, one instance.
pub(super) fn turn(
    profile: &ToolProfile,
    turns: u32,
    runtime: Runtime,
    stop: &Stop,
) -> Result<Duration> {
    runtime.build()?.block_on(async {
        let cluster = cluster(profile, 1).await?;
        // The caller is a task like any user's, not the thread that waits for the runtime.
        let asking = tokio::spawn({
            let (cluster, stop) = (cluster.clone(), stop.clone());
            async move {
                for _ in 0..WARM_UP {
                    cluster.ask(PROMPT).await?;
                }
                let begun = Instant::now();
                for _ in 0..turns {
                    stop.check()?;
                    cluster.ask(PROMPT).await?;
                }
                anyhow::Ok(begun.elapsed() / turns)
            }
        });
        let took = asking.await;
        cluster.shutdown().await;
        took?
    })
}

/// Many callers on many instances; with a journal, each waits for the disk twice a prompt.
pub(super) fn throughput(
    profile: &ToolProfile,
    (count, callers): (u32, u32),
    prompts: u32,
    journal: Option<Journal>,
    stop: &Stop,
) -> Result<Load> {
    Runtime::MultiThread.build()?.block_on(async {
        let cluster = match journal {
            Some(journal) => cluster(profile, count).journal(journal).await?,
            None => cluster(profile, count).await?,
        };
        let each = (prompts / callers).max(1);
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for _ in 0..callers {
            let (cluster, stop) = (cluster.clone(), stop.clone());
            asking.spawn(async move {
                let mut waits = Histogram::<u64>::new(3)?;
                for _ in 0..each {
                    stop.check()?;
                    let reply = cluster.ask(PROMPT).await?;
                    let wait = reply.queued + reply.first_output.unwrap_or(reply.took);
                    waits.record(u64::try_from(wait.as_nanos())?)?;
                }
                anyhow::Ok(waits)
            });
        }
        let waits = asking.join_all().await;
        let took = begun.elapsed();
        let rss_bytes = own_rss();
        cluster.shutdown().await;
        let mut all = Histogram::<u64>::new(3)?;
        for waits in waits {
            all.add(waits?)?;
        }
        Ok(Load {
            per_second: f64::from(each * callers) / took.as_secs_f64(),
            first_byte_p50: Duration::from_nanos(all.value_at_quantile(0.5)),
            first_byte_p99: Duration::from_nanos(all.value_at_quantile(0.99)),
            rss_bytes,
        })
    })
}

/// Launch to all ready.
pub(super) fn start(profile: &ToolProfile, count: u32) -> Result<Duration> {
    Runtime::MultiThread.build()?.block_on(async {
        let begun = Instant::now();
        let cluster = cluster(profile, count).await?;
        let took = begun.elapsed();
        cluster.shutdown().await;
        Ok(took)
    })
}
