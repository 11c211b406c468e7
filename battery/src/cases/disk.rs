//! A disk that says that it has not written what it was to.
//!
//! Owns how syncs of a manager's journal are made to fail: `strace` answers them in the system's stead. What is lost is
//! nothing, so that what goes on after such an answer, trusting the next one, is seen by that alone.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use toolpool::journal::Journal;
use toolpool_testkit::census::MARKER;

use super::killed::{begin_by, live_on, orders, reconcile, until_gone};
use crate::case::{CannotBe, Case, Counted};
use crate::lab::{Lab, program};
use crate::manager::Orders;
use crate::rig::in_time;

pub(super) const CASES: &[Case] = &[Case {
    number: 68,
    tier: 1,
    name: "a disk that fails",
    injects: "EIO for each sync of making a journal in turn; then, with 4 callers at work, for a commit or for bringing the log in, once and for ever",
    alone: false,
    run: |lab| Box::pin(failing_syncs(lab)),
}];

/// A file of which syncs fail.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// The journal's main file, into which its log is brought.
    Main,
    /// Its log, which each commit syncs.
    Log,
    /// What a journal has in its log's stead while it is made.
    Undo,
    /// The folder with their names.
    Folder,
}

/// Which syncs fail. Each thread counts those of its own.
#[derive(Clone, Copy, Debug)]
struct Fault {
    of: Of,
    nth: u32,
    for_ever: bool,
}

impl Fault {
    /// The manager, with what answers its syncs.
    fn program(self, orders: &Orders) -> Result<Command> {
        let name = match self.of {
            Of::Main => "journal.db",
            Of::Log => "journal.db-wal",
            Of::Undo => "journal.db-journal",
            Of::Folder => "",
        };
        let file = fs::canonicalize(&orders.folder)?.join(name);
        let more = if self.for_ever { "+" } else { "" };
        let when = format!("inject=fsync,fdatasync:error=EIO:when={}{more}", self.nth);
        let mut command = Command::new("strace");
        command
            .args(["-f", "-y", "--seccomp-bpf", "-qq", "-e", "signal=none"])
            .args(["-e", "trace=fsync,fdatasync", "-e", &when])
            .arg("-P")
            .arg(file)
            .arg("-o")
            .arg(orders.folder.join("syncs"))
            .arg("--")
            .arg(program()?);
        Ok(command)
    }
}

