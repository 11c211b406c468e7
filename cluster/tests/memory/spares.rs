//! Instances that stand by.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::{
    ClusterError, ControlError, EventKind, Heard, InstanceState, MAX_COUNT, Next, Recycle,
    Submission,
};

use crate::tool::{Tools, served, settle};

#[tokio::test(start_paused = true)]
async fn a_spare_takes_over_at_once_and_who_comes_back_stands_by() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder.spare(1), 3).await;
    let mut events = cluster.subscribe();
    let mut ready = ready.into_iter();
    let (first, mut second, mut third) = (ready.next(), ready.next(), ready.next());
    let standing_by = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        let each = status.instances.iter().filter(|instance| instance.spare);
        each.map(|instance| instance.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(standing_by().await, ["main/3"]);
    let explanation = cluster.explain(2).await.expect("it is there");
    assert_eq!(explanation.next, Next::StandBy);
    first.expect("three").exit(1);
    assert_eq!(standing_by().await, ["main/1"]);
    // Both that are on duty serve while the first is away.
    let (second, third) = (
        second.as_mut().expect("three"),
        third.as_mut().expect("three"),
    );
    let asks = async { tokio::join!(cluster.ask("x"), cluster.ask("y")) };
    let (replies, (), ()) = tokio::join!(asks, second.turn(), third.turn());
    replies.0.expect("completed");
    replies.1.expect("completed");
    let _back = tools.next_ready().await;
    assert_eq!(standing_by().await, ["main/1"], "who is back stands by");
    cluster.shutdown_within(Duration::ZERO).await;
    let mut relieved = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        if let EventKind::InstanceRelieved { instance, by } = event.kind {
            relieved.push(format!("{instance} by {by}"));
        }
    }
    assert_eq!(relieved[0], "main/1 by main/3");
}

#[tokio::test(start_paused = true)]
async fn what_is_for_one_instance_runs_there_whether_it_stands_by_or_not() {
    let (cluster, _world) = served(1, |builder| builder.spare(1)).await;
    let reply = cluster.ask("x").await.expect("completed");
    assert_eq!(reply.instance.as_deref(), Some("main/1"));
    let session = cluster.session("there");
    let reply = session.ask(Submission::text("y").on_instance(1)).await;
    assert_eq!(
        reply.expect("completed").instance.as_deref(),
        Some("main/2")
    );
    let reply = session.ask("z").await.expect("its conversation is there");
    assert_eq!(reply.instance.as_deref(), Some("main/2"));
}

#[tokio::test(start_paused = true)]
async fn with_a_spare_a_worn_process_costs_no_capacity_and_a_restart_of_all_begins_with_it() {
    let (builder, mut tools) = Tools::cluster(2);
    let recycle = Recycle {
        age: Some(Duration::from_secs(600)),
        ..Recycle::default()
    };
    let (cluster, _old) = tools.launch(builder.spare(1).recycle(recycle), 3).await;
    let serving = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        let serves = status
            .instances
            .iter()
            .filter(|instance| instance.state == InstanceState::Ready && !instance.spare);
        serves.count()
    };
    tokio::time::sleep(Duration::from_secs(601)).await;
    let mut new = Vec::new();
    for _ in 0..3 {
        let mut tool = tools.next().await;
        assert_eq!(serving().await, 2);
        tool.ready().await;
        new.push(tool);
    }
    tools.world.refusals.store(1, Ordering::SeqCst);
    settle().await;
    let error = cluster.restart_all().await.expect_err("it cannot start");
    assert!(
        matches!(error, ControlError::RestartStopped { untouched: 2, .. }),
        "{error}"
    );
    assert_eq!(serving().await, 2, "it was a spare that was tried");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_spares_scales_those_on_duty_and_its_spares_count_for_the_limit() {
    let (cluster, _world) = served(1, |builder| builder.spare(2)).await;
    cluster.scale(3).await.expect("ready");
    let count = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        let spares = status.instances.iter().filter(|instance| instance.spare);
        (status.instances.len(), spares.count())
    };
    assert_eq!(count().await, (5, 2));
    cluster.scale(1).await.expect("they are gone");
    assert_eq!(count().await, (3, 2));
    let error = cluster.scale(MAX_COUNT - 1).await.expect_err("too many");
    assert!(error.to_string().contains("choose 1 to 998"), "{error}");
    let (builder, _tools) = Tools::cluster(MAX_COUNT);
    let error = builder.spare(1).await.expect_err("too many");
    assert!(
        matches!(
            error,
            ClusterError::Setting {
                setting: "spare",
                ..
            }
        ),
        "{error}"
    );
}
