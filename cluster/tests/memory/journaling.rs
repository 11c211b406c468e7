//! A cluster with a journal: nothing is told, and nothing is written to a tool, before it is durable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;
use toolpool_cluster::{
    Accepted, AskError, ClusterManager, Done, Event, EventKind, EventSink, Events, Heard, Known,
    Record, Reply, Store, StoreError, Submission, SubmitError, TurnId,
};
use toolpool_pool_core::outcome::{DoubtCause, Outcome};

use crate::tool::{LONG, Tool, Tools, one, settle};

/// A journal whose disk is in the test's hands.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Papers>>);

#[derive(Default)]
struct Papers {
    /// Every record, in a word or two.
    put: Vec<String>,
    /// Those that are not durable yet.
    waiting: VecDeque<(String, Done)>,
    /// Whatever is put is durable at once.
    quick: bool,
    /// What is put from now on is answered so.
    error: Option<StoreError>,
    /// Nothing can be looked up any more.
    unreadable: bool,
    accepted: HashMap<TurnId, Accepted>,
    ended: HashMap<TurnId, Reply>,
    running: HashSet<TurnId>,
}

impl Desk {
    pub(crate) fn quick() -> Self {
        let desk = Self::default();
        desk.papers().quick = true;
        desk
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.0.lock().expect("no test panics with it")
    }

    /// The records of turns by now.
    pub(crate) fn records(&self) -> Vec<String> {
        let papers = self.papers();
        let of_turns = papers.put.iter().filter(|record| !record.starts_with('('));
        of_turns.cloned().collect()
    }

    /// Makes the oldest record durable that is not, which is this one.
    pub(crate) async fn release(&self, expected: &str) {
        self.answer(expected, Ok(())).await;
    }

    pub(crate) async fn answer(&self, expected: &str, result: Result<(), StoreError>) {
        settle().await;
        let (record, done) = {
            let mut papers = self.papers();
            papers.waiting.pop_front().expect("something waits")
        };
        assert_eq!(record, expected);
        done(result);
        settle().await;
    }

    pub(crate) fn waiting(&self) -> Vec<String> {
        let papers = self.papers();
        let waiting = papers.waiting.iter();
        waiting.map(|(record, _)| record.clone()).collect()
    }

    /// It was given to a tool, and nothing is known of it since.
    pub(crate) fn begin(&self, turn: TurnId) {
        self.papers().running.insert(turn);
    }

    fn fill(&self, error: Option<StoreError>) {
        self.papers().error = error;
    }
}

impl Store for Desk {
    fn next_turn(&self) -> TurnId {
        let papers = self.papers();
        let last = papers.accepted.keys().max();
        TurnId(last.map_or(100, |last| last.0) + 1)
    }

    fn put(&self, record: Record, done: Option<Done>) {
        let said = said(&record);
        let mut papers = self.papers();
        papers.remember(record);
        papers.put.push(said.clone());
        let Some(done) = done else { return };
        match papers.error.clone() {
            Some(StoreError::Full { .. }) if !said.starts_with("accepted") => {}
            Some(error) => {
                drop(papers);
                return done(Err(error));
            }
            None => {}
        }
        if papers.quick {
            drop(papers);
            done(Ok(()));
        } else {
            papers.waiting.push_back((said, done));
        }
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        let papers = self.papers();
        if papers.unreadable {
            return Err(failed());
        }
        let mut accepted = papers.accepted.values();
        let known = accepted.find(|it| it.key.as_deref() == Some(key));
        Ok(known.cloned().map(|it| {
            let (turn, accepted) = (it.turn, Box::new(it));
            match papers.ended.get(&turn) {
                Some(reply) => Known::Ended(accepted, Box::new(reply.clone())),
                None if papers.running.contains(&turn) => Known::Running(accepted),
                None => Known::Queued(accepted),
            }
        }))
    }

    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        let papers = self.papers();
        let open = papers.accepted.values().filter(|it| {
            let begun = papers.running.contains(&it.turn) || papers.ended.contains_key(&it.turn);
            *it.cluster == *cluster && !begun
        });
        let mut queued: Vec<_> = open.cloned().collect();
        queued.sort_by_key(|it| it.turn);
        Ok(queued)
    }
}

