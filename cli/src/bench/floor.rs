//! The floor: the same stand-in on raw pipes, with nothing in between.
//!
//! Owns blocking pipes and bare spawns. Must not use toolpool. Invariant: the bytes are those that toolpool would write.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use toolpool::ToolProfile;

use super::PROMPT;
use super::stop::Stop;

/// Turns before the clock starts.
pub(super) const WARM_UP: u32 = 500;

struct Raw {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Raw {
    fn spawn(profile: &ToolProfile) -> Result<Self> {
        let mut child = Command::new(&profile.program)
            .args(&profile.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the stand-in")?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self {
                child,
                stdin,
                stdout,
            }),
            _ => bail!("the stand-in's pipes were not connected"),
        }
    }

    fn await_ready(&mut self) -> Result<()> {
        let mut buffer = [0; 64];
        let count = self.stdout.read(&mut buffer)?;
        if !buffer[..count].starts_with(b"standin ready") {
            bail!("the stand-in did not become ready");
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        drop(self.stdin);
        self.child.wait()?;
        Ok(())
    }
}

/// One turn on a raw pipe.
pub(super) fn turn(profile: &ToolProfile, turns: u32, stop: &Stop) -> Result<Duration> {
    let mut raw = Raw::spawn(profile)?;
    raw.await_ready()?;
    let nonce = "0123456789abcdef0123456789abcdef";
    let request = format!("{nonce} {}\n", serde_json::to_string(PROMPT)?);
    let end = format!("{nonce} end\n");
    let mut buffer = vec![0; 64 << 10];
    let mut ping_pong = || -> Result<()> {
        raw.stdin.write_all(request.as_bytes())?;
        let mut seen = 0;
        while !buffer[..seen].ends_with(end.as_bytes()) {
            let count = raw.stdout.read(&mut buffer[seen..])?;
            if count == 0 {
                bail!("the stand-in went away");
            }
            seen += count;
        }
        Ok(())
    };
    for _ in 0..WARM_UP {
        ping_pong()?;
    }
    let begun = Instant::now();
    for _ in 0..turns {
        stop.check()?;
        ping_pong()?;
    }
    let took = begun.elapsed() / turns;
    raw.end()?;
    Ok(took)
}

/// Spawn to ready of several bare processes, started together.
pub(super) fn start(profile: &ToolProfile, count: u32) -> Result<Duration> {
    let begun = Instant::now();
    let mut started = (0..count)
        .map(|_| Raw::spawn(profile))
        .collect::<Result<Vec<_>>>()?;
    for raw in &mut started {
        raw.await_ready()?;
    }
    let took = begun.elapsed();
    for raw in started {
        raw.end()?;
    }
    Ok(took)
}

/// Keeps this thread, and the processes and threads that it starts, on the first processor that it may use.
pub(super) fn pin_to_one_processor() -> Option<Pinned> {
    let before = sched_getaffinity(None).ok()?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu))?;
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).ok()?;
    Some(Pinned(before))
}

/// Undoes the pinning when it is dropped.
pub(super) struct Pinned(CpuSet);

impl Drop for Pinned {
    fn drop(&mut self) {
        // A thread that stays pinned only makes later figures worse.
        sched_setaffinity(None, &self.0).ok();
    }
}
