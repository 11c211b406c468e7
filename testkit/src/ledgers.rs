//! Five accounts of one run, six with a journal, and the one checker that reconciles them.
//!
//! The tools write down what they read, the clients what they were told, the cluster what happened, the exporter what it
//! counts, the journal what is to outlive all of it; the operating system knows what is left. Owns what must hold between them. Must not know any other crate of the
//! workspace: events come as the JSON that they are on the wire, metrics as the exporter's text. Invariant: each account is
//! taken for itself, and none is believed because another one says the same.

mod closing;
mod journaled;
mod lives;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

pub use closing::Closing;
pub use lives::{Kept, Lives, Survived};
use sources::{Facts, counted};
pub use sources::{Read, reads};

use crate::hash::push_sha256;

/// What a caller was told about one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The prompt, as it was offered.
    pub prompt: String,
    /// The number of its turn; None if it was refused.
    pub turn: Option<u64>,
    /// The outcome's word; None if the caller went away before.
    pub outcome: Option<String>,
    /// The class of a failure, the cause of a doubt; empty otherwise.
    pub cause: String,
    /// The reply's text, or what there is of it.
    pub text: String,
    /// What a completed reply must be.
    pub answer: Answer,
}

/// What a completed reply must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The SHA-256 of the seed and the prompt, and nothing else.
    Formula,
    /// That, once, with noise around it that the script has ordered.
    Around,
    /// This text: the script has ordered it.
    Given(String),
}

/// The accounts of one cluster, from its launch to its end.
#[derive(Clone, Debug, Default)]
pub struct Ledgers {
    /// What the stand-ins were given as `--seed`.
    pub seed: String,
    /// The tools' own ledger.
    pub reads: Vec<Read>,
    /// The clients' ledger.
    pub told: Vec<Told>,
    /// The cluster's events, all of them.
    pub events: Vec<Value>,
    /// The exporter's text before the launch.
    pub before: String,
    /// And after the end.
    pub after: String,
    /// The journal after the end, if there was one for this cluster alone.
    pub kept: Option<Vec<Kept>>,
}

/// The sums on which all accounts agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Prompts that clients offered.
    pub offered: u64,
    /// Of these, refused at the door.
    pub refused: u64,
    /// Taken into the books.
    pub accepted: u64,
    /// How the accepted ones ended, by the outcome's word.
    pub ended: BTreeMap<String, u64>,
    /// Prompts that tools read.
    pub reads: u64,
    /// Processes that were started.
    pub spawned: u64,
}

/// The five outcomes that an accepted prompt can have.
const OUTCOMES: [&str; 5] = [
    "completed",
    "failed",
    "cancelled",
    "expired",
    "indeterminate",
];

impl Sums {
    /// How many accepted prompts ended so.
    pub fn of(&self, outcome: &str) -> u64 {
        self.ended.get(outcome).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} offered", self.offered)?;
        if self.refused > 0 {
            write!(f, ", {} refused", self.refused)?;
        }
        for outcome in OUTCOMES {
            if self.of(outcome) > 0 {
                write!(f, ", {} {outcome}", self.of(outcome))?;
            }
        }
        write!(f, ", {} read", self.reads)
    }
}

impl Ledgers {
    /// Reconciles the accounts. They are those of a cluster that has stopped, so nothing is queued or runs any more.
    ///
    /// # Errors
    /// Every disagreement, each as a sentence.
    pub fn reconcile(&self) -> Result<Sums, Vec<String>> {
        let mut wrong = Vec::new();
        let facts = Facts::of(&self.events, &mut wrong);
        let sums = Sums {
            offered: self.told.len() as u64,
            refused: self.told.iter().filter(|told| told.turn.is_none()).count() as u64,
            accepted: facts.accepted.len() as u64,
            ended: facts.sums(),
            reads: self.reads.len() as u64,
            spawned: facts.spawned.len() as u64,
        };
        if sums.offered != sums.accepted + sums.refused {
            wrong.push(format!(
                "{} prompts were offered, and {} accepted and {} refused",
                sums.offered, sums.accepted, sums.refused
            ));
        }
        if sums.accepted != sums.ended.values().sum::<u64>() {
            wrong.push(format!(
                "{} prompts were accepted, and they ended as {:?}",
                sums.accepted, sums.ended
            ));
        }
        self.check_clients(&facts, &mut wrong);
        self.check_answers(&mut wrong);
        self.check_reads(&facts, &mut wrong);
        self.check_metrics(&facts, &mut wrong);
        self.check_journal(&facts, &mut wrong);
        if wrong.is_empty() {
            Ok(sums)
        } else {
            Err(wrong)
        }
    }

