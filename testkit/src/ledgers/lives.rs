//! The accounts of all lives of a program that was killed, started again on the same journal and killed again.
//!
//! Owns what must hold between what callers were told in any life, what tools read in any life, and what the journal has
//! after the last one, which ended well. Must not know the journal: its rows are given. Invariant: prompts are told apart
//! by their text, so no two that are offered are alike.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{Read, sha256, shown};

/// A prompt as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub turn: u64,
    /// Its text.
    pub prompt: String,
    /// The outcome's word; None if it has no end.
    pub outcome: Option<String>,
    /// The cause of a doubt, the class of a failure; empty otherwise.
    pub cause: String,
    /// The reply.
    pub text: String,
    /// How often it was given to a tool.
    pub attempts: u32,
}

/// The accounts of all lives.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    /// What the stand-ins were given as `--seed`.
    pub seed: String,
    /// The tools' own ledger.
    pub reads: Vec<Read>,
    /// What callers were told, each as an object: `prompt`, `turn`, `said` (`accepted` or `ended`), and for an end
    /// `outcome`, `cause` and `text`.
    pub told: Vec<Value>,
    /// The journal after the last life.
    pub kept: Vec<Kept>,
}

/// What all accounts agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Prompts in the journal.
    pub kept: u64,
    /// How they ended, by the outcome's word.
    pub ended: BTreeMap<String, u64>,
    /// Prompts that tools read.
    pub reads: u64,
}

