//! What a journal knows of sessions when it is opened again, and what was said in them.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use books::{accept, accepted, at, dispatch, ended, place, put, reply};
use toolpool_cluster::{
    Accepted, Conversing, Doubt, DoubtCause, Outcome, Record, Reply, Said, Store, TurnId,
};
use toolpool_journal::{Bodies, Journal, Retention};

fn conversing(session: &str, since: u64, last: u64) -> Conversing {
    Conversing {
        cluster: "main".into(),
        session: session.to_owned(),
        instance: "main/2".into(),
        tool: "codex".into(),
        cwd: "/srv/a b".into(),
        conversation: Some("0198-'x'".to_owned()),
        folder: "/srv/books.db.sessions/main/toolpool-codex-1".into(),
        since: TurnId(since),
        last: TurnId(last),
        in_doubt: last.is_multiple_of(2),
        at: at(last),
    }
}

fn tell(journal: &Journal, known: Conversing) {
    journal.put(Record::Session(Box::new(known)), None);
}

/// A turn of a session from its acceptance to its end.
fn turn(journal: &Journal, session: &str, number: u64, text: &str, end: Reply) {
    let prompt = Accepted {
        session: Some(session.to_owned()),
        ..accepted(number, text)
    };
    accept(journal, prompt);
    dispatch(journal, number);
    put(journal, ended(end));
}

#[test]
fn the_last_word_on_a_session_counts_and_a_closed_one_is_forgotten() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    tell(&journal, conversing("a", 1, 1));
    tell(&journal, conversing("b", 2, 2));
    let nameless = Conversing {
        conversation: None,
        ..conversing("c", 3, 3)
    };
    tell(&journal, nameless.clone());
    tell(&journal, conversing("a", 1, 4));
    let other = Conversing {
        cluster: "other".into(),
        ..conversing("a", 5, 5)
    };
    tell(&journal, other.clone());
    let closed = Record::SessionClosed {
        cluster: "main".into(),
        session: "b".to_owned(),
    };
    journal.put(closed, None);
    drop(journal);
    let journal = Journal::open(&path).expect("it is there");
    let known = vec![nameless, conversing("a", 1, 4)];
    assert_eq!(journal.sessions("main"), Ok(known));
    assert_eq!(journal.sessions("other"), Ok(vec![other]));
    assert_eq!(
        journal.folders().expect("it has a place"),
        journal.path().with_extension("db.sessions")
    );
}

#[test]
fn a_session_is_durable_with_the_next_record_that_is_waited_for() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    accept(&journal, accepted(1, "hello"));
    tell(&journal, conversing("a", 1, 1));
    dispatch(&journal, 1);
    // The journal was not asked to write anything else meanwhile.
    let known = journal.sessions("main").expect("it can be read");
    assert_eq!(known, [conversing("a", 1, 1)]);
}

#[test]
fn what_was_said_comes_back_in_order_and_the_oldest_is_left_out() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    turn(&journal, "s", 1, "before it was closed", reply(1, "old"));
    turn(&journal, "s", 2, "first", reply(2, "one"));
    turn(&journal, "other", 3, "elsewhere", reply(3, "no"));
    let doubt = Doubt {
        cause: DoubtCause::TimedOut,
        detail: String::new(),
    };
    let cut = Reply {
        outcome: Outcome::Indeterminate(doubt),
        ..reply(4, "tw")
    };
    turn(&journal, "s", 4, "second", cut);
    let never_ran = Accepted {
        session: Some("s".to_owned()),
        ..accepted(5, "never ran")
    };
    accept(&journal, never_ran);
    let never_read = Accepted {
        session: Some("s".to_owned()),
        ..accepted(6, "never read")
    };
    accept(&journal, never_read);
    dispatch(&journal, 6);
    let back = Record::HandedBack {
        turn: TurnId(6),
        attempt: 1,
    };
    journal.put(back, None);
    let withdrawn = Reply {
        outcome: Outcome::Cancelled,
        ..reply(6, "")
    };
    put(&journal, ended(withdrawn))
        .recv()
        .expect("an answer")
        .expect("it is kept");
    let said = |turn, prompt: &str, reply: &str, outcome: &str| Said {
        turn: TurnId(turn),
        prompt: prompt.to_owned(),
        reply: reply.to_owned(),
        outcome: outcome.to_owned(),
    };
    let first = said(2, "first", "one", "completed");
    let second = said(4, "second", "tw", "indeterminate");
    let read = |max_bytes| journal.said("main", "s", TurnId(2), max_bytes);
    assert_eq!(read(1000), Ok(vec![first, second.clone()]));
    assert_eq!(read(8), Ok(vec![second]));
    assert_eq!(journal.said("other", "s", TurnId(0), 1000), Ok(vec![]));
}

#[test]
fn with_hashes_alone_nothing_that_was_said_comes_back() {
    let (_folder, path) = place();
    let hashes = Journal::options().bodies(Bodies::Hash);
    let journal = hashes.open(&path).expect("a new one");
    turn(&journal, "s", 1, "secret", reply(1, "secret"));
    assert_eq!(journal.said("main", "s", TurnId(0), 1000), Ok(vec![]));
}

#[test]
fn a_session_stays_known_for_as_long_as_one_of_its_prompts_is_open() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for session in ["waits", "over"] {
        let number = if session == "waits" { 1 } else { 2 };
        turn(&journal, session, number, "p", reply(number, "r"));
        tell(&journal, conversing(session, number, number));
    }
    let waiting = Accepted {
        session: Some("waits".to_owned()),
        ..accepted(3, "and then?")
    };
    accept(&journal, waiting);
    let old = Retention {
        older_than: Some(std::time::Duration::from_secs(86_400)),
        ..Retention::default()
    };
    assert_eq!(journal.prune(&old).expect("it can be written").prompts, 2);
    let known = journal.sessions("main").expect("it can be read");
    assert_eq!(known, [conversing("waits", 1, 1)]);
}
