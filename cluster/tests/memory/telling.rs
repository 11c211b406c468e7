//! The event history.

use toolpool_cluster::{Event, EventKind, Events, Heard};

use crate::tool::{one, served};

async fn all(mut events: Events) -> Vec<Event> {
    let mut heard = Vec::new();
    while let Some(next) = events.next().await {
        match next {
            Heard::Event(event) => heard.push(event),
            Heard::Missed(count) => panic!("missed {count}"),
        }
    }
    heard
}

fn word(event: &Event) -> String {
    let json = serde_json::to_value(event).expect("events are JSON");
    json["type"].as_str().expect("a type").to_owned()
}

#[tokio::test(start_paused = true)]
async fn every_subscriber_hears_one_numbered_history_to_its_end() {
    let (cluster, _world) = served(2, |builder| builder).await;
    let (one, two) = (
        tokio::spawn(all(cluster.subscribe())),
        tokio::spawn(all(cluster.subscribe())),
    );
    for number in 0..20 {
        cluster
            .session(format!("s{}", number % 3))
            .ask("x")
            .await
            .expect("completed");
    }
    cluster.shutdown().await;
    // The handle still lives: the history ends with the cluster, not with its handles.
    let (one, two) = (one.await.expect("it ends"), two.await.expect("it ends"));
    let numbers: Vec<_> = one.iter().map(|event| event.seq).collect();
    let first = numbers[0];
    assert_eq!(
        numbers,
        (first..first + numbers.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers,
        two.iter().map(|event| event.seq).collect::<Vec<_>>()
    );
    assert_eq!(one.last().map(word).as_deref(), Some("cluster_stopped"));
    let count = |wanted: &str| one.iter().filter(|event| word(event) == wanted).count();
    assert_eq!(
        (
            count("prompt_accepted"),
            count("turn_started"),
            count("turn_ended")
        ),
        (20, 20, 20)
    );
    assert_eq!(count("session_pinned"), 3);
    assert_eq!(count("instance_exited"), 2);
    let mut late = cluster.subscribe();
    assert!(
        late.next().await.is_none(),
        "there is nothing to hear any more"
    );
}

#[tokio::test(start_paused = true)]
async fn states_are_told_without_gaps() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    let events = tokio::spawn(all(cluster.subscribe()));
    let asked = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let (restarted, second) = tokio::join!(cluster.restart_instance(0), tools.next_ready());
    restarted.expect("ready");
    asked.reply().await.expect_err("in doubt");
    second.exit(1);
    tools.next_ready().await;
    cluster.shutdown().await;
    let mut state = toolpool_cluster::InstanceState::Ready;
    for event in events.await.expect("it ends") {
        match event.kind {
            EventKind::TurnStarted { .. } => state = toolpool_cluster::InstanceState::Busy,
            EventKind::InstanceChanged { from, to, .. } => {
                assert_eq!(from, state, "{to:?}");
                state = to;
            }
            _ => {}
        }
    }
    assert_eq!(state, toolpool_cluster::InstanceState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_too_slow_is_told_how_much_it_missed() {
    let (cluster, _world) = served(1, |builder| builder).await;
    let mut events = cluster.subscribe();
    for _ in 0..2_000 {
        cluster.ask("x").await.expect("completed");
    }
    let Some(Heard::Missed(missed)) = events.next().await else {
        panic!("it cannot have kept up")
    };
    let Some(Heard::Event(event)) = events.next().await else {
        panic!("the rest is there")
    };
    assert!(missed >= 6_000 - 4_096, "{missed}");
    drop(cluster);
    let mut last = event.seq;
    while let Some(Heard::Event(event)) = events.next().await {
        assert_eq!(event.seq, last + 1);
        last = event.seq;
    }
}
