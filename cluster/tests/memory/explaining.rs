//! Why an instance is in its state, as its owner can ask.

use std::time::Duration;

use toolpool_cluster::{BreakerConfig, ControlError, InstanceState, Next};

use crate::tool::{one, settle};

#[tokio::test(start_paused = true)]
async fn an_explanation_has_the_evidence_and_the_next_step_and_forgets_failures_that_healed() {
    let hour = Duration::from_secs(3600);
    let breaker = BreakerConfig {
        failures: 2,
        ..BreakerConfig::default()
    };
    let (cluster, mut tool, mut tools) =
        one(|builder| builder.restart_delay(hour, hour).breaker(breaker)).await;
    let explain = async || {
        settle().await;
        cluster.explain("main/1").await.expect("it lives")
    };
    assert_eq!(explain().await.next, Next::Prompt);
    tool.complain("no such key\n").await;
    settle().await;
    tool.exit(3);
    let explanation = explain().await;
    assert_eq!(explanation.state, InstanceState::Backoff);
    assert_eq!(explanation.evidence.return_code, Some(3));
    assert_eq!(explanation.evidence.last_lines, ["no such key"]);
    assert_eq!(
        (
            explanation.evidence.failures,
            explanation.evidence.tries_left
        ),
        (1, 1)
    );
    assert!(
        matches!(explanation.next, Next::Restart { in_s, .. } if (1_800.0..=3_600.0).contains(&in_s)),
        "{explanation}"
    );
    tools.next().await.exit(4);
    let explanation = explain().await;
    assert!(
        matches!(explanation.next, Next::Probe { .. }),
        "{explanation}"
    );
    let mut tool = tools.next_ready().await;
    assert_eq!(explain().await.evidence.failures, 2);
    let (reply, ()) = tokio::join!(cluster.ask("works again"), tool.turn());
    reply.expect("completed");
    assert_eq!(explain().await.evidence.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_names_the_turn_and_tells_a_drain_from_a_restart() {
    let (cluster, mut tool, _tools) = one(|builder| builder).await;
    let asked = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let explanation = cluster.explain(0).await.expect("it lives");
    let turn = Some(asked.turn());
    assert_eq!(explanation.next, Next::TurnEnds { turn });
    cluster.drain_instance(0).await.expect("it is there");
    settle().await;
    let explanation = cluster.explain(0).await.expect("it lives");
    let returns = false;
    assert_eq!(explanation.next, Next::Drained { turn, returns });
}

#[tokio::test(start_paused = true)]
async fn only_instances_that_there_are_can_be_explained() {
    let (cluster, _tool, _tools) = one(|builder| builder).await;
    assert_eq!(
        cluster.explain(1).await,
        Err(ControlError::NoInstance { index: 1, last: 0 })
    );
    let error = cluster.explain("main/9").await.expect_err("no such one");
    assert_eq!(
        error.to_string(),
        "there is no instance main/9; this cluster has main/1 to main/1"
    );
}
