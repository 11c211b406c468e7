//! What a cluster puts into a journal is there when it is opened again.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use books::{
    accept, accepted, answer, at, dispatch, dispatching, ended, keep, keyed, piece, place, put,
    reply,
};
use toolpool_cluster::worktree::Landed;
use toolpool_cluster::{
    Accepted, Doubt, DoubtCause, Failure, FailureClass, Known, OnLoss, Outcome, Prompt, Record,
    Reply, RetryPolicy, Store, StoreError, TurnId,
};
use toolpool_journal::{Bodies, Journal, JournalError};

fn known(journal: &Journal, key: &str) -> Known {
    let known = journal.find(key).expect("it can be read");
    known.expect("the key is known")
}

fn recorded(journal: &Journal, key: &str) -> Reply {
    match known(journal, key) {
        Known::Ended(_, reply) => *reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prompt_with_everything_comes_back_as_it_was_put() {
    let (_folder, path) = place();
    let prompt = Accepted {
        prompt: Prompt {
            text: "a text\0 with \u{202e} everything\r\n".to_owned(),
            fresh: true,
            files: vec!["src/a b.rs".into(), PathBuf::from("ü.txt")],
            ..Prompt::command("")
        },
        session: Some("s".to_owned()),
        tool: Some("bash".to_owned()),
        role: Some("writer".to_owned()),
        target: Some(2),
        labels: vec![
            ("batch".to_owned(), "b1".to_owned()),
            ("item".to_owned(), "i'1".to_owned()),
        ],
        queue_timeout: Some(Duration::from_millis(1500)),
        turn_timeout: Some(Duration::MAX),
        land: Some("i1".to_owned()),
        on_loss: OnLoss::Fresh,
        retry: RetryPolicy::Idempotent { attempts: 3 },
        ..keyed(7, "", "k")
    };
    let journal = Journal::open(&path).expect("a new one");
    assert_eq!(journal.next_turn(), TurnId(1));
    accept(&journal, prompt.clone());
    assert_eq!(journal.next_turn(), TurnId(8));
    drop(journal);

    let journal = Journal::open(&path).expect("it is there");
    assert_eq!(journal.next_turn(), TurnId(8));
    let mut expected = prompt;
    // The longest time that a file can name is still for ever.
    expected.turn_timeout = Some(Duration::from_micros(i64::MAX.unsigned_abs()));
    assert_eq!(journal.queued("main"), Ok(vec![expected]));
    assert_eq!(journal.queued("other"), Ok(vec![]));
    assert!(matches!(known(&journal, "k"), Known::Queued(_)));
    assert_eq!(journal.recovered().queued, 1);
}

#[test]
fn every_kind_of_end_comes_back_as_it_was_put() {
    let failed = Failure {
        class: FailureClass::RateLimit,
        message: "slow down".to_owned(),
        retry_after: Some(Duration::from_secs(30)),
    };
    let doubt = Doubt {
        cause: DoubtCause::TimedOut,
        detail: "after 5 s".to_owned(),
    };
    let landed = |landed| Some(Ok(landed));
    let files = || vec![PathBuf::from("a.rs")];
    let text = str::to_owned;
    let replies = [
        reply(1, "fine"),
        Reply {
            outcome: Outcome::Failed(failed),
            attribution: None,
            usage: None,
            first_output: None,
            ..reply(2, "")
        },
        Reply {
            outcome: Outcome::Indeterminate(doubt),
            lossy: true,
            ..reply(3, "so far")
        },
        Reply {
            outcome: Outcome::Expired,
            instance: None,
            tool: None,
            ..reply(4, "")
        },
        Reply {
            outcome: Outcome::Cancelled,
            landed: Some(Err(text("git is gone"))),
            ..reply(5, "")
        },
        Reply {
            landed: landed(Landed::Nothing),
            ..reply(6, "")
        },
        Reply {
            landed: landed(Landed::Commit {
                commit: text("c0ffee"),
                files: files(),
            }),
            ..reply(7, "")
        },
        Reply {
            landed: landed(Landed::Conflict {
                branch: text("b"),
                files: files(),
                show: text("git diff"),
            }),
            ..reply(8, "")
        },
        Reply {
            landed: landed(Landed::Blocked {
                branch: text("b"),
                reason: text("r"),
                show: text("git diff"),
            }),
            ..reply(9, "")
        },
    ];
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for reply in &replies {
        let turn = reply.turn.0;
        accept(&journal, keyed(turn, "p", &format!("k{turn}")));
        keep(&journal, ended(reply.clone())).expect("it is kept");
    }
    drop(journal);
    let journal = Journal::open(&path).expect("it is there");
    assert!(journal.recovered().closed_in_order);
    for reply in &replies {
        assert_eq!(recorded(&journal, &format!("k{}", reply.turn.0)), *reply);
    }
    assert_eq!(journal.queued("main"), Ok(vec![]));
}

/// Leaves a journal as a dead owner would: nothing more is written, and the lock is gone.
fn kill(journal: Journal, path: &std::path::Path) -> PathBuf {
    let dead = path.with_extension("dead");
    // The log is copied before the main file: nothing is brought in from it meanwhile, because nothing is committed.
    for ending in ["-wal", ""] {
        let name = |path: &std::path::Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            name
        };
        fs::copy(name(path), name(&dead)).expect("a copy");
    }
    drop(journal);
    dead
}

#[test]
fn what_a_dead_owner_left_open_is_queued_again_or_in_doubt_by_how_far_it_had_come() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for turn in 1..=5 {
        accept(&journal, keyed(turn, "p", &format!("k{turn}")));
    }
    for turn in 2..=5 {
        dispatch(&journal, turn);
    }
    let back = Record::HandedBack {
        turn: TurnId(3),
        attempt: 1,
    };
    keep(&journal, back).expect("it is kept");
    journal.put(piece(4, 1, b"so "), None);
    journal.put(piece(4, 1, b"far\xff"), None);
    journal.flush().expect("it is kept");
    keep(&journal, ended(reply(5, "done"))).expect("it is kept");
    assert!(matches!(known(&journal, "k1"), Known::Queued(_)));
    assert!(matches!(known(&journal, "k2"), Known::Running(_)));
    assert!(matches!(known(&journal, "k3"), Known::Queued(_)));
    let dead = kill(journal, &path);

    let journal = Journal::open(&dead).expect("it recovers");
    let recovered = journal.recovered();
    assert_eq!(recovered.queued, 2);
    assert_eq!(recovered.indeterminate, [TurnId(2), TurnId(4)]);
    assert!(recovered.not_kept.is_empty() && !recovered.closed_in_order);
    let queued = journal.queued("main").expect("it can be read");
    let turns: Vec<_> = queued.iter().map(|accepted| accepted.turn.0).collect();
    assert_eq!(turns, [1, 3]);
    assert_eq!((queued[0].attempts, queued[1].attempts), (0, 1));
    let cut = recorded(&journal, "k4");
    assert_eq!((cut.text.as_str(), cut.lossy), ("so far\u{fffd}", true));
    assert!(
        matches!(cut.outcome, Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::ManagerDied)
    );
    assert_eq!(recorded(&journal, "k5"), reply(5, "done"));
    assert_eq!(journal.next_turn(), TurnId(6));

    // Whoever comes next finds the same.
    drop(journal);
    let journal = Journal::open(&dead).expect("it recovers");
    assert_eq!(journal.recovered().queued, 2);
    assert!(journal.recovered().indeterminate.is_empty());
}

