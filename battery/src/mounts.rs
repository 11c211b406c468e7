//! A case once more, in a process with mounts of its own.
//!
//! Owns that process. Must not know what is mounted, or why. Invariant: nobody else sees the mounts, which end with it.

use anyhow::{Context as _, Result, bail};

use crate::case::{CannotBe, Counted, Verdict};
use crate::lab::{Lab, program};
use crate::rig::in_time;

/// Where the mounts are, in the process that has them.
const PLACE: &str = "TOOLPOOL_BATTERY_MOUNTS";

/// The case's folder of mounts, if this process has them.
pub(crate) fn here() -> Option<std::path::PathBuf> {
    std::env::var_os(PLACE).map(Into::into)
}

/// Runs this case again behind a shell's `mount`, which has a new folder as its `$1` and is a user's own root.
///
/// # Errors
/// What the case says; [`CannotBe`] where nothing can be mounted.
pub(crate) async fn again(lab: &Lab, number: u16, mount: &str) -> Result<Counted> {
    let place = lab.folder().join("mounts");
    std::fs::create_dir(&place)?;
    let script = format!("{{ {mount}; }} || exit 42; shift; exec \"$0\" \"$@\"");
    let mut command = tokio::process::Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["sh", "-c", &script])
        .arg(program()?)
        .arg(&place)
        .args(["--alone", &number.to_string()])
        .args(["--marker", lab.census().marker()])
        .env(PLACE, &place)
        .kill_on_drop(true);
    let output = in_time(command.output())
        .await?
        .context("cannot run unshare")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.lines().last().unwrap_or_default();
    match serde_json::from_str(verdict) {
        Ok(Verdict::Passed(counted)) => Ok(counted),
        Ok(Verdict::Skipped(why) | Verdict::Failed(why)) => bail!(why),
        Err(_) => {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(CannotBe(format!("nothing can be mounted here: {complaint}")).into())
        }
    }
}
