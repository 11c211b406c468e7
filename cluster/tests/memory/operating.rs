//! What an operator does: restart, drain, look.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::{ControlError, InstanceState};

use crate::tool::{Tools, one, served, settle};

#[tokio::test(start_paused = true)]
async fn a_restart_ends_the_old_process_first_and_answers_when_the_new_one_is_ready() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    let asked = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let (restarted, second) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    assert_eq!(second.generation, "2");
    assert!(
        asked
            .reply()
            .await
            .expect_err("in doubt")
            .to_string()
            .contains("stopped")
    );
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_drained_instance_finishes_its_turn_stops_and_comes_back_by_a_restart() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    let asked = cluster.stream("last").await.expect("accepted");
    let read = tool.read().await;
    cluster.drain_instance(0).await.expect("it is there");
    settle().await;
    let state = async || cluster.status().await.expect("it lives").instances[0].state;
    assert_eq!(state().await, InstanceState::Draining);
    tool.answer(&read.nonce, "done").await;
    assert_eq!(asked.reply().await.expect("completed").text, "done");
    // Time for the group to be seen empty.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(state().await, InstanceState::Stopped);
    assert_eq!(
        cluster.ask("x").await.expect_err("nobody is left").code(),
        "failed"
    );
    let (restarted, mut second) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    let (reply, ()) = tokio::join!(cluster.ask("again"), second.turn());
    assert_eq!(reply.expect("completed").generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_right_behind_a_drain_waits_for_its_own_process() {
    let (cluster, _tool, mut tools) = one(|builder| builder).await;
    cluster.drain_instance(0).await.expect("it is there");
    let (restarted, second) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    assert_eq!(second.generation, "2");
}

#[tokio::test(start_paused = true)]
async fn a_restart_out_of_a_backoff_answers_for_its_own_start() {
    let hour = Duration::from_secs(3600);
    let (cluster, tool, mut tools) = one(|builder| builder.restart_delay(hour, hour)).await;
    tools.world.refusals.store(1, Ordering::SeqCst);
    tool.exit(1);
    // The second start fails before it has a process.
    tokio::time::sleep(hour).await;
    settle().await;
    assert_eq!(tools.world.launches(), 2);
    let (restarted, _third) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    tools.world.refusals.store(1, Ordering::SeqCst);
    let failed = cluster
        .restart_instance(0)
        .await
        .expect_err("it does not start");
    assert!(failed.to_string().contains("no more processes"), "{failed}");
    assert_eq!(
        cluster.restart_instance(1).await.expect_err("no such one"),
        ControlError::NoInstance { index: 1, last: 0 }
    );
}

#[tokio::test(start_paused = true)]
async fn no_number_of_orders_displaces_a_turn() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    for tool in ready {
        tool.exit(1);
    }
    settle().await;
    // Both are gone, so the prompt waits for the first one that is ready again.
    let asked = cluster.stream("waits").await.expect("accepted");
    let mut again = tools.next().await;
    again.ready().await;
    let index = usize::from(again.instance == "main/2");
    for _ in 0..100 {
        cluster.drain_instance(index).await.expect("it is there");
    }
    tokio::spawn(async move { tools.next_ready().await.serve().await });
    let reply = asked
        .reply()
        .await
        .expect("nothing of it was written, so it runs elsewhere");
    assert_ne!(reply.instance.as_deref(), Some(again.instance.as_str()));
    let books = cluster.shutdown().await.books;
    assert_eq!((books.completed, books.running), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn status_and_health_tell_alive_ready_and_answering_apart() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, ready) = tools.launch(builder.name("lab"), 3).await;
    let mut ready = ready.into_iter();
    let (mut busy, dead, _idle) = (ready.next(), ready.next(), ready.next());
    let asked = cluster.stream("runs").await.expect("accepted");
    let busy = busy.as_mut().expect("three");
    busy.read().await;
    dead.expect("three").exit(3);
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(
        (&*status.cluster, &*status.tool, status.strategy),
        ("lab", "standin", "least-busy")
    );
    let states: Vec<_> = status
        .instances
        .iter()
        .map(|instance| instance.state)
        .collect();
    assert_eq!(
        states,
        [
            InstanceState::Busy,
            InstanceState::Backoff,
            InstanceState::Ready
        ]
    );
    assert_eq!(status.instances[1].return_code, Some(3));
    assert!(
        status.instances[1]
            .last_error
            .as_deref()
            .is_some_and(|error| error.contains("exit code 3"))
    );
    assert!(status.books.balance());
    let health = cluster.check_health().await.expect("it lives");
    assert_eq!((health.total, health.ready, health.healthy), (3, 2, true));
    drop(asked);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_which_one_instance_is_ready_is_up() {
    let (builder, tools) = Tools::cluster(3);
    tools.world.refusals.store(2, Ordering::SeqCst);
    let world = tools.serve_all();
    let cluster = builder.await.expect("one is enough");
    cluster.ask("x").await.expect("completed");
    assert!(world.launches() >= 3);
}

#[tokio::test(start_paused = true)]
async fn many_callers_get_each_their_own_answer() {
    let (cluster, _world) = served(4, |builder| builder).await;
    let asks = (0..500).map(|number| {
        let cluster = cluster.clone();
        tokio::spawn(async move { (number, cluster.ask(format!("question {number}")).await) })
    });
    for task in asks.collect::<Vec<_>>() {
        let (number, reply) = task.await.expect("it lives");
        let text = reply.expect("completed").text;
        assert!(text.ends_with(&format!(": question {number}")), "{text}");
    }
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (500, 500));
}