#[test]
fn what_an_earlier_attempt_may_have_done_is_not_forgotten_with_one_that_was_handed_back() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, keyed(1, "p", "k1"));
    dispatch(&journal, 1);
    journal.put(piece(1, 1, b"so far"), None);
    journal.flush().expect("it is kept");
    keep(&journal, Record::Dispatching(dispatching(1, 2))).expect("it is kept");
    let back = Record::HandedBack {
        turn: TurnId(1),
        attempt: 2,
    };
    keep(&journal, back).expect("it is kept");
    assert!(matches!(known(&journal, "k1"), Known::Running(_)));
    assert_eq!(journal.queued("main"), Ok(vec![]));
    let dead = kill(journal, &path);

    let journal = Journal::open(&dead).expect("it recovers");
    assert_eq!(journal.recovered().indeterminate, [TurnId(1)]);
    let doubtful = recorded(&journal, "k1");
    assert_eq!(doubtful.text, "so far");
    let shown = journal.history().expect("it opens").show(TurnId(1));
    let shown = shown.expect("it can be read").expect("it is there");
    assert_eq!(shown.prompt.attempts, 2);
}

#[test]
fn with_hashes_alone_no_text_reaches_the_disk_and_what_was_queued_cannot_run_again() {
    let (folder, path) = place();
    let hashing = || Journal::options().bodies(Bodies::Hash);
    let journal = hashing().open(&path).expect("a new one");
    answer(&journal, keyed(1, "secret prompt", "k1"), "secret reply");
    accept(&journal, keyed(2, "secret too", "k2"));
    accept(&journal, keyed(3, "secret as well", "k3"));
    dispatch(&journal, 3);
    journal.put(piece(3, 1, b"secret piece"), None);
    journal.flush().expect("it is kept");
    assert_eq!(journal.queued("main"), Ok(vec![]), "a hash is no prompt");
    let dead = kill(journal, &path);
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let bytes = fs::read(file.expect("a file").path()).expect("it can be read");
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }

    let journal = hashing().open(&dead).expect("it recovers");
    assert_eq!(journal.recovered().not_kept, [TurnId(2)]);
    assert_eq!(journal.recovered().indeterminate, [TurnId(3)]);
    let Known::Ended(prompt, reply) = known(&journal, "k1") else {
        panic!("it has ended")
    };
    // printf 'secret prompt' | sha256sum
    assert!(prompt.prompt.text.starts_with("sha256:"));
    assert_eq!(prompt.prompt.text.len(), "sha256:".len() + 64);
    assert_ne!(prompt.prompt.text, reply.text);
    // Whoever sends it again with its key has sent the same.
    let again = |text: &str| journal.is_same(&prompt.prompt, &accepted(9, text).prompt);
    assert!(again("secret prompt"));
    assert!(!again("another prompt"));
    assert!(matches!(
        recorded(&journal, "k2").outcome,
        Outcome::Failed(_)
    ));
}