/// Whether syncs can be made to fail here.
async fn see_that_it_can_be() -> Result<()> {
    let mut command = Command::new("strace");
    command
        .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"])
        .args(["-e", "inject=fsync:error=EIO", "--", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let why = match in_time(command.output()).await? {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', ", "),
        Err(error) => error.to_string(),
    };
    Err(CannotBe(format!(
        "syncs are made to fail by strace, and it cannot: {why}"
    ))
    .into())
}

/// What became of a life.
struct Life {
    went_well: bool,
    complaint: String,
    told: Vec<Value>,
    /// The syncs: which thread, of which file, and whether it was answered with an error.
    syncs: Vec<(String, String, bool)>,
}

/// Lives one life with a fault. Nothing of it is left.
async fn live(lab: &Lab, orders: &Orders, fault: Fault) -> Result<Life> {
    let mut command = fault.program(orders)?;
    // Whoever would kill this life would kill strace alone.
    command.env(MARKER, lab.census().marker());
    let output = in_time(begin_by(command, lab, orders)?.wait_with_output()).await??;
    until_gone(lab).await?;
    let told = fs::read_to_string(orders.told()).unwrap_or_default();
    let told: Result<Vec<Value>, _> = told.lines().map(serde_json::from_str).collect();
    let syncs = fs::read_to_string(orders.folder.join("syncs"))?;
    Ok(Life {
        went_well: output.status.success(),
        complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
        told: told?,
        syncs: syncs.lines().filter_map(sync).collect(),
    })
}

/// A line such as `12 fsync(11</tmp/journal.db>) = -1 EIO (Input/output error) (INJECTED)`.
fn sync(line: &str) -> Option<(String, String, bool)> {
    let (thread, call) = line.split_once(' ')?;
    let (_, file) = call.split_once('<')?;
    let (file, result) = file.split_once(">)")?;
    Some((
        thread.to_owned(),
        file.to_owned(),
        result.contains("INJECTED"),
    ))
}

impl Life {
    fn said(&self, word: &str) -> impl Iterator<Item = &Value> {
        self.told.iter().filter(move |line| line["said"] == word)
    }

    /// What somebody is told of a disk that fails has all that is needed to do something about it.
    fn check_words(words: &str, journal: &Path) -> Result<()> {
        let journal = journal.display().to_string();
        for wanted in [journal.as_str(), "cannot be synced", "disk"] {
            ensure!(words.contains(wanted), "nobody says {wanted:?}: {words}");
        }
        Ok(())
    }

    /// Nobody trusts a sync after one that failed: not the thread that asked for it, and no other for longer than it takes
    /// to hear of that.
    fn check_syncs(&self) -> Result<()> {
        let failed = self.syncs.iter().position(|(.., is_error)| *is_error);
        let failed = failed.context("no sync has failed")?;
        let (thread, file, _) = &self.syncs[failed];
        let after = &self.syncs[failed + 1..];
        let own = after.iter().filter(|(it, ..)| it == thread).count();
        ensure!(
            own == 0,
            "after {file} had failed, {own} more syncs were asked for"
        );
        // Bringing the log in takes two.
        ensure!(after.len() <= 2, "others went on: {after:?}");
        Ok(())
    }
}

async fn failing_syncs(lab: &Lab) -> Result<Counted> {
    see_that_it_can_be().await?;
    let in_making = making(lab).await?;
    let mut refused = 0;
    for (of, nth) in [(Of::Log, 10), (Of::Main, 1)] {
        for for_ever in [false, true] {
            let fault = Fault { of, nth, for_ever };
            let at_work = working(lab, fault).await;
            refused += at_work.with_context(|| format!("{fault:?}"))?;
        }
    }
    Ok(Counted::new(
        "whoever makes a journal is told at each of its syncs, and the next one makes it; nobody at work trusts a sync after one \
         that failed, all that is offered then is refused by name of the journal and the cause, and 0 processes are left; each \
         prompt that a caller was told is accepted is in the journal with one end after the next life; 0 read twice, 0 told \
         otherwise than recorded",
    )
    .figure("syncs of making a journal", in_making)
    .figure("prompts refused after a failure", refused))
}

/// Fails each sync of making a journal in turn, by the file that is meant, and gives how many there are.
async fn making(lab: &Lab) -> Result<usize> {
    let mut count = 0;
    for of in [Of::Log, Of::Undo, Of::Main] {
        for nth in 1.. {
            let for_ever = nth % 2 == 0;
            let fault = Fault { of, nth, for_ever };
            let refused = is_refused(lab, fault).await;
            if !refused.with_context(|| format!("{fault:?}"))? {
                break;
            }
            count += 1;
        }
    }
    // SQLite goes on without the folder's names.
    let folder = Fault {
        of: Of::Folder,
        nth: 1,
        for_ever: true,
    };
    ensure!(
        is_refused(lab, folder).await?,
        "the names of the files are not durable, and it went on"
    );
    Ok(count + 1)
}

/// Makes a journal with a fault and says whether that is refused, which it must be if one of its syncs was answered so.
async fn is_refused(lab: &Lab, fault: Fault) -> Result<bool> {
    let folder = tempfile::tempdir_in(lab.folder())?;
    let orders = Orders {
        instances: 1,
        ..few(lab, folder.path())
    };
    let life = live(lab, &orders, fault).await?;
    let opener = life.syncs.first().map(|(thread, ..)| thread);
    let mut failed = life.syncs.iter().filter(|(.., is_error)| *is_error);
    if life.said("serving").next().is_some() {
        ensure!(
            failed.all(|(thread, ..)| Some(thread) != opener),
            "it serves though a sync of making it failed: {:?}",
            life.syncs
        );
        return Ok(false);
    }
    ensure!(
        !life.went_well && failed.next().is_some(),
        "it has not made it, and no sync failed"
    );
    let complaint = life.complaint;
    let place = fs::canonicalize(folder.path())?.display().to_string();
    let says_why = ["Look at the disk", "Input/output error"]
        .iter()
        .any(|why| complaint.contains(why));
    ensure!(complaint.contains(&place) && says_why, "{complaint}");
    drop(Journal::open(orders.journal()).context("the next one cannot make it")?);
    Ok(true)
}

fn few(lab: &Lab, folder: &Path) -> Orders {
    Orders {
        callers: 4,
        instances: 4,
        prompts: 0..4,
        persists: true,
        ..orders(lab, folder)
    }
}

/// Fails syncs of a cluster at work, and gives how many prompts were refused.
async fn working(lab: &Lab, fault: Fault) -> Result<usize> {
    let folder = tempfile::tempdir_in(lab.folder())?;
    let mut orders = Orders {
        prompts: 0..80,
        // Long enough that the log is brought in meanwhile, for which commits are gathered for a quarter of a second.
        rules: vec!["on every 1 delay 50ms".to_owned()],
        ..few(lab, folder.path())
    };
    // Syncs of making it are no part of this.
    drop(Journal::open(orders.journal())?);
    let life = live(lab, &orders, fault).await?;
    ensure!(life.went_well, "it ended with an error: {}", life.complaint);
    life.check_syncs()?;
    let refused: Vec<&Value> = life.said("refused").collect();
    for caller in 0..orders.callers {
        let last = orders.prompts.end - orders.callers + caller;
        let last = Orders::prompt(last);
        ensure!(
            refused.iter().any(|line| line["prompt"] == last),
            "{last:?} was accepted, long after the failure"
        );
    }
    for line in &refused {
        Life::check_words(line["why"].as_str().unwrap_or_default(), &orders.journal())?;
    }
    let count = refused.len();
    orders.rules.clear();
    live_on(lab, &orders).await?;
    reconcile(lab, &orders)?;
    Ok(count)
}
