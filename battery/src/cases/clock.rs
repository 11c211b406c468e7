//! A wall clock that jumps.
//!
//! Owns how a manager gets a clock of its own: `libfaketime` answers in the system's stead, from a file, and leaves the
//! monotonic clock and the times of files alone. Must not know what is done around a jump: that is [`mod@crate::jumps`].

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::killed::{agree, orders, until_gone};
use crate::case::{CannotBe, Case, Counted};
use crate::jumps::{AHEAD, Clock, Offset, Orders, Part};
use crate::lab::{Lab, program};
use crate::rig::in_time;

pub(super) const CASES: &[Case] = &[Case {
    number: 69,
    tier: 1,
    name: "the wall clock jumps",
    injects: "an hour back, ten days ahead and home again, each in the middle of work; two prompts left in the queue of a life whose clock was ahead, and two found by one whose clock is",
    alone: false,
    run: |lab| Box::pin(jumps(lab)),
}];

/// Where Debian's package puts it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library that answers for the clock, where there is one.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let mut libraries = folders.map(|folder| folder.join(LIBRARY));
    libraries.find(|library| library.exists())
}

/// A program with a clock of its own.
fn with_clock(program: PathBuf, clock: &Clock, library: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock.path())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The library, if a program can have a clock of its own by it.
async fn see_that_it_can_be(lab: &Lab) -> Result<PathBuf> {
    let cannot = |why: String| CannotBe(format!("the clock is libfaketime's, and {why}"));
    let library = library().ok_or_else(|| cannot(format!("/usr/lib/*/{LIBRARY} is not there")))?;
    let clock = Clock::of(lab.folder());
    clock.set(AHEAD)?;
    let date = in_time(
        with_clock("date".into(), &clock, &library)
            .arg("+%s")
            .output(),
    )
    .await?;
    let real = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let said = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let said = said.map_err(|error| cannot(error.to_string()))?;
    match said.parse::<u64>() {
        Ok(seconds) if seconds.abs_diff(real) + 60 > AHEAD.unsigned_abs() => Ok(library),
        _ => Err(cannot(format!("date says {said:?} ten days after {real}")).into()),
    }
}

async fn jumps(lab: &Lab) -> Result<Counted> {
    let library = see_that_it_can_be(lab).await?;
    let clock = Clock::of(lab.folder());
    let lives: [(Offset, Part); 5] = [
        (0, Part::Jump),
        (AHEAD, Part::Leave),
        (0, Part::Find { expired: false }),
        (0, Part::Leave),
        (AHEAD, Part::Find { expired: true }),
    ];
    for (offset, part) in lives {
        clock.set(offset)?;
        let orders = Orders {
            folder: lab.folder().to_owned(),
            seed: lab.seed().to_owned(),
            offset,
            part: part.clone(),
        };
        let mut command = with_clock(program()?, &clock, &library);
        command
            .args(["--jumps", &serde_json::to_string(&orders)?])
            .args(["--marker", lab.census().marker()]);
        let output = in_time(command.output()).await??;
        check_end(&output, &part)
            .with_context(|| format!("{part:?} with a clock off by {offset} s"))?;
        until_gone(lab).await?;
    }
    let survived = agree(lab, &orders(lab, lab.folder()))?;
    let counts: Vec<String> = survived
        .ended
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    Ok(Counted::new(format!(
        "{} prompts, {}, 0 read twice; nothing ended or began again before its time or later than without a jump; keys \
         were known, nothing was pruned, numbers only grew and each prompt was found by the time that it bears; a left one \
         has waited as long as the clock says, and for nothing if that went back",
        survived.kept,
        counts.join(", ")
    )))
}

/// A life that was to die by itself has, and any other one has ended well.
fn check_end(output: &Output, part: &Part) -> Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    let is_right = match part {
        Part::Leave => output.status.signal() == Some(9),
        Part::Jump | Part::Find { .. } => output.status.success(),
    };
    ensure!(
        is_right,
        "it ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
