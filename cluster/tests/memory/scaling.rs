//! More and fewer instances while the cluster runs.

use std::time::Duration;

use toolpool_cluster::{
    ClusterManager, ControlError, EventKind, Heard, InstanceState, MAX_COUNT, OnLoss, Submission,
};

use crate::tool::{Tools, one, served, settle};

fn names(cluster: &ClusterManager) -> Vec<String> {
    let names = cluster.instances();
    names.iter().map(|name| name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn more_instances_serve_once_they_are_ready_and_have_names_of_their_own() {
    let (cluster, _first, mut tools) = one(|builder| builder).await;
    let grow = async {
        let added = (tools.next_ready().await, tools.next_ready().await);
        (added, tools)
    };
    let (scaled, (_added, _tools)) = tokio::join!(cluster.scale(3), grow);
    let scaled = scaled.expect("ready");
    let added: Vec<&str> = scaled.added.iter().map(|name| &**name).collect();
    assert_eq!(added, ["main/2", "main/3"]);
    assert_eq!(names(&cluster), ["main/1", "main/2", "main/3"]);
    let health = cluster.check_health().await.expect("it lives");
    assert_eq!((health.total, health.ready), (3, 3));
    cluster.explain("main/3").await.expect("it is known");
}

#[tokio::test(start_paused = true)]
async fn fewer_instances_finish_their_turns_and_leave_and_come_back_with_their_names() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, ready) = tools.launch(builder, 3).await;
    let mut events = cluster.subscribe();
    let [_first, _second, mut third] = <[_; 3]>::try_from(ready).unwrap_or_else(|_| panic!("3"));
    let runs = cluster
        .stream(Submission::text("long").on_instance(2))
        .await
        .expect("accepted");
    let read = third.read().await;
    let fewer = cluster.clone();
    let fewer = tokio::spawn(async move { fewer.scale(1).await });
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(
        status.instances[2 - usize::from(status.instances.len() == 2)].state,
        InstanceState::Draining
    );
    assert_eq!(names(&cluster), ["main/1"], "who leaves is not to be asked");
    let refused = cluster.ask(Submission::text("x").on_instance(2)).await;
    assert_eq!(refused.expect_err("it leaves").code(), "not_found");
    assert_eq!(
        cluster.restart_instance(1).await.expect_err("it leaves"),
        ControlError::NoInstance { index: 1, last: 0 }
    );
    third.answer(&read.nonce, "done").await;
    assert_eq!(runs.reply().await.expect("completed").text, "done");
    let scaled = fewer.await.expect("it lives").expect("they are gone");
    let removed: Vec<&str> = scaled.removed.iter().map(|name| &**name).collect();
    assert_eq!(removed, ["main/3", "main/2"]);
    assert_eq!(tools.world.alive(), 1);
    assert_eq!(cluster.status().await.expect("it lives").instances.len(), 1);
    let (scaled, back) = tokio::join!(cluster.scale(2), tools.next_ready());
    assert_eq!(&*scaled.expect("ready").added[0], "main/2");
    assert_eq!(
        (back.instance.as_str(), names(&cluster).len()),
        ("main/2", 2)
    );
    cluster.shutdown().await;
    let mut told = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        match event.kind {
            EventKind::GroupScaled { from, to, .. } => told.push(format!("{from} to {to}")),
            EventKind::InstanceAdded { instance, .. } => told.push(format!("+{instance}")),
            EventKind::InstanceRemoved { instance } => told.push(format!("-{instance}")),
            EventKind::InstanceSpawned {
                instance,
                generation,
                ..
            } => told.push(format!("{instance} #{generation}")),
            _ => {}
        }
    }
    told[1..3].sort();
    assert_eq!(
        told,
        [
            "3 to 1",
            "-main/2",
            "-main/3",
            "1 to 2",
            "+main/2",
            "main/2 #2"
        ],
        "no two processes of a name have one number"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_on_an_instance_that_leaves_fails_once_or_begins_anew_as_it_wants() {
    let (cluster, _world) = served(2, |builder| builder).await;
    let strict = cluster.session("strict");
    let easy = cluster.session("easy").on_loss(OnLoss::Fresh);
    let keys = |index| Submission::text("x").on_instance(index);
    for session in [&strict, &easy] {
        let reply = session.ask(keys(1)).await.expect("completed");
        assert_eq!(reply.instance.as_deref(), Some("main/2"));
    }
    cluster.scale(1).await.expect("it is gone");
    let lost = strict.ask("y").await.expect_err("its instance has left");
    assert!(lost.to_string().contains("has left"), "{lost}");
    let again = strict.ask("y").await.expect("a new conversation");
    let moved = easy.ask("y").await.expect("a new conversation");
    for reply in [again, moved] {
        assert_eq!(reply.instance.as_deref(), Some("main/1"));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_instances_come_and_go_under_load() {
    let (cluster, world) = served(2, |builder| builder).await;
    let load: Vec<_> = (0..6)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let text = format!("question {number}");
                    let reply = cluster.ask(text.as_str()).await.expect("completed");
                    assert!(reply.text.ends_with(&text), "{}", reply.text);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for count in [5, 1, 3, 8, 2, 2, 1, 4] {
        cluster.scale(count).await.expect("scaled");
        assert_eq!(names(&cluster).len(), count);
    }
    for task in load {
        task.await.expect("no answer was lost or wrong");
    }
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (1200, 1200));
    assert_eq!(world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_number_out_of_range_changes_nothing_and_one_that_cannot_start_stays_and_is_told() {
    let (cluster, _tool, tools) = one(|builder| builder).await;
    for wrong in [0, MAX_COUNT + 1] {
        let error = cluster.scale(wrong).await.expect_err("out of range");
        assert!(matches!(error, ControlError::CannotScale { .. }), "{error}");
        assert!(error.to_string().contains("choose 1 to 1000"), "{error}");
    }
    let error = cluster
        .scale_tool("codex", 2)
        .await
        .expect_err("no such tool");
    assert!(error.to_string().contains("standin"), "{error}");
    tools
        .world
        .refusals
        .store(1, std::sync::atomic::Ordering::SeqCst);
    let error = cluster.scale(2).await.expect_err("it does not start");
    assert!(error.to_string().contains("no more processes"), "{error}");
    assert_eq!(names(&cluster).len(), 2);
    let _tools = tools.serve_all();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let health = cluster.check_health().await.expect("it lives");
    assert_eq!(health.ready, 2, "it was started again");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_instances_come_and_go_leaves_nothing() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, _ready) = tools.launch(builder, 3).await;
    let other = cluster.clone();
    let grows = tokio::spawn(async move { other.scale(6).await });
    let other = cluster.clone();
    let shrinks = tokio::spawn(async move { other.scale(1).await });
    settle().await;
    cluster.shutdown_within(Duration::ZERO).await;
    assert!(grows.await.expect("it answers").is_err());
    drop(shrinks.await.expect("it answers"));
    assert_eq!(tools.world.alive(), 0);
    assert_eq!(cluster.scale(2).await, Err(ControlError::ShutDown));
}
