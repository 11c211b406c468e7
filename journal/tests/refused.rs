//! When the system refuses to write: a full disk passes, an error does not.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use books::{accept, accepted, allowed, dispatch, dispatching, ended, keep, keyed, place, reply};
use toolpool_cluster::{Known, Record, Store, StoreError, TurnId};
use toolpool_journal::{Journal, State};

/// Makes one of the tests of this program a process of its own, which works on this journal.
const JOURNAL: &str = "TOOLPOOL_TEST_JOURNAL";

fn given() -> Option<PathBuf> {
    std::env::var_os(JOURNAL).map(PathBuf::from)
}

/// Runs a test of this program by these words of a shell, which end in what starts it.
fn within(shell: &str, test: &str, journal: &Path) -> std::process::Output {
    let program = std::env::current_exe().expect("this program");
    Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(program)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(JOURNAL, journal)
        .output()
        .expect("a shell")
}

fn big(turn: u64, bytes: usize) -> Record {
    Record::Accepted(Box::new(keyed(
        turn,
        &"x".repeat(bytes),
        &format!("k{turn}"),
    )))
}

#[test]
#[ignore = "a process with a small disk, which another of these tests starts"]
fn fills_its_disk() {
    let Some(path) = given() else { return };
    let ballast = path.with_extension("ballast");
    fs::write(&ballast, vec![0; 6 << 20]).expect("space");
    let journal = Journal::open(&path).expect("a new one");
    for turn in 1..=100 {
        accept(&journal, accepted(turn, "runs"));
        dispatch(&journal, turn);
    }
    let mut turn = 100;
    let refusal = loop {
        turn += 1;
        if let Err(refusal) = keep(&journal, big(turn, 100_000)) {
            break refusal;
        }
    };
    assert!(matches!(refusal, StoreError::Full { .. }), "{refusal}");
    // What was refused goes no further, and what was accepted before still does.
    let further = keep(&journal, Record::Dispatching(dispatching(turn, 1)));
    assert!(
        matches!(further, Err(StoreError::Full { .. })),
        "{further:?}"
    );
    keep(&journal, Record::Dispatching(dispatching(turn - 1, 1))).expect("there is a reserve");
    keep(&journal, allowed(turn - 1)).expect("there is a reserve");
    for turn in 1..=100 {
        keep(&journal, ended(reply(turn, &"an answer ".repeat(40)))).expect("there is a reserve");
        let more = keep(&journal, big(1000 + turn, 100_000));
        assert!(matches!(more, Err(StoreError::Full { .. })), "{more:?}");
    }
    fs::remove_file(&ballast).expect("it is there");
    keep(&journal, big(2000, 100_000)).expect("there is space again");
    let reserve = PathBuf::from(format!("{}.reserve", path.display()));
    assert_eq!(fs::metadata(&reserve).expect("it is back").len(), 4 << 20);
    drop(journal);

    let journal = Journal::open(&path).expect("it is whole");
    assert_eq!(journal.recovered().indeterminate, [TurnId(turn - 1)]);
    let history = journal.history().expect("it can be read");
    history.check().expect("it is whole");
    for turn in 1..=100 {
        let shown = history.show(TurnId(turn)).expect("it can be read");
        assert_eq!(shown.expect("it is there").prompt.state, State::Completed);
    }
    let events = history.events(0, 10).expect("it can be read");
    assert_eq!(events.len(), 1, "{events:?}");
    for kept in (101..turn).chain([2000]) {
        assert!(
            history
                .show(TurnId(kept))
                .expect("it can be read")
                .is_some()
        );
    }
    assert_eq!(history.show(TurnId(turn)).expect("it can be read"), None);
    println!("\nall of it holds");
}

#[test]
fn on_a_full_disk_prompts_are_refused_ends_are_kept_and_it_goes_on_when_there_is_space() {
    let (folder, _) = place();
    let journal = folder.path().join("small").join("books.db");
    fs::create_dir(folder.path().join("small")).expect("space");
    let disk = folder.path().join("small");
    // A disk of its own needs a namespace of mounts, which not every machine gives to everybody.
    let small = |then: &str| {
        let mount = format!("mount -t tmpfs -o size=16m tmpfs {}", disk.display());
        format!("exec unshare -rm sh -c '{mount} && {then}' sh \"$@\"")
    };
    let probe = Command::new("sh").args(["-c", &small("true")]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: no disk can be mounted here (unshare -rm)");
        return;
    }
    let shell = small("exec \"$@\"");
    let output = within(&shell, "fills_its_disk", &journal);
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("all of it holds"), "{said}\n{complaint}");
}

#[test]
#[ignore = "a process that may write small files only, which another of these tests starts"]
fn writes_until_it_is_refused() {
    let Some(path) = given() else { return };
    let journal = Journal::open(&path).expect("a new one");
    let mut turn = 0;
    let refusal = loop {
        turn += 1;
        match keep(&journal, big(turn, 200_000)) {
            Ok(()) => println!("\naccepted {turn}"),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, StoreError::Failed { .. }), "{refusal}");
    // From now on nothing succeeds, however small it is.
    for record in [big(turn + 1, 1), ended(reply(1, ""))] {
        assert_eq!(keep(&journal, record), Err(refusal.clone()));
    }
    assert_eq!(journal.find("k1").map(|_| ()), Err(refusal.clone()));
    assert!(journal.flush().is_err() && journal.resolve(TurnId(1), &settle()).is_err());
    drop(journal);
    println!("\nall of it holds");
}

fn settle() -> toolpool_journal::Settle {
    toolpool_journal::Settle {
        state: State::Failed,
        by: "ana".to_owned(),
        note: None,
    }
}

#[test]
fn after_an_error_of_writing_everything_fails_and_what_was_acknowledged_is_there() {
    let (_folder, path) = place();
    // In blocks of 512 bytes: 6 MiB for any one file, and an error instead of a signal beyond it.
    let shell = "trap '' XFSZ; ulimit -f 12288; exec \"$@\"";
    let output = within(shell, "writes_until_it_is_refused", &path);
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("all of it holds"), "{said}\n{complaint}");
    let journal = Journal::open(&path).expect("it recovers");
    assert!(!journal.recovered().closed_in_order);
    let acknowledged: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("accepted "))
        .collect();
    assert!(acknowledged.len() > 5, "{said}");
    for turn in acknowledged {
        let found = journal.find(&format!("k{turn}")).expect("it can be read");
        assert!(matches!(found, Some(Known::Queued(_))), "{turn}: {found:?}");
    }
}

#[test]
fn a_journal_that_is_taken_away_while_it_is_written_fails_aloud() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "is kept"));
    let elsewhere = path.with_extension("moved");
    fs::rename(&path, &elsewhere).expect("it is ours");
    let error = keep(&journal, Record::Accepted(Box::new(accepted(2, "is lost"))));
    let error = error.expect_err("nobody would find it");
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("moved or removed"), "{error}");
    // It does not come back with the file: nobody knows what else was done to it.
    fs::rename(&elsewhere, &path).expect("it is ours");
    keep(&journal, Record::Accepted(Box::new(accepted(3, "p")))).expect_err("it has failed");
    drop(journal);
    Journal::open(&path).expect("what it has can be opened");
}
