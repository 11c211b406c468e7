//! Random lives of a journal against a model of it: whatever is put, pruned, settled or killed, it knows of each prompt what
//! the model does.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use books::{accept, at, dispatching, keep, keyed, memory, piece, reply};
use rusqlite::Connection;
use toolpool_cluster::{Accepted, DoubtCause, Known, Outcome, Record, Store as _, TurnId};
use toolpool_journal::{Journal, Query, Retention, Settle, State};

/// What is known of a prompt.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Its attempts: whether each was handed back, and what has come of it.
    attempts: Vec<(bool, String)>,
    /// Its outcome and its text.
    end: Option<(State, String)>,
    /// It ended this many seconds after a moment in 2023; what opening settles ends now.
    ended: Option<u64>,
}

impl Row {
    fn in_doubt(&self) -> Option<&str> {
        let read = self.attempts.iter().rfind(|(back, _)| !back);
        read.map(|(_, output)| output.as_str())
    }

    fn is_running(&self) -> bool {
        self.end.is_none() && self.attempts.last().is_some_and(|(back, _)| !back)
    }
}

struct Life {
    _folder: tempfile::TempDir,
    path: PathBuf,
    journal: Option<Journal>,
    rows: BTreeMap<u64, Row>,
    last: u64,
    seed: u64,
    second: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let (folder, path) = memory();
        Self {
            _folder: folder,
            journal: Some(Journal::open(&path).expect("a new one")),
            path,
            rows: BTreeMap::new(),
            last: 0,
            seed,
            second: 0,
        }
    }

    /// A number that looks random and is the same in each run.
    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("it is open between the steps")
    }

    /// One of those that are so.
    fn one(&mut self, is_so: impl Fn(&Row) -> bool) -> Option<u64> {
        let of = self.rows.iter().filter(|(_, row)| is_so(row));
        let turns: Vec<u64> = of.map(|(turn, _)| *turn).collect();
        let some = usize::try_from(self.draw(turns.len().max(1) as u64)).expect("it is small");
        turns.get(some).copied()
    }

    fn row(&mut self, turn: u64) -> &mut Row {
        self.rows.get_mut(&turn).expect("it is one of them")
    }

    fn keep(&self, record: Record) {
        keep(self.journal(), record).expect("it is kept");
    }

    fn step(&mut self) {
        self.second += 1;
        match self.draw(20) {
            0..4 => {
                self.last += 1;
                let turn = self.last;
                accept(self.journal(), keyed(turn, "p", &format!("k{turn}")));
                self.rows.insert(turn, Row::default());
            }
            4..8 => {
                let Some(turn) = self.one(|row| row.end.is_none() && !row.is_running()) else {
                    return;
                };
                let row = self.row(turn);
                row.attempts.push((false, String::new()));
                let attempt = u32::try_from(row.attempts.len()).expect("they are few");
                self.keep(Record::Dispatching(dispatching(turn, attempt)));
            }
            8..10 => {
                let Some(turn) = self.one(Row::is_running) else {
                    return;
                };
                let row = self.row(turn);
                let attempt = u32::try_from(row.attempts.len()).expect("they are few");
                *row.attempts.last_mut().expect("it runs") = (true, String::new());
                let turn = TurnId(turn);
                self.keep(Record::HandedBack { turn, attempt });
            }
            // Tried again after an end that is told to nobody.
            10 => {
                let Some(turn) = self.one(Row::is_running) else {
                    return;
                };
                let row = self.row(turn);
                row.attempts.push((false, String::new()));
                let attempt = u32::try_from(row.attempts.len()).expect("they are few");
                self.keep(Record::Dispatching(dispatching(turn, attempt)));
            }
            11..13 => {
                let Some(turn) = self.one(Row::is_running) else {
                    return;
                };
                let row = self.row(turn);
                let attempt = u32::try_from(row.attempts.len()).expect("they are few");
                row.attempts.last_mut().expect("it runs").1 += "so ";
                self.journal().put(piece(turn, attempt, b"so "), None);
            }
            13..16 => {
                let Some(turn) = self.one(|row| row.end.is_none()) else {
                    return;
                };
                let second = self.second;
                let row = self.row(turn);
                let (outcome, text) = match row.is_running() {
                    true => (Outcome::Completed, "done"),
                    false => (Outcome::Cancelled, ""),
                };
                row.end = Some((word(&outcome), text.to_owned()));
                row.ended = Some(second);
                let attempts = u32::try_from(row.attempts.len()).expect("they are few");
                let mut reply = reply(turn, text);
                reply.outcome = outcome;
                self.keep(Record::Ended {
                    reply: Box::new(reply),
                    attempts,
                    at: at(second),
                });
            }
            16 => {
                let in_doubt = |row: &Row| matches!(row.end, Some((State::Indeterminate, _)));
                let Some(turn) = self.one(in_doubt) else {
                    return;
                };
                let settle = Settle {
                    state: State::Failed,
                    by: "person".to_owned(),
                    note: None,
                };
                self.journal()
                    .resolve(TurnId(turn), &settle)
                    .expect("it is in doubt");
                self.row(turn).end.as_mut().expect("it has one").0 = State::Failed;
            }
            17 => {
                // All that ended before some moment, by the model's clock.
                let before = self.draw(self.second + 1);
                let moment = at(before) + Duration::from_millis(500);
                let age = moment.elapsed().expect("it is past");
                let retention = Retention {
                    older_than: Some(age),
                    ..Retention::default()
                };
                self.journal().prune(&retention).expect("it can be written");
                self.rows
                    .retain(|_, row| row.ended.is_none_or(|ended| ended > before));
            }
            18 => self.open_again(true),
            _ => self.open_again(false),
        }
    }

    /// Closes it, or leaves it as a dead owner does, and opens it.
    fn open_again(&mut self, dies: bool) {
        let journal = self.journal.take().expect("it is open");
        if dies {
            // What nobody waits for may be lost with its owner, and this one waits.
            journal.flush().expect("it is kept");
            let dead = self.path.with_extension(format!("db{}", self.second));
            // Nothing is brought in meanwhile of what comes after the log that is copied.
            let reader = Connection::open(&self.path).expect("it opens");
            reader
                .execute_batch("BEGIN; SELECT count(*) FROM prompts;")
                .expect("it can be read");
            for ending in ["-wal", ""] {
                let name = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
                fs::copy(name(&self.path), name(&dead)).expect("a copy");
            }
            self.path = dead;
        }
        drop(journal);
        let journal = Journal::open(&self.path).expect("it recovers");
        let mut doubts = Vec::new();
        for (turn, row) in &mut self.rows {
            if row.end.is_none()
                && let Some(output) = row.in_doubt()
            {
                row.end = Some((State::Indeterminate, output.to_owned()));
                doubts.push(TurnId(*turn));
            }
        }
        assert_eq!(journal.recovered().indeterminate, doubts);
        assert_eq!(journal.recovered().closed_in_order, !dies);
        self.journal = Some(journal);
    }

    /// It tells of every prompt what the model does.
    fn look(&self) {
        let journal = self.journal();
        let queued = journal.queued("main").expect("it can be read");
        let queued: Vec<(u64, u32)> = queued.iter().map(numbers).collect();
        let of = self.rows.iter();
        let expected: Vec<(u64, u32)> = of
            .filter(|(_, row)| row.end.is_none() && row.in_doubt().is_none())
            .map(|(turn, row)| (*turn, u32::try_from(row.attempts.len()).expect("few")))
            .collect();
        assert_eq!(queued, expected);
        for turn in 1..=self.last {
            let known = journal.find(&format!("k{turn}")).expect("it can be read");
            match (self.rows.get(&turn), known) {
                (None, None) => {}
                (Some(Row { end: None, .. }), Some(Known::Queued(it) | Known::Running(it))) => {
                    let attempts = self.rows[&turn].attempts.len();
                    assert_eq!(usize::try_from(it.attempts), Ok(attempts), "t{turn}");
                }
                (Some(Row { end: Some(end), .. }), Some(Known::Ended(_, reply))) => {
                    assert_eq!(
                        (word(&reply.outcome), &reply.text),
                        (end.0, &end.1),
                        "t{turn}"
                    );
                    if let Outcome::Indeterminate(doubt) = &reply.outcome {
                        assert_eq!(doubt.cause, DoubtCause::ManagerDied);
                    }
                }
                other => panic!("t{turn}: {other:?}"),
            }
        }
        let history = journal.history().expect("it opens");
        history.check().expect("it is as it was written");
        let told = history.find(&Query::default()).expect("it can be read");
        assert_eq!(told.len(), self.rows.len());
        assert_eq!(journal.next_turn(), TurnId(self.last + 1));
    }
}

fn numbers(accepted: &Accepted) -> (u64, u32) {
    (accepted.turn.0, accepted.attempts)
}

fn word(outcome: &Outcome) -> State {
    outcome.word().parse().expect("both have the same words")
}

#[test]
fn a_journal_knows_what_was_put_through_deaths_prunings_and_settlements() {
    for seed in 0..6 {
        let mut life = Life::new(seed);
        for step in 0..120 {
            life.step();
            if step % 20 == 0 {
                life.look();
            }
        }
        life.open_again(true);
        life.look();
    }
}
