//! Prompts that may be given to a tool again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use toolpool_cluster::{
    AskError, BreakerConfig, ClusterBuilder, Doubtful, EventKind, Heard, OnLoss, Reconciled,
    Reconciler, Reply, RestartLimit, RetryPolicy, Submission, SubmitError,
};
use toolpool_pool_core::outcome::{DoubtCause, Outcome};

use crate::journaling::{Desk, asking};
use crate::tool::{Tool, Tools, one, settle};

const THRICE: RetryPolicy = RetryPolicy::Idempotent { attempts: 3 };

pub(crate) fn patient(builder: ClusterBuilder) -> ClusterBuilder {
    let often = RestartLimit {
        restarts: 1_000_000,
        within: Duration::from_secs(60),
    };
    builder
        .breaker(BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        })
        .restart_limits(often, often)
        .restart_delay(Duration::from_millis(1), Duration::from_millis(1))
}

/// Reads a prompt, begins an answer and dies.
async fn dies_over(mut tool: Tool) {
    let read = tool.read().await;
    assert_eq!(read.text, "work");
    tool.say("half an").await;
    settle().await;
    tool.exit(1);
}

fn doubt(asked: Result<Reply, AskError>) -> (DoubtCause, Reply) {
    match asked {
        Err(AskError::Turn(reply)) => match reply.outcome.clone() {
            Outcome::Indeterminate(doubt) => (doubt.cause, *reply),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_done_twice_is_tried_again_after_a_crash_and_each_attempt_is_told() {
    let desk = Desk::quick();
    let (cluster, tool, mut tools) = one(|builder| patient(builder).journal(desk.clone())).await;
    let mut events = cluster.subscribe();
    let asked = asking(&cluster, Submission::text("work").retry(THRICE));
    dies_over(tool).await;
    dies_over(tools.next_ready().await).await;
    tools.next_ready().await.turn().await;
    let reply = asked.await.expect("no panic").expect("completed");
    assert_eq!((reply.text.as_str(), reply.generation), ("main/1: work", 3));
    let records: Vec<_> = desk.records().into_iter().collect();
    let steps: Vec<_> = records
        .iter()
        .filter(|it| !it.starts_with("output"))
        .collect();
    assert_eq!(
        steps,
        [
            "accepted t101 work",
            "dispatching t101.1",
            "dispatching t101.2",
            "dispatching t101.3",
            "ended t101 completed 3 main/1: work"
        ]
    );
    let books = cluster.shutdown().await.books;
    assert_eq!(
        (books.accepted, books.completed, books.indeterminate),
        (1, 1, 0)
    );
    let mut told = Vec::new();
    while let Some(Heard::Event(event)) = events.next().await {
        match event.kind {
            EventKind::TurnRetried { attempt, cause, .. } => told.push((attempt, cause)),
            EventKind::TurnEnded { outcome, .. } => told.push((0, Some(outcome))),
            _ => {}
        }
    }
    let crashed = Some("crashed");
    assert_eq!(told, [(1, crashed), (2, crashed), (0, Some("completed"))]);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_is_the_end_and_by_default_it_is_the_first() {
    for (policy, attempts) in [(RetryPolicy::Once, 1), (THRICE, 3)] {
        let (cluster, tool, mut tools) = one(patient).await;
        let asked = asking(&cluster, Submission::text("work").retry(policy));
        dies_over(tool).await;
        for _ in 1..attempts {
            dies_over(tools.next_ready().await).await;
        }
        let (cause, reply) = doubt(asked.await.expect("no panic"));
        assert_eq!(cause, DoubtCause::Crashed);
        assert_eq!(
            (reply.text.as_str(), reply.generation),
            ("half an", attempts)
        );
        let mut last = tools.next_ready().await;
        let read = tokio::time::timeout(Duration::from_secs(9), last.maybe_read()).await;
        assert!(read.is_err(), "{policy}: one attempt too many");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_does_nothing_before_its_output_may_get_a_prompt_again_that_it_died_over_in_silence()
 {
    for (quiet, silent, again) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let (builder, mut tools) = Tools::cluster_with(1, |profile| {
            profile.quiet_until_output = quiet;
        });
        let (cluster, mut ready) = tools.launch(patient(builder), 1).await;
        let prompt = Submission::text("work").retry(RetryPolicy::UntilOutput);
        let asked = asking(&cluster, prompt);
        let mut tool = ready.pop().expect("one");
        tool.read().await;
        if !silent {
            tool.complain("a word").await;
        }
        settle().await;
        tool.exit(1);
        let mut tool = tools.next_ready().await;
        if again {
            tool.turn().await;
            asked.await.expect("no panic").expect("completed");
        } else {
            let (cause, _) = doubt(asked.await.expect("no panic"));
            assert_eq!(cause, DoubtCause::Crashed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_of_a_turn_is_one_for_all_its_attempts() {
    let (cluster, tool, mut tools) = one(patient).await;
    let prompt = Submission::text("work").retry(RetryPolicy::Idempotent { attempts: 9 });
    let began = tokio::time::Instant::now();
    let asked = asking(&cluster, prompt.turn_timeout(Duration::from_secs(10)));
    let mut tool = tool;
    tool.read().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    tool.exit(1);
    let mut tool = tools.next_ready().await;
    tool.read().await;
    let (cause, _) = doubt(asked.await.expect("no panic"));
    assert_eq!(cause, DoubtCause::TimedOut);
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_which_nothing_was_read_has_all_its_time_when_it_runs_at_last() {
    let (cluster, mut tool, mut tools) = one(patient).await;
    tools.world.slowness.store(6, Ordering::SeqCst);
    let limit = Duration::from_secs(4);
    let asked = asking(&cluster, Submission::text("work").turn_timeout(limit));
    tool.close_stdin();
    settle().await;
    tool.exit(1);
    let mut tool = tools.next_ready().await;
    let read = tool.read().await;
    tokio::time::sleep(limit / 2).await;
    tool.answer(&read.nonce, "done").await;
    let reply = asked.await.expect("no panic").expect("it was in time");
    assert_eq!((reply.text.as_str(), reply.generation), ("done", 2));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_waits_for_its_next_attempt_ends_as_its_last_one_did() {
    let late = Submission::text("work").turn_timeout(Duration::from_secs(10));
    for (prompt, cancels) in [(late, false), (Submission::text("work"), true)] {
        let (cluster, tool, mut tools) = one(patient).await;
        let stream = cluster
            .stream(prompt.retry(THRICE))
            .await
            .expect("accepted");
        dies_over(tool).await;
        settle().await;
        // The next process is never ready.
        let _tool = tools.next().await;
        if cancels {
            stream.cancel().await;
        }
        let (cause, reply) = doubt(stream.reply().await);
        assert_eq!(
            (cause, reply.text.as_str()),
            (DoubtCause::Crashed, "half an")
        );
        let books = cluster.shutdown_within(Duration::ZERO).await.books;
        assert!(books.balance());
        assert_eq!(
            (books.indeterminate, books.expired, books.cancelled),
            (1, 0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_keeps_its_order_when_one_of_its_prompts_is_tried_again() {
    let (cluster, tool, mut tools) = one(patient).await;
    let session = cluster.session("s").on_loss(OnLoss::Fresh);
    let ask = |text: &'static str| {
        let session = session.clone();
        tokio::spawn(async move { session.ask(Submission::text(text).retry(THRICE)).await })
    };
    let first = ask("work");
    settle().await;
    let second = ask("second");
    dies_over(tool).await;
    let mut tool = tools.next_ready().await;
    for (text, asked) in [("work", first), ("second", second)] {
        let read = tool.read().await;
        assert_eq!(read.text, text);
        tool.answer(&read.nonce, text).await;
        asked.await.expect("no panic").expect("completed");
    }
}

/// Answers as it was told to, and remembers what it was asked.
#[derive(Clone)]
struct Knows(Reconciled, Arc<Mutex<Vec<Doubtful>>>);

#[async_trait]
impl Reconciler for Knows {
    async fn reconcile(&self, doubtful: &Doubtful) -> Reconciled {
        self.1
            .lock()
            .expect("no test panics")
            .push(doubtful.clone());
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.0.clone()
    }
}

struct Panics;

#[async_trait]
impl Reconciler for Panics {
    async fn reconcile(&self, _: &Doubtful) -> Reconciled {
        panic!("a reconciler with a bug")
    }
}

fn reconciled(text: &str) -> Submission {
    Submission::text(text).retry(RetryPolicy::Reconcile)
}

#[tokio::test(start_paused = true)]
async fn whoever_knows_what_became_of_a_prompt_in_doubt_settles_it() {
    let answers = [
        Reconciled::Completed("it is done".to_owned()),
        Reconciled::Absent,
        Reconciled::Unclear,
    ];
    for answer in answers {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let knows = Knows(answer.clone(), Arc::clone(&asked));
        let (cluster, tool, mut tools) = one(|builder| patient(builder).reconciler(knows)).await;
        let reply = asking(&cluster, reconciled("work"));
        dies_over(tool).await;
        let mut tool = tools.next_ready().await;
        let books = cluster.status().await.expect("it lives").books;
        assert_eq!((books.running, books.balance()), (1, true));
        match answer {
            Reconciled::Completed(text) => {
                let reply = reply.await.expect("no panic").expect("completed");
                assert_eq!(reply.text, text);
                let by = reply.attribution.map(|attribution| attribution.by);
                assert_eq!(by, Some("reconciled"));
            }
            Reconciled::Absent => {
                tool.turn().await;
                let reply = reply.await.expect("no panic").expect("completed");
                assert_eq!(reply.text, "main/1: work");
            }
            Reconciled::Unclear => {
                let (cause, reply) = doubt(reply.await.expect("no panic"));
                assert_eq!(
                    (cause, reply.text.as_str()),
                    (DoubtCause::Crashed, "half an")
                );
            }
        }
        let asked = std::mem::take(&mut *asked.lock().expect("no test panics"));
        let [doubtful] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert_eq!(
            (doubtful.prompt.text.as_str(), doubtful.attempt),
            ("work", 1)
        );
        assert_eq!(doubtful.reply.text, "half an");
        assert!(cluster.shutdown().await.books.balance());
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_to_ask_is_told_at_the_door_and_a_bug_of_whom_is_asked_is_no_answer() {
    let (cluster, _tool, _tools) = one(patient).await;
    let refused = cluster.ask(reconciled("work")).await.expect_err("nobody");
    assert!(matches!(
        refused,
        AskError::Submit(SubmitError::NoReconciler)
    ));
    let (cluster, tool, _tools) = one(|builder| patient(builder).reconciler(Panics)).await;
    let reply = asking(&cluster, reconciled("work"));
    dies_over(tool).await;
    let (cause, _) = doubt(reply.await.expect("no panic"));
    assert_eq!(cause, DoubtCause::Crashed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_an_answer_beyond_its_time() {
    let knows = Knows(Reconciled::Absent, Arc::default());
    let (cluster, tool, _tools) = one(|builder| patient(builder).reconciler(knows)).await;
    let reply = asking(&cluster, reconciled("work"));
    dies_over(tool).await;
    settle().await;
    let report = cluster.shutdown_within(Duration::from_secs(1)).await;
    assert!(report.books.balance());
    assert_eq!(report.books.indeterminate, 1);
    let (cause, _) = doubt(reply.await.expect("no panic"));
    assert_eq!(cause, DoubtCause::Crashed);
}

#[tokio::test(start_paused = true)]
async fn at_most_one_of_five_prompts_under_way_is_a_retry_while_half_of_the_turns_fail() {
    const CLIENTS: usize = 20;
    let (builder, mut tools) = Tools::cluster(8);
    tokio::spawn(async move {
        let turns = Arc::new(AtomicUsize::new(0));
        loop {
            let mut tool = tools.next_ready().await;
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                while let Some(read) = tool.maybe_read().await {
                    tokio::time::sleep(Duration::from_millis(70)).await;
                    if turns.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                        return tool.exit(1);
                    }
                    tool.answer(&read.nonce, "done").await;
                }
            });
        }
    });
    let builder = patient(builder);
    let cluster = builder.await.expect("it comes up");
    let mut events = cluster.subscribe();
    for _ in 0..CLIENTS {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            loop {
                let prompt = Submission::text("work");
                let _ = cluster
                    .ask(prompt.retry(RetryPolicy::Idempotent { attempts: 5 }))
                    .await;
            }
        });
    }
    let (mut retried, mut most) = (HashSet::new(), 0);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let books = cluster.status().await.expect("it lives").books;
        while let Ok(Some(heard)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            let Heard::Event(event) = heard else {
                panic!("the test is too slow")
            };
            match event.kind {
                EventKind::TurnRetried { turn, .. } => drop(retried.insert(turn)),
                EventKind::TurnEnded { turn, .. } => drop(retried.remove(&turn)),
                _ => {}
            }
        }
        let under_way = usize::try_from(books.queued + books.running).expect("few");
        assert!(
            retried.len() <= (under_way / 5).max(3),
            "{} of {under_way}",
            retried.len()
        );
        most = most.max(retried.len());
    }
    assert_eq!(most, CLIENTS / 5, "the budget was never needed");
}
