//! The peer: the Python prototype's design, on the same stand-in and the same bytes.
//!
//! Owns the running of its script. Must not need Python: without it there is no such figure. Invariant: the script is
//! the one beside this file.

use std::process::Command;

use anyhow::{Context, Result, bail};
use toolpool::ToolProfile;

use super::PROMPT;

/// Prompts per second, or None without Python.
pub(super) fn throughput(profile: &ToolProfile, count: u32, prompts: u32) -> Result<Option<f64>> {
    let run = Command::new("python3")
        .args(["-c", include_str!("prototype.py")])
        .args([
            count.to_string(),
            prompts.to_string(),
            serde_json::to_string(PROMPT)?,
        ])
        .arg(&profile.program)
        .args(&profile.args)
        .output();
    let output = match run {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        run => run.context("cannot run python3")?,
    };
    if !output.status.success() {
        bail!(
            "the prototype's script failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let figure = String::from_utf8_lossy(&output.stdout);
    let figure = figure.trim();
    figure
        .parse()
        .map(Some)
        .with_context(|| format!("the prototype's script printed {figure:?}"))
}
