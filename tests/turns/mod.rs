//! What the tests of every real tool do with turns.

#![allow(dead_code, reason = "each test uses a part of this")]

use std::path::PathBuf;

use tokio::task::JoinSet;
use toolpool::worktree::Landed;
use toolpool::{AskError, ClusterManager, Reply, Submission};

/// The reply of a turn that did not complete.
pub(crate) fn not_completed(result: Result<Reply, AskError>) -> Reply {
    match result {
        Err(AskError::Turn(reply)) => *reply,
        other => panic!("it should not have completed: {other:?}"),
    }
}

/// Asks all of it at the same time, each in an empty conversation, and hands over each prompt with its reply.
///
/// Panics if one was not answered.
pub(crate) async fn ask_all_afresh(
    cluster: &ClusterManager,
    prompts: Vec<String>,
) -> Vec<(String, Reply)> {
    let mut asks = JoinSet::new();
    for prompt in prompts {
        let cluster = cluster.clone();
        asks.spawn(async move {
            let reply = cluster.ask(Submission::text(&prompt).fresh()).await;
            (prompt, reply)
        });
    }
    let mut answered = Vec::new();
    while let Some(done) = asks.join_next().await {
        let (prompt, reply) = done.expect("no panic");
        let reply = reply.unwrap_or_else(|error| panic!("{:?}: {error}", head(&prompt)));
        answered.push((prompt, reply));
    }
    answered
}

/// Asks for a change of each of these files at the same time, each in an empty conversation.
///
/// Panics unless each lands as a commit of that one file.
pub(crate) async fn land_all(cluster: &ClusterManager, changes: Vec<(String, Submission)>) {
    let mut asks = JoinSet::new();
    for (file, submission) in changes {
        let cluster = cluster.clone();
        asks.spawn(async move {
            let reply = cluster.ask(submission.fresh().land(&file)).await;
            (file, reply)
        });
    }
    while let Some(done) = asks.join_next().await {
        let (file, reply) = done.expect("no panic");
        let reply = reply.unwrap_or_else(|error| panic!("{file}: {error}"));
        match reply.landed {
            Some(Ok(Landed::Commit { files, .. })) => assert_eq!(files, [PathBuf::from(&file)]),
            other => panic!("{file} did not land: {other:?}"),
        }
    }
}

/// The beginning of a prompt, which may be large.
pub(crate) fn head(prompt: &str) -> String {
    prompt.chars().take(60).collect()
}
