//! Prompts and their replies.

use std::time::Duration;

use toolpool_cluster::{ControlError, OnLoss, Submission};
use toolpool_routing::Routing;

use crate::tool::{LONG, Tools, one, served, settle};

#[tokio::test(start_paused = true)]
async fn a_prompt_is_answered_with_all_that_is_known_of_its_turn() {
    let (cluster, mut tool, _tools) = one(|builder| builder.name("lab")).await;
    let (reply, ()) = tokio::join!(cluster.ask("hello\nworld"), tool.turn());
    let reply = reply.expect("completed");
    assert_eq!(reply.text, "lab/1: hello\nworld");
    assert_eq!(reply.instance.as_deref(), Some("lab/1"));
    assert_eq!((reply.generation, reply.lossy), (1, false));
    assert!(
        reply
            .attribution
            .is_some_and(|attribution| attribution.by == "sentinel")
    );
    assert_eq!(tool.generation, "1");
}

#[tokio::test(start_paused = true)]
async fn a_reply_streams_as_it_comes() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let mut stream = cluster.stream("tell").await.expect("accepted");
    let read = tool.read().await;
    tool.say("one ").await;
    assert_eq!(stream.chunk().await.as_deref(), Some(&b"one "[..]));
    tool.say("two").await;
    assert_eq!(stream.chunk().await.as_deref(), Some(&b"two"[..]));
    tool.answer(&read.nonce, " three").await;
    assert_eq!(stream.chunk().await.as_deref(), Some(&b" three"[..]));
    assert_eq!(stream.chunk().await, None);
    assert_eq!(
        stream.reply().await.expect("completed").text,
        "one two three"
    );
}

