//! Tools that show no life in a turn, and tools that do.

use std::time::Duration;

use toolpool_cluster::{EventKind, Heard, InstanceState};
use toolpool_pool_core::launcher::GroupSignal;

use crate::tool::{Tools, one, settle};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_falls_silent_is_killed_and_one_that_mutters_aside_is_not() {
    let (cluster, mut tool, mut tools) = one(|builder| builder.silence_timeout(seconds(30))).await;
    let asked = cluster.stream("think long").await.expect("accepted");
    tool.read().await;
    tool.say("hm").await;
    for _ in 0..10 {
        tokio::time::sleep(seconds(29)).await;
        // What goes to standard error is no part of the reply, but a sign of life.
        tool.complain(".").await;
        settle().await;
    }
    let spoke = tokio::time::Instant::now();
    let killed = async {
        assert_eq!(tool.signaled().await, GroupSignal::Terminate);
        assert_eq!(spoke.elapsed().as_millis(), 30_100);
    };
    let (reply, ()) = tokio::join!(asked.reply(), killed);
    let error = reply.expect_err("in doubt").to_string();
    assert!(
        error.contains("timed_out") && error.contains("silence timeout"),
        "{error}"
    );
    let (reply, ()) = tokio::join!(cluster.ask("next"), async {
        tools.next_ready().await.turn().await;
    });
    assert_eq!(reply.expect("completed").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn silence_is_seen_from_outside_and_so_is_its_end() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let silent = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        status.instances[0].silent_for_s
    };
    let asked = cluster.stream("think long").await.expect("accepted");
    let read = tool.read().await;
    tool.say("hm").await;
    assert_eq!(silent().await, None);
    tokio::time::sleep(seconds(45)).await;
    let said = silent().await.expect("it is silent");
    assert!((44.0..46.0).contains(&said), "{said}");
    let explanation = cluster.explain(0).await.expect("it lives").to_string();
    assert!(
        explanation.contains("Nothing has come from it for 45 s"),
        "{explanation}"
    );
    tool.say("ah").await;
    assert_eq!(silent().await, None);
    tokio::time::sleep(seconds(45)).await;
    assert!(silent().await.is_some());
    tool.answer(&read.nonce, "!").await;
    asked.reply().await.expect("completed");
    assert_eq!(silent().await, None);
}

#[tokio::test(start_paused = true)]
async fn silence_and_its_end_are_told_once_each_and_waiting_for_the_end_of_a_turn_is_enough() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let mut events = cluster.subscribe();
    for breaks in [true, false] {
        let asked = cluster.stream("think long").await.expect("accepted");
        let read = tool.read().await;
        tokio::time::sleep(seconds(45)).await;
        if breaks {
            tool.say("hm").await;
            settle().await;
        }
        tool.answer(&read.nonce, "!").await;
        asked.reply().await.expect("completed");
    }
    cluster.shutdown_within(Duration::ZERO).await;
    let mut told = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        match event.kind {
            EventKind::TurnSilent { turn, silent, .. } => {
                told.push(format!("{turn} silent for {} s", silent.as_secs()));
            }
            EventKind::TurnHeard { turn, silent, .. } => {
                told.push(format!("{turn} heard after {} s", silent.as_secs()));
            }
            EventKind::TurnEnded { turn, .. } => told.push(format!("{turn} ends")),
            _ => {}
        }
    }
    assert_eq!(
        told,
        [
            "t1 silent for 10 s",
            "t1 heard after 45 s",
            "t1 ends",
            "t2 silent for 10 s",
            "t2 heard after 45 s",
            "t2 ends",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_a_tool_does_not_take_ends_in_doubt_if_a_part_of_it_is_gone() {
    let (cluster, mut tool, mut tools) = one(|builder| builder.write_timeout(seconds(20))).await;
    // More than the pipe holds, and nobody reads it.
    let asked = cluster.stream("a".repeat(200_000)).await.expect("accepted");
    let began = tokio::time::Instant::now();
    let killed = async {
        assert_eq!(tool.signaled().await, GroupSignal::Terminate);
        assert_eq!(began.elapsed().as_millis(), 20_100);
    };
    let (reply, ()) = tokio::join!(asked.reply(), killed);
    let error = reply.expect_err("in doubt").to_string();
    assert!(
        error.contains("timed_out") && error.contains("write timeout"),
        "{error}"
    );
    assert_eq!(tools.next_ready().await.generation, "2");
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_taken_slowly_is_taken_whole() {
    let (cluster, mut tool, _tools) = one(|builder| builder.write_timeout(seconds(20))).await;
    let asked = cluster.stream("a".repeat(200_000)).await.expect("accepted");
    let slow = async {
        let mut read = String::new();
        while read.len() < 200_000 {
            tokio::time::sleep(seconds(19)).await;
            read.push_str(&tool.read_some(20_000).await);
        }
        let (nonce, _) = read.split_once(' ').expect("a prompt");
        tool.answer(nonce, "took it").await;
    };
    let (reply, ()) = tokio::join!(asked.reply(), slow);
    assert_eq!(reply.expect("completed").text, "took it");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_waits_for_its_first_word_for_too_long_is_replaced() {
    let (builder, mut tools) = Tools::cluster(1);
    let builder = builder.first_byte_timeout(seconds(7));
    let (cluster, mut ready) = tools.launch(builder, 1).await;
    let mut tool = ready.pop().expect("one");
    let (reply, _) = tokio::join!(cluster.ask("x"), tool.read());
    let error = reply.expect_err("in doubt").to_string();
    assert!(error.contains("first-byte timeout"), "{error}");
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Backoff);
    assert_eq!(
        (status.instances[0].faults, status.instances[0].tool_errors),
        (1, 0)
    );
}
