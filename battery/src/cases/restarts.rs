//! Starts that cannot be, and processes that are replaced though they have not failed.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use toolpool::{ControlError, EventKind, InstanceState, OnLoss, Recycle, ToolProfile};
use toolpool_testkit::ledgers::{Answer, Sums};

use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::rig::Rig;
use crate::witness::{Witness, place};

pub(super) const CASES: &[Case] = &[
    Case {
        number: 49,
        tier: 1,
        name: "processes are replaced under load",
        injects: "a limit of 20 turns, of 120 MiB, of 150 ms of age, on 4 instances with 8 callers each, half of them in sessions",
        alone: false,
        run: |lab| Box::pin(recycle(lab)),
    },
    Case {
        number: 50,
        tier: 1,
        name: "a new version that cannot start",
        injects: "all processes of 4 instances are to be replaced under load, and the new program ends at once",
        alone: false,
        run: |lab| Box::pin(bad_version(lab)),
    },
    Case {
        number: 51,
        tier: 1,
        name: "programs that cannot be started",
        injects: "before a restart the program is gone, not executable, without its interpreter, open for writing, or its folder is gone",
        alone: false,
        run: |lab| Box::pin(cannot_start(lab)),
    },
];

/// Sends so many prompts from each of 8 callers, of which `in_sessions` have a session.
async fn under_load(rig: &Rig, each: usize, in_sessions: usize) -> Result<()> {
    const CALLERS: usize = 8;
    let callers = (0..CALLERS).map(|caller| {
        let rig = rig.clone();
        tokio::spawn(async move {
            let session = rig.cluster.session(format!("session {caller}"));
            let session = session.on_loss(OnLoss::Fresh);
            for number in 0..each {
                let prompt = format!("prompt {number} of caller {caller}");
                if caller < in_sessions {
                    let asked = rig.begin_in(&session, &prompt, Answer::Formula).await?;
                    let asked = asked.ok().context("it was refused")?;
                    asked.end().await?.must_be("completed", "")?;
                } else {
                    rig.ask(&prompt).await?.must_be("completed", "")?;
                }
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(())
}

/// The most instances that were without a process that serves at the same time, after all had become ready.
fn most_down(events: &[EventKind], instances: usize) -> usize {
    let (mut down, mut ready, mut most) = (BTreeSet::new(), BTreeSet::new(), 0);
    for event in events {
        match event {
            EventKind::ClusterDraining => break,
            EventKind::InstanceChanged { instance, to, .. } => {
                let instance = place(instance);
                match to {
                    InstanceState::Ready | InstanceState::Busy => {
                        down.remove(&instance);
                        ready.insert(instance);
                    }
                    // It still works on its turn.
                    InstanceState::Draining => {}
                    _ => {
                        down.insert(instance);
                    }
                }
                if ready.len() == instances {
                    most = most.max(down.len());
                }
            }
            _ => {}
        }
    }
    most
}

async fn recycle(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    const EACH: usize = 50;
    let turns = Recycle {
        turns: Some(20),
        ..Recycle::default()
    };
    let rss = Recycle {
        rss_bytes: Some(120 << 20),
        ..Recycle::default()
    };
    let age = Recycle {
        age: Some(Duration::from_millis(150)),
        ..Recycle::default()
    };
    let mut all = Sums::default();
    let mut causes = Vec::new();
    for (cause, limit, rule) in [
        ("turns", turns, "on every 1 delay 2ms"),
        ("rss", rss, "on every 1 grow 10MiB"),
        ("age", age, "on every 1 delay 10ms"),
    ] {
        let witness = Witness::default();
        let rig = lab
            .launch(lab.standin(&[rule])?, INSTANCES, |builder| {
                builder.recycle(limit).sink(witness.clone())
            })
            .await?;
        under_load(&rig, EACH, 4).await?;
        let sums = rig.close().await?;
        let down = witness.all(|events| most_down(events, INSTANCES));
        ensure!(down <= 1, "{cause}: {down} instances were down at once");
        let recycled = witness.count(
            |event| matches!(event, EventKind::InstanceRecycled { cause: by, .. } if *by == cause),
        );
        ensure!(recycled > 0, "{cause}: none was replaced");
        causes.push(format!("{recycled} for {cause}"));
        all.offered += sums.offered;
        all.reads += sums.reads;
        *all.ended.entry("completed".to_owned()).or_default() += sums.of("completed");
    }
    Ok(Counted::new(format!(
        "{all}; never more than 1 of {INSTANCES} instances without a process"
    ))
    .figure("processes replaced", causes.join(", ")))
}

/// The stand-in behind a script that can be changed.
fn behind_a_file(lab: &Lab, profile: &mut ToolProfile) -> Result<Tool> {
    let file = lab.folder().join("tool");
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", profile.program);
    profile.program = file.display().to_string();
    let tool = Tool { file, text };
    tool.mend()?;
    Ok(tool)
}

/// A tool's program.
struct Tool {
    file: PathBuf,
    text: String,
}

impl Tool {
    fn write(&self, text: &str, mode: u32) -> Result<()> {
        // Not over the file that is there: a program that runs, or is just being started, cannot be written.
        let new = self.file.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::set_permissions(&new, Permissions::from_mode(mode))?;
        Ok(std::fs::rename(&new, &self.file)?)
    }

    fn mend(&self) -> Result<()> {
        self.write(&self.text, 0o755)
    }
}

async fn bad_version(lab: &Lab) -> Result<Counted> {
    const INSTANCES: usize = 4;
    let mut profile = lab.standin(&["on every 1 delay 2ms"])?;
    let tool = behind_a_file(lab, &mut profile)?;
    let rig = lab.launch(profile, INSTANCES, |builder| builder).await?;
    tool.write("#!/bin/sh\necho no such licence >&2\nexit 3\n", 0o755)?;
    let load = tokio::spawn({
        let rig = rig.clone();
        // A session waits for its own instance, as long as that is to come back.
        async move { under_load(&rig, 100, 0).await }
    });
    let rolled = rig.cluster.restart_all().await;
    let Err(ControlError::RestartStopped {
        reason, untouched, ..
    }) = rolled
    else {
        anyhow::bail!("the new version was rolled out: {rolled:?}");
    };
    ensure!(reason.contains("no such licence"), "it says {reason:?}");
    load.await??;
    let mut kept = 0;
    for instance in 0..INSTANCES {
        kept += usize::from(rig.status(instance).await?.generation == 1);
    }
    tool.mend()?;
    for instance in 0..INSTANCES {
        rig.cluster.restart_instance(instance).await?;
        let prompt = format!("to the new process {instance}");
        let said = rig.ask_on(instance, &prompt).await?;
        ensure!(said.generation() > 1, "it is an old process");
        said.must_be("completed", "")?;
    }
    let sums = rig.close().await?;
    Ok(Counted::new(format!(
        "{sums}; {kept} of {INSTANCES} processes were kept and {untouched} instances not touched, then each was replaced by a version that starts"
    )))
}

async fn cannot_start(lab: &Lab) -> Result<Counted> {
    const RULES: &[&str] = &["on prompt ~crash exit 1"];
    let mut said = BTreeSet::new();
    let (mut words, mut starts) = (Vec::new(), Vec::new());
    for (what, word) in [
        ("missing", "was not found"),
        ("not executable", "is not executable"),
        ("no interpreter", "cannot execute"),
        ("busy", "busy"),
        ("no folder", "is not there or is no folder"),
    ] {
        let mut profile = lab.standin(RULES)?;
        let tool = behind_a_file(lab, &mut profile)?;
        let folder = lab.folder().join("work");
        std::fs::create_dir_all(&folder)?;
        let witness = Witness::default();
        let rig = lab
            .launch(profile, 1, |builder| {
                builder.cwd(&folder).sink(witness.clone())
            })
            .await?;
        // Held as long as the program is to be busy.
        let _open = spoil(what, &tool, &folder)?;
        let crashed = rig.ask(&format!("crash: {what}")).await?;
        crashed.must_be("indeterminate", "crashed")?;
        let status = rig
            .until(0, "given up", |status| {
                matches!(status.state, InstanceState::Failed | InstanceState::Tripped)
            })
            .await?;
        ensure!(
            status.reason.contains(word),
            "{what}: it says {:?}",
            status.reason
        );
        said.insert(status.reason);
        let spawned = witness.count(|event| matches!(event, EventKind::InstanceSpawned { .. })) - 1;
        // Its breaker opens at the fifth failure, of which the crash is the first.
        ensure!(spawned <= 4, "{what}: {spawned} starts");
        starts.push(spawned.to_string());
        words.push(what);
        drop(_open);
        tool.mend()?;
        std::fs::create_dir_all(&folder)?;
        rig.cluster.restart_instance(0).await?;
        rig.ask(&format!("fine: {what}"))
            .await?
            .must_be("completed", "")?;
        rig.close().await?;
    }
    ensure!(said.len() == words.len(), "some say the same: {said:?}");
    Ok(Counted::new(format!(
        "5 different reasons, each with its cause ({}); {} processes began in vain; all answer again once mended",
        words.join(", "),
        starts.join(", ")
    )))
}

/// Makes the next start impossible, as long as what it gives is held.
fn spoil(what: &str, tool: &Tool, folder: &Path) -> Result<Option<File>> {
    match what {
        "missing" => std::fs::remove_file(&tool.file)?,
        "not executable" => tool.write(&tool.text, 0o644)?,
        "no interpreter" => tool.write("#!/no/such/interpreter\n", 0o755)?,
        "no folder" => std::fs::remove_dir(folder)?,
        _ => return Ok(Some(File::options().append(true).open(&tool.file)?)),
    }
    Ok(None)
}
