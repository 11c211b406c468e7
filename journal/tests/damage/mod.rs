//! A small journal of all that there is, damage to its files, and what it may tell then: the truth, or that it is damaged.
//!
//! Shared with the fuzz target `journal`, which makes the damage up from the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use toolpool_cluster::{
    Accepted, Conversing, Doubt, DoubtCause, Event, EventKind, Failure, FailureClass, Outcome,
    Record, Reply, Store, StoreError, TurnId,
};
use toolpool_journal::{History, Journal, JournalError, Query, Settle, State};

use crate::books::{
    accept, accepted, answer, at, dispatch, dispatching, ended, keep, memory, piece, reply,
};

/// One thing that befalls a file, as eight bytes: what, where (four), how far (two), and with what.
pub(crate) type Mutation = [u8; 8];

/// Turns that the journal has; one more is asked for.
const TURNS: u64 = 14;

/// The pages of the main file, and a page with its header in the log.
const PAGE: usize = 4096;
const FRAME: usize = PAGE + 24;

/// A main file and its log.
#[derive(Clone, PartialEq)]
pub(crate) struct Files {
    pub(crate) main: Vec<u8>,
    pub(crate) log: Vec<u8>,
}

pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

impl Files {
    fn read(path: &Path) -> Self {
        Self {
            main: fs::read(path).unwrap_or_default(),
            log: fs::read(beside(path, "-wal")).unwrap_or_default(),
        }
    }

    fn write(&self, path: &Path) {
        let _ = fs::remove_file(beside(path, "-shm"));
        fs::write(path, &self.main).expect("space");
        fs::write(beside(path, "-wal"), &self.log).expect("space");
    }

    /// Lets all of it befall the files.
    pub(crate) fn suffer(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            self.befall(*mutation);
        }
    }

    fn befall(&mut self, [what, a, b, c, d, e, f, with]: Mutation) {
        let (is_log, is_near) = (what & 0x80 != 0, what & 0x40 != 0);
        let (bytes, start, page) = if is_log {
            (&mut self.log, 32, FRAME)
        } else {
            (&mut self.main, 0, PAGE)
        };
        let length = bytes.len();
        if length == 0 {
            return;
        }
        let (at, far) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
        // Half of all that happens, happens to the header.
        let at = if is_near {
            at as usize % length.min(128)
        } else {
            (at as usize * length) >> 32
        };
        let until = length.min(at + 1 + usize::from(far));
        match what & 0x3F {
            0 | 1 => bytes[at] ^= 1 << (with % 8),
            2 => bytes[at] = with,
            3 => bytes[at..until].fill(0),
            4 => bytes[at..until].fill(with),
            5 => bytes.truncate(at),
            // A page in the place of another, or the two in each other's.
            6 | 7 if length >= start + 2 * page => {
                let pages = (length - start) / page;
                let place = |at: usize| start + at % pages * page;
                let (here, there) = (place(at / page), place(usize::from(far)));
                let (one, other) = (
                    bytes[here..here + page].to_vec(),
                    bytes[there..there + page].to_vec(),
                );
                bytes[here..here + page].copy_from_slice(&other);
                if what & 1 == 0 {
                    bytes[there..there + page].copy_from_slice(&one);
                }
            }
            // What looks like data and is none.
            _ => {
                let mut noise = with;
                for byte in &mut bytes[at..until] {
                    noise = noise.wrapping_mul(37).wrapping_add(11);
                    *byte = noise;
                }
            }
        }
    }
}

/// What was asked, and what was said.
type Answers = Vec<(String, Result<String, String>)>;

/// A journal as it was written, and what it tells after each of its last records.
pub(crate) struct Whole {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) files: Files,
    states: Vec<Known>,
}

/// What is told if the log ends there.
struct Known {
    /// Where in the log.
    end: usize,
    read: Answers,
    written: Answers,
}

impl Whole {
    pub(crate) fn make() -> Self {
        let (folder, path) = memory();
        let (files, ends) = write(&path);
        let path = folder.path().join("damaged.db");
        let mut whole = Self {
            _folder: folder,
            path,
            files,
            states: Vec::new(),
        };
        for end in ends {
            let mut files = whole.files.clone();
            files.log.truncate(end);
            let known = Known {
                end,
                read: whole.read(&files).expect("it is whole"),
                written: whole.own(&files).expect("it is whole"),
            };
            for (asked, answer) in known.read.iter().chain(&known.written) {
                assert!(answer.is_ok(), "{asked}: {answer:?}");
            }
            whole.states.push(known);
        }
        whole
    }

