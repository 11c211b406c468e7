//! How a cluster ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use toolpool_cluster::{ControlError, SubmitError};

use crate::tool::{LONG, Tools, one, served, settle};

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_runs_and_refuses_what_comes() {
    let (cluster, mut tool, tools) = one(|builder| builder).await;
    let (first, second) = (
        cluster.stream("runs").await.expect("accepted"),
        cluster.stream("waits").await.expect("accepted"),
    );
    let serve = async {
        let read = tool.read().await;
        settle().await;
        assert_eq!(
            cluster.ask("late").await.expect_err("draining").code(),
            "draining"
        );
        tool.answer(&read.nonce, "one").await;
        tool.turn().await;
    };
    let (report, ()) = tokio::join!(cluster.shutdown(), serve);
    assert_eq!((report.books.completed, report.books.refused), (2, 1));
    first.reply().await.expect("completed");
    second.reply().await.expect("completed");
    assert_eq!(tools.world.alive(), 0);
    assert_eq!(
        cluster.status().await.expect_err("it is gone"),
        ControlError::ShutDown
    );
    assert_eq!(
        cluster.send("x").await.expect_err("it is gone"),
        SubmitError::Draining
    );
    assert_eq!(
        cluster.restart_instance(0).await.expect_err("it is gone"),
        ControlError::ShutDown
    );
    assert_eq!(
        cluster.shutdown().await.books.accepted,
        0,
        "nothing left to report"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_patience_under_load_answers_everything() {
    let (builder, mut tools) = Tools::cluster(4);
    let (cluster, ready) = tools.launch(builder, 4).await;
    tools.world.deaf.store(true, Ordering::SeqCst);
    let asks: Vec<_> = (0..300)
        .map(|number| {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.ask(format!("{number}")).await })
        })
        .collect();
    settle().await;
    let report = cluster.shutdown_within(Duration::ZERO).await;
    assert_eq!(tools.world.alive(), 0);
    let mut codes = std::collections::BTreeMap::<_, u64>::new();
    for ask in asks {
        let answer = tokio::time::timeout(LONG, ask)
            .await
            .expect("everything is answered")
            .expect("it lives");
        *codes
            .entry(answer.expect_err("nobody answered").code())
            .or_default() += 1;
    }
    let books = report.books;
    assert_eq!(
        (books.indeterminate, books.cancelled, books.accepted),
        (4, 296, 300),
        "{codes:?}"
    );
    assert_eq!((codes["indeterminate"], codes["cancelled"]), (4, 296));
    assert!(books.balance() && books.queued == 0 && books.running == 0);
    drop(ready);
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_may_be_more_urgent() {
    let (cluster, mut tool, tools) = one(|builder| builder).await;
    let asked = cluster.stream("runs").await.expect("accepted");
    tool.read().await;
    let began = tokio::time::Instant::now();
    let (patient, urgent) = tokio::join!(
        cluster.shutdown_within(LONG),
        cluster.shutdown_within(Duration::from_secs(1))
    );
    assert_eq!(patient.books, urgent.books);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(
        asked.reply().await.expect_err("in doubt").code(),
        "indeterminate"
    );
    assert_eq!(tools.world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_comes_back_during_the_end_is_answered_as_withdrawn() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    let mut ready = ready.into_iter();
    let (mut first, mut second) = (ready.next().expect("two"), ready.next().expect("two"));
    for tool in [&mut first, &mut second] {
        tool.close_stdin();
    }
    let unwritten = cluster.stream("one").await.expect("accepted");
    settle().await;
    // The crash and the end of the cluster come at once.
    first.exit(1);
    let report = cluster.shutdown_within(Duration::ZERO).await;
    assert_eq!(
        (report.books.cancelled, report.books.running),
        (1, 0),
        "{:?}",
        report.books
    );
    assert_eq!(
        unwritten.reply().await.expect_err("withdrawn").code(),
        "cancelled"
    );
}

#[tokio::test(start_paused = true)]
async fn when_the_last_handle_is_gone_everything_stops() {
    let (cluster, world) = served(3, |builder| builder).await;
    let mut events = cluster.subscribe();
    let clone = cluster.clone();
    drop(cluster);
    clone.ask("still there").await.expect("completed");
    drop(clone);
    while events.next().await.is_some() {}
    assert_eq!(world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_cannot_be_read_any_more_keeps_nothing_alive() {
    let (cluster, mut tool, tools) = one(|builder| builder).await;
    let mut events = cluster.subscribe();
    cluster.send("runs").await.expect("accepted");
    tool.read().await;
    let began = tokio::time::Instant::now();
    drop(cluster);
    while events.next().await.is_some() {}
    assert_eq!(tools.world.alive(), 0);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_given_up_leaves_nothing() {
    let (builder, mut tools) = Tools::cluster(2);
    {
        let mut launch = builder.into_future();
        tokio::select! {
            biased;
            _ = &mut launch => panic!("nobody is ready"),
            _ = tools.next() => {}
        }
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(tools.world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_process_that_is_being_born() {
    let (builder, mut tools) = Tools::cluster(2);
    let (cluster, ready) = tools.launch(builder, 2).await;
    tools.world.slowness.store(1, Ordering::SeqCst);
    for tool in ready {
        tool.exit(1);
    }
    while tools.world.under_way.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.shutdown().await;
    assert_eq!(
        tools.world.under_way.load(Ordering::SeqCst),
        0,
        "a start was dropped half-way: nobody knows what becomes of it"
    );
    assert_eq!(tools.world.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_launcher_that_hangs_delays_the_end_and_does_not_prevent_it() {
    let (builder, mut tools) = Tools::cluster(1);
    let (cluster, ready) = tools.launch(builder, 1).await;
    tools.world.slowness.store(LONG.as_secs(), Ordering::SeqCst);
    for tool in ready {
        tool.exit(1);
    }
    while tools.world.under_way.load(Ordering::SeqCst) < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = tokio::time::Instant::now();
    cluster.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(60));
}
