//! A journal without a cluster, which is filled and pruned by a program that may be killed.
//!
//! Owns one life of that program, and what each prompt of it is, which follows from its number alone. Must not judge.
//! Invariant: a line that it says is written after what it tells of, so what is in it has happened.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use toolpool::journal::{Journal, Retention};
use toolpool::{Accepted, Dispatching, Outcome, Prompt, Record, Reply, Store, TurnId};

/// Prompts that are said to be kept at a time.
pub(crate) const STEP: u64 = 500;

/// Steps that are on their way to the disk at a time.
const AHEAD: usize = 4;

/// The prompts of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) journal: PathBuf,
    /// When the prompt with the number 0 would have ended. Each ends a second after the one before.
    pub(crate) since: SystemTime,
    /// Above this number some prompts are never given to a tool.
    pub(crate) queued_above: u64,
}

/// What a life is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Deed {
    /// To fill it up to this number, and to say how far it is: `kept N`. Then `closing`, and to close it: `closed`.
    Fill(u64),
    /// The same, and to leave so many prompts with tools and stay: `left`.
    Leave(u64, u64),
    /// To say `pruning`, to prune up to this number, and to say `pruned` with what is gone.
    Prune(u64),
}

impl Volume {
    pub(crate) fn prompt(turn: u64) -> String {
        format!(
            "Prompt {turn}: look at file {} and mend what is wrong in it",
            turn % 977
        )
    }

    pub(crate) fn reply(turn: u64) -> String {
        format!(
            "Reply {turn}: the loop in line {} was one too long; it is mended and has a test now",
            turn % 1009
        )
    }

    /// Whether it is never given to a tool.
    pub(crate) fn is_queued(&self, turn: u64) -> bool {
        turn > self.queued_above && turn % 500 == 250
    }

    fn ended(&self, turn: u64) -> SystemTime {
        self.since + Duration::from_secs(turn)
    }

    /// Puts what there is to say of a prompt: with a tool, and unless it stays there, its end.
    fn records(&self, turn: u64, stays: bool) -> Vec<Record> {
        let at = self.ended(turn);
        let id = TurnId(turn);
        let prompt = Accepted::new(id, "main", at, Prompt::text(Self::prompt(turn)));
        let mut records = vec![Record::Accepted(Box::new(Accepted {
            key: Some(format!("key {turn}")),
            ..prompt
        }))];
        if self.is_queued(turn) {
            return records;
        }
        records.push(Record::Dispatching(Dispatching {
            turn: id,
            attempt: 1,
            instance: "main/1".into(),
            tool: "standin".into(),
            generation: 1,
            at,
        }));
        if !stays {
            records.push(Record::Ended {
                reply: Box::new(Reply {
                    turn: id,
                    text: Self::reply(turn),
                    lossy: false,
                    outcome: Outcome::Completed,
                    attribution: None,
                    instance: Some("main/1".into()),
                    tool: Some("standin".into()),
                    generation: 1,
                    queued: Duration::ZERO,
                    took: Duration::from_millis(1500),
                    first_output: None,
                    usage: None,
                    landed: None,
                }),
                attempts: 1,
                at,
            });
        }
        records
    }

    /// Fills the journal from its next number on.
    fn fill(&self, journal: &Journal, until: u64, stays: bool) -> Result<()> {
        let (say, heard) = mpsc::channel();
        let mut ahead = 0;
        let hear = |most: usize, ahead: &mut usize| -> Result<()> {
            while *ahead > most {
                let (turn, kept): (u64, Result<(), _>) = heard.recv()?;
                kept?;
                *ahead -= 1;
                tell(&format!("kept {turn}"))?;
            }
            Ok(())
        };
        for turn in journal.next_turn().0..=until {
            let records = self.records(turn, stays);
            let last = records.len() - 1;
            for (place, record) in records.into_iter().enumerate() {
                let is_waited_for = place == last && (turn % STEP == 0 || turn == until);
                let say = say.clone();
                journal.put(
                    record,
                    is_waited_for.then(|| -> toolpool::Done {
                        Box::new(move |kept| drop(say.send((turn, kept))))
                    }),
                );
                ahead += usize::from(is_waited_for);
            }
            hear(AHEAD, &mut ahead)?;
        }
        hear(0, &mut ahead)
    }

    /// Lives one life in this process. At its end it stays until it is killed or its standard input ends.
    pub(crate) fn live(&self, deed: &Deed) -> Result<()> {
        let journal = Journal::open(&self.journal)?;
        match deed {
            Deed::Fill(until) => {
                self.fill(&journal, *until, false)?;
                tell("closing")?;
                drop(journal);
                tell("closed")?;
                stay()
            }
            Deed::Leave(until, running) => {
                self.fill(&journal, *until, false)?;
                self.fill(&journal, until + running, true)?;
                tell("left")?;
                stay()
            }
            Deed::Prune(until) => {
                let cutoff = self.ended(*until) + Duration::from_millis(500);
                tell("pruning")?;
                let pruned = journal.prune(&Retention {
                    older_than: Some(SystemTime::now().duration_since(cutoff)?),
                    keep_bytes: None,
                })?;
                tell(&format!("pruned {}", pruned.prompts))?;
                stay()
            }
        }
    }
}

fn tell(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("nobody hears it")
}

fn stay() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
