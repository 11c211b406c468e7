//! What people ask of a journal.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use books::{
    accept, accepted, allowed, answer, at, dispatch, dispatching, ended, keep, keyed, piece, place,
    put, reply,
};
use toolpool_cluster::{
    Accepted, Doubt, DoubtCause, Event, EventKind, Known, Outcome, Record, Reply, Store, TurnId,
};
use toolpool_journal::{
    History, Journal, JournalError, PromptRow, Query, Retention, Settle, State,
};

/// Five prompts, of which each stands otherwise.
fn five(journal: &Journal) {
    let labeled = |turn, text: &str, item: &str| Accepted {
        labels: vec![
            ("batch".to_owned(), "b1".to_owned()),
            ("item".to_owned(), item.to_owned()),
        ],
        ..accepted(turn, text)
    };
    answer(
        journal,
        labeled(1, "Fix the Parser in src/foo-bar.rs", "one"),
        "The parser is fixed.",
    );
    let doubt = Reply {
        outcome: Outcome::Indeterminate(Doubt {
            cause: DoubtCause::TimedOut,
            detail: "after 5 s".to_owned(),
        }),
        ..reply(2, "so far")
    };
    accept(journal, labeled(2, "write tests", "two"));
    dispatch(journal, 2);
    keep(journal, ended(doubt)).expect("it is kept");
    let asks = Accepted {
        session: Some("s".to_owned()),
        tool: Some("aider".to_owned()),
        ..accepted(3, "résumé of the tests")
    };
    accept(journal, asks);
    accept(journal, accepted(4, "and this runs"));
    dispatch(journal, 4);
    answer(
        journal,
        labeled(5, "write tests, once more", "two"),
        "Done: 12 tests.",
    );
}

fn turns(rows: &[PromptRow]) -> Vec<u64> {
    rows.iter().map(|row| row.turn.0).collect()
}

#[test]
fn prompts_are_found_by_their_words_and_by_all_else() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    five(&journal);
    let history = journal.history().expect("it can be read");
    let some = |text: &str| Some(text.to_owned());
    let all = Query::default();
    let cases = [
        (all.clone(), vec![5, 4, 3, 2, 1]),
        (
            Query {
                limit: Some(2),
                ..all.clone()
            },
            vec![5, 4],
        ),
        (
            Query {
                text: some("TESTS"),
                ..all.clone()
            },
            vec![5, 3, 2],
        ),
        (
            Query {
                text: some("tests write"),
                ..all.clone()
            },
            vec![5, 2],
        ),
        (
            Query {
                text: some("\"tests write\""),
                ..all.clone()
            },
            vec![],
        ),
        (
            Query {
                text: some("foo-bar pars*"),
                ..all.clone()
            },
            vec![1],
        ),
        (
            Query {
                text: some("12 more"),
                ..all.clone()
            },
            vec![5],
        ),
        (
            Query {
                text: some("resume"),
                ..all.clone()
            },
            vec![3],
        ),
        (
            Query {
                text: some("tests"),
                limit: Some(1),
                ..all.clone()
            },
            vec![5],
        ),
        (
            Query {
                text: some("tests"),
                state: Some(State::Indeterminate),
                ..all.clone()
            },
            vec![2],
        ),
        (
            Query {
                tool: some("bash"),
                ..all.clone()
            },
            vec![5, 4, 2, 1],
        ),
        (
            Query {
                tool: some("aider"),
                ..all.clone()
            },
            vec![3],
        ),
        (
            Query {
                session: some("s"),
                ..all.clone()
            },
            vec![3],
        ),
        (
            Query {
                batch: some("b1"),
                ..all.clone()
            },
            vec![5, 2, 1],
        ),
        (
            Query {
                state: Some(State::Queued),
                ..all.clone()
            },
            vec![3],
        ),
        (
            Query {
                state: Some(State::Running),
                ..all.clone()
            },
            vec![4],
        ),
        (
            Query {
                state: Some(State::Completed),
                ..all.clone()
            },
            vec![5, 1],
        ),
        (
            Query {
                state: Some(State::Failed),
                ..all.clone()
            },
            vec![],
        ),
        (
            Query {
                since: Some(at(4)),
                ..all.clone()
            },
            vec![5, 4],
        ),
        (
            Query {
                since: Some(at(2)),
                until: Some(at(4)),
                ..all.clone()
            },
            vec![3, 2],
        ),
    ];
    // First nothing is indexed, then all that may be.
    for round in 0..2 {
        for (query, expected) in &cases {
            let found = history.find(query).expect("it can be read");
            assert_eq!(turns(&found), *expected, "{round}: {query:?}");
        }
        while indexed(&history) < 2 {
            thread::yield_now();
        }
    }
}