impl Lives {
    /// Reconciles the accounts.
    ///
    /// # Errors
    /// Every disagreement, each as a sentence.
    pub fn reconcile(&self) -> Result<Survived, Vec<String>> {
        let mut wrong = Vec::new();
        let by_turn = self.by_turn(&mut wrong);
        self.check_told(&by_turn, &mut wrong);
        self.check_ends(&mut wrong);
        self.check_reads(&mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut survived = Survived {
            kept: self.kept.len() as u64,
            reads: self.reads.len() as u64,
            ..Survived::default()
        };
        for outcome in self.kept.iter().filter_map(|kept| kept.outcome.clone()) {
            *survived.ended.entry(outcome).or_default() += 1;
        }
        Ok(survived)
    }

    fn by_turn(&self, wrong: &mut Vec<String>) -> HashMap<u64, &Kept> {
        let (mut by_turn, mut by_prompt) = (HashMap::new(), HashMap::new());
        for kept in &self.kept {
            if by_turn.insert(kept.turn, kept).is_some() {
                wrong.push(format!("the journal has t{} twice", kept.turn));
            }
            if let Some(other) = by_prompt.insert(kept.prompt.as_str(), kept.turn) {
                wrong.push(format!(
                    "{} is both t{other} and t{} in the journal",
                    shown(&kept.prompt),
                    kept.turn
                ));
            }
        }
        by_turn
    }

    /// What a caller was told in any life is what the journal has.
    fn check_told(&self, by_turn: &HashMap<u64, &Kept>, wrong: &mut Vec<String>) {
        for told in &self.told {
            let turn = told["turn"].as_u64().unwrap_or_default();
            let prompt = told["prompt"].as_str().unwrap_or_default();
            let said = told["said"].as_str().unwrap_or_default();
            let Some(kept) = by_turn.get(&turn).filter(|kept| kept.prompt == prompt) else {
                wrong.push(format!(
                    "a caller was told that {} is {said} as t{turn}, and the journal does not have it",
                    shown(prompt)
                ));
                continue;
            };
            // Whoever is told that the journal has failed is told to ask it when it is open again.
            if said != "ended" || told["cause"] == "journal_failed" {
                continue;
            }
            let outcome = told["outcome"].as_str();
            if outcome != kept.outcome.as_deref() {
                wrong.push(format!(
                    "the caller of t{turn} was told {}, and the journal has {}",
                    outcome.unwrap_or("nothing"),
                    kept.outcome.as_deref().unwrap_or("no end")
                ));
            } else if told["text"].as_str() != Some(&kept.text) {
                wrong.push(format!(
                    "the caller of t{turn} was told another text than the journal has"
                ));
            }
        }
    }

    /// Each prompt has one end, and a completed one the answer to itself.
    fn check_ends(&self, wrong: &mut Vec<String>) {
        for kept in &self.kept {
            let turn = kept.turn;
            match kept.outcome.as_deref() {
                None => wrong.push(format!("t{turn} has no end in the journal")),
                Some("completed")
                    if kept.text != sha256(&[self.seed.as_bytes(), kept.prompt.as_bytes()]) =>
                {
                    wrong.push(format!(
                        "t{turn} completed with {}, which is not its answer",
                        shown(&kept.text)
                    ));
                }
                Some("indeterminate") if kept.attempts == 0 => wrong.push(format!(
                    "t{turn} is in doubt ({}), and no tool was given it",
                    kept.cause
                )),
                Some(_) => {}
            }
        }
    }

    /// No prompt was read twice, and none that the journal does not have.
    fn check_reads(&self, wrong: &mut Vec<String>) {
        let mut times: HashMap<&str, u64> = HashMap::new();
        for read in &self.reads {
            *times.entry(&read.sha256).or_default() += 1;
        }
        for kept in &self.kept {
            let hash = sha256(&[kept.prompt.as_bytes()]);
            let count = times.remove(hash.as_str()).unwrap_or_default();
            let right = match kept.outcome.as_deref() {
                Some("completed") => 1..=1,
                Some("indeterminate" | "failed") => 0..=1,
                _ => 0..=0,
            };
            if !right.contains(&count) {
                wrong.push(format!(
                    "t{} ({}) was read {count} ×, and {} to {} × is right",
                    kept.turn,
                    kept.outcome.as_deref().unwrap_or("no end"),
                    right.start(),
                    right.end()
                ));
            }
        }
        for (hash, count) in times {
            wrong.push(format!(
                "{count} × read what the journal does not have (SHA-256 {hash})"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::answer_to;
    use super::*;

    fn kept(turn: u64, prompt: &str, outcome: &str, attempts: u32) -> Kept {
        Kept {
            turn,
            prompt: prompt.to_owned(),
            outcome: Some(outcome.to_owned()),
            cause: String::new(),
            text: match outcome {
                "completed" => answer_to("seed", prompt),
                _ => String::new(),
            },
            attempts,
        }
    }

    fn read(pid: u32, prompt: &str) -> Read {
        Read {
            pid,
            generation: 1,
            turn: 1,
            sha256: answer_to("", prompt),
            monotonic_ns: 0,
        }
    }

    /// One completed and told twice, one in doubt, one that was cut off before anybody was told anything.
    fn agreeing() -> Lives {
        let answer = answer_to("seed", "one");
        let ended = json!({"prompt": "one", "turn": 1, "said": "ended", "outcome": "completed", "text": answer});
        Lives {
            seed: "seed".to_owned(),
            reads: vec![read(10, "one"), read(11, "two"), read(12, "three")],
            told: vec![
                json!({"prompt": "one", "turn": 1, "said": "accepted"}),
                ended.clone(),
                ended,
                json!({"prompt": "two", "turn": 2, "said": "accepted"}),
                json!({"prompt": "two", "turn": 2, "said": "ended", "outcome": "indeterminate", "text": ""}),
                json!({"prompt": "three", "turn": 3, "said": "ended", "outcome": "indeterminate", "cause": "journal_failed", "text": ""}),
            ],
            kept: vec![
                kept(1, "one", "completed", 1),
                kept(2, "two", "indeterminate", 1),
                kept(3, "three", "completed", 2),
            ],
        }
    }

    #[test]
    fn lives_that_agree_give_their_sums() {
        let survived = agreeing().reconcile().expect("they agree");
        assert_eq!((survived.kept, survived.reads), (3, 3));
        assert_eq!(survived.ended["completed"], 2);
    }

    #[test]
    fn each_way_to_disagree_is_seen() {
        type Violation = (&'static str, fn(&mut Lives), &'static str);
        let violations: &[Violation] = &[
            (
                "an acknowledged prompt is missing",
                |all| drop(all.kept.remove(1)),
                "the journal does not have it",
            ),
            (
                "another prompt has its number",
                |all| all.kept[1].prompt = "else".to_owned(),
                "the journal does not have it",
            ),
            (
                "a number twice",
                |all| all.kept.push(kept(1, "four", "cancelled", 0)),
                "has t1 twice",
            ),
            (
                "a prompt twice",
                |all| all.kept.push(kept(4, "one", "cancelled", 0)),
                "both t1 and t4",
            ),
            ("no end", |all| all.kept[1].outcome = None, "t2 has no end"),
            (
                "another end than was told",
                |all| all.kept[1].outcome = Some("failed".to_owned()),
                "was told indeterminate",
            ),
            (
                "another text than was told",
                |all| all.kept[1].text = "half".to_owned(),
                "another text",
            ),
            (
                "another answer",
                |all| all.kept[2].text = answer_to("seed", "one"),
                "not its answer",
            ),
            (
                "a doubt without a reason",
                |all| all.kept[1].attempts = 0,
                "no tool was given it",
            ),
            (
                "read twice in two lives",
                |all| all.reads.push(read(20, "two")),
                "was read 2 ×",
            ),
            (
                "completed and never read",
                |all| drop(all.reads.remove(2)),
                "was read 0 ×",
            ),
            (
                "cancelled and read",
                |all| all.kept[2] = kept(3, "three", "cancelled", 0),
                "was read 1 ×",
            ),
            (
                "read and not in the journal",
                |all| all.reads.push(read(20, "four")),
                "read what the journal does not have",
            ),
        ];
        for (name, change, evidence) in violations {
            let mut all = agreeing();
            change(&mut all);
            let wrong = all.reconcile().expect_err(name);
            assert!(
                wrong.iter().any(|it| it.contains(evidence)),
                "{name}: {wrong:?}"
            );
        }
    }
}