    /// Sees that damaged files tell the truth, or that they are damaged, whoever opens them.
    pub(crate) fn hold(&self, mutations: &[Mutation]) {
        let mut files = self.files.clone();
        files.suffer(mutations);
        self.tell_the_truth(&files);
    }

    pub(crate) fn tell_the_truth(&self, files: &Files) {
        let cause = |error: &JournalError| {
            let is_of_the_header =
                files.main.len() < 100 || files.main[..100] != self.files.main[..100];
            match error {
                JournalError::Damaged { .. } => assert!(error.to_string().contains(".recover")),
                JournalError::Foreign { .. } | JournalError::Newer { .. } if is_of_the_header => {}
                // Nothing at all is left of it.
                JournalError::Missing { .. } if files.main.is_empty() && files.log.is_empty() => {}
                _ => panic!("this is no word on damage: {error:?}"),
            }
        };
        let least = self.least(&files.log);
        match self.read(files) {
            Ok(answers) => self.is_true(least, &answers, |known| &known.read),
            Err(error) => cause(&error),
        }
        if files.main.is_empty() && files.log.is_empty() {
            return;
        }
        match self.own(files) {
            Ok(answers) => self.is_true(least, &answers, |known| &known.written),
            Err(error) => {
                cause(&error);
                let left = Files::read(&self.path);
                assert!(left == *files, "it was refused and written to: {error}");
            }
        }
    }

    /// Which of its states a log has at least: all that comes before the first damage is in it.
    fn least(&self, log: &[u8]) -> usize {
        let same = log.iter().zip(&self.files.log);
        let same = same.take_while(|(now, then)| now == then).count();
        let whole = self.states.iter().filter(|known| known.end <= same);
        whole.count().saturating_sub(1)
    }

    fn is_true(&self, least: usize, answers: &Answers, of: impl Fn(&Known) -> &Answers) {
        let lie = |known: &Known| {
            let truth = of(known).iter().zip(answers);
            truth
                .filter(|((_, truth), (_, answer))| match answer {
                    Ok(_) => answer != truth,
                    Err(error) => {
                        assert!(error.contains("damaged"), "no word on damage: {error}");
                        false
                    }
                })
                .map(|((asked, truth), (_, answer))| {
                    format!("{asked}\n it says {answer:?}\n truth is {truth:?}")
                })
                .next()
        };
        let lies: Vec<_> = self.states[least..].iter().rev().map(lie).collect();
        assert!(
            lies.iter().any(Option::is_none),
            "a lie: {:.3000}",
            lies[0].as_deref().unwrap_or_default()
        );
    }

    /// What somebody who only reads is told.
    fn read(&self, files: &Files) -> Result<Answers, JournalError> {
        files.write(&self.path);
        let history = History::open(&self.path)?;
        let mut answers = ask(&history);
        let mut lines = Vec::new();
        let exported = history.export(&Query::default(), &mut lines);
        add(&mut answers, "export", exported.map(|_| lines));
        Ok(answers)
    }

    /// What the next owner is told.
    fn own(&self, files: &Files) -> Result<Answers, JournalError> {
        files.write(&self.path);
        let journal = Journal::open(&self.path)?;
        let mut answers = ask(&journal.history()?);
        let recovered: Result<_, StoreError> = Ok(journal.recovered());
        add(&mut answers, "recovered", recovered);
        add(&mut answers, "queued", journal.queued("main"));
        add(&mut answers, "sessions", journal.sessions("main"));
        add(
            &mut answers,
            "said",
            journal.said("main", "s", TurnId(1), 1 << 20),
        );
        for key in ["k2", "k10", "k13", "none"] {
            add(&mut answers, &format!("find {key}"), journal.find(key));
        }
        Ok(answers)
    }
}

fn add<T: std::fmt::Debug, E: std::fmt::Display>(
    answers: &mut Answers,
    asked: &str,
    answer: Result<T, E>,
) {
    let answer = match answer {
        Ok(answer) => Ok(format!("{answer:?}")),
        Err(error) => Err(error.to_string()),
    };
    answers.push((asked.to_owned(), answer));
}

