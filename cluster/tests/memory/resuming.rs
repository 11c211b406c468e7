//! What becomes of a session when the process of its instance ends: it goes on in the next one, or is lost in words.

use std::path::PathBuf;
use std::time::Duration;

use toolpool_cluster::{ClusterManager, OnLoss, Submission};

use crate::claude::claude;
use crate::tool::{Tool, Tools, settle};

/// The next process, with its handshake done.
async fn next(tools: &mut Tools) -> Tool {
    let mut tool = tools.next().await;
    tool.begin().await;
    tool
}

/// Takes the next prompt and answers it.
async fn turn(tool: &mut Tool) {
    let id = tool.take_up().await;
    tool.end_turn(&id, "an answer").await;
}

async fn ask(cluster: &ClusterManager, tool: &mut Tool) -> Result<u64, String> {
    let session = cluster.session("chat");
    let (reply, ()) = tokio::join!(session.ask("go on"), turn(tool));
    reply
        .map(|reply| reply.generation)
        .map_err(|error| error.to_string())
}

/// A session that has had a turn in the first process.
async fn in_session() -> (ClusterManager, Tool, Tools) {
    let (cluster, mut tool, tools) = claude(|builder| builder).await;
    ask(&cluster, &mut tool).await.expect("completed");
    (cluster, tool, tools)
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_in_the_next_process_and_in_the_folder_of_the_last() {
    let (cluster, tool, mut tools) = in_session().await;
    let folder: PathBuf = tool.folder.clone().into();
    assert_eq!(tool.resumes(), None);
    tool.exit(1);
    let mut second = next(&mut tools).await;
    assert_eq!(second.resumes(), Some("s"));
    assert_eq!(PathBuf::from(&second.folder), folder);
    assert_eq!(ask(&cluster, &mut second).await, Ok(2));
    second.exit(1);
    // It ends between two turns: the conversation has done nothing to it.
    let third = next(&mut tools).await;
    assert_eq!(third.resumes(), Some("s"));
    third.exit(1);
    let mut fourth = next(&mut tools).await;
    assert_eq!(ask(&cluster, &mut fourth).await, Ok(4));
    assert!(folder.is_dir());
    cluster.shutdown().await;
    assert!(!folder.exists(), "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_before_it_is_ready_loses_the_session_and_the_next_begins_anew() {
    let (cluster, tool, mut tools) = in_session().await;
    let folder = tool.folder.clone();
    tool.exit(1);
    // As Claude does if it does not know the name.
    let second = tools.next().await;
    assert_eq!(second.resumes(), Some("s"));
    second.exit(1);
    let mut third = next(&mut tools).await;
    assert_eq!(third.resumes(), None);
    assert_ne!(third.folder, folder);
    settle().await;
    let lost = cluster.session("chat").ask("go on").await;
    let lost = lost.expect_err("it is not sent").to_string();
    assert!(lost.contains("session_lost"), "{lost}");
    assert_eq!(ask(&cluster, &mut third).await, Ok(3), "anew");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_resumed_may_have_chosen_to_begin_anew() {
    let (cluster, tool, mut tools) = in_session().await;
    tool.exit(1);
    tools.next().await.exit(1);
    let mut third = next(&mut tools).await;
    settle().await;
    let session = cluster.session("chat").on_loss(OnLoss::Fresh);
    let (reply, ()) = tokio::join!(session.ask("go on"), turn(&mut third));
    assert_eq!(reply.expect("completed").generation, 3);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_takes_its_process_with_it_is_resumed_once() {
    let (cluster, mut tool, mut tools) = in_session().await;
    for resumes in [None, Some("s")] {
        assert_eq!(tool.resumes(), resumes);
        let asked = cluster.session("chat").stream("breaks it").await;
        tool.take_up().await;
        tool.exit(1);
        let reply = asked.expect("accepted").reply().await;
        assert_eq!(reply.expect_err("in doubt").code(), "indeterminate");
        tool = next(&mut tools).await;
    }
    assert_eq!(tool.resumes(), None);
}

#[tokio::test(start_paused = true)]
async fn what_no_session_is_in_ends_with_its_process() {
    let (cluster, mut tool, mut tools) = claude(|builder| builder).await;
    let (reply, ()) = tokio::join!(cluster.ask("alone"), turn(&mut tool));
    reply.expect("completed");
    let folder: PathBuf = tool.folder.clone().into();
    tool.exit(1);
    let second = next(&mut tools).await;
    assert_eq!(second.resumes(), None);
    assert!(!folder.exists());
    // Nor is what came before a fresh prompt taken for what follows it.
    let mut second = second;
    ask(&cluster, &mut second).await.expect("completed");
    let fresh = cluster.stream(Submission::text("fresh").fresh()).await;
    second.read_json().await;
    second.exit(1);
    fresh
        .expect("accepted")
        .reply()
        .await
        .expect_err("in doubt");
    assert_eq!(next(&mut tools).await.resumes(), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_after_a_start_that_found_no_process() {
    let hour = Duration::from_secs(3600);
    let (cluster, mut tool, mut tools) =
        claude(|builder| builder.restart_delay(hour, hour).session_wait(2 * hour)).await;
    ask(&cluster, &mut tool).await.expect("completed");
    tools
        .world
        .refusals
        .store(1, std::sync::atomic::Ordering::SeqCst);
    tool.exit(1);
    let mut second = next(&mut tools).await;
    assert_eq!(tools.world.launches(), 3);
    assert_eq!(second.resumes(), Some("s"));
    let generation = ask(&cluster, &mut second).await.expect("completed");
    assert_eq!(generation.to_string(), second.generation);
}