#[test]
fn a_batch_is_known_by_all_of_its_prompts_in_their_order() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    five(&journal);
    let waits = Accepted {
        labels: vec![("batch".to_owned(), "b1".to_owned())],
        ..accepted(6, "waits")
    };
    accept(&journal, waits);
    let known = journal.of_batch("b1").expect("it can be read");
    let ends: Vec<_> = known
        .iter()
        .map(|known| match known {
            Known::Ended(prompt, reply) => (prompt.turn.0, reply.outcome.word()),
            Known::Queued(prompt) => (prompt.turn.0, "queued"),
            Known::Running(prompt) => (prompt.turn.0, "running"),
        })
        .collect();
    let expected = [
        (1, "completed"),
        (2, "indeterminate"),
        (5, "completed"),
        (6, "queued"),
    ];
    assert_eq!(ends, expected);
    assert!(journal.of_batch("b2").expect("it can be read").is_empty());
}

/// The last turn of which the words are indexed.
fn indexed(history: &History) -> i64 {
    let sql = "SELECT last FROM numbers WHERE name = 'indexed'";
    let table = history.sql(sql, 1).expect("it can be read");
    table.rows[0][0].as_i64().expect("a number")
}

#[test]
fn a_prompt_is_shown_with_its_attempts_what_came_of_each_and_its_events() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "p"));
    dispatch(&journal, 1);
    journal.put(piece(1, 1, b"first "), None);
    journal.put(piece(1, 1, b"try"), None);
    journal.flush().expect("it is kept");
    keep(&journal, Record::Dispatching(dispatching(1, 2))).expect("it is kept");
    journal.put(piece(1, 2, b"second"), None);
    journal.put(Record::Event(told(1, turn_retrying())), None);
    journal.flush().expect("it is kept");
    let history = journal.history().expect("it can be read");
    let show = || {
        history
            .show(TurnId(1))
            .expect("it can be read")
            .expect("it is there")
    };
    let outputs = || -> Vec<_> {
        let tries = show().tries.into_iter();
        tries
            .map(|attempt| attempt.output.and_then(|output| output.text))
            .collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(outputs(), [some("first try"), some("second")]);
    assert_eq!(show().prompt.state, State::Running);

    let end = Record::Ended {
        reply: Box::new(reply(1, "second and last")),
        attempts: 2,
        at: at(9),
    };
    keep(&journal, end).expect("it is kept");
    assert_eq!(outputs(), [some("first try"), None]);
    let json = serde_json::to_string_pretty(&show()).expect("JSON");
    insta::assert_snapshot!("shown", json);
    assert_eq!(history.show(TurnId(2)).expect("it can be read"), None);
}

fn told(seq: u64, kind: EventKind) -> Event {
    Event {
        seq,
        at: at(seq),
        kind,
    }
}

fn turn_retrying() -> EventKind {
    EventKind::TurnRetrying {
        turn: TurnId(1),
        instance: "main/1".into(),
    }
}

#[test]
fn an_event_that_somebody_waits_for_is_kept_when_they_hear_and_in_its_place() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    // They share a commit.
    journal.put(Record::Event(told(1, turn_retrying())), None);
    let said = put(&journal, allowed(2));
    journal.put(Record::Event(told(3, turn_retrying())), None);
    said.recv().expect("an answer").expect("it is kept");
    let history = History::open(&path).expect("it can be read");
    let seqs = || -> Vec<_> {
        let events = history.events(0, 10).expect("it can be read").into_iter();
        events.map(|row| row.event["seq"].as_u64()).collect()
    };
    assert_eq!(seqs()[..2], [Some(1), Some(2)]);
    journal.flush().expect("it is kept");
    assert_eq!(seqs(), [Some(1), Some(2), Some(3)]);
}