impl Papers {
    fn remember(&mut self, record: Record) {
        match record {
            Record::Accepted(it) => drop(self.accepted.insert(it.turn, *it)),
            Record::Dispatching(it) => drop(self.running.insert(it.turn)),
            Record::HandedBack { turn, .. } => drop(self.running.remove(&turn)),
            Record::Ended { reply, .. } => drop(self.ended.insert(reply.turn, *reply)),
            _ => {}
        }
    }
}

fn said(record: &Record) -> String {
    let mut said = String::new();
    match record {
        Record::Accepted(it) => write!(said, "accepted {} {}", it.turn, it.prompt.text),
        Record::Dispatching(it) => write!(said, "dispatching {}.{}", it.turn, it.attempt),
        Record::HandedBack { turn, attempt } => write!(said, "handed back {turn}.{attempt}"),
        Record::Output { turn, attempt, .. } => write!(said, "output {turn}.{attempt}"),
        Record::Ended {
            reply, attempts, ..
        } => {
            let (turn, outcome) = (reply.turn, reply.outcome.word());
            write!(said, "ended {turn} {outcome} {attempts} {}", reply.text)
        }
        Record::Event(Event {
            kind:
                EventKind::PermissionAnswered {
                    permission,
                    allowed,
                    ..
                },
            ..
        }) => write!(said, "answered {permission} {allowed}"),
        other => write!(said, "({other:?})"),
    }
    .expect("a string takes everything");
    said
}

pub(crate) fn failed() -> StoreError {
    StoreError::Failed {
        path: "journal.db".to_owned(),
        detail: "fsync: input/output error".to_owned(),
    }
}

fn full() -> StoreError {
    StoreError::Full {
        path: "journal.db".to_owned(),
        detail: "no space left on device".to_owned(),
    }
}

pub(crate) async fn with(desk: &Desk) -> (ClusterManager, Tool, Tools) {
    one(|builder| builder.journal(desk.clone())).await
}

/// Asks, and does not wait for the answer.
pub(crate) fn asking(
    cluster: &ClusterManager,
    submission: impl Into<Submission>,
) -> JoinHandle<Result<Reply, AskError>> {
    let (cluster, submission) = (cluster.clone(), submission.into());
    tokio::spawn(async move { cluster.ask(submission).await })
}

/// The first prompt of a cluster, on its way to its tool.
async fn begun(
    desk: &Desk,
    cluster: &ClusterManager,
    text: &str,
) -> JoinHandle<Result<Reply, AskError>> {
    let asked = asking(cluster, text);
    desk.release(&format!("accepted t101 {text}")).await;
    desk.release("dispatching t101.1").await;
    asked
}

async fn reads_nothing(tool: &mut Tool) {
    let read = tokio::time::timeout(Duration::from_secs(60), tool.read_some(1));
    assert!(read.await.is_err(), "a byte was written");
}

/// Hears every event from the first one on.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<String>>>);

impl Sink {
    pub(crate) fn told(&self) -> Vec<String> {
        self.0.lock().expect("no test panics with it").clone()
    }
}

impl EventSink for Sink {
    fn on_event(&mut self, event: &Event) {
        let told = in_words(&event.kind);
        self.0.lock().expect("no test panics with it").extend(told);
    }
}

fn in_words(event: &EventKind) -> Option<String> {
    match event {
        EventKind::PromptAccepted { turn, .. } => Some(format!("accepted {turn}")),
        EventKind::PromptRefused { reason } => Some(format!("refused {reason}")),
        EventKind::TurnStarted { turn, .. } => Some(format!("started {turn}")),
        EventKind::TurnHandedBack { turn, .. } => Some(format!("handed back {turn}")),
        EventKind::TurnEnded { turn, outcome, .. } => Some(format!("{outcome} {turn}")),
        EventKind::JournalFailed { detail } => Some(detail.clone()),
        EventKind::PromptLeft { turn, reason } => Some(format!("left {turn}: {reason}")),
        _ => None,
    }
}

/// The events of turns that were told by now.
fn told(events: &mut Events) -> Vec<String> {
    let mut told = Vec::new();
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    while let std::task::Poll::Ready(Some(Heard::Event(event))) =
        std::pin::pin!(events.next()).as_mut().poll(&mut context)
    {
        told.extend(in_words(&event.kind));
    }
    told
}

