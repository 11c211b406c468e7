//! What the tools cost.
//!
//! Owns the measurements and their tables. Must not judge them. Invariant: one tool at a time, and the model's own time is
//! no part of a figure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use toolpool::{ClusterManager, Isolation, Submission};

use crate::lab::Lab;

/// Starts of each tool that count, after one that does not.
const STARTS: usize = 3;
/// Turns of each tool that count, after one that does not.
const TURNS: usize = 20;
/// Instances that are measured in a process each, and then in one.
const TOGETHER: usize = 4;

/// Measures the tools one after the other, and prints two tables: one instance of each tool, and several of those of
/// which one process can hold more than one conversation.
///
/// # Errors
/// If a tool does not start or answer.
pub async fn print(tools: &[&'static str]) -> Result<()> {
    println!(
        "| tool | cold start to ready | memory, whole tree | a turn, without the model's time | last byte to end of turn |"
    );
    println!("|---|---|---|---|---|");
    let mut sharing = Vec::new();
    for tool in tools {
        match Lab::new(tool) {
            // What the stand-in of a service takes is nobody's figure.
            Ok(lab) if lab.program().is_empty() => {}
            Ok(lab) => {
                if lab.profile().shares() {
                    sharing.push(tool);
                }
                println!("{}", row(tool, Arc::new(lab)).await?);
            }
            Err(reason) => println!("skipped: {tool}: {reason}"),
        }
    }
    println!("\nmedians of {STARTS} starts and {TURNS} turns; {}", load());
    if sharing.is_empty() {
        return Ok(());
    }
    println!(
        "\n| tool, {TOGETHER} instances | in {TOGETHER} processes: to ready | memory | in one process: to ready | memory |"
    );
    println!("|---|---|---|---|---|");
    for tool in sharing {
        let apart = together(tool, 1).await?;
        let shared = together(tool, TOGETHER).await?;
        println!("| {tool} | {apart} | {shared} |");
    }
    println!(
        "\nmedians of {STARTS} starts, and the memory of the last after a turn on each instance; {}",
        load()
    );
    Ok(())
}

/// Two fields: several instances, so many in each process.
async fn together(tool: &'static str, capacity: usize) -> Result<String> {
    let lab = Lab::new(tool).map_err(anyhow::Error::msg)?;
    let speech = lab.speech();
    let (mut starts, mut memory) = (Vec::new(), 0);
    for _ in 0..=STARTS {
        let begun = Instant::now();
        let cluster = lab
            .cluster(TOGETHER)
            .isolation(Isolation::Shared)
            .capacity(capacity)
            .await
            .with_context(|| format!("{tool} does not start"))?;
        starts.push(begun.elapsed());
        let mut turns = JoinSet::new();
        for index in 0..TOGETHER {
            let prompt = speech.say(&format!("to instance {index}")).prompt;
            let (cluster, submission) = (cluster.clone(), Submission::text(prompt));
            turns.spawn(async move { cluster.ask(submission.on_instance(index)).await });
        }
        while let Some(said) = turns.join_next().await {
            said?.with_context(|| format!("{tool} does not answer"))?;
        }
        memory = lab.census().into_iter().filter_map(proportional).sum();
        cluster.shutdown().await;
    }
    // As above.
    starts.remove(0);
    Ok(format!("{} | {}", shown(median(starts)), mebibytes(memory)))
}

async fn row(tool: &str, lab: Arc<Lab>) -> Result<String> {
    let mut starts = Vec::new();
    let mut running = None;
    for _ in 0..=STARTS {
        if let Some(cluster) = running.take() {
            let cluster: ClusterManager = cluster;
            cluster.shutdown().await;
        }
        let begun = Instant::now();
        let cluster = lab.cluster(1).isolation(Isolation::Shared).await;
        running = Some(cluster.with_context(|| format!("{tool} does not start"))?);
        starts.push(begun.elapsed());
    }
    let cluster = running.context("there was a last start")?;
    // The first start on a machine compiles and caches; it is nobody's figure.
    starts.remove(0);
    let speech = lab.speech();
    let (mut turns, mut lags) = (Vec::new(), Vec::new());
    for place in 0..=TURNS {
        let earlier = lab.server.requests().len();
        let begun = Instant::now();
        let said = cluster
            .ask(speech.say(&format!("turn {place}")).prompt)
            .await;
        let ended = Instant::now();
        said.with_context(|| format!("{tool} does not answer"))?;
        let requests = lab.server.requests().split_off(earlier);
        let in_model: Duration = requests
            .iter()
            .filter_map(|request| Some(request.finished? - request.started))
            .sum();
        turns.push((ended - begun).saturating_sub(in_model));
        let last = requests.iter().filter_map(|request| request.finished).max();
        lags.extend(last.map(|last| ended.saturating_duration_since(last)));
        if place == 0 {
            turns.clear();
            lags.clear();
        }
    }
    let memory: u64 = lab.census().into_iter().filter_map(proportional).sum();
    cluster.shutdown().await;
    Ok(format!(
        "| {tool} | {} | {} | {} | {} |",
        shown(median(starts)),
        mebibytes(memory),
        shown(median(turns)),
        shown(median(lags)),
    ))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", (bytes + (1 << 19)) >> 20)
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

fn shown(time: Option<Duration>) -> String {
    match time {
        None => "no model".to_owned(),
        Some(time) if time >= Duration::from_secs(1) => format!("{:.1} s", time.as_secs_f64()),
        Some(time) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
    }
}

/// The memory of a process in bytes, what it shares with others divided among them.
fn proportional(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// How busy the machine was.
fn load() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let average = average.split_whitespace().next().unwrap_or("unknown");
    format!("{cores} processors, load average at the end {average}")
}
