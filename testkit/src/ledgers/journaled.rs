//! What the journal of one cluster has, beside what everybody else says.
//!
//! Owns what must hold between its rows and the other accounts. Must not know the file: the rows are given. Invariant: the
//! rows are those of one cluster alone, from its launch to its end.

use std::collections::HashMap;

use super::sources::Facts;
use super::{Kept, Ledgers, Told, sha256};

impl Ledgers {
    /// Each prompt that was accepted has one row and one end there, which is the one that its caller was told; no other has.
    pub(super) fn check_journal(&self, facts: &Facts<'_>, wrong: &mut Vec<String>) {
        let Some(kept) = &self.kept else { return };
        let mut rows = HashMap::new();
        for row in kept {
            if rows.insert(row.turn, row).is_some() {
                wrong.push(format!("the journal has t{} twice", row.turn));
            }
            if !facts.accepted.contains(&row.turn) {
                wrong.push(format!(
                    "the journal has t{}, and no event tells that it was accepted",
                    row.turn
                ));
            }
            let told = facts.ended.get(&row.turn).copied();
            if row.outcome.as_deref() != told {
                wrong.push(format!(
                    "t{} ended as {} in the journal, and the events tell {}",
                    row.turn,
                    row.outcome.as_deref().unwrap_or("nothing"),
                    told.unwrap_or("no end")
                ));
            }
        }
        for told in &self.told {
            let Some(turn) = told.turn else { continue };
            match rows.get(&turn) {
                Some(row) => check_row(row, told, wrong),
                None => wrong.push(format!(
                    "the journal does not have t{turn}, which was accepted"
                )),
            }
        }
        self.check_attempts(kept, wrong);
    }

    /// No prompt was read more often than it was given to a tool; the same text may be offered more than once.
    fn check_attempts(&self, kept: &[Kept], wrong: &mut Vec<String>) {
        let mut attempts: HashMap<String, u64> = HashMap::new();
        for row in kept {
            *attempts
                .entry(sha256(&[row.prompt.as_bytes()]))
                .or_default() += u64::from(row.attempts);
        }
        let mut reads: HashMap<&str, u64> = HashMap::new();
        for read in &self.reads {
            *reads.entry(&read.sha256).or_default() += 1;
        }
        for (hash, count) in reads {
            let given = attempts.get(hash).copied().unwrap_or_default();
            if count > given {
                wrong.push(format!(
                    "{count} × read what the journal has as given to a tool {given} × (SHA-256 {hash})"
                ));
            }
        }
    }
}

/// The row says what the caller was told.
fn check_row(row: &Kept, told: &Told, wrong: &mut Vec<String>) {
    let turn = row.turn;
    if row.prompt != told.prompt {
        wrong.push(format!("t{turn} is another prompt in the journal"));
    }
    // Who went away heard no end.
    let Some(outcome) = &told.outcome else { return };
    if row.outcome.as_ref() != Some(outcome) || row.cause != told.cause {
        wrong.push(format!(
            "the caller of t{turn} was told {outcome} ({}), and the journal has {} ({})",
            told.cause,
            row.outcome.as_deref().unwrap_or("no end"),
            row.cause
        ));
    } else if row.text != told.text {
        wrong.push(format!(
            "the caller of t{turn} was told another text than the journal has"
        ));
    }
}
