//! The accounts as they are written: a ledger's lines, events on the wire, the exporter's text.
//!
//! Owns how each is read. Must not compare them. Invariant: what cannot be read is said, never left out.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

/// A line of the tools' ledger: one prompt that a tool has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The tool's process id.
    pub pid: u32,
    /// What it was told to be its generation; 0 if nothing.
    pub generation: u64,
    /// Counts the prompts that this process has read, from 1.
    pub turn: u64,
    /// The prompt's SHA-256.
    pub sha256: String,
    /// When, on the monotonic clock.
    pub monotonic_ns: u64,
}

/// Reads the text of a ledger.
///
/// # Errors
/// The first line that is none.
pub fn reads(text: &str) -> Result<Vec<Read>, String> {
    let read = |line: &str| {
        let [pid, generation, turn, sha256, ns] =
            line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        Some(Read {
            pid: pid.parse().ok()?,
            generation: generation.parse().ok()?,
            turn: turn.parse().ok()?,
            sha256: sha256.to_owned(),
            monotonic_ns: ns.parse().ok()?,
        })
    };
    text.lines()
        .map(|line| read(line).ok_or_else(|| format!("no line of a ledger: {line:?}")))
        .collect()
}

/// What the events tell.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) accepted: HashSet<u64>,
    pub(super) refused: u64,
    /// The outcome's word by turn.
    pub(super) ended: BTreeMap<u64, &'a str>,
    /// Instance and generation.
    pub(super) spawned: HashSet<(&'a str, u64)>,
    pub(super) exited: HashSet<(&'a str, u64)>,
    pub(super) pids: HashSet<u64>,
}

impl<'a> Facts<'a> {
    /// Reads the events, which are to be all of a cluster that has stopped.
    pub(super) fn of(events: &'a [Value], wrong: &mut Vec<String>) -> Self {
        let mut facts = Self::default();
        for (place, event) in events.iter().enumerate() {
            if event["seq"].as_u64() != Some(place as u64 + 1) {
                wrong.push(format!(
                    "event {} has the number {}",
                    place + 1,
                    event["seq"]
                ));
            }
            facts.take(event, wrong);
        }
        for process in &facts.spawned {
            if !facts.exited.contains(process) {
                wrong.push(format!("{} #{} never ended", process.0, process.1));
            }
        }
        let stopped = |event: &Value| event["type"] == "cluster_stopped";
        if !events.is_empty() && !events.last().is_some_and(stopped) {
            wrong.push("the events do not end with the cluster's".to_owned());
        }
        facts
    }

    fn take(&mut self, event: &'a Value, wrong: &mut Vec<String>) {
        let turn = event["turn"].as_u64().unwrap_or_default();
        let instance = event["instance"].as_str().unwrap_or_default();
        let process = (instance, event["generation"].as_u64().unwrap_or_default());
        let (is_first, again) = match event["type"].as_str() {
            Some("prompt_accepted") => (
                self.accepted.insert(turn),
                format!("t{turn} was accepted twice"),
            ),
            Some("turn_ended") => {
                let outcome = event["outcome"].as_str().unwrap_or_default();
                if !self.accepted.contains(&turn) {
                    wrong.push(format!("t{turn} ended and was not accepted before"));
                }
                let before = self.ended.insert(turn, outcome);
                (before.is_none(), format!("t{turn} ended twice"))
            }
            Some("instance_spawned") => {
                self.pids.extend(event["pid"].as_u64());
                (
                    self.spawned.insert(process),
                    format!("{} #{} was started twice", process.0, process.1),
                )
            }
            Some("instance_exited") => (
                self.exited.insert(process),
                format!("{} #{} ended twice", process.0, process.1),
            ),
            Some("prompt_refused") => {
                self.refused += 1;
                return;
            }
            _ => return,
        };
        if !is_first {
            wrong.push(again);
        }
    }

    /// How many turns ended how.
    pub(super) fn sums(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for outcome in self.ended.values() {
            *sums.entry((*outcome).to_owned()).or_default() += 1;
        }
        sums
    }
}

/// The sum of a family's series that carry a label such as `outcome="failed"`; of all, if it is empty.
pub(super) fn counted(text: &str, family: &str, label: &str) -> f64 {
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(family)?;
        let of_family = labels.is_empty() || labels.starts_with('{');
        (of_family && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}