#[test]
fn events_and_lives_go_on_over_the_owners_of_a_journal() {
    let (_folder, path) = place();
    for generation in [1, 2] {
        let journal = Journal::open(&path).expect("it can be opened");
        let spawned = EventKind::InstanceSpawned {
            instance: "main/1".into(),
            generation,
            pid: Some(7),
        };
        journal.put(Record::Event(told(1, spawned)), None);
        journal.put(Record::Event(told(2, EventKind::ClusterDraining)), None);
    }
    let history = History::open(&path).expect("it can be read");
    let events = history.events(1, 2).expect("it can be read");
    let heads: Vec<_> = events
        .iter()
        .map(|row| (row.id, row.event["seq"].clone()))
        .collect();
    assert_eq!(heads, [(2, 2.into()), (3, 1.into())]);
    assert_eq!(history.last_event().expect("it can be read"), 4);
    let lives = history.lives(Some("main/1")).expect("it can be read");
    let lost: Vec<_> = lives
        .iter()
        .map(|life| (life.generation, life.lost))
        .collect();
    assert_eq!(lost, [(1, true), (2, false)]);
    assert!(
        history
            .lives(Some("main/2"))
            .expect("it can be read")
            .is_empty()
    );
}

#[test]
fn a_batch_counts_each_item_once_by_its_latest_prompt() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    five(&journal);
    let history = journal.history().expect("it can be read");
    let batches = history.batches().expect("it can be read");
    let [batch] = &batches[..] else {
        panic!("{batches:?}")
    };
    assert_eq!(
        (batch.items, batch.completed, batch.indeterminate),
        (2, 2, 0)
    );
    assert_eq!((batch.first, batch.last), (at(1), at(5)));
    let items = history.batch("b1").expect("it can be read");
    let items: Vec<_> = items
        .iter()
        .map(|item| (item.item.as_str(), item.runs, item.latest.turn.0))
        .collect();
    assert_eq!(items, [("one", 1, 1), ("two", 2, 5)]);
    assert!(history.batch("b2").expect("it can be read").is_empty());
}

