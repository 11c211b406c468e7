//! Callers who change their minds.

use std::time::Duration;

use serde_json::json;

use crate::claude::claude;
use crate::tool::{one, settle};

#[tokio::test(start_paused = true)]
async fn dropping_the_question_withdraws_it() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    let (running, queued) = (cluster.ask("runs"), cluster.ask("waits"));
    {
        let mut both = Box::pin(async { tokio::join!(running, queued) });
        tokio::select! {
            biased;
            _ = &mut both => panic!("nobody answered"),
            _ = tool.read() => {}
        }
        settle().await;
    }
    // The one that runs cannot be stopped by this tool, so its process goes after the grace.
    let mut second = tools.next_ready().await;
    let books = cluster.status().await.expect("it lives").books;
    assert_eq!(
        (
            books.cancelled,
            books.indeterminate,
            books.queued,
            books.running
        ),
        (1, 1, 0, 0)
    );
    let (reply, ()) = tokio::join!(cluster.ask("next"), second.turn());
    assert_eq!(reply.expect("completed").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_turn_that_ends_in_time_costs_no_process() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let stream = cluster.stream("runs").await.expect("accepted");
    let read = tool.read().await;
    for _ in 0..100 {
        stream.cancel().await;
    }
    tool.answer(&read.nonce, "just done").await;
    assert_eq!(stream.reply().await.expect("completed").text, "just done");
    let (reply, ()) = tokio::join!(cluster.ask("next"), tool.turn());
    assert_eq!(reply.expect("completed").generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_turn_that_does_not_stop_is_killed_and_in_doubt() {
    let (cluster, mut tool, tools) =
        one(|builder| builder.interrupt_grace(Duration::from_secs(7))).await;
    let stream = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let began = tokio::time::Instant::now();
    stream.cancel().await;
    let error = stream.reply().await.expect_err("in doubt");
    // The next one may have been started by now: a cancel is no failure that it would have to wait for.
    assert_eq!(
        tools.world.launches() - tools.world.alive(),
        1,
        "the process is gone before anybody hears of the end"
    );
    assert!(error.to_string().contains("cancel_unconfirmed"), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(7));
    drop(cluster);
}

#[tokio::test(start_paused = true)]
async fn a_detached_turn_runs_to_its_end() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    cluster.stream("runs").await.expect("accepted").detach();
    tool.turn().await;
    settle().await;
    assert_eq!(cluster.status().await.expect("it lives").books.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_which_nothing_was_written_is_not_in_doubt_when_its_instance_is_stopped() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    tool.close_stdin();
    let asked = cluster.stream("unread").await.expect("accepted");
    let (restarted, second) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    tokio::spawn(second.serve());
    let reply = asked.reply().await.expect("it was never sent before");
    assert_eq!(reply.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_turn_whose_tool_confirms_is_canceled_and_costs_no_process() {
    let (cluster, mut tool, _tools) = claude(|builder| builder).await;
    let asked = cluster.stream("runs").await.expect("accepted");
    let id = tool.take_up().await;
    settle().await;
    asked.cancel().await;
    let interrupt = tool.read_json().await;
    assert_eq!(interrupt["request"]["subtype"], "interrupt");
    tool.confirm(&interrupt).await;
    tool.say_json(json!({
        "type": "result", "subtype": "error_during_execution", "is_error": true, "session_id": "s",
        "user_message_uuid": id, "terminal_reason": "aborted_streaming", "errors": ["diagnostic"],
    }))
    .await;
    assert_eq!(
        asked.reply().await.expect_err("withdrawn").code(),
        "cancelled"
    );
    let answer = async {
        let id = tool.take_up().await;
        tool.end_turn(&id, "fine").await;
    };
    let (reply, ()) = tokio::join!(cluster.ask("next"), answer);
    let reply = reply.expect("completed");
    assert_eq!((reply.text.as_str(), reply.generation), ("fine", 1));
    let books = cluster.status().await.expect("it lives").books;
    assert_eq!(
        (books.cancelled, books.completed, books.indeterminate),
        (1, 1, 0)
    );
}
