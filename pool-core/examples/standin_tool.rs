//! The stand-in tool, its shim and its manager in one program, for the tests of this package.
//!
//! Without a first argument of its own it is the stand-in. `manage` launches a pool of stand-ins that start
//! others, prints all their process ids and waits to be killed. `flood` reads a reply of 64 MiB without a line end, limited to 1 MiB, and prints how it
//! ended and by how many KiB the memory of this process grew at most.

use std::time::Duration;

use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{LaunchOptions, ProcessPool, shim};

fn main() -> std::process::ExitCode {
    shim::init();
    let mut args = std::env::args().skip(1).peekable();
    let result = match args.peek().map(String::as_str) {
        Some("manage") => manage(),
        Some("flood") => flood(),
        _ => return toolpool_testkit::standin::main(args),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

fn standin(rules: &[&str]) -> std::result::Result<ToolProfile, Box<dyn std::error::Error>> {
    let mut profile = ToolProfile::builtin("standin")?;
    profile.program = std::env::current_exe()?.display().to_string();
    profile.args = rules
        .iter()
        .flat_map(|rule| ["--do".to_owned(), (*rule).to_owned()])
        .collect();
    Ok(profile)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn manage() -> Result {
    // Tools that notice neither the end of their input nor a broken pipe, and their children as little.
    let deaf = standin(&[
        "on turn 1 fork 1 ignore TERM HUP",
        "on turn 1 fork 1 setsid ignore TERM HUP",
        "on turn 1 fork 1 orphan setsid ignore TERM HUP",
        "on turn 2 report",
        "on turn 2 hang after end",
    ])?;
    let pool = ProcessPool::launch(deaf, 2, LaunchOptions::default()).await?;
    let minute = Duration::from_secs(60);
    for (index, status) in pool.get_status().iter().enumerate() {
        pool.send_prompt(index, "fork")?;
        pool.read_response(index, minute).await?;
        pool.send_prompt(index, "report")?;
        let report = pool.read_response(index, minute).await?.text;
        let report: serde_json::Value = serde_json::from_str(&report)?;
        let mut pids = vec![status.pid.unwrap_or_default()];
        pids.extend(serde_json::from_value::<Vec<u32>>(
            report["sleepers"].clone(),
        )?);
        println!("{pids:?}");
    }
    std::future::pending().await
}

#[tokio::main(flavor = "current_thread")]
async fn flood() -> Result {
    let mut profile = standin(&["on turn 2 flood 64MiB"])?;
    profile.max_reply_bytes = 1 << 20;
    let pool = ProcessPool::launch(profile, 1, LaunchOptions::default()).await?;
    let minute = Duration::from_secs(60);
    pool.send_prompt(0, "small")?;
    pool.read_response(0, minute).await?;
    let before = peak_kib()?;
    pool.send_prompt(0, "large")?;
    let response = pool.read_response(0, minute).await?;
    println!("{} {}", response.outcome.word(), peak_kib()? - before);
    Ok(())
}

/// The most memory that this process has had so far.
fn peak_kib() -> std::result::Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line
        .unwrap_or_default()
        .trim_end_matches("kB")
        .trim()
        .parse()?)
}