#[test]
fn a_doubt_is_settled_and_what_was_recorded_stays() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let doubt = Reply {
        outcome: Outcome::Indeterminate(Doubt {
            cause: DoubtCause::TimedOut,
            detail: String::new(),
        }),
        ..reply(1, "so far")
    };
    accept(&journal, keyed(1, "p", "k"));
    keep(&journal, ended(doubt)).expect("it is kept");
    answer(&journal, accepted(2, "p"), "r");
    let settle = |state| Settle {
        state,
        by: "ana".to_owned(),
        note: Some("I looked".to_owned()),
    };
    let refused = journal.resolve(TurnId(2), &settle(State::Failed));
    assert!(
        matches!(refused, Err(JournalError::NotInDoubt { .. })),
        "{refused:?}"
    );
    let refused = journal.resolve(TurnId(3), &settle(State::Failed));
    assert!(
        matches!(refused, Err(JournalError::Unknown { .. })),
        "{refused:?}"
    );
    let refused = journal.resolve(TurnId(1), &settle(State::Expired));
    assert!(
        matches!(refused, Err(JournalError::NotInDoubt { .. })),
        "{refused:?}"
    );

    for state in [State::Failed, State::Completed] {
        journal
            .resolve(TurnId(1), &settle(state))
            .expect("it is settled");
    }
    let history = journal.history().expect("it can be read");
    let shown = history
        .show(TurnId(1))
        .expect("it can be read")
        .expect("it is there");
    assert_eq!(shown.prompt.state, State::Completed);
    assert_eq!(shown.prompt.cause.as_deref(), Some("timed_out"));
    let steps: Vec<_> = shown
        .settlements
        .iter()
        .map(|step| (step.was, step.state))
        .collect();
    let expected = [
        (State::Indeterminate, State::Failed),
        (State::Failed, State::Completed),
    ];
    assert_eq!(steps, expected);
    let left = Query {
        state: Some(State::Indeterminate),
        ..Query::default()
    };
    assert!(history.find(&left).expect("it can be read").is_empty());
    match journal.find("k") {
        Ok(Some(Known::Ended(_, reply))) => assert_eq!(reply.outcome, Outcome::Completed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sql_reads_and_never_writes() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    five(&journal);
    let history = journal.history().expect("it can be read");
    let table = history
        .sql(
            "SELECT turn, state, tool, reply FROM history ORDER BY turn",
            3,
        )
        .expect("it can be read");
    assert_eq!(table.columns, ["turn", "state", "tool", "reply"]);
    assert!(table.more);
    let rows = serde_json::to_string(&table.rows).expect("JSON");
    let expected = r#"[[1,"completed","bash","The parser is fixed."],[2,"indeterminate","bash","so far"],[3,"queued","aider",null]]"#;
    assert_eq!(rows, expected);
    for changing in [
        "DELETE FROM prompts",
        "DROP TABLE ends",
        "PRAGMA user_version = 9",
        "VACUUM",
    ] {
        assert!(history.sql(changing, 1).is_err(), "{changing}");
    }
    let wrong = history.sql("SELEC", 1).expect_err("it is no SQL");
    assert!(wrong.to_string().contains("syntax error"), "{wrong}");
    assert_eq!(
        history.find(&Query::default()).expect("all is there").len(),
        5
    );
}

#[test]
fn an_export_has_every_prompt_in_full_on_a_line_of_its_own() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let long = "many\nlines ".repeat(100);
    answer(&journal, accepted(1, &long), &long);
    answer(&journal, accepted(2, "p"), "r");
    let history = journal.history().expect("it can be read");
    let mut lines = Vec::new();
    let written = history
        .export(&Query::default(), &mut lines)
        .expect("it can be read");
    assert_eq!(written, 2);
    let lines = String::from_utf8(lines).expect("a text");
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["turn"], 1);
    assert_eq!(lines[0]["prompt"]["text"], long.as_str());
    assert_eq!(lines[1]["reply"]["text"], "r");
    // In a listing there is the beginning of it.
    let rows = history.find(&Query::default()).expect("it can be read");
    let prompt = &rows[1].prompt;
    assert!(prompt.cut && prompt.bytes == long.len() as u64);
    assert!(long.starts_with(prompt.text.as_deref().expect("it is kept")));
}

#[test]
fn pruning_removes_what_is_old_or_too_much_and_never_what_is_open() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "still queued"));
    let text = "x".repeat(4000);
    for turn in 2..=300 {
        // Nobody waits for these, so they share commits.
        journal.put(Record::Accepted(Box::new(accepted(turn, &text))), None);
        journal.put(ended(reply(turn, &text)), None);
        journal.put(Record::Event(told(turn, EventKind::ClusterDraining)), None);
    }
    let size = || std::fs::metadata(&path).expect("a file").len();
    let keep_bytes = Retention {
        keep_bytes: Some(1 << 20),
        ..Retention::default()
    };
    let history = journal.history().expect("it can be read");
    assert_eq!(
        indexed(&history),
        0,
        "the prompt that is open holds the index back"
    );
    let pruned = journal.prune(&keep_bytes).expect("it can be written");
    assert!(pruned.prompts < 299 && pruned.bytes > 1 << 20, "{pruned:?}");
    assert!(size() <= 1 << 20, "{}", size());
    let mut kept = turns(&history.find(&Query::default()).expect("it can be read"));
    kept.sort_unstable();
    let (open, newest) = kept.split_first().expect("one is open");
    assert!(*open == 1 && newest.len() > 50, "{kept:?}");
    let first = 300 - newest.len() as u64 + 1;
    assert_eq!(newest, (first..=300).collect::<Vec<_>>(), "no newer one");

    // Their ends are of the year 2023.
    answer(&journal, accepted(301, "p"), "r");
    let day = Duration::from_secs(86_400);
    let old = Retention {
        older_than: Some(day),
        ..Retention::default()
    };
    let pruned = journal.prune(&old).expect("it can be written").prompts;
    assert_eq!(pruned, newest.len() as u64 + 1);
    assert_eq!(
        journal
            .prune(&Retention::default())
            .expect("nothing to do")
            .prompts,
        0
    );
    drop((journal, history));
    let journal = Journal::open(&path).expect("it is whole");
    assert_eq!(journal.next_turn(), TurnId(302), "no number is given again");
    assert_eq!(journal.queued("main").expect("it can be read").len(), 1);
}