/// All that can be asked.
fn ask(history: &History) -> Answers {
    let mut answers = Vec::new();
    let text = |text: &str| Some(text.to_owned());
    let all = Query::default();
    let mut queries = vec![all.clone()];
    for words in ["parser", "long rep*", "\"prompt 12\"", "nowhere"] {
        queries.push(Query {
            text: text(words),
            ..all.clone()
        });
    }
    for state in State::ALL {
        queries.push(Query {
            state: Some(state),
            ..all.clone()
        });
    }
    queries.extend([
        Query {
            tool: text("bash"),
            ..all.clone()
        },
        Query {
            session: text("s"),
            ..all.clone()
        },
        Query {
            batch: text("b"),
            limit: Some(2),
            ..all.clone()
        },
        Query {
            since: Some(at(4)),
            until: Some(at(9)),
            ..all
        },
    ]);
    for query in queries {
        let mut found = history.find(&query);
        for row in found.iter_mut().flatten() {
            // What is settled on opening ends when it is opened.
            row.ended
                .take_if(|_| row.state == State::Indeterminate && row.turn.0 > 5);
        }
        add(&mut answers, &format!("{query:?}"), found);
    }
    for turn in 1..=TURNS + 1 {
        let mut shown = history.show(TurnId(turn));
        if let Ok(Some(shown)) = &mut shown {
            let row = &mut shown.prompt;
            row.ended
                .take_if(|_| row.state == State::Indeterminate && turn > 5);
        }
        add(&mut answers, &format!("show t{turn}"), shown);
    }
    add(&mut answers, "lives", history.lives(None));
    add(&mut answers, "lives of one", history.lives(Some("main/1")));
    add(&mut answers, "events", history.events(0, usize::MAX));
    add(&mut answers, "one event", history.events(2, 1));
    add(&mut answers, "last event", history.last_event());
    add(&mut answers, "batches", history.batches());
    add(&mut answers, "batch", history.batch("b"));
    answers
}

/// Writes it, and answers its files and where in the log each of its states ends.
fn write(path: &Path) -> (Files, Vec<usize>) {
    let journal = Journal::open(path).expect("a new one");
    first_life(&journal);
    drop(journal);
    let main = fs::read(path).expect("it can be read");

    let journal = Journal::open(path).expect("it is there");
    // Somebody reads all the while, so the log is not begun anew.
    let reader = Connection::open(path).expect("it opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM prompts;")
        .expect("it can be read");
    let log = || fs::read(beside(path, "-wal")).expect("it can be read");
    // The log may be lost as a whole: of that nothing is left to say so.
    let mut ends = vec![0, log().len()];
    for turn in 10..=12 {
        let prompt = Accepted {
            key: Some(format!("k{turn}")),
            session: Some("s".to_owned()),
            ..accepted(turn, &format!("prompt {turn}"))
        };
        for record in [
            Record::Accepted(Box::new(prompt)),
            Record::Dispatching(dispatching(turn, 1)),
            ended(reply(turn, &"a long reply ".repeat(400))),
        ] {
            keep(&journal, record).expect("it is kept");
            ends.push(log().len());
        }
    }
    // A prompt that waits for its life to go on, and one that was with a tool.
    let queued = Accepted {
        key: Some("k13".to_owned()),
        ..accepted(13, "prompt 13")
    };
    accept(&journal, queued);
    ends.push(log().len());
    accept(&journal, accepted(14, "prompt 14"));
    ends.push(log().len());
    journal.put(Record::Session(Box::new(conversing(14))), None);
    dispatch(&journal, 14);
    ends.push(log().len());
    journal.put(piece(14, 1, b"what had come of it"), None);
    journal.flush().expect("it is kept");
    ends.push(log().len());
    let log = log();
    (Files { main, log }, ends)
}

fn conversing(last: u64) -> Conversing {
    Conversing {
        cluster: "main".into(),
        session: "s".to_owned(),
        instance: "main/1".into(),
        tool: "bash".into(),
        cwd: "/srv/a b".into(),
        conversation: Some("0198-'x'".to_owned()),
        folder: "/srv/books.db.sessions/main/toolpool-bash-1".into(),
        since: TurnId(2),
        last: TurnId(last),
        in_doubt: false,
        at: at(last),
    }
}

