//! Tools that do not become ready, do not answer, or die.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::{BreakerConfig, ClusterError, InstanceState};
use toolpool_pool_core::launcher::GroupSignal;

use crate::tool::{Tools, one, settle};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_never_becomes_ready_is_killed_and_tried_again() {
    let (builder, mut tools) = Tools::cluster(1);
    tools.world.deaf.store(true, Ordering::SeqCst);
    let launch = builder.start_timeout(seconds(5)).stop_grace(seconds(2));
    let watch = async {
        let mut tool = tools.next().await;
        let began = tokio::time::Instant::now();
        assert_eq!(tool.signaled().await, GroupSignal::Terminate);
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(tool.signaled().await, GroupSignal::Kill);
        assert_eq!(began.elapsed().as_secs(), 7);
    };
    let (launched, ()) = tokio::join!(launch.into_future(), watch);
    let Err(error @ ClusterError::NoneReady { .. }) = launched else {
        panic!("it was never ready")
    };
    assert!(error.to_string().contains("not ready within 5s"), "{error}");
    assert_eq!(tools.world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_is_dead_before_its_end_is_heard() {
    let (cluster, mut tool, tools) = one(|builder| builder.turn_timeout(seconds(60))).await;
    tools.world.deaf.store(true, Ordering::SeqCst);
    let asked = cluster.stream("runs").await.expect("accepted");
    let read = tool.read().await;
    tool.say("a part").await;
    let watch = async {
        assert_eq!(tool.signaled().await, GroupSignal::Terminate);
        // Too late: the turn has its doubt already.
        tool.answer(&read.nonce, " and the rest").await;
        assert_eq!(tool.signaled().await, GroupSignal::Kill);
    };
    let (reply, ()) = tokio::join!(asked.reply(), watch);
    assert_eq!(tools.world.alive(), 0);
    let error = reply.expect_err("in doubt");
    let reply = error.reply().expect("there is a part");
    assert_eq!(reply.text, "a part");
    assert!(error.to_string().contains("timed_out"), "{error}");
    assert!(reply.took >= seconds(60));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_a_turn_is_told_with_its_last_words() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let crash = async {
        tool.read().await;
        tool.say("half").await;
        tool.complain("panicked at main.rs:7\n").await;
        settle().await;
        tool.exit(101);
    };
    let (reply, ()) = tokio::join!(cluster.ask("runs"), crash);
    let error = reply.expect_err("in doubt");
    for part in ["crashed", "exit code 101", "panicked at main.rs:7"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(error.reply().map(|reply| reply.text.as_str()), Some("half"));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_of_which_nothing_was_written_runs_elsewhere_with_no_word_of_the_dead_one() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    let [mut first, mut second] = <[_; 2]>::try_from(ready).unwrap_or_else(|_| panic!("two"));
    first.close_stdin();
    let session = cluster.session("a");
    let asked = session.stream("important").await.expect("accepted");
    // Its last words come while the turn is on its way to it.
    first.say("Traceback (most recent call last)\n").await;
    first.exit(1);
    let (reply, ()) = tokio::join!(asked.reply(), second.turn());
    let reply = reply.expect("completed");
    assert_eq!(reply.text, "main/2: important");
    assert_eq!(reply.instance.as_deref(), Some("main/2"));
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_turn_that_is_handed_back_is_not_run_elsewhere() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    let [mut first, second] = <[_; 2]>::try_from(ready).unwrap_or_else(|_| panic!("two"));
    first.close_stdin();
    let asked = cluster.stream("unwanted").await.expect("accepted");
    settle().await;
    asked.cancel().await;
    settle().await;
    first.exit(1);
    tokio::spawn(second.serve());
    assert_eq!(
        asked.reply().await.expect_err("withdrawn").code(),
        "cancelled"
    );
}

#[tokio::test(start_paused = true)]
async fn restarts_slow_down_trip_at_exactly_the_kth_failure_and_heal_after_a_good_probe() {
    let breaker = BreakerConfig {
        failures: 3,
        open_for: seconds(100),
        open_for_max: seconds(1000),
    };
    let (cluster, tool, mut tools) = one(|builder| {
        builder
            .breaker(breaker)
            .restart_delay(seconds(1), seconds(20))
    })
    .await;
    let state = async || {
        settle().await;
        let status = cluster.status().await.expect("it lives");
        (status.instances[0].state, status.instances[0].breaker)
    };
    let began = tokio::time::Instant::now();
    tool.exit(1);
    assert_eq!(state().await, (InstanceState::Backoff, "closed"));
    tools.next().await.exit(1);
    let first = began.elapsed();
    assert!((500..=1_100).contains(&first.as_millis()), "{first:?}");
    assert_eq!(state().await, (InstanceState::Backoff, "closed"));
    tools.next_ready().await.exit(1);
    let second = began.elapsed() - first;
    assert!((5_000..=10_200).contains(&second.as_millis()), "{second:?}");
    assert_eq!(state().await, (InstanceState::Tripped, "open"));
    let opened = tokio::time::Instant::now();
    tools.next().await.exit(1);
    assert!(opened.elapsed() >= seconds(50));
    assert_eq!(
        state().await,
        (InstanceState::Tripped, "open"),
        "the probe failed"
    );
    let mut tool = tools.next_ready().await;
    assert_eq!(state().await, (InstanceState::Ready, "half_open"));
    let (reply, ()) = tokio::join!(cluster.ask("probe"), tool.turn());
    assert_eq!(reply.expect("completed").generation, 5);
    assert_eq!(state().await, (InstanceState::Ready, "closed"));
    assert_eq!(tools.world.launches(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_survivor_proves_itself_without_a_turn() {
    let (cluster, tool, mut tools) = one(|builder| builder).await;
    let mut events = cluster.subscribe();
    tool.exit(1);
    let _second = tools.next_ready().await;
    tokio::time::sleep(seconds(61)).await;
    drop(cluster);
    let mut exits = 0;
    while let Some(toolpool_cluster::Heard::Event(event)) = events.next().await {
        exits += usize::from(matches!(
            event.kind,
            toolpool_cluster::EventKind::InstanceExited { .. }
        ));
    }
    assert_eq!(exits, 2, "one crash and the end; proving is no exit");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_survives_sigkill_is_given_up_and_its_turn_answered() {
    let (cluster, mut tool, tools) = one(|builder| builder.turn_timeout(seconds(1))).await;
    tools.world.deaf.store(true, Ordering::SeqCst);
    tools.world.undead.store(true, Ordering::SeqCst);
    let (reply, _) = tokio::join!(cluster.ask("runs"), tool.read());
    assert!(
        reply
            .expect_err("in doubt")
            .to_string()
            .contains("timed_out")
    );
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Failed);
    assert_eq!(tools.world.launches(), 1, "never two processes");
    assert_eq!(
        cluster
            .ask("more")
            .await
            .expect_err("nobody is left")
            .code(),
        "failed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_launcher_that_panics_costs_its_instance_and_nothing_else() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    let [first, mut second] = <[_; 2]>::try_from(ready).unwrap_or_else(|_| panic!("two"));
    tools.world.panics.store(true, Ordering::SeqCst);
    first.exit(1);
    tokio::time::sleep(seconds(10)).await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Failed);
    assert!(
        status.instances[0].reason.contains("panic"),
        "{}",
        status.instances[0].reason
    );
    let (reply, ()) = tokio::join!(cluster.ask("x"), second.turn());
    reply.expect("the other one works");
    let ended = tokio::time::timeout(seconds(3600), cluster.shutdown()).await;
    assert_eq!(ended.expect("it ends").books.completed, 1);
    assert_eq!(tools.world.alive(), 0);
}
