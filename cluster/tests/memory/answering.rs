//! A tool's questions in a cluster with a journal: no tool has an answer before the journal does.

use std::time::Duration;

use serde_json::Value;
use toolpool_cluster::{
    Answer, Approvals, ClusterManager, ControlError, PermissionId, ReplyStream,
};

use crate::claude::claude;
use crate::journaling::{Desk, failed};
use crate::tool::{Tool, Tools, settle};

/// A turn of a tool that has asked whether it may run a command.
struct Asked {
    cluster: ClusterManager,
    stream: ReplyStream,
    tool: Tool,
    turn: Value,
    _tools: Tools,
}

async fn asked(desk: &Desk, approvals: Approvals) -> Asked {
    let (cluster, mut tool, tools) =
        claude(|builder| builder.approvals(approvals).journal(desk.clone())).await;
    let accepted = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.stream("test it").await }
    });
    desk.release("accepted t101 test it").await;
    desk.release("dispatching t101.1").await;
    let stream = accepted.await.expect("no panic").expect("accepted");
    let turn = tool.take_up().await;
    tool.ask_to_run("q", "npm test").await;
    settle().await;
    Asked {
        cluster,
        stream,
        tool,
        turn,
        _tools: tools,
    }
}

async fn hears_nothing(tool: &mut Tool) {
    let heard = tokio::time::timeout(Duration::from_secs(60), tool.hear()).await;
    assert!(heard.is_err(), "it was answered: {heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policys_answer_reaches_the_tool_when_the_journal_has_it() {
    let desk = Desk::default();
    let mut asked = asked(&desk, Approvals::All).await;
    assert_eq!(desk.waiting(), ["answered p1 true"]);
    hears_nothing(&mut asked.tool).await;
    desk.release("answered p1 true").await;
    assert_eq!(
        asked.tool.hear().await,
        ("q".to_owned(), "allow".to_owned())
    );
    asked.tool.end_turn(&asked.turn, "tested").await;
    desk.release("ended t101 completed 1 tested").await;
    assert_eq!(
        asked.stream.reply().await.expect("completed").text,
        "tested"
    );
}

#[tokio::test(start_paused = true)]
async fn a_person_hears_that_an_answer_was_taken_when_the_tool_has_it() {
    let desk = Desk::default();
    let mut asked = asked(&desk, Approvals::Ask).await;
    let answering = answer(&asked.cluster, PermissionId(1), Answer::Deny);
    settle().await;
    hears_nothing(&mut asked.tool).await;
    assert!(!answering.is_finished(), "the tool does not have it");
    desk.release("answered p1 false").await;
    assert_eq!(asked.tool.hear().await, ("q".to_owned(), "deny".to_owned()));
    assert_eq!(answering.await.expect("no panic"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_kept_after_its_turn_is_no_answer_to_the_next() {
    let desk = Desk::default();
    let mut asked = asked(&desk, Approvals::Ask).await;
    let answering = answer(&asked.cluster, PermissionId(1), Answer::Allow);
    settle().await;
    asked.tool.end_turn(&asked.turn, "without it").await;
    let next = tokio::spawn({
        let cluster = asked.cluster.clone();
        async move { cluster.stream("clean up").await }
    });
    settle().await;
    // The disk does all of it at once, and the next turn asks by the same name.
    desk.release("answered p1 true").await;
    assert_eq!(
        answering.await.expect("no panic"),
        Err(ControlError::NotOpen(PermissionId(1)))
    );
    desk.release("ended t101 completed 1 without it").await;
    desk.release("accepted t102 clean up").await;
    desk.release("dispatching t102.1").await;
    let _next = next.await.expect("no panic").expect("accepted");
    asked.tool.take_up().await;
    asked.tool.ask_to_run("q", "rm -r /").await;
    hears_nothing(&mut asked.tool).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_kept_never_reaches_the_tool() {
    let desk = Desk::default();
    let mut asked = asked(&desk, Approvals::All).await;
    desk.answer("answered p1 true", Err(failed())).await;
    let error = asked.stream.reply().await.expect_err("the cluster stops");
    assert!(error.to_string().contains("journal_failed"), "{error}");
    asked.cluster.shutdown().await;
    let heard = asked.tool.read_to_end().await;
    assert!(!heard.contains("allow"), "{heard}");
}

fn answer(
    cluster: &ClusterManager,
    permission: PermissionId,
    answer: Answer,
) -> tokio::task::JoinHandle<Result<(), ControlError>> {
    let cluster = cluster.clone();
    tokio::spawn(async move { cluster.answer(permission, answer).await })
}
