//! That nothing is left.

use std::time::Duration;

use toolpool_cluster::{ClusterError, Isolation, launch_cluster};
use toolpool_pool_core::shim;
use toolpool_testkit::census::{Census, MARKER};

use crate::support::{in_time, launch, standin, standin_tool};

#[tokio::test]
async fn dropping_every_handle_leaves_no_process() {
    let rules = [
        "on prompt ~fork fork 1 ignore TERM HUP",
        "on prompt ~fork fork 1 orphan setsid ignore TERM HUP",
        "on prompt ~hang hang",
    ];
    let (cluster, census) = launch(standin(&[], &rules), 4, |builder| {
        builder.stop_grace(Duration::from_millis(50))
    })
    .await;
    in_time(cluster.ask("fork"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let hanging = cluster
        .stream("hang")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    cluster
        .send("hang")
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(census.alive().len(), 4 + 4 + 2);
    let mut events = cluster.subscribe();
    drop(hanging);
    drop(cluster);
    in_time(async { while events.next().await.is_some() {} }).await;
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_shutdown_without_patience_answers_and_leaves_nothing() {
    let (cluster, census) = launch(
        standin(
            &[],
            &["on prompt ~hang ignore TERM", "on prompt ~hang hang"],
        ),
        4,
        |builder| builder.stop_grace(Duration::from_millis(50)),
    )
    .await;
    let asks: Vec<_> = (0..60)
        .map(|_| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.ask("hang").await })
        })
        .collect();
    while in_time(cluster.status())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
        .books
        .accepted
        < 60
    {
        tokio::task::yield_now().await;
    }
    let report = in_time(cluster.shutdown_within(Duration::ZERO)).await;
    assert_eq!(census.alive(), Vec::<u32>::new());
    assert!(report.books.balance());
    assert_eq!(
        (
            report.books.indeterminate + report.books.cancelled,
            report.books.running
        ),
        (60, 0)
    );
    for ask in asks {
        in_time(ask)
            .await
            .expect("no caller panics")
            .expect_err("nobody answered");
    }
}

#[tokio::test]
async fn a_kill_asks_no_tool_to_end_first_also_in_the_middle_of_a_shutdown() {
    let (cluster, census) = launch(
        standin(
            &[],
            &["on prompt ~hang ignore TERM", "on prompt ~hang hang"],
        ),
        2,
        |builder| builder.stop_grace(Duration::MAX),
    )
    .await;
    let asks = [(); 3].map(|()| {
        let cluster = cluster.clone();
        tokio::spawn(async move { cluster.ask("hang").await })
    });
    let accepted = async || cluster.status().await.expect("it lives").books.accepted;
    while in_time(accepted()).await < 3 {
        tokio::task::yield_now().await;
    }
    let patient = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.shutdown_within(Duration::ZERO).await }
    });
    let report = in_time(cluster.kill()).await;
    assert_eq!(census.alive(), Vec::<u32>::new());
    let books = report.books;
    assert_eq!(
        (books.indeterminate + books.cancelled, books.accepted),
        (3, 3)
    );
    assert_eq!(in_time(patient).await.expect("no panic").books, books);
    for ask in asks {
        let ended = in_time(ask).await.expect("no caller panics");
        ended.expect_err("nobody answered");
    }
}

#[tokio::test]
async fn a_launch_of_which_nothing_becomes_ready_leaves_nothing() {
    shim::init_with(standin_tool());
    let census = Census::new();
    let profile = standin(
        &[],
        &[
            "on start fork 2 orphan setsid ignore TERM",
            "on start exit 3",
        ],
    );
    let launched = launch_cluster(profile)
        .count(3)
        .isolation(Isolation::Shared)
        .env(MARKER, census.marker());
    let Err(error) = in_time(launched.into_future()).await else {
        panic!("it cannot be ready")
    };
    assert!(matches!(error, ClusterError::NoneReady { .. }), "{error}");
    assert!(error.to_string().contains("exit code 3"), "{error}");
    assert_eq!(census.alive(), Vec::<u32>::new());
}

#[test]
fn a_runtime_that_goes_away_takes_the_tools_with_it() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (cluster, census) = runtime.block_on(launch(
        standin(&[], &["on prompt ~fork fork 2 ignore TERM HUP"]),
        2,
        |builder| builder,
    ));
    runtime
        .block_on(in_time(cluster.ask("fork")))
        .unwrap_or_else(|error| panic!("{error}"));
    // Two tools, the keeper of each, and two processes that one has started.
    assert_eq!(census.alive().len(), 6);
    drop(runtime);
    // The keepers were told; they need a moment, and nothing is left that could tell of it.
    let deadline = std::time::Instant::now() + crate::support::LONG;
    while !census.alive().is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", census.alive());
        std::thread::yield_now();
    }
    drop(cluster);
}
