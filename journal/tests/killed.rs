//! What was acknowledged is there, whatever kills the one who wrote it.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use books::{accept, accepted, dispatch, ended, keep, piece, place, reply};
use toolpool_cluster::{Store, TurnId};
use toolpool_journal::{Journal, JournalError, State};

/// Makes one of the tests of this program a process of its own, which works on this journal.
const JOURNAL: &str = "TOOLPOOL_TEST_JOURNAL";

/// How often the writer is killed.
const KILLS: u64 = 20;

fn start(test: &str, journal: &Path) -> (Child, BufReader<ChildStdout>) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(JOURNAL, journal)
        // Held open, and never written to.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, out)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").expect("somebody reads");
    out.flush().expect("somebody reads");
}

#[test]
#[ignore = "a process that others of these tests start and kill"]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(JOURNAL) else {
        return;
    };
    let journal = Journal::open(&path).expect("it opens");
    let next = AtomicU64::new(journal.next_turn().0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    accept(&journal, accepted(turn, &format!("prompt {turn}")));
                    say(&format!("accepted {turn}"));
                    dispatch(&journal, turn);
                    say(&format!("dispatching {turn}"));
                    journal.put(piece(turn, 1, b"a piece"), None);
                    keep(&journal, ended(reply(turn, &format!("reply {turn}"))))
                        .expect("it is kept");
                    say(&format!("ended {turn}"));
                }
            });
        }
    });
}

#[test]
fn nothing_that_was_acknowledged_is_missing_after_kill_9() {
    let (_folder, path) = place();
    // How far each turn had come, as its caller was told.
    let mut told: BTreeMap<u64, &str> = BTreeMap::new();
    for kill in 1..=KILLS {
        let (mut child, out) = start("writes_until_it_is_killed", &path);
        // Some die with the first records, others after some checkpoints.
        let patience = kill * kill * 4;
        let mut heard = 0;
        for line in out.lines() {
            let Ok(line) = line else { break };
            let Some((word, turn)) = line.split_once(' ') else {
                continue;
            };
            let step = match word {
                "accepted" => "accepted",
                "dispatching" => "dispatching",
                "ended" => "ended",
                _ => continue,
            };
            told.insert(turn.parse().expect("a number"), step);
            heard += 1;
            if heard == patience {
                child.kill().expect("it lives");
            }
        }
        child.wait().expect("it is dead");
        assert!(heard >= patience, "it died by itself");
    }
    let journal = Journal::open(&path).expect("it recovers");
    let history = journal.history().expect("it can be read");
    let mut standing = BTreeMap::new();
    for (turn, step) in &told {
        let shown = history.show(TurnId(*turn)).expect("it can be read");
        let shown = shown.unwrap_or_else(|| panic!("t{turn} is missing, {step}"));
        let state = shown.prompt.state;
        let fits = match *step {
            "accepted" => matches!(
                state,
                State::Queued | State::Indeterminate | State::Completed
            ),
            "dispatching" => matches!(state, State::Indeterminate | State::Completed),
            _ => state == State::Completed,
        };
        assert!(fits, "t{turn} was {step} and is {state}");
        if state == State::Completed {
            let text = shown.prompt.reply.and_then(|reply| reply.text);
            assert_eq!(text, Some(format!("reply {turn}")));
        }
        *standing.entry(state.word()).or_insert(0) += 1;
    }
    assert!(standing["completed"] > 100, "{standing:?}");
    assert!(standing.contains_key("indeterminate"), "{standing:?}");
}

#[test]
#[ignore = "a process that others of these tests start and kill"]
fn recovers_and_waits() {
    let Some(path) = std::env::var_os(JOURNAL) else {
        return;
    };
    say("opening");
    let journal = Journal::open(&path).expect("it opens");
    say("opened");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    drop(journal);
}

#[test]
fn dying_in_the_middle_of_a_recovery_changes_nothing_of_it() {
    let (_folder, path) = place();
    // One prompt is queued, one ended, and the rest were with a tool.
    let journal = Journal::open(&path).expect("a new one");
    for turn in 1..=200 {
        journal.put(
            toolpool_cluster::Record::Accepted(Box::new(accepted(turn, "p"))),
            None,
        );
        if turn > 1 {
            journal.put(
                toolpool_cluster::Record::Dispatching(books::dispatching(turn, 1)),
                None,
            );
        }
        journal.put(piece(turn, 1, b"so far"), None);
    }
    keep(&journal, ended(reply(200, "r"))).expect("it is kept");
    drop(journal);
    let mut opened = 0;
    for kill in 0..KILLS {
        let (mut child, out) = start("recovers_and_waits", &path);
        for line in out.lines() {
            let Ok(line) = line else { break };
            opened += u64::from(line == "opened");
            if line == "opening" {
                // Somewhere in the few milliseconds that it takes.
                let until = Instant::now() + Duration::from_micros(200 * kill);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                child.kill().expect("it lives");
            }
        }
        child.wait().expect("it is dead");
    }
    let journal = Journal::open(&path).expect("it recovers");
    let history = journal.history().expect("it can be read");
    let mut states = BTreeMap::new();
    for row in history
        .find(&toolpool_journal::Query::default())
        .expect("it can be read")
    {
        *states.entry(row.state.word()).or_insert(0) += 1;
    }
    let expected = [("completed", 1), ("indeterminate", 198), ("queued", 1)];
    assert_eq!(
        states,
        BTreeMap::from(expected),
        "it had recovered {opened} times before"
    );
}

#[test]
fn another_process_is_refused_with_the_owners_number_and_the_lock_of_a_dead_one_is_taken_over() {
    let (_folder, path) = place();
    let (mut child, mut out) = start("recovers_and_waits", &path);
    let mut line = String::new();
    while line.trim() != "opened" {
        line.clear();
        assert!(out.read_line(&mut line).expect("it speaks") > 0, "it ended");
    }
    match Journal::open(&path) {
        Err(JournalError::InUse { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().expect("it lives");
    child.wait().expect("it is dead");
    let journal = Journal::open(&path).expect("the lock is free");
    assert!(!journal.recovered().closed_in_order);
}
