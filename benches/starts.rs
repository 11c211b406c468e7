//! What starting and stopping a tool costs: `cargo bench --bench starts`.
//!
//! Prints medians of single starts of the stand-in, from spawn to ready, against a bare spawn of the same command, in a
//! small program and in one that holds 1 GiB; and how much memory stands beside each tool.

#[path = "../examples/standin/mod.rs"]
mod standin;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use toolpool::process_pool::ProcessPool;
use toolpool::{LaunchOptions, ToolProfile};

const STARTS: usize = 201;
const TOGETHER: usize = 50;
const GRACE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    standin::init();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        starts("a small program").await?;
        let ballast = std::hint::black_box(vec![1_u8; 1 << 30]);
        starts("one that holds 1 GiB").await?;
        drop(ballast);
        beside().await
    })
}

/// One start after another, bare and ours in turn.
async fn starts(what: &str) -> Result<()> {
    let profile = profile()?;
    let (mut bare, mut ours, mut stops) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        bare.push(bare_start(&profile)?);
        let begun = Instant::now();
        let pool = ProcessPool::launch(profile.clone(), 1, LaunchOptions::default()).await?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        let report = pool.shutdown(GRACE).await;
        stops.push(begun.elapsed());
        ensure!(report.terminated == [0], "{report:?}");
    }
    println!(
        "{what}: spawn to ready, bare {:.2} ms, an instance {:.2} ms; stop {:.2} ms",
        median(bare),
        median(ours),
        median(stops)
    );
    Ok(())
}

/// What each of many instances has beside its tool.
async fn beside() -> Result<()> {
    let begun = Instant::now();
    let pool = ProcessPool::launch(profile()?, TOGETHER, LaunchOptions::default()).await?;
    println!(
        "{TOGETHER} instances together: {:.0} ms to ready",
        begun.elapsed().as_secs_f64() * 1e3
    );
    let own = std::process::id();
    let (mut tools, mut keepers) = (Memory::default(), Memory::default());
    for status in pool.get_status() {
        let tool = status.pid.context("it is ready")?;
        tools.add(tool)?;
        let parent = parent(tool)?;
        if parent != own {
            keepers.add(parent)?;
        }
    }
    tools.print("a stand-in");
    keepers.print("what stands beside it");
    pool.shutdown(GRACE).await;
    Ok(())
}

fn profile() -> Result<ToolProfile> {
    let mut profile = ToolProfile::builtin("standin")?;
    profile.program = std::env::current_exe()?.display().to_string();
    profile.args = vec!["standin".to_owned()];
    Ok(profile)
}

fn bare_start(profile: &ToolProfile) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = Command::new(&profile.program)
        .args(&profile.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    let took = begun.elapsed();
    ensure!(line == "standin ready\n", "{line}");
    child.kill()?;
    child.wait()?;
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn parent(pid: u32) -> Result<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a name")?;
    Ok(fields.split(' ').nth(1).context("a parent")?.parse()?)
}

/// Sums in KiB.
#[derive(Default)]
struct Memory {
    processes: u64,
    resident: u64,
    own: u64,
}

impl Memory {
    fn add(&mut self, pid: u32) -> Result<()> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (name, value) = (
                words.next(),
                words.next().and_then(|value| value.parse::<u64>().ok()),
            );
            match (name, value) {
                (Some("Rss:"), Some(value)) => self.resident += value,
                (Some("Private_Clean:" | "Private_Dirty:"), Some(value)) => self.own += value,
                _ => {}
            }
        }
        self.processes += 1;
        Ok(())
    }

    fn print(&self, what: &str) {
        match self.processes {
            0 => println!("{what}: no process"),
            count => println!(
                "{what}: resident {} KiB, of which nobody shares {} KiB",
                self.resident / count,
                self.own / count
            ),
        }
    }
}