    /// What clients were told is what happened.
    fn check_clients(&self, facts: &Facts<'_>, wrong: &mut Vec<String>) {
        let mut heard = HashMap::new();
        for told in &self.told {
            let Some(turn) = told.turn else { continue };
            if heard.insert(turn, told).is_some() {
                wrong.push(format!("two prompts were told to be t{turn}"));
            }
            if !facts.accepted.contains(&turn) {
                wrong.push(format!("no event tells that t{turn} was accepted"));
            }
            if let Some(outcome) = &told.outcome
                && facts.ended.get(&turn).is_none_or(|ended| ended != outcome)
            {
                wrong.push(format!(
                    "the caller of t{turn} was told {outcome}, and the events tell {}",
                    facts.ended.get(&turn).copied().unwrap_or("no end")
                ));
            }
        }
        for turn in &facts.accepted {
            if !heard.contains_key(turn) {
                wrong.push(format!("nobody offered t{turn}, which was accepted"));
            }
        }
        let refused = self.told.iter().filter(|told| told.turn.is_none()).count() as u64;
        if refused != facts.refused {
            wrong.push(format!(
                "{refused} callers were refused, and the events tell of {}",
                facts.refused
            ));
        }
    }

    /// A completed reply is the answer to its own prompt: whole, once, and no other's.
    fn check_answers(&self, wrong: &mut Vec<String>) {
        for told in &self.told {
            if told.outcome.as_deref() != Some("completed") {
                continue;
            }
            let hash = sha256(&[self.seed.as_bytes(), told.prompt.as_bytes()]);
            let is_right = match &told.answer {
                Answer::Formula => told.text == hash,
                Answer::Around => told.text.matches(&hash).count() == 1,
                Answer::Given(text) => told.text == *text,
            };
            if !is_right {
                wrong.push(format!(
                    "t{} ({}) completed with {}, which is not its answer",
                    told.turn.unwrap_or_default(),
                    shown(&told.prompt),
                    shown(&told.text)
                ));
            }
        }
    }

    /// A prompt is read once if it completed, at most once if it was accepted, and never if it was refused or expired.
    fn check_reads(&self, facts: &Facts<'_>, wrong: &mut Vec<String>) {
        // The same text may be offered more than once.
        let mut bounds: HashMap<String, (u64, u64, &str)> = HashMap::new();
        for told in &self.told {
            let ended = told.turn.and_then(|turn| facts.ended.get(&turn).copied());
            let (least, most) = match ended {
                None | Some("expired") => (0, 0),
                Some("completed") => (1, 1),
                Some(_) => (0, 1),
            };
            let hash = sha256(&[told.prompt.as_bytes()]);
            let bound = bounds.entry(hash).or_insert((0, 0, &told.prompt));
            *bound = (bound.0 + least, bound.1 + most, bound.2);
        }
        let mut times: HashMap<&str, u64> = HashMap::new();
        let mut turns: HashMap<u32, u64> = HashMap::new();
        for read in &self.reads {
            *times.entry(&read.sha256).or_default() += 1;
            let turn = turns.entry(read.pid).or_default();
            *turn += 1;
            if read.turn != *turn {
                wrong.push(format!(
                    "process {} wrote down turn {} as its {turn}. prompt",
                    read.pid, read.turn
                ));
            }
            if !facts.pids.contains(&u64::from(read.pid)) {
                wrong.push(format!(
                    "process {} read a prompt, and no event tells of it",
                    read.pid
                ));
            }
        }
        for (hash, count) in &times {
            if !bounds.contains_key(*hash) {
                wrong.push(format!(
                    "{count} × read what nobody offered (SHA-256 {hash})"
                ));
            }
        }
        for (hash, (least, most, prompt)) in &bounds {
            let count = times.get(hash.as_str()).copied().unwrap_or_default();
            if !(*least..=*most).contains(&count) {
                wrong.push(format!(
                    "{} was read {count} ×, and {least} to {most} × is right",
                    shown(prompt)
                ));
            }
        }
    }

    /// The metrics count what the events tell.
    fn check_metrics(&self, facts: &Facts<'_>, wrong: &mut Vec<String>) {
        let grown = |family: &str, label: &str| {
            counted(&self.after, family, label) - counted(&self.before, family, label)
        };
        let sums = facts.sums();
        let mut compare = |what: &str, metric: f64, events: u64| {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            if (metric - events as f64).abs() > f64::EPSILON {
                wrong.push(format!(
                    "the metrics count {metric} {what}, and the events {events}"
                ));
            }
        };
        for outcome in OUTCOMES {
            let events = sums.get(outcome).copied().unwrap_or_default();
            let label = format!("outcome=\"{outcome}\"");
            compare(
                &format!("{outcome} turns"),
                grown("toolpool_turns_total", &label),
                events,
            );
        }
        compare(
            "refusals",
            grown("toolpool_rejected_total", ""),
            facts.refused,
        );
        let exits = facts.exited.len() as u64;
        compare("exits", grown("toolpool_instance_exits_total", ""), exits);
    }
}

/// What the stand-in answers with `--reply sha256`, and what it writes into its ledger with an empty seed.
pub fn answer_to(seed: &str, prompt: &str) -> String {
    sha256(&[seed.as_bytes(), prompt.as_bytes()])
}

fn sha256(parts: &[&[u8]]) -> String {
    let mut out = Vec::with_capacity(64);
    push_sha256(parts, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A text, short enough for a line.
fn shown(text: &str) -> String {
    let head: String = text.chars().take(80).collect();
    let more = text.len() - head.len();
    match more {
        0 => format!("{head:?}"),
        more => format!("{head:?} and {more} bytes more"),
    }
}
