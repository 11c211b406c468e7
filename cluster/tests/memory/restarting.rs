//! Which ends are followed by another process, and what is told of those that are not.

use std::time::Duration;

use toolpool_cluster::{ClusterError, InstanceState, RestartLimit, RestartPolicy};

use crate::tool::{Tools, one, settle};

#[tokio::test(start_paused = true)]
async fn a_tool_that_says_that_another_start_cannot_help_gets_none() {
    let (cluster, mut tool, tools) = one(|builder| builder).await;
    tool.complain("your license has expired\n").await;
    settle().await;
    tool.exit(125);
    settle().await;
    let explanation = cluster.explain(0).await.expect("it lives");
    assert_eq!(explanation.state, InstanceState::Failed);
    for part in [
        "exit code 125",
        "your license has expired",
        "cannot help",
        "nothing follows until somebody restarts it",
    ] {
        assert!(explanation.to_string().contains(part), "{explanation}");
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(tools.world.launches(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_probes_for_instances_that_all_say_that_another_start_cannot_help() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    for tool in ready {
        tool.exit(1);
    }
    for _ in 0..2 {
        tools.next().await.exit(125);
    }
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert!(status.paused.is_empty(), "{:?}", status.paused);
    for instance in status.instances {
        assert_eq!(instance.state, InstanceState::Failed);
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(tools.world.launches(), 4);
    let error = cluster.ask("anybody?").await.expect_err("nobody is left");
    assert_eq!(error.code(), "failed");
}

#[tokio::test(start_paused = true)]
async fn a_transient_instance_may_leave_and_is_not_fetched_back() {
    let (cluster, tool, mut tools) = one(|builder| builder.restart(RestartPolicy::Transient)).await;
    tool.exit(1);
    let tool = tools.next_ready().await;
    settle().await;
    tool.exit(0);
    settle().await;
    let status = cluster.status().await.expect("it lives");
    assert_eq!(status.instances[0].state, InstanceState::Stopped);
    let error = cluster.ask("anybody?").await.expect_err("nobody is left");
    assert_eq!(error.code(), "failed");
    let restarted = async { tools.next_ready().await };
    let (restart, _tool) = tokio::join!(cluster.restart_instance(0), restarted);
    restart.expect("its owner may fetch it");
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_after_each_good_turn_is_seen_to_loop() {
    let minute = Duration::from_secs(60);
    let limit = |restarts| RestartLimit {
        restarts,
        within: minute,
    };
    let (cluster, mut tool, mut tools) =
        one(|builder| builder.restart_limits(limit(2), limit(9))).await;
    for round in 0..3 {
        let (reply, ()) = tokio::join!(cluster.ask("work"), tool.turn());
        reply.expect("completed");
        tool.exit(1);
        settle().await;
        let instance = cluster
            .status()
            .await
            .expect("it lives")
            .instances
            .remove(0);
        assert_eq!(instance.crash_looping, round == 2, "{instance:?}");
        assert_eq!(instance.faults, round + 1);
        if round == 2 {
            assert_eq!(instance.state, InstanceState::Tripped);
            assert_eq!(instance.breaker, "open");
            assert!(
                instance.reason.starts_with("crash-looping: exit code 1"),
                "{instance:?}"
            );
        }
        tool = tools.next_ready().await;
    }
    let (restart, _tool) = tokio::join!(cluster.restart_instance(0), async {
        drop(tool);
        tools.next_ready().await
    });
    restart.expect("it starts");
    let status = cluster.status().await.expect("it lives");
    assert!(
        !status.instances[0].crash_looping,
        "its owner has forgiven it"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_wrong_program_prints_first_is_the_evidence_of_a_failed_start() {
    let (builder, mut tools) = Tools::cluster(1);
    let launch = builder.restart(RestartPolicy::Temporary);
    let wrong = async {
        let mut tool = tools.next().await;
        tool.complain("usage: tool [OPTIONS]\n").await;
        for number in 0..2_000 {
            tool.complain(&format!("  --option-{number}\n")).await;
        }
        settle().await;
        tool.exit(2);
    };
    let (launched, ()) = tokio::join!(launch.into_future(), wrong);
    let Err(error @ ClusterError::NoneReady { .. }) = launched else {
        panic!("it never became ready")
    };
    for part in [
        "exit code 2",
        "first: usage: tool [OPTIONS]",
        "--option-1999",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_and_the_last_words_of_a_failed_process_outlive_the_next_one() {
    let (cluster, mut tool, mut tools) = one(|builder| builder).await;
    tool.complain("Traceback (most recent call last)\n").await;
    tool.complain(&"  frame\n".repeat(3_000)).await;
    tool.complain("MemoryError\n").await;
    settle().await;
    tool.exit(1);
    let next = tools.next_ready().await;
    let (restart, _tool) = tokio::join!(cluster.restart_instance(0), async {
        drop(next);
        tools.next_ready().await
    });
    restart.expect("it starts");
    let evidence = cluster.explain(0).await.expect("it lives").evidence;
    let stderr = evidence.printed.expect("one has failed").stderr;
    assert!(stderr.first.starts_with("Traceback"), "{stderr:?}");
    assert!(stderr.last.ends_with("MemoryError\n"), "{stderr:?}");
    assert!(stderr.dropped > 10_000);
}
