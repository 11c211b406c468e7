//! What several real aiders bring: `TOOLPOOL_AIDER=$(cargo xtask tools aider) cargo bench --bench aider`.
//!
//! Prints the time from spawn to ready of five aiders against bare spawns of the same command, their memory, and how much
//! faster three instances finish a batch than one, with a model that takes two seconds for each answer.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use toolpool::{Isolation, Submission};
use toolpool_conformance::lab::Lab;
use toolpool_testkit::model_server::ModelServer;

const BATCH: usize = 12;
const MODEL_TAKES: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    toolpool::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<()> {
    let lab = match Lab::with("aider", ModelServer::builder().delay(MODEL_TAKES)) {
        Ok(lab) => lab,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    // The first start on a machine compiles and caches; it is nobody's figure.
    lab.cluster(1)
        .isolation(Isolation::Shared)
        .await?
        .shutdown()
        .await;

    let begun = Instant::now();
    let mut bare = (0..5)
        .map(|_| bare_start(&lab))
        .collect::<Result<Vec<_>>>()?;
    for child in &mut bare {
        await_prompt(child)?;
    }
    let floor = begun.elapsed();
    for mut child in bare {
        child.kill()?;
        child.wait()?;
    }
    let begun = Instant::now();
    let cluster = lab.cluster(5).isolation(Isolation::Shared).await?;
    let ours = begun.elapsed();
    let rss: u64 = cluster
        .status()
        .await?
        .instances
        .iter()
        .filter_map(|instance| instance.rss_bytes)
        .sum();
    cluster.shutdown().await;
    println!(
        "5 aiders, spawn to ready: {:.1} s; bare spawn to first prompt: {:.1} s; ratio {:.2}x (ready includes aider's warm-up)",
        ours.as_secs_f64(),
        floor.as_secs_f64(),
        ours.as_secs_f64() / floor.as_secs_f64()
    );
    println!(
        "memory: {:.0} MiB for each aider, ready",
        rss as f64 / 5.0 / f64::from(1 << 20)
    );

    let one = batch(&lab, 1).await?;
    let three = batch(&lab, 3).await?;
    println!(
        "{BATCH} prompts, {MODEL_TAKES:?} each in the model: 1 instance {:.1} s, 3 instances {:.1} s: {:.2}x as fast",
        one.as_secs_f64(),
        three.as_secs_f64(),
        one.as_secs_f64() / three.as_secs_f64()
    );
    let left = lab.census();
    anyhow::ensure!(left.is_empty(), "processes are left: {left:?}");
    Ok(())
}

async fn batch(lab: &Lab, count: usize) -> Result<Duration> {
    let cluster = lab.cluster(count).isolation(Isolation::Shared).await?;
    let begun = Instant::now();
    let mut asks = JoinSet::new();
    for place in 0..BATCH {
        let cluster = cluster.clone();
        asks.spawn(async move {
            cluster
                .ask(Submission::text(format!("item {place}")).fresh())
                .await
        });
    }
    while let Some(done) = asks.join_next().await {
        done??;
    }
    let took = begun.elapsed();
    cluster.shutdown().await;
    Ok(took)
}

fn bare_start(lab: &Lab) -> Result<std::process::Child> {
    let (args, _) = lab.settings();
    Command::new(lab.program())
        .args(args)
        .args([
            "--no-pretty",
            "--no-fancy-input",
            "--yes-always",
            "--no-check-update",
        ])
        .args([
            "--no-show-release-notes",
            "--no-show-model-warnings",
            "--no-analytics",
        ])
        .env("OPENAI_API_KEY", "none")
        .current_dir(lab.repo())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start aider")
}

fn await_prompt(child: &mut std::process::Child) -> Result<()> {
    let stdout = child.stdout.as_mut().context("no stdout")?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"> ") {
        let count = stdout.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "aider ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}