fn outcome(reply: Result<Reply, AskError>) -> Outcome {
    match reply {
        Ok(reply) => reply.outcome,
        Err(AskError::Turn(reply)) => reply.outcome,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_accepted_written_and_ended_only_when_each_is_durable() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut events = cluster.subscribe();
    let asking = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.stream("hello").await }
    });
    settle().await;
    assert_eq!(
        desk.waiting(),
        ["accepted t101 hello", "dispatching t101.1"],
        "one commit can have both"
    );
    reads_nothing(&mut tool).await;
    assert!(!asking.is_finished(), "nobody heard that it is accepted");
    assert!(told(&mut events).is_empty());
    desk.release("accepted t101 hello").await;
    let stream = asking.await.expect("no panic").expect("accepted");
    assert_eq!(told(&mut events), ["accepted t101"]);
    reads_nothing(&mut tool).await;
    desk.release("dispatching t101.1").await;
    assert_eq!(told(&mut events), ["started t101"]);
    tool.turn().await;
    let reply = tokio::spawn(stream.reply());
    settle().await;
    assert_eq!(desk.waiting(), ["ended t101 completed 1 main/1: hello"]);
    assert!(!reply.is_finished(), "nobody heard of the end");
    assert!(told(&mut events).is_empty());
    let books = cluster.status().await.expect("it lives").books;
    assert_eq!((books.running, books.completed), (1, 0));
    assert!(books.balance());
    desk.release("ended t101 completed 1 main/1: hello").await;
    let reply = reply.await.expect("no panic").expect("completed");
    assert_eq!(
        (reply.text.as_str(), reply.turn),
        ("main/1: hello", TurnId(101))
    );
    assert_eq!(told(&mut events), ["completed t101"]);
    let books = cluster.status().await.expect("it lives").books;
    assert_eq!((books.running, books.completed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_next_prompt_does_not_wait_for_the_record_of_the_end_before_it() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut events = cluster.subscribe();
    let first = begun(&desk, &cluster, "first").await;
    let second = asking(&cluster, "second");
    desk.release("accepted t102 second").await;
    tool.turn().await;
    settle().await;
    assert_eq!(
        desk.waiting(),
        ["ended t101 completed 1 main/1: first", "dispatching t102.1"]
    );
    desk.release("ended t101 completed 1 main/1: first").await;
    desk.release("dispatching t102.1").await;
    tool.turn().await;
    desk.release("ended t102 completed 1 main/1: second").await;
    for asked in [first, second] {
        let reply = asked.await.expect("no panic");
        assert_eq!(outcome(reply), Outcome::Completed);
    }
    let all = [
        "accepted t101",
        "started t101",
        "accepted t102",
        "completed t101",
        "started t102",
        "completed t102",
    ];
    assert_eq!(told(&mut events), all);
}

#[tokio::test(start_paused = true)]
async fn what_is_withdrawn_before_its_record_is_durable_is_never_written() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let asking = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.stream("unwanted").await }
    });
    desk.release("accepted t101 unwanted").await;
    let stream = asking.await.expect("no panic").expect("accepted");
    stream.cancel().await;
    desk.release("dispatching t101.1").await;
    desk.release("handed back t101.1").await;
    desk.release("ended t101 cancelled 1 ").await;
    assert_eq!(outcome(stream.reply().await), Outcome::Cancelled);
    reads_nothing(&mut tool).await;
    desk.papers().quick = true;
    let (reply, ()) = tokio::join!(cluster.ask("next"), tool.turn());
    assert_eq!(outcome(reply), Outcome::Completed, "the instance is free");
    let report = cluster.shutdown().await;
    assert!(report.books.balance());
    assert_eq!((report.books.cancelled, report.books.completed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn pieces_of_a_reply_are_kept_as_they_come() {
    let desk = Desk::quick();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut stream = cluster.stream("tell").await.expect("accepted");
    let read = tool.read().await;
    tool.say("one ").await;
    stream.chunk().await.expect("a piece");
    tool.answer(&read.nonce, "two").await;
    assert_eq!(stream.reply().await.expect("completed").text, "one two");
    assert_eq!(
        desk.records(),
        [
            "accepted t101 tell",
            "dispatching t101.1",
            "output t101.1",
            "output t101.1",
            "ended t101 completed 1 one two"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_not_read_is_handed_back_and_goes_out_as_the_next_attempt() {
    let desk = Desk::quick();
    let (cluster, mut tool, mut tools) = with(&desk).await;
    tool.close_stdin();
    let stream = cluster.stream("again").await.expect("accepted");
    settle().await;
    tool.exit(1);
    let mut tool = tools.next_ready().await;
    tool.turn().await;
    let reply = stream.reply().await.expect("completed");
    assert_eq!(reply.generation, 2);
    assert_eq!(
        desk.records(),
        [
            "accepted t101 again",
            "dispatching t101.1",
            "handed back t101.1",
            "dispatching t101.2",
            "output t101.2",
            "ended t101 completed 2 main/1: again"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_refuses_prompts_and_lets_turns_end_until_there_is_space_again() {
    let desk = Desk::quick();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut events = cluster.subscribe();
    let running = cluster.stream("running").await.expect("accepted");
    let queued = cluster.stream("queued").await.expect("accepted");
    desk.fill(Some(full()));
    let refused = cluster.ask("refused").await.expect_err("no space");
    assert!(matches!(
        &refused,
        AskError::Submit(SubmitError::Journal(StoreError::Full { .. }))
    ));
    assert_eq!(refused.code(), "journal_full");
    for stream in [running, queued] {
        tool.turn().await;
        stream.reply().await.expect("it was accepted");
    }
    // With a free instance it is on its way when the journal says no.
    cluster.ask("refused too").await.expect_err("no space");
    desk.fill(None);
    let (reply, ()) = tokio::join!(cluster.ask("later"), tool.turn());
    assert_eq!(reply.expect("there is space").text, "main/1: later");
    let report = cluster.shutdown().await;
    let books = report.books;
    assert_eq!((books.accepted, books.completed, books.refused), (3, 3, 2));
    assert!(books.balance());
    let told = told(&mut events);
    let refused = told.iter().filter(|event| *event == "refused journal_full");
    assert_eq!(refused.count(), 2);
    assert!(!told.iter().any(|event| event.contains("t103")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_prompt_that_was_cancelled_first_was_never_accepted() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let running = begun(&desk, &cluster, "running").await;
    let queued = asking(&cluster, "queued");
    settle().await;
    queued.abort();
    settle().await;
    desk.answer("accepted t102 queued", Err(full())).await;
    desk.answer("ended t102 cancelled 0 ", Ok(())).await;
    tool.turn().await;
    desk.release("ended t101 completed 1 main/1: running").await;
    assert_eq!(
        outcome(running.await.expect("no panic")),
        Outcome::Completed
    );
    let books = cluster.shutdown().await.books;
    assert_eq!((books.accepted, books.cancelled, books.refused), (1, 0, 1));
    assert!(books.balance());
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_stops_the_cluster_and_everybody_is_told_what_became_of_his_prompt() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut events = cluster.subscribe();
    let running = begun(&desk, &cluster, "running").await;
    let read = tool.read().await;
    assert_eq!(read.text, "running");
    let queued = asking(&cluster, "queued");
    desk.release("accepted t102 queued").await;
    let unknown = asking(&cluster, "unknown");
    settle().await;
    desk.fill(Some(failed()));
    desk.answer("accepted t103 unknown", Err(failed())).await;
    let doubts = [
        (running, "its end (indeterminate) is not in it"),
        (queued, "still queued in the journal"),
    ];
    for (asked, detail) in doubts {
        let Outcome::Indeterminate(doubt) = outcome(asked.await.expect("no panic")) else {
            panic!("nobody knows")
        };
        assert_eq!(doubt.cause, DoubtCause::JournalFailed);
        assert!(doubt.detail.contains(detail), "{doubt:?}");
    }
    let refused = unknown.await.expect("no panic").expect_err("not accepted");
    assert_eq!(refused.code(), "journal_failed");
    // Also who comes when nothing of it is left hears why.
    let next = cluster.ask("next").await.expect_err("it stops");
    assert_eq!(next.to_string(), refused.to_string());
    let books = cluster.shutdown().await.books;
    let last = cluster.ask("last").await.expect_err("it has stopped");
    assert_eq!(last.to_string(), refused.to_string());
    assert_eq!(tool.maybe_read().await.map(|read| read.text), None);
    assert!(books.balance());
    let told = told(&mut events).join("\n");
    assert!(
        told.contains("journal.db: fsync: input/output error. Nothing more is accepted"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_read_any_more_says_what_became_of_the_records_on_their_way() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let kept = asking(&cluster, Submission::text("kept"));
    settle().await;
    desk.papers().unreadable = true;
    let refused = asking(&cluster, Submission::text("keyed").key("k"));
    let refused = refused.await.expect("no panic").expect_err("not accepted");
    assert_eq!(refused.code(), "journal_failed");
    desk.release("accepted t101 kept").await;
    desk.release("dispatching t101.1").await;
    // It is in the books: its caller must not hear that it was refused.
    let Outcome::Indeterminate(doubt) = outcome(kept.await.expect("no panic")) else {
        panic!("it is still queued")
    };
    assert!(doubt.detail.contains("still queued"), "{doubt:?}");
    assert_eq!(tool.maybe_read().await.map(|read| read.text), None);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_recorded_is_in_doubt_though_the_tool_has_answered() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let asked = begun(&desk, &cluster, "answered").await;
    tool.turn().await;
    desk.answer("ended t101 completed 1 main/1: answered", Err(failed()))
        .await;
    let Err(AskError::Turn(reply)) = asked.await.expect("no panic") else {
        panic!("nobody may be told that it is completed")
    };
    assert_eq!(reply.text, "main/1: answered", "what there is");
    let Outcome::Indeterminate(doubt) = reply.outcome else {
        panic!("{:?}", reply.outcome)
    };
    assert!(doubt.detail.contains("its end (completed)"), "{doubt:?}");
    let books = cluster.shutdown().await.books;
    assert_eq!((books.completed, books.indeterminate), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lets_go_of_a_record_has_failed() {
    let desk = Desk::default();
    let (cluster, _tool, _tools) = with(&desk).await;
    let asked = asking(&cluster, "lost");
    settle().await;
    let lost = std::mem::take(&mut desk.papers().waiting);
    drop(lost);
    let refused = asked.await.expect("no panic").expect_err("not accepted");
    assert_eq!(refused.code(), "journal_failed");
    let stopped = tokio::time::timeout(LONG, cluster.shutdown()).await;
    assert!(stopped.expect("it stops").books.balance());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_until_the_last_end_is_durable() {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let asked = begun(&desk, &cluster, "last").await;
    tool.turn().await;
    let stopping = tokio::spawn(async move { cluster.shutdown().await });
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(!stopping.is_finished(), "the end is not durable");
    desk.release("ended t101 completed 1 main/1: last").await;
    assert_eq!(outcome(asked.await.expect("no panic")), Outcome::Completed);
    assert_eq!(stopping.await.expect("no panic").books.completed, 1);
}

/// How long the shutdown of a cluster takes, which nothing else keeps.
async fn leaves(cluster: &ClusterManager) -> Duration {
    let begun = tokio::time::Instant::now();
    let shutdown = cluster.shutdown_within(Duration::ZERO);
    let report = tokio::time::timeout(LONG, shutdown).await;
    let report = report.expect("the shutdown waits for ever");
    assert!(report.books.balance() && report.books.running == 0);
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever_for_a_disk_that_hangs_and_names_the_ends_it_may_not_have()
 {
    let desk = Desk::default();
    let (cluster, mut tool, _tools) = with(&desk).await;
    let mut events = cluster.subscribe();
    let asked = begun(&desk, &cluster, "hello").await;
    tool.turn().await;
    settle().await;
    assert_eq!(desk.waiting(), ["ended t101 completed 1 main/1: hello"]);
    assert_eq!(leaves(&cluster).await.as_secs(), 30);
    let Outcome::Indeterminate(doubt) = outcome(asked.await.expect("no panic")) else {
        panic!("it is in doubt");
    };
    assert_eq!(doubt.cause, DoubtCause::JournalFailed);
    assert!(doubt.detail.contains("its end (completed)"), "{doubt:?}");
    let told = told(&mut events);
    let [_, _, end, failed] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(end, "indeterminate t101");
    assert!(
        failed.contains("has not answered for 30s") && failed.contains("the ends of t101"),
        "{failed}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_disk_that_hangs_was_to_accept_is_refused_and_what_it_was_to_begin_stays_queued() {
    for (accepted, said) in [
        (false, "has not answered"),
        (true, "is still queued in the journal"),
    ] {
        let desk = Desk::default();
        let (cluster, mut tool, _tools) = with(&desk).await;
        let asked = asking(&cluster, "hello");
        settle().await;
        if accepted {
            desk.release("accepted t101 hello").await;
        }
        assert_eq!(leaves(&cluster).await.as_secs(), 30);
        let error = asked.await.expect("no panic").expect_err("it did not run");
        assert!(error.to_string().contains(said), "{error}");
        assert!(tool.maybe_read().await.is_none(), "nothing was written");
    }
}
