//! Processes that are replaced though they have not failed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::{ClusterError, ControlError, EventKind, Heard, InstanceState, Recycle};

use crate::tool::{Tools, one, served, settle};

fn after_turns(turns: u64) -> Recycle {
    Recycle {
        turns: Some(turns),
        ..Recycle::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_worn_process_is_replaced_between_turns_and_it_is_no_failure() {
    let (cluster, mut tool, mut tools) = one(|builder| builder.recycle(after_turns(2))).await;
    let mut events = cluster.subscribe();
    for _ in 0..2 {
        let (reply, ()) = tokio::join!(cluster.ask("x"), tool.turn());
        assert_eq!(reply.expect("completed").generation, 1);
    }
    let mut second = tools.next_ready().await;
    let (reply, ()) = tokio::join!(cluster.ask("x"), second.turn());
    assert_eq!(reply.expect("completed").generation, 2);
    let explanation = cluster.explain(0).await.expect("it lives");
    assert_eq!(explanation.evidence.failures, 0);
    assert_eq!(explanation.evidence.last_error, None);
    let books = cluster.shutdown().await.books;
    assert_eq!((books.completed, books.indeterminate), (3, 0));
    let mut causes = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        if let EventKind::InstanceRecycled { cause, reason, .. } = event.kind {
            causes.push((cause, reason));
        }
    }
    assert_eq!(
        causes,
        [("turns", "its process has run 2 turns".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn processes_of_the_same_age_go_one_after_the_other_and_a_running_turn_ends_first() {
    let (builder, mut tools) = Tools::cluster(2);
    let recycle = Recycle {
        age: Some(Duration::from_secs(600)),
        ..Recycle::default()
    };
    let (cluster, ready) = tools.launch(builder.recycle(recycle), 2).await;
    let [mut first, _second] = <[_; 2]>::try_from(ready).unwrap_or_else(|_| panic!("two"));
    let asked = cluster.stream("long").await.expect("accepted");
    let read = first.read().await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    settle().await;
    let states = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        let states = status.instances.iter().map(|instance| instance.state);
        states.collect::<Vec<_>>()
    };
    assert_eq!(
        states().await,
        [InstanceState::Draining, InstanceState::Ready],
        "the other one waits until this one is back"
    );
    first.answer(&read.nonce, "done").await;
    assert_eq!(asked.reply().await.expect("completed").text, "done");
    let mut again = tools.next().await;
    assert_eq!(
        (again.instance.as_str(), again.generation.as_str()),
        ("main/1", "2")
    );
    assert_eq!(
        states().await,
        [InstanceState::Starting, InstanceState::Ready]
    );
    again.ready().await;
    let other = tools.next_ready().await;
    assert_eq!(
        (other.instance.as_str(), other.generation.as_str()),
        ("main/2", "2")
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_processes_are_replaced_under_load() {
    let (cluster, world) = served(3, |builder| builder.recycle(after_turns(5))).await;
    for _ in 0..30 {
        let asks: Vec<_> = (0..10)
            .map(|number| {
                let cluster = cluster.clone();
                tokio::spawn(async move { cluster.ask(format!("question {number}")).await })
            })
            .collect();
        for ask in asks {
            ask.await.expect("it lives").expect("completed");
        }
        // An old process takes its time to go.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.launches() > 3);
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (300, 300));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_cannot_be_started_any_more_costs_one_worn_process_only() {
    let hour = Duration::from_secs(3600);
    let (builder, mut tools) = Tools::cluster(3);
    let builder = builder.recycle(after_turns(1)).restart_delay(hour, hour);
    let (cluster, ready) = tools.launch(builder, 3).await;
    tools.world.refusals.store(1, Ordering::SeqCst);
    for tool in ready {
        tokio::spawn(tool.serve());
    }
    for _ in 0..20 {
        cluster.ask("x").await.expect("completed");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(tools.world.launches(), 4, "one was tried");
    let health = cluster.check_health().await.expect("it lives");
    assert_eq!(health.ready, 2);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_worn_while_others_cannot_start_is_replaced_when_they_can() {
    let (builder, mut tools) = Tools::cluster(3);
    let recycle = Recycle {
        age: Some(Duration::from_secs(60)),
        ..Recycle::default()
    };
    let (cluster, mut ready) = tools.launch(builder.recycle(recycle), 3).await;
    let mut worn = ready.remove(0);
    tools.world.refusals.store(usize::MAX, Ordering::SeqCst);
    ready.into_iter().for_each(|tool| tool.exit(1));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.paused.len(), 1, "the others fail alike");
    let (reply, ()) = tokio::join!(cluster.ask("x"), worn.turn());
    assert_eq!(reply.expect("it still serves").generation, 1);
    tools.world.refusals.store(0, Ordering::SeqCst);
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(tools.next_ready().await);
        settle().await;
        let health = cluster.check_health().await.expect("it lives");
        assert!(health.ready >= again.len().min(2), "one at a time");
    }
    assert_eq!(again[2].instance, "main/1", "the worn one is the last");
}

#[tokio::test(start_paused = true)]
async fn all_are_restarted_one_at_a_time_each_ready_before_the_next_goes() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, _old) = tools.launch(builder, 3).await;
    let watch = async {
        let mut new = Vec::new();
        for place in [4, 1, 2, 3] {
            let mut tool = tools.next().await;
            settle().await;
            assert_eq!(tool.instance, format!("main/{place}"));
            let health = cluster.check_health().await.expect("it lives");
            assert_eq!(health.ready, 3, "as many serve as before");
            tool.ready().await;
            new.push(tool);
        }
        new
    };
    let (restarted, _new) = tokio::join!(cluster.restart_all(), watch);
    restarted.expect("ready");
    assert_eq!(cluster.instances().len(), 3, "the one more has gone");
    assert_eq!(tools.world.alive(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_with_a_tool_that_cannot_start_any_more_costs_no_instance() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, _old) = tools.launch(builder, 3).await;
    tools.world.refusals.store(1, Ordering::SeqCst);
    let error = cluster.restart_all().await.expect_err("it cannot start");
    assert!(
        matches!(&error, ControlError::RestartStopped { instance, untouched: 3, .. } if instance == "main/4"),
        "{error}"
    );
    assert!(error.to_string().contains("no more processes"), "{error}");
    settle().await;
    let status = cluster.status().await.expect("it lives");
    let generations: Vec<_> = status
        .instances
        .iter()
        .map(|instance| instance.generation)
        .collect();
    assert_eq!(generations, [1, 1, 1]);
    assert!(
        status
            .instances
            .iter()
            .all(|instance| instance.state == InstanceState::Ready)
    );
}

#[tokio::test(start_paused = true)]
async fn what_its_owner_has_stopped_stays_stopped_through_a_restart_of_all() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, _old) = tools.launch(builder, 2).await;
    cluster.drain_instance(0).await.expect("it is there");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let two = async { (tools.next_ready().await, tools.next_ready().await) };
    let (restarted, _new) = tokio::join!(cluster.restart_all(), two);
    restarted.expect("ready");
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_replaces_for_ever_is_refused() {
    let (builder, _tools) = Tools::cluster(1);
    let error = builder.recycle(after_turns(0)).await;
    let error = error.expect_err("refused");
    assert!(
        matches!(
            error,
            ClusterError::Setting {
                setting: "recycle",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_under_load_keeps_as_many_serving_and_loses_nothing() {
    let (cluster, world) = served(3, |builder| builder).await;
    let load: Vec<_> = (0..4)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    let text = format!("question {number}");
                    let reply = cluster.ask(text.as_str()).await.expect("completed");
                    assert!(reply.text.ends_with(&text), "{}", reply.text);
                    let health = cluster.check_health().await.expect("it lives");
                    assert!(health.ready >= 3, "{}", health.ready);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    for _ in 0..2 {
        cluster.restart_all().await.expect("all are new");
    }
    for task in load {
        task.await.expect("no answer was lost or wrong");
    }
    assert_eq!(world.launches(), 3 + 2 * 4);
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.completed), (400, 400));
    assert_eq!(world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_that_nobody_waits_for_any_more_leaves_no_instance_more() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, _old) = tools.launch(builder, 2).await;
    {
        let restart = cluster.restart_all();
        tokio::select! {
            _ = restart => panic!("it cannot be over yet"),
            _more = tools.next_ready() => {}
        }
    }
    let _tools = tools.serve_all();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.instances().len(), 2);
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances.len(), 2);
    cluster.scale(3).await.expect("it can grow again");
}