#[test]
fn only_its_user_may_read_any_of_its_files() {
    let (folder, path) = place();
    fs::write(&path, b"").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("wide open");
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "p"));
    let mut names = Vec::new();
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
        names.push(file.file_name().into_string().expect("a text"));
    }
    names.sort();
    let expected = ["", "-shm", "-wal", ".lock", ".reserve"];
    assert_eq!(names, expected.map(|ending| format!("books.db{ending}")));
}

#[test]
fn a_second_owner_is_refused_at_once_with_the_first_ones_number() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    match Journal::open(&path) {
        Err(JournalError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let clone = journal.clone();
    drop(journal);
    assert!(Journal::open(&path).is_err(), "a handle is left");
    drop(clone);
    Journal::open(&path).expect("it is free");
}

#[test]
fn what_follows_a_prompt_that_is_not_there_is_refused() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let unknown = keep(&journal, Record::Dispatching(dispatching(9, 1)));
    assert!(
        matches!(unknown, Err(StoreError::Full { .. })),
        "{unknown:?}"
    );
    let unknown = keep(&journal, ended(reply(9, "")));
    assert!(
        matches!(unknown, Err(StoreError::Full { .. })),
        "{unknown:?}"
    );
    answer(&journal, accepted(1, "p"), "r");
    let again = keep(&journal, ended(reply(1, "again")));
    assert!(again.is_err(), "it has its one end");
}

#[test]
fn records_put_together_are_kept_in_their_order() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let mut said = Vec::new();
    for turn in 1..=200 {
        said.push(put(
            &journal,
            Record::Accepted(Box::new(accepted(turn, "p"))),
        ));
        said.push(put(&journal, Record::Dispatching(dispatching(turn, 1))));
        journal.put(piece(turn, 1, b"a piece"), None);
        said.push(put(&journal, ended(reply(turn, "r"))));
    }
    for said in said {
        assert_eq!(said.recv().expect("an answer"), Ok(()));
    }
    assert_eq!(journal.next_turn(), TurnId(201));
    drop(journal);
    let journal = Journal::open(&path).expect("it is there");
    assert_eq!(journal.recovered().queued, 0);
    assert!(journal.recovered().indeterminate.is_empty());
}

#[test]
fn numbers_and_order_do_not_follow_the_clock_on_the_wall() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for (turn, seconds) in [(1, 1000), (2, 0), (3, 500)] {
        let prompt = Accepted {
            at: at(seconds),
            ..accepted(turn, "p")
        };
        accept(&journal, prompt);
    }
    drop(journal);
    let journal = Journal::open(&path).expect("it is there");
    let queued = journal.queued("main").expect("it can be read");
    let turns: Vec<_> = queued.iter().map(|accepted| accepted.turn.0).collect();
    assert_eq!(turns, [1, 2, 3]);
    assert_eq!(journal.next_turn(), TurnId(4));
}

#[test]
fn the_last_handle_may_go_in_what_a_record_calls() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let (done, said) = std::sync::mpsc::channel();
    let held = journal.clone();
    let hold = move |result| {
        drop(held);
        let _ = done.send(result);
    };
    let record = Record::Accepted(Box::new(accepted(1, "p")));
    journal.put(record, Some(Box::new(hold)));
    drop(journal);
    assert_eq!(said.recv().expect("an answer"), Ok(()));
}
