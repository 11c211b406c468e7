//! What a turn runner adds to a process for each prompt: `cargo bench --bench oneshot`.
//!
//! Prints, for a command that does nothing, a turn against a bare spawn of the same command, measured in turn, and the
//! memory of the runner that stays.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use toolpool::{Isolation, ToolProfile, launch_cluster};

const PROGRAM: &str = "true";
const PAIRS: usize = 1001;

fn main() -> Result<()> {
    toolpool::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("nothing.toml");
    std::fs::write(
        &path,
        format!("program = \"{PROGRAM}\"\nprotocol = \"oneshot\"\n"),
    )?;
    let cluster = launch_cluster(ToolProfile::from_file(&path)?)
        .count(1)
        .cwd(folder.path())
        .isolation(Isolation::Shared)
        .await?;
    let mut bare = Vec::new();
    let mut turns = Vec::new();
    for _ in 0..PAIRS {
        let begun = Instant::now();
        // A prompt on its standard input and its output read to the end, as a turn has them.
        let child = Command::new(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.wait_with_output()?;
        bare.push(begun.elapsed());
        let begun = Instant::now();
        cluster.ask("nothing").await?;
        turns.push(begun.elapsed());
    }
    let (bare, turns) = (median(bare), median(turns));
    println!(
        "a turn of {PROGRAM:?}: {:.2} ms; a bare spawn of it: {:.2} ms; added: {:.2} ms",
        milliseconds(turns),
        milliseconds(bare),
        milliseconds(turns.saturating_sub(bare))
    );
    let status = cluster.status().await?;
    let rss = status.instances[0].rss_bytes.context("it lives")?;
    println!("memory of the turn runner: {} KiB", rss >> 10);
    cluster.shutdown().await;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
