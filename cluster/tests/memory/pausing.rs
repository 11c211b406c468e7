//! Groups of instances that pause as a whole: they cannot start alike, or their tool cannot be asked.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use toolpool_cluster::{
    ClusterManager, EventKind, Events, Heard, InstanceState, Next, PauseCause, Submission,
};
use toolpool_pool_core::shim;

use crate::tool::{Tool, Tools, settle};

/// Dies at its start with these last words.
async fn dies(mut tool: Tool, words: &str) {
    tool.complain(words).await;
    settle().await;
    tool.exit(1);
    settle().await;
}

/// The beginnings and ends of pauses, in order.
async fn told(cluster: ClusterManager, mut events: Events) -> Vec<String> {
    cluster.shutdown_within(Duration::ZERO).await;
    let mut told = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        match event.kind {
            EventKind::GroupPaused { cause, message, .. } => {
                told.push(format!("{cause}: {message}"))
            }
            EventKind::GroupResumed { cause, .. } => told.push(format!("{cause} over")),
            _ => {}
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn instances_that_cannot_start_alike_pause_with_one_sentence_keep_the_queue_and_follow_one_probe()
 {
    let (builder, mut tools) = Tools::cluster(4);
    let (cluster, ready) = tools.launch(builder, 4).await;
    let events = cluster.subscribe();
    for tool in ready {
        tool.exit(1);
    }
    settle().await;
    let waits = cluster.stream("waits").await.expect("accepted");
    for pid in 0..4 {
        dies(tools.next().await, &format!("process {pid}: no such key\n")).await;
    }
    let status = cluster.status().await.expect("it lives");
    let [paused] = &status.paused[..] else {
        panic!("{:?}", status.paused)
    };
    assert_eq!((paused.cause, paused.instances), (PauseCause::Start, 2));
    assert!(paused.reason.contains("no such key"), "{paused:?}");
    let launches = tools.world.launches();
    let probe = tools.next().await;
    let explanation = cluster.explain(0).await.expect("it lives");
    let other = cluster.explain(3).await.expect("it lives");
    for explanation in [explanation, other] {
        let waits = matches!(explanation.next, Next::Resume { .. });
        assert!(
            waits || *explanation.name == *probe.instance,
            "{explanation}"
        );
    }
    dies(probe, "process 9: no such key\n").await;
    let mut probe = tools.next().await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(tools.world.launches(), launches + 2, "one at a time");
    probe.ready().await;
    probe.turn().await;
    waits.reply().await.expect("the queue was kept");
    for _ in 0..3 {
        tools.next_ready().await;
    }
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert!(status.paused.is_empty());
    assert_eq!(
        told(cluster, events).await,
        [
            "start: 2 instances of standin cannot start, and for the same reason (exit code 1; last: process 1: no such key): \
             prompts wait, and one of them tries again in 9 s",
            "start over"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn instances_that_die_alike_once_they_were_ready_are_restarted_each_for_itself() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, ready) = tools.launch(builder, 3).await;
    for mut tool in ready {
        tool.complain("segmentation fault\n").await;
        settle().await;
        tool.exit(1);
    }
    for _ in 0..3 {
        tools.next_ready().await;
    }
    settle().await;
    assert!(cluster.status().await.expect("it lives").paused.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_in_a_pause_ends_and_answers_what_waits() {
    let (builder, mut tools) = Tools::cluster(3);
    let (cluster, ready) = tools.launch(builder, 3).await;
    for tool in ready {
        tool.exit(1);
    }
    for _ in 0..3 {
        dies(tools.next().await, "no such key\n").await;
    }
    let waits = cluster.stream("waits").await.expect("accepted");
    let begun = tokio::time::Instant::now();
    let report = cluster.shutdown_within(Duration::from_secs(3)).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(report.books.cancelled, 1);
    assert!(waits.reply().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_prompt_in_a_pause_expires_by_its_own_limit_and_an_owner_who_has_mended_it_need_not_wait()
{
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    for tool in ready {
        tool.exit(1);
    }
    for _ in 0..2 {
        dies(tools.next().await, "no such key\n").await;
    }
    assert_eq!(cluster.status().await.expect("it lives").paused.len(), 1);
    let hasty = Submission::text("x").queue_timeout(Duration::from_secs(2));
    let expired = cluster.ask(hasty).await.expect_err("nobody can run it");
    assert_eq!(expired.code(), "expired");
    let mended = async {
        loop {
            let mut tool = tools.next().await;
            if tool.instance == "main/2" {
                tool.ready().await;
                return tool;
            }
            // It was on its way already when the pause began.
            dies(tool, "no such key\n").await;
        }
    };
    let (restarted, _tool) = tokio::join!(cluster.restart_instance(1), mended);
    restarted.expect("ready");
    assert!(cluster.status().await.expect("it lives").paused.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_cannot_start_alike_fails_after_a_few_tries_and_not_after_one_for_each_instance()
 {
    let (builder, mut tools) = Tools::cluster(50);
    let world = std::sync::Arc::clone(&tools.world);
    tokio::spawn(async move {
        loop {
            dies(tools.next().await, "no such key\n").await;
        }
    });
    let error = builder.await.expect_err("none can start");
    assert!(error.to_string().contains("no such key"), "{error}");
    let cores = std::thread::available_parallelism().expect("known").get();
    assert!(world.launches() <= 2 * cores + 2, "{}", world.launches());
}

#[tokio::test(start_paused = true)]
async fn at_most_two_starts_for_each_core_are_under_way_and_who_waits_is_not_late_for_it() {
    let cores = std::thread::available_parallelism().expect("known").get();
    let (builder, mut tools) = Tools::cluster(2 * cores + 3);
    let builder = builder.start_timeout(Duration::from_secs(5));
    let watch = async {
        let mut starting = Vec::new();
        for _ in 0..2 * cores {
            starting.push(tools.next().await);
        }
        settle().await;
        assert_eq!(tools.world.launches(), 2 * cores);
        for tool in &mut starting {
            tokio::time::sleep(Duration::from_secs(4) / (2 * cores as u32)).await;
            tool.ready().await;
        }
        // The last ones waited for almost all of the time that a start may take.
        for _ in 0..3 {
            let mut tool = tools.next().await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            tool.ready().await;
            starting.push(tool);
        }
        (tools, starting)
    };
    let (cluster, (tools, _live)) = tokio::join!(builder.into_future(), watch);
    let cluster = cluster.expect("all are ready");
    let health = cluster.check_health().await.expect("it lives");
    assert_eq!(health.ready, 2 * cores + 3);
    assert_eq!(tools.world.launches(), 2 * cores + 3, "none was too late");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_to_start_says_so_and_can_be_stopped() {
    let cores = std::thread::available_parallelism().expect("known").get();
    let count = 2 * cores + 2;
    let (builder, mut tools) = Tools::cluster(count);
    let (cluster, ready) = tools.launch(builder, count).await;
    for tool in ready {
        tool.exit(1);
    }
    let mut starting = Vec::new();
    for _ in 0..2 * cores {
        starting.push(tools.next().await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waiting = Vec::new();
    for index in 0..count {
        let explanation = cluster.explain(index).await.expect("it lives");
        if let Next::Start { before } = explanation.next {
            assert_eq!(explanation.state, InstanceState::Starting);
            assert!(explanation.why.contains("are starting"), "{explanation}");
            waiting.push((index, before));
        }
    }
    let befores: Vec<usize> = waiting.iter().map(|(_, before)| *before).collect();
    assert_eq!(befores.len(), 2, "{befores:?}");
    let first = waiting
        .iter()
        .find(|(_, before)| *before == 0)
        .expect("one is next")
        .0;
    cluster.drain_instance(first).await.expect("it is there");
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[first].state, InstanceState::Stopped);
    starting.pop().expect("some").ready().await;
    let last = tools.next().await;
    assert_ne!(last.instance, format!("main/{}", first + 1));
}

/// A cluster whose tool ends its turns as the test wants.
async fn obedient(count: usize) -> (ClusterManager, Vec<Tool>, Tools) {
    // It is named, but never started.
    shim::init_with("/bin/sh".into());
    let (builder, mut tools) = Tools::cluster_of("jules-cli", count);
    let make_ready = async {
        let mut ready = Vec::new();
        for _ in 0..count {
            ready.push(next_obedient(&mut tools).await);
        }
        ready
    };
    let (cluster, ready) = tokio::join!(builder.into_future(), make_ready);
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    (cluster, ready, tools)
}

async fn next_obedient(tools: &mut Tools) -> Tool {
    let mut tool = tools.next().await;
    tool.say("{\"type\":\"ready\"}\n").await;
    tool
}

/// Reads a prompt and ends it so.
async fn ends(tool: &mut Tool, outcome: Value) {
    let order = tool.read_json().await;
    let ended = json!({"type": "ended", "turn": order["turn"], "outcome": outcome, "answer": null});
    tool.say(&format!("{ended}\n")).await;
}

fn failed(class: &str, retry_after: Option<u64>) -> Value {
    let wait = retry_after.map(|seconds| json!({"secs": seconds, "nanos": 0}));
    json!({"failed": {"class": class, "message": "said no", "retry_after": wait}})
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_can_be_asked_again_in_30_s_gets_no_prompt_until_then_and_no_restart() {
    let (cluster, mut ready, tools) = obedient(2).await;
    let events = cluster.subscribe();
    let mut first = ready.remove(0);
    let (reply, ()) = tokio::join!(
        cluster.ask(Submission::text("x").on_instance(0)),
        ends(&mut first, failed("rate_limit", Some(30)))
    );
    assert_eq!(reply.expect_err("limited").code(), "failed");
    let begun = tokio::time::Instant::now();
    let waits = cluster.stream("y").await.expect("accepted");
    let explanation = cluster.explain(1).await.expect("it lives");
    assert!(
        matches!(explanation.next, Next::Reopens { .. }),
        "{explanation}"
    );
    assert!(!cluster.check_health().await.expect("it lives").healthy);
    let served = async {
        tokio::select! {
            () = ends(&mut first, json!("completed")) => {}
            () = ends(&mut ready[0], json!("completed")) => {}
        }
    };
    let (reply, ()) = tokio::join!(waits.reply(), served);
    reply.expect("completed");
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(tools.world.launches(), 2);
    let status = cluster.status().await.expect("it lives");
    assert!(
        status
            .instances
            .iter()
            .all(|instance| instance.breaker == "closed")
    );
    assert_eq!(
        told(cluster, events).await,
        [
            "limit: jules-cli cannot be asked for 30 s (said no): prompts wait",
            "limit over"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_keeps_the_queue_until_the_instances_were_restarted() {
    let (cluster, mut ready, mut tools) = obedient(2).await;
    let events = cluster.subscribe();
    for (index, tool) in ready.iter_mut().enumerate() {
        let (reply, ()) = tokio::join!(
            cluster.ask(Submission::text("x").on_instance(index)),
            ends(tool, failed("auth", None))
        );
        assert_eq!(reply.expect_err("refused").code(), "failed");
    }
    let waits = cluster.stream("y").await.expect("accepted");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let explanation = cluster.explain(0).await.expect("it lives");
    assert_eq!(explanation.next, Next::Login);
    assert!(explanation.why.contains("jules login"), "{explanation}");
    assert_eq!(tools.world.launches.load(Ordering::SeqCst), 2, "no restart");
    let restart = async {
        let (restarted, tool) =
            tokio::join!(cluster.restart_instance(1), next_obedient(&mut tools));
        restarted.expect("ready");
        tool
    };
    let mut renewed = restart.await;
    let (reply, ()) = tokio::join!(waits.reply(), ends(&mut renewed, json!("completed")));
    reply.expect("the login is good now");
    // The other one is renewed by itself, now that this is known.
    let other = next_obedient(&mut tools).await;
    assert_eq!(
        (other.instance.as_str(), other.generation.as_str()),
        ("main/1", "2")
    );
    settle().await;
    let told = told(cluster, events).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("login: the login of jules-cli is refused (said no): prompts wait until somebody logs in and restarts"),
        "{told:?}"
    );
}