/// Some of all that a journal can have, and its words in the index.
fn first_life(journal: &Journal) {
    let mut seq = 0;
    let mut tell = |kind| {
        seq += 1;
        let event = Event {
            seq,
            at: at(seq),
            kind,
        };
        journal.put(Record::Event(event), None);
    };
    let instance = || "main/1".into();
    for generation in 1..=2 {
        tell(EventKind::InstanceSpawned {
            instance: instance(),
            generation,
            pid: Some(7),
        });
        tell(EventKind::TurnRetrying {
            turn: TurnId(2),
            instance: instance(),
        });
        tell(EventKind::ClusterDraining);
    }
    answer(
        journal,
        accepted(1, "fix the parser"),
        "the parser is fixed",
    );
    let labeled = |turn, text: &str, item: &str| Accepted {
        key: Some(format!("k{turn}")),
        session: Some("s".to_owned()),
        labels: vec![
            ("batch".to_owned(), "b".to_owned()),
            ("item".to_owned(), item.to_owned()),
        ],
        ..accepted(turn, text)
    };
    journal.put(Record::Session(Box::new(conversing(2))), None);
    let long = "a long prompt ".repeat(500);
    answer(
        journal,
        labeled(2, &long, "one"),
        &"a long reply ".repeat(900),
    );
    let end = |turn, outcome| {
        let end = Reply {
            outcome,
            ..reply(turn, "so far")
        };
        keep(journal, ended(end)).expect("it is kept");
    };
    accept(journal, labeled(3, "fails", "two"));
    dispatch(journal, 3);
    let failure = Failure {
        class: FailureClass::Auth,
        message: "who are you?".to_owned(),
        retry_after: None,
    };
    end(3, Outcome::Failed(failure));
    for turn in 4..=5 {
        accept(journal, accepted(turn, "in doubt"));
        dispatch(journal, turn);
        let doubt = Doubt {
            cause: DoubtCause::TimedOut,
            detail: "after 5 s".to_owned(),
        };
        end(turn, Outcome::Indeterminate(doubt));
    }
    let settle = |state, note: Option<&str>| Settle {
        state,
        by: "me".to_owned(),
        note: note.map(str::to_owned),
    };
    let settled = journal.resolve(TurnId(4), &settle(State::Failed, None));
    settled.expect("it can be settled");
    let settled = journal.resolve(TurnId(4), &settle(State::Completed, Some("I looked")));
    settled.expect("it can be settled");
    accept(journal, labeled(6, "tried twice", "two"));
    dispatch(journal, 6);
    journal.put(piece(6, 1, &b"the first try ".repeat(300)), None);
    journal.flush().expect("it is kept");
    let again = Record::Dispatching(dispatching(6, 2));
    keep(journal, again).expect("it is kept");
    let end = Record::Ended {
        reply: Box::new(reply(6, "the second try")),
        attempts: 2,
        at: at(8),
    };
    keep(journal, end).expect("it is kept");
    accept(journal, accepted(7, "handed back, and withdrawn"));
    dispatch(journal, 7);
    let (turn, attempt) = (TurnId(7), 1);
    keep(journal, Record::HandedBack { turn, attempt }).expect("it is kept");
    end_unrun(journal, 7, Outcome::Cancelled);
    accept(journal, accepted(8, "too late"));
    end_unrun(journal, 8, Outcome::Expired);
    answer(journal, accepted(9, "ä NUL \0 and more"), "ü\0ü");
    let history = journal.history().expect("it can be read");
    let indexed = || {
        let table = history.sql("SELECT last FROM numbers WHERE name = 'indexed'", 1);
        table.expect("it can be read").rows[0][0].as_i64()
    };
    while indexed() < Some(9) {
        std::thread::yield_now();
    }
}

fn end_unrun(journal: &Journal, turn: u64, outcome: Outcome) {
    let end = Record::Ended {
        reply: Box::new(Reply {
            outcome,
            ..reply(turn, "")
        }),
        attempts: 0,
        at: at(turn),
    };
    keep(journal, end).expect("it is kept");
}
