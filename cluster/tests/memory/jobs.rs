//! Turns whose work goes on outside of the process: whatever cuts them off, the reply says where.

use std::time::Duration;

use toolpool_cluster::{AskError, ClusterManager, EventKind, Heard, Reply};
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Outcome};
use toolpool_pool_core::shim;

use crate::tool::{Tool, Tools};

const PLACE: &str = "session 7 goes on by itself: https://x/7";

/// A cluster of one instance that speaks as the driver of jobs does.
async fn one() -> (ClusterManager, Tool, Tools) {
    // It is named, but never started.
    shim::init_with("/bin/sh".into());
    let (builder, mut tools) = Tools::cluster_of("jules-cli", 1);
    let make_ready = async {
        let mut tool = tools.next().await;
        tool.say("{\"type\":\"ready\"}\n").await;
        tool
    };
    let builder = builder.turn_timeout(Duration::from_secs(60));
    let (cluster, tool) = tokio::join!(builder, make_ready);
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    (cluster, tool, tools)
}

/// Reads a prompt and says that its job has begun.
async fn begin(tool: &mut Tool) {
    let order = tool.read_json().await;
    let started = serde_json::json!({"type": "started", "turn": order["turn"], "place": PLACE});
    tool.say(&format!("{started}\n")).await;
}

fn doubt(ended: Result<Reply, AskError>) -> Doubt {
    match ended {
        Err(AskError::Turn(reply)) => match reply.outcome {
            Outcome::Indeterminate(doubt) => doubt,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_time_is_up_says_where_its_work_goes_on() {
    let (cluster, mut tool, _tools) = one().await;
    let mut events = cluster.subscribe();
    let (ended, ()) = tokio::join!(cluster.ask("x"), begin(&mut tool));
    let doubt = doubt(ended);
    assert_eq!(doubt.cause, DoubtCause::TimedOut);
    assert_eq!(doubt.detail, format!("the turn's time was up; {PLACE}"));
    loop {
        match events.next().await.expect("it was told") {
            Heard::Event(event) => {
                if let EventKind::TurnElsewhere { place, .. } = event.kind {
                    assert_eq!(place, PLACE);
                    break;
                }
            }
            Heard::Missed(count) => panic!("{count} were missed"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_driver_dies_says_where_its_work_goes_on() {
    let (cluster, mut tool, _tools) = one().await;
    let die = async {
        begin(&mut tool).await;
        tool.exit(9);
    };
    let (ended, ()) = tokio::join!(cluster.ask("x"), die);
    let doubt = doubt(ended);
    assert_eq!(doubt.cause, DoubtCause::Crashed);
    assert!(doubt.detail.ends_with(PLACE), "{}", doubt.detail);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_ends_says_nothing_of_it_and_the_next_has_a_place_of_its_own() {
    let (cluster, mut tool, _tools) = one().await;
    let answer = async {
        begin(&mut tool).await;
        tool.say("{\"type\":\"ended\",\"turn\":1,\"outcome\":\"completed\",\"answer\":\"done\"}\n")
            .await;
        // This one ends before it has begun anywhere.
        tool.read_json().await;
        tool.exit(9);
    };
    let asks = async {
        let first = cluster.ask("x").await;
        (first, cluster.ask("y").await)
    };
    let ((first, second), ()) = tokio::join!(asks, answer);
    assert_eq!(first.expect("completed").text, "done");
    let doubt = doubt(second);
    assert!(!doubt.detail.contains(PLACE), "{}", doubt.detail);
}