#[test]
fn a_prompt_that_stays_keeps_its_events_and_one_that_goes_takes_them_along() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let retrying = |turn| EventKind::TurnRetrying {
        turn: TurnId(turn),
        instance: "main/1".into(),
    };
    accept(&journal, accepted(1, "still runs"));
    dispatch(&journal, 1);
    journal.put(Record::Event(told(1, retrying(1))), None);
    journal.put(Record::Event(told(2, EventKind::ClusterDraining)), None);
    answer(&journal, accepted(2, "over"), "r");
    journal.put(Record::Event(told(3, retrying(2))), None);
    journal.flush().expect("it is kept");
    let old = Retention {
        older_than: Some(Duration::from_secs(86_400)),
        ..Retention::default()
    };
    assert_eq!(journal.prune(&old).expect("it can be written").prompts, 1);
    let history = journal.history().expect("it can be read");
    let left = history.events(0, 100).expect("it can be read");
    assert_eq!(left.len(), 1, "{left:?}");
    let shown = history.show(TurnId(1)).expect("it can be read");
    assert_eq!(shown.expect("it is open").events.len(), 1);
    // The newest one has gone, and its number is not given again.
    drop((journal, history));
    let journal = Journal::open(&path).expect("it is whole");
    journal.put(Record::Event(told(4, EventKind::ClusterDraining)), None);
    journal.flush().expect("it is kept");
    let left = journal.history().expect("it opens").events(0, 100);
    let newest = left.expect("it can be read").pop().expect("it is kept");
    assert_eq!(newest.id, 4);
}

#[test]
fn who_reads_while_somebody_writes_sees_whole_prompts_only() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 1..=60 {
                answer(
                    &journal,
                    accepted(turn, &format!("prompt {turn}")),
                    &format!("reply {turn}"),
                );
            }
            ended.store(true, Ordering::Relaxed);
        });
        let history = History::open(&path).expect("it can be read");
        let mut seen = 0;
        while !ended.load(Ordering::Relaxed) {
            let rows = history.find(&Query::default()).expect("it can be read");
            assert!(rows.len() >= seen);
            seen = rows.len();
            for (row, turn) in rows.iter().rev().zip(1..) {
                assert_eq!(row.turn, TurnId(turn), "none is missing");
                let text = |text: &toolpool_journal::Text| text.text.clone().expect("it is kept");
                assert_eq!(text(&row.prompt), format!("prompt {turn}"));
                assert_eq!(row.reply.is_some(), row.state == State::Completed);
                if let Some(reply) = &row.reply {
                    assert_eq!(text(reply), format!("reply {turn}"));
                }
            }
        }
    });
}

#[test]
fn what_is_no_journal_is_not_read() {
    let (folder, path) = place();
    let missing = History::open(&path).expect_err("there is none");
    assert!(matches!(missing, JournalError::Missing { .. }), "{missing}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0,
        "and none is made"
    );
    std::fs::write(&path, "some text").expect("a file");
    let foreign = History::open(&path).expect_err("a text");
    assert!(matches!(foreign, JournalError::Foreign { .. }), "{foreign}");
}

#[test]
fn a_closed_journal_is_read_where_nothing_can_be_written_beside_it() {
    let (folder, _) = place();
    // Of these signs some mean something in the names that SQLite takes.
    let path = folder.path().join("50% of it? #1.db");
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "p"));
    assert!(journal.history().expect("it opens").is_written());
    drop(journal);
    // In the place of the log's index, so that it can be made by nobody.
    let index = folder.path().join("50% of it? #1.db-shm");
    std::fs::create_dir(&index).expect("space");
    let history = History::open(&path).expect("it can be read");
    assert_eq!(history.find(&Query::default()).expect("prompts").len(), 1);
    assert!(!history.is_written());
}
