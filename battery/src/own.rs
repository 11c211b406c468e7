//! What this process uses: memory and time.
//!
//! Owns the look into `/proc/self`. Must not judge it.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks of `/proc` in a second, the same on every Linux.
const TICKS: u32 = 100;

/// The highest resident memory since the last call of [`forget_peak`], in bytes.
pub(crate) fn peak() -> Result<u64> {
    field("VmHWM:")
}

/// Resident memory now, in bytes.
pub(crate) fn resident() -> Result<u64> {
    field("VmRSS:")
}

/// From now on the peak is counted anew.
pub(crate) fn forget_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")
}

fn field(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{name} is missing"))? * 1024)
}

/// The processor time that all threads have used, in user and in kernel mode.
pub(crate) fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(Duration::from_secs(1) * ticks / TICKS)
}

/// Bytes as a person reads them.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
