//! Prompts that are known by a key, and those that an earlier cluster has left.

use std::time::{Duration, SystemTime};

use toolpool_cluster::{
    Accepted, AskError, Known, Record, Store as _, Submission, SubmitError, TurnId,
};
use toolpool_pool_core::outcome::{DoubtCause, Outcome};
use toolpool_pool_core::prompt::Prompt;

use crate::journaling::{Desk, Sink, asking, with};
use crate::tool::{LONG, one, settle};

fn keyed(text: &str) -> Submission {
    Submission::text(text).key("k")
}

/// What an earlier cluster has accepted.
fn accepted(turn: u64, text: &str) -> Accepted {
    Accepted::new(TurnId(turn), "main", SystemTime::now(), Prompt::text(text))
}

fn left(desk: &Desk, accepted: Accepted) {
    desk.put(Record::Accepted(Box::new(accepted)), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_a_prompt_again_with_its_key_gets_the_one_reply() {
    let desk = Desk::quick();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let first = asking(&cluster, keyed("once"));
    let second = asking(&cluster, keyed("once"));
    settle().await;
    let read = tool.read().await;
    let third = asking(&cluster, keyed("once"));
    settle().await;
    tool.answer(&read.nonce, "done").await;
    for asked in [first, second, third, asking(&cluster, keyed("once"))] {
        let reply = asked.await.expect("no panic").expect("completed");
        assert_eq!((reply.text.as_str(), reply.turn), ("done", TurnId(101)));
        assert_eq!(reply.instance.as_deref(), Some("main/1"));
    }
    let mut stream = cluster.stream(keyed("once")).await.expect("it is known");
    assert_eq!(stream.turn(), TurnId(101));
    assert_eq!(stream.chunk().await.as_deref(), Some(&b"done"[..]));
    let sent = cluster.send(keyed("once")).await.expect("it is known");
    assert_eq!(sent, TurnId(101));
    assert_eq!(
        cluster.read_any(LONG).await.expect("it is known").text,
        "done"
    );
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (1, 1));
    let dispatched = desk.records().into_iter();
    let dispatched = dispatched.filter(|record| record.starts_with("dispatching"));
    assert_eq!(dispatched.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_that_of_one_prompt() {
    let desk = Desk::quick();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let first = asking(&cluster, keyed("once"));
    let read = tool.read().await;
    let conflict = SubmitError::KeyConflict { first: TurnId(101) };
    for _ in 0..2 {
        let refused = cluster
            .ask(keyed("another"))
            .await
            .expect_err("it is taken");
        assert_eq!(refused.code(), "key_conflict");
        assert!(matches!(refused, AskError::Submit(error) if error == conflict));
    }
    tool.answer(&read.nonce, "done").await;
    first.await.expect("no panic").expect("completed");
    let refused = cluster
        .ask(keyed("another"))
        .await
        .expect_err("it is taken");
    assert_eq!(refused.code(), "key_conflict", "also after its end");
    assert_eq!(cluster.shutdown().await.books.refused, 3);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_with_a_key_goes_on_when_its_caller_has_gone() {
    let desk = Desk::quick();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let gone = asking(&cluster, keyed("once"));
    let read = tool.read().await;
    gone.abort();
    settle().await;
    tool.answer(&read.nonce, "done").await;
    let reply = cluster.ask(keyed("once")).await.expect("completed");
    assert_eq!(reply.text, "done");
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_not_told_that_it_is_accepted_before_that_is_durable() {
    let desk = Desk::default();
    let (cluster, _tool, _tools) = with(&desk).await;
    let streams: Vec<_> = (0..2)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.stream(keyed("once")).await.map(drop) })
        })
        .collect();
    // The paused time goes on only when the key has been looked up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.waiting(), ["accepted t101 once", "dispatching t101.1"]);
    assert!(streams.iter().all(|stream| !stream.is_finished()));
    desk.release("accepted t101 once").await;
    for stream in streams {
        stream.await.expect("no panic").expect("accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_journal_is_refused() {
    let (cluster, _tool, _tools) = one(|builder| builder).await;
    let refused = cluster.ask(keyed("once")).await.expect_err("no journal");
    assert!(matches!(
        refused,
        AskError::Submit(SubmitError::KeyWithoutJournal)
    ));
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_cluster_left_queued_runs_again_under_its_number_and_its_key() {
    let desk = Desk::quick();
    left(&desk, accepted(7, "seventh"));
    let key = Some("k".to_owned());
    left(
        &desk,
        Accepted {
            key,
            ..accepted(8, "eighth")
        },
    );
    let of_a_batch = |turn, text, key: Option<&str>| Accepted {
        labels: vec![("batch".to_owned(), "b1".to_owned())],
        key: key.map(str::to_owned),
        ..accepted(turn, text)
    };
    left(
        &desk,
        of_a_batch(9, "its batch asks for it", Some("b1/x#1")),
    );
    // Nobody can name this one, so nobody else will take it up.
    left(&desk, of_a_batch(11, "eleventh", None));
    let cluster = "other".into();
    left(
        &desk,
        Accepted {
            cluster,
            ..accepted(10, "of another cluster")
        },
    );
    let (cluster, mut tool, _tools) =
        one(|builder| builder.journal(desk.clone()).queue_limit(1)).await;
    let asked = asking(&cluster, keyed("eighth"));
    for text in ["seventh", "eighth", "eleventh"] {
        let read = tool.read().await;
        assert_eq!(read.text, text);
        tool.answer(&read.nonce, text).await;
    }
    let reply = asked.await.expect("no panic").expect("completed");
    assert_eq!((reply.turn, reply.text.as_str()), (TurnId(8), "eighth"));
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (3, 3));
    let ends = desk.records().into_iter();
    let ends: Vec<_> = ends.filter(|it| it.starts_with("ended")).collect();
    assert_eq!(
        ends,
        [
            "ended t7 completed 1 seventh",
            "ended t8 completed 1 eighth",
            "ended t11 completed 1 eleventh"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_and_nobody_took_up_runs_under_its_number_when_it_is_sent_again() {
    let desk = Desk::quick();
    let labels = vec![("batch".to_owned(), "b1".to_owned())];
    let key = Some("k".to_owned());
    let item = Accepted {
        labels,
        key,
        attempts: 2,
        ..accepted(9, "item")
    };
    left(&desk, item);
    let (cluster, mut tool, _tools) = with(&desk).await;
    let (reply, ()) = tokio::join!(cluster.ask(keyed("item")), tool.turn());
    assert_eq!(reply.expect("completed").turn, TurnId(9));
    let records = desk.records();
    assert_eq!(
        records
            .iter()
            .filter(|it| it.starts_with("accepted"))
            .count(),
        1
    );
    assert!(
        records.contains(&"dispatching t9.3".to_owned()),
        "{records:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_on_this_cluster_stays_queued_and_that_is_told() {
    let desk = Desk::quick();
    let tool = Some("cobol".to_owned());
    left(
        &desk,
        Accepted {
            tool,
            ..accepted(7, "elsewhere")
        },
    );
    let late = SystemTime::now() - Duration::from_secs(100);
    let queue_timeout = Some(Duration::from_secs(60));
    left(
        &desk,
        Accepted {
            at: late,
            queue_timeout,
            ..accepted(8, "late")
        },
    );
    let events = Sink::default();
    let (cluster, _tool, _tools) =
        one(|builder| builder.journal(desk.clone()).sink(events.clone())).await;
    cluster.shutdown().await;
    let told = events.told();
    let mut told = told.iter().filter(|event| event.starts_with("left"));
    let left = told.next().expect("it is told");
    assert!(left.starts_with("left t7: there is no instance"), "{left}");
    assert_eq!(told.next(), None);
    let ends = desk.records().into_iter();
    let ends: Vec<_> = ends.filter(|it| it.starts_with("ended")).collect();
    assert_eq!(ends, ["ended t8 expired 0 "]);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_in_the_books_for_the_tool_that_was_there_when_it_was_accepted() {
    let desk = Desk::quick();
    let (cluster, _tool, _tools) = with(&desk).await;
    cluster.send(keyed("ls")).await.expect("accepted");
    let known = desk.find("k").expect("it can be read");
    let Some(Known::Running(accepted)) = known else {
        panic!("{known:?}")
    };
    // A later cluster of a shell would do what this one's model was told.
    assert_eq!(accepted.tool.as_deref(), Some("standin"));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_whose_end_is_nowhere_is_in_doubt_for_whoever_asks_again() {
    let desk = Desk::quick();
    let key = Some("k".to_owned());
    left(
        &desk,
        Accepted {
            key,
            ..accepted(7, "lost")
        },
    );
    desk.begin(TurnId(7));
    let (cluster, _tool, _tools) = with(&desk).await;
    let Err(AskError::Turn(reply)) = cluster.ask(keyed("lost")).await else {
        panic!("nobody knows")
    };
    assert_eq!(reply.turn, TurnId(7));
    let Outcome::Indeterminate(doubt) = reply.outcome else {
        panic!("{:?}", reply.outcome)
    };
    assert_eq!(doubt.cause, DoubtCause::Stopped);
}
