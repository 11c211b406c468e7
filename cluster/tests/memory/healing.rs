//! What counts for a breaker and the waits, and what does not any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::BreakerConfig;

use crate::tool::{one, settle};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn ten_healthy_minutes_bring_the_first_wait_back() {
    let (cluster, tool, mut tools) =
        one(|builder| builder.restart_delay(seconds(1), seconds(1000))).await;
    let mut waits = Vec::new();
    let mut tool = Some(tool);
    for _ in 0..4 {
        let crashed = tokio::time::Instant::now();
        tool.take().expect("there is one").exit(1);
        tool = Some(tools.next_ready().await);
        waits.push(crashed.elapsed());
    }
    assert!(waits[0] <= Duration::from_millis(1_100), "{waits:?}");
    assert!(waits[3] >= seconds(4), "{waits:?}");
    tokio::time::sleep(seconds(601)).await;
    let crashed = tokio::time::Instant::now();
    tool.expect("there is one").exit(1);
    tools.next_ready().await;
    let wait = crashed.elapsed();
    assert!(
        wait >= Duration::from_millis(500) && wait <= Duration::from_millis(1_100),
        "{wait:?}"
    );
    assert_eq!(cluster.instances().len(), 1);
}

/// Success or failure: a turn whose time was up is counted once, whatever its process still does before it is gone.
#[tokio::test(start_paused = true)]
async fn what_comes_too_late_changes_no_count_of_a_breaker() {
    let breaker = BreakerConfig {
        failures: 3,
        open_for: seconds(100),
        open_for_max: seconds(1000),
    };
    let (cluster, mut tool, mut tools) =
        one(|builder| builder.breaker(breaker).turn_timeout(seconds(1))).await;
    tools.world.deaf.store(true, Ordering::SeqCst);
    for failures in 1..=3 {
        let late = async {
            let read = tool.read().await;
            tokio::time::sleep(seconds(2)).await;
            // Its time is up and it was told to end; the next moments are too late.
            tool.answer(&read.nonce, "a late success").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            tool.exit(1);
        };
        let (reply, ()) = tokio::join!(cluster.ask("slow"), late);
        let said = reply.expect_err("in doubt").to_string();
        assert!(said.contains("timed_out"), "{said}");
        settle().await;
        let evidence = cluster.explain(0).await.expect("it lives").evidence;
        assert_eq!(evidence.failures, failures);
        let status = cluster.status().await.expect("it lives");
        let open = status.instances[0].breaker == "open";
        assert_eq!(open, failures == 3, "after {failures}");
        tool = tools.next_ready().await;
    }
}
