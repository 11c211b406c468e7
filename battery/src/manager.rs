//! A manager that may be killed: a program that keeps a journal, runs stand-ins and writes down what its callers are told.
//!
//! Owns one life of it, from opening the journal to the end of all prompts, or to wherever it is killed. Must not judge: who
//! kills it does, when the last life has ended well. Invariant: a line of the callers' ledger is one write, made after the
//! caller was told and before anything else, so what is in it was told.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toolpool::journal::Journal;
use toolpool::{AskError, ClusterManager, Isolation, Outcome, Submission, launch_cluster};
use toolpool_testkit::census::{Census, MARKER};

use crate::abort::{Abort, Point};
use crate::lab::Lab;
use crate::rig::in_time;

/// What one life is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Where the journal and the ledgers are; the same in each life.
    pub(crate) folder: PathBuf,
    /// The seed of all answers.
    pub(crate) seed: String,
    /// The prompts that callers offer, by number, each under a key of its own, so that one that is offered again is the same.
    pub(crate) prompts: Range<usize>,
    /// How many callers offer them.
    pub(crate) callers: usize,
    pub(crate) instances: usize,
    /// The stand-ins' rules.
    pub(crate) rules: Vec<String>,
    /// So many processes die with their first prompt unread.
    pub(crate) leave_unread: usize,
    /// Where it is to kill itself.
    pub(crate) abort: Option<Point>,
    /// Callers who are refused write that down and offer their next prompt; else it ends the life.
    pub(crate) persists: bool,
}

impl Orders {
    /// The journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join("journal.db")
    }

    /// What callers were told.
    pub(crate) fn told(&self) -> PathBuf {
        self.folder.join("told")
    }

    /// The text of a prompt, by which all accounts know it.
    pub(crate) fn prompt(number: usize) -> String {
        format!("prompt {number}")
    }
}

/// Lives one life in this process. It ends when every prompt has its end.
pub(crate) async fn live(orders: &Orders, marker: &str) -> Result<()> {
    let journal = Journal::open(orders.journal())?;
    let lab = Lab::at(&orders.folder, &orders.seed, Census::of(marker));
    let rules: Vec<&str> = orders.rules.iter().map(String::as_str).collect();
    let mut profile = lab.standin(&rules)?;
    if orders.leave_unread > 0 {
        lab.behind(&mut profile, &leaves_unread(orders.leave_unread));
    }
    let builder = launch_cluster(profile)
        .count(orders.instances)
        .cwd(&orders.folder)
        .isolation(Isolation::Shared)
        .restart_delay(Duration::from_millis(1), Duration::from_millis(10))
        .env(MARKER, marker);
    let builder = match orders.abort.clone() {
        Some(point) => builder.journal(Abort::new(journal, point, orders.folder.join("aborted"))),
        None => builder.journal(journal),
    };
    let cluster = in_time(builder.into_future()).await??;
    let told = Arc::new(Told::open(&orders.told())?);
    told.say(&json!({"said": "serving"}))?;
    let callers = (0..orders.callers).map(|caller| {
        let (cluster, told) = (cluster.clone(), Arc::clone(&told));
        let mine = orders.prompts.clone().skip(caller).step_by(orders.callers);
        let persists = orders.persists;
        tokio::spawn(async move {
            for number in mine {
                match offer(&cluster, &told, number).await {
                    Err(error) if persists && error.is::<AskError>() => told.say(&json!({
                        "said": "refused", "prompt": Orders::prompt(number), "why": error.to_string(),
                    }))?,
                    ended => ended?,
                }
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let report = in_time(cluster.shutdown()).await?;
    ensure!(report.books.balance(), "{:?}", report.books);
    Ok(())
}

/// What makes the first so many processes of all lives die as soon as there is something to read.
fn leaves_unread(processes: usize) -> String {
    format!(
        "n=1; while [ $n -le {processes} ]; do if mkdir unread$n 2>/dev/null; then \
         set -- \"$@\" --do 'on start await-input after ready' --do 'on start signal KILL after ready'; break; fi; \
         n=$((n + 1)); done"
    )
}

/// A caller that offers a prompt again until it hears its end.
async fn offer(cluster: &ClusterManager, told: &Told, number: usize) -> Result<()> {
    let prompt = Orders::prompt(number);
    let submission = Submission::text(prompt.as_str()).key(format!("key {number}"));
    let stream = in_time(cluster.stream(submission)).await??;
    let turn = stream.turn().0;
    told.say(&json!({"said": "accepted", "prompt": prompt, "turn": turn}))?;
    let reply = match in_time(stream.reply()).await? {
        Ok(reply) => reply,
        Err(AskError::Turn(reply)) => *reply,
        Err(error) => return Err(error.into()),
    };
    told.say(&json!({
        "said": "ended", "prompt": prompt, "turn": reply.turn.0,
        "outcome": reply.outcome.word(), "cause": cause(&reply.outcome), "text": reply.text,
    }))
}

/// The cause of a doubt, or the class of a failure.
pub(crate) fn cause(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Indeterminate(doubt) => doubt.cause.word(),
        Outcome::Failed(failure) => failure.class.word(),
        _ => "",
    }
}

/// The callers' ledger.
pub(crate) struct Told(File);

impl Told {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Ok(Self(file.context("cannot open the callers' ledger")?))
    }

    pub(crate) fn say(&self, line: &Value) -> Result<()> {
        let line = format!("{line}\n");
        let written = (&self.0).write(line.as_bytes())?;
        ensure!(written == line.len(), "a line was cut");
        Ok(())
    }
}
