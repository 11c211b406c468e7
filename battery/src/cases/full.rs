//! A journal whose disk is full.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use toolpool::InstanceState;
use toolpool::journal::{History, Journal, JournalError};
use toolpool_testkit::ledgers::Answer;

use super::load::{go_on, hold};
use crate::case::{Case, Counted};
use crate::lab::Lab;
use crate::mounts;
use crate::rig::{Asked, Rig, in_time};

pub(super) const CASES: &[Case] = &[Case {
    number: 67,
    tier: 1,
    name: "a full disk",
    injects: "the journal of 16 instances on a disk of 24 MiB, which another file and prompts of 20 kB fill in the middle of 16 turns; then space again",
    alone: false,
    run: |lab| Box::pin(full_disk(lab)),
}];

const INSTANCES: usize = 16;

/// What the disk holds, as `mount` is told.
const DISK: &str = "24m";

/// What the journal sets aside; see `docs/journal.md`.
const RESERVE: u64 = 4 << 20;

/// What the other file leaves to the prompts.
const LEFT: u64 = 2 << 20;

/// The text of each prompt that fills the disk.
const LARGE: usize = 20_000;

/// Prompts that are offered while it is full.
const REFUSED: usize = 50;

async fn full_disk(lab: &Lab) -> Result<Counted> {
    match mounts::here() {
        Some(disk) => on_a_small_disk(lab, &disk).await,
        None => {
            let mount = format!("mount -t tmpfs -o size={DISK} tmpfs \"$1\"");
            mounts::again(lab, 67, &mount).await
        }
    }
}

async fn on_a_small_disk(lab: &Lab, disk: &Path) -> Result<Counted> {
    let path = disk.join("journal.db");
    let journal = Journal::open(&path)?;
    let rig = lab
        // With the first half of its answer told it stops.
        .launch(
            lab.standin(&["on prompt ~stop stream 32B 1ms", "on prompt ~stop byte 32 signal STOP"])?,
            INSTANCES,
            |builder| builder.journal(journal),
        )
        .await?
        .with_journal(path.clone());
    let mut running = Vec::new();
    for instance in 0..INSTANCES {
        let mut held = hold(&rig, instance).await?;
        held.stream.chunk().await.context("half an answer")?;
        running.push(held);
    }
    let mut ballast = Ballast::on(disk)?;
    ballast.fill()?;
    ballast.shrink(LEFT)?;
    let queued = until_it_is_full(&rig).await?;
    ensure!(!queued.is_empty(), "the first one was refused");
    let reserve = disk.join("journal.db.reserve");
    ensure!(!reserve.exists(), "its reserve was not given up");
    // Somebody else takes some of what the journal has set aside and gives up now.
    ballast.grow(RESERVE / 4)?;
    are_refused(&rig, "while 16 turns run").await?;
    let kept = queued.len();
    for (instance, held) in running.into_iter().enumerate() {
        go_on(&rig, instance, held).await?;
    }
    for asked in queued {
        asked.end().await?.must_be("completed", "")?;
    }
    are_refused(&rig, "when all have ended").await?;
    ballast.remove()?;
    for instance in 0..INSTANCES {
        let prompt = format!("with space again on {instance}");
        rig.ask_on(instance, &prompt)
            .await?
            .must_be("completed", "")?;
    }
    let states = in_time(rig.cluster.status()).await??.instances;
    let same = states
        .iter()
        .all(|instance| instance.state == InstanceState::Ready && instance.generation == 1);
    ensure!(same, "an instance has suffered: {states:?}");
    let sums = rig.close().await?;
    is_whole(&path, sums.accepted).await?;
    let set_aside = std::fs::metadata(reserve)?.len();
    ensure!(set_aside == RESERVE, "{set_aside} bytes are set aside");
    Ok(Counted::new(format!(
        "{INSTANCES} turns that were running and all prompts that were accepted completed, and their callers heard it while the disk was full; {} of {} offered then were refused (journal_full); {INSTANCES} of {INSTANCES} with space again; 0 accepted prompts lost, the journal is whole, and its reserve is set aside again",
        2 * REFUSED, 2 * REFUSED
    ))
    .figure("prompts that were accepted before the disk was full", kept))
}

/// Offers prompts that take space until one is refused for that. Those before it are queued: all instances are busy.
async fn until_it_is_full(rig: &Rig) -> Result<Vec<Asked>> {
    let mut queued = Vec::new();
    for number in 0..1000 {
        let prompt = format!("large {number} {}", "x".repeat(LARGE));
        match rig.begin(&prompt, Answer::Formula, |wish| wish).await? {
            Ok(asked) => queued.push(asked),
            Err(said) => {
                said.must_be("refused", "journal_full")?;
                return Ok(queued);
            }
        }
    }
    anyhow::bail!("the disk is never full")
}

async fn are_refused(rig: &Rig, when: &str) -> Result<()> {
    for number in 0..REFUSED {
        let said = rig.ask(&format!("{when} {number}")).await?;
        let said = said.must_be("refused", "journal_full")?;
        ensure!(
            said.detail.contains("Free some"),
            "it says {:?}",
            said.detail
        );
    }
    Ok(())
}

/// Opens it as the next owner would; the last one lets go of it when all its handles are gone.
async fn is_whole(path: &Path, accepted: u64) -> Result<()> {
    let opened = in_time(async {
        loop {
            match Journal::open(path) {
                Err(JournalError::InUse { .. }) => tokio::task::yield_now().await,
                opened => return opened,
            }
        }
    })
    .await??;
    let recovered = opened.recovered();
    ensure!(
        recovered.closed_in_order && recovered.queued == 0 && recovered.indeterminate.is_empty(),
        "{recovered:?}"
    );
    drop(opened);
    let history = History::open(path)?;
    history.check()?;
    let found = history.find(&toolpool::journal::Query::default())?.len() as u64;
    ensure!(
        found == accepted,
        "{found} prompts, and {accepted} were accepted"
    );
    Ok(())
}

/// Another file on the same disk.
struct Ballast(File, std::path::PathBuf);

impl Ballast {
    fn on(disk: &Path) -> Result<Self> {
        let path = disk.join("ballast");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Self(file, path))
    }

    fn grow(&mut self, bytes: u64) -> Result<()> {
        let page = [0; 4096];
        for _ in 0..bytes / page.len() as u64 {
            self.0.write_all(&page)?;
        }
        Ok(())
    }

    /// Takes all that is left.
    fn fill(&mut self) -> Result<()> {
        loop {
            match self.0.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn shrink(&mut self, bytes: u64) -> Result<()> {
        let length = self.0.metadata()?.len();
        Ok(self.0.set_len(length - bytes)?)
    }

    fn remove(self) -> Result<()> {
        drop(self.0);
        Ok(std::fs::remove_file(self.1)?)
    }
}