#[tokio::test(start_paused = true)]
async fn replies_to_what_was_sent_wait_to_be_read_in_order() {
    let (cluster, _world) = served(2, |builder| builder).await;
    let nothing = cluster.read_any(LONG).await;
    assert_eq!(
        nothing.expect_err("nothing sent"),
        ControlError::NothingSent
    );
    for text in ["a", "b", "c"] {
        cluster.send_to(1, text).await.expect("accepted");
    }
    let anywhere = cluster.send("d").await.expect("accepted");
    for text in ["a", "b", "c"] {
        assert_eq!(
            cluster.read(1, LONG).await.expect("a reply").text,
            format!("main/2: {text}")
        );
    }
    let last = cluster.read_any(LONG).await.expect("a reply");
    assert_eq!((last.turn, last.text.as_str()), (anywhere, "main/1: d"));
    assert_eq!(
        cluster.read(9, LONG).await.expect_err("no such one"),
        ControlError::NoInstance { index: 9, last: 1 }
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_that_comes_too_early_loses_nothing() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    cluster.send("slow").await.expect("accepted");
    let second = Duration::from_secs(1);
    assert_eq!(
        cluster.read(0, second).await.expect_err("not yet"),
        ControlError::NoReplyYet(second)
    );
    let reader = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.read(0, LONG).await }
    });
    settle().await;
    tool.turn().await;
    assert_eq!(
        reader.await.expect("it lives").expect("a reply").text,
        "main/1: slow"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_never_ran_is_read_where_it_was_sent_to() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    cluster.send_to(0, "runs").await.expect("accepted");
    let expires = Submission::text("waits").queue_timeout(Duration::from_secs(1));
    cluster.send_to(0, expires).await.expect("accepted");
    assert_eq!(
        cluster.read(0, LONG).await.expect("a reply").outcome.word(),
        "expired"
    );
    tool.turn().await;
    assert_eq!(
        cluster.read(0, LONG).await.expect("a reply").outcome.word(),
        "completed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_on_one_instance_in_order_and_fails_once_when_that_is_lost() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, ready) = tools.launch(builder.routing(Routing::RoundRobin), 3).await;
    let mut ready = ready.into_iter();
    let mut home = ready.next().expect("three");
    for tool in ready {
        tokio::spawn(tool.serve());
    }
    let session = cluster.session("chat");
    let texts = ["one", "two", "three"];
    let asks = async {
        tokio::join!(
            session.ask(texts[0]),
            session.ask(texts[1]),
            session.ask(texts[2])
        )
    };
    let serve = async {
        for text in texts {
            let read = home.read().await;
            assert_eq!(read.text, text);
            home.answer(&read.nonce, text).await;
        }
    };
    let (replies, ()) = tokio::join!(asks, serve);
    for (reply, text) in [replies.0, replies.1, replies.2].into_iter().zip(texts) {
        let reply = reply.expect("completed");
        assert_eq!(
            (reply.text.as_str(), reply.instance.as_deref()),
            (text, Some("main/1"))
        );
    }
    home.exit(0);
    let second = tools.next_ready().await;
    tokio::spawn(second.serve());
    settle().await;
    let lost = session
        .ask("four")
        .await
        .expect_err("the conversation is gone");
    assert_eq!(lost.code(), "failed");
    assert!(lost.to_string().contains("session_lost"), "{lost}");
    session.ask("five").await.expect("it begins anew");
    assert_eq!(cluster.status().await.expect("it lives").sessions, 1);
    session.close().await;
    assert_eq!(cluster.status().await.expect("it lives").sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_may_choose_to_begin_anew() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    let session = cluster.session("chat").on_loss(OnLoss::Fresh);
    let (first, ()) = tokio::join!(session.ask("one"), tool.turn());
    first.expect("completed");
    tool.exit(0);
    let second = tools.next_ready().await;
    tokio::spawn(second.serve());
    settle().await;
    assert_eq!(session.ask("two").await.expect("completed").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_accepted_says_why() {
    let (cluster, mut tool, _tools) = one(|builder| builder.queue_limit(2)).await;
    cluster.send("runs").await.expect("accepted");
    let read = tool.read().await;
    assert_eq!(
        cluster
            .send_to(1, "x")
            .await
            .expect_err("no such instance")
            .code(),
        "not_found"
    );
    for _ in 0..2 {
        cluster.send("waits").await.expect("accepted");
    }
    let refused = cluster
        .ask("too many")
        .await
        .expect_err("the queue is full");
    assert_eq!(refused.code(), "queue_full");
    assert!(
        refused
            .to_string()
            .contains("the queue is full (2 prompts)"),
        "{refused}"
    );
    assert_eq!(
        cluster
            .stream("too many")
            .await
            .err()
            .map(|error| error.code()),
        Some("queue_full")
    );
    assert_eq!(cluster.ask("").await.expect_err("empty").code(), "invalid");
    let books = cluster.status().await.expect("it lives").books;
    assert_eq!(
        (books.accepted, books.queued, books.running, books.refused),
        (3, 2, 1, 4)
    );
    tool.answer(&read.nonce, "done").await;
    for _ in 0..2 {
        tool.turn().await;
    }
    for _ in 0..3 {
        cluster.read_any(LONG).await.expect("a reply");
    }
    assert_eq!(cluster.status().await.expect("it lives").books.completed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_expires_in_the_queue_and_not_on_the_instance() {
    let (cluster, mut tool, _tools) =
        one(|builder| builder.queue_timeout(Duration::from_secs(5))).await;
    let running = cluster.stream("runs").await.expect("accepted");
    let read = tool.read().await;
    let expired = cluster.ask("waits").await.expect_err("expired");
    assert_eq!(expired.code(), "expired");
    assert_eq!(
        expired.reply().expect("a turn").queued,
        Duration::from_secs(5)
    );
    tool.answer(&read.nonce, "late").await;
    assert_eq!(running.reply().await.expect("completed").text, "late");
}

#[tokio::test(start_paused = true)]
async fn limits_without_end_are_no_overflow() {
    let (cluster, world) = served(1, |builder| {
        builder
            .turn_timeout(Duration::MAX)
            .queue_timeout(Duration::MAX)
            .start_timeout(Duration::MAX)
            .interrupt_grace(Duration::MAX)
    })
    .await;
    cluster
        .send(Submission::text("x").turn_timeout(Duration::MAX))
        .await
        .expect("accepted");
    cluster.read(0, Duration::MAX).await.expect("a reply");
    assert_eq!(
        cluster.shutdown_within(Duration::MAX).await.books.completed,
        1
    );
    assert_eq!(world.alive(), 0);
}
