//! Random lives of a cluster with a journal, one after the other: each is killed, or its disk fails, until one in which
//! nothing goes wrong. What anybody was told is in the books then, and no tool has read more than its policy allows.
//!
//! `TOOLPOOL_STORMS=1000` runs so many.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use toolpool_cluster::{
    Accepted, AskError, ClusterManager, Done, Doubtful, Known, OnLoss, Reconciled, Reconciler,
    Record, Reply, RetryPolicy, Store, StoreError, Submission, SubmitError, TurnId,
};
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Outcome};

use crate::retrying::patient;
use crate::tool::{LONG, Tool, Tools};

/// Lives of each storm in which something goes wrong.
const LIVES: u64 = 3;

/// Callers in each life.
const CALLERS: u64 = 24;

#[derive(Clone, Default)]
struct Books(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    rows: BTreeMap<TurnId, Row>,
    highest: u64,
    /// The way to the disk in this life.
    disk: Option<mpsc::UnboundedSender<(Record, Done)>>,
    /// There is no space for another prompt.
    full: bool,
    failed: bool,
    /// How often a tool has read each prompt.
    reads: HashMap<String, u32>,
    told: Vec<Told>,
    wrong: Vec<String>,
}

struct Row {
    accepted: Accepted,
    /// Its attempts, and whether each was handed back.
    attempts: Vec<(u32, bool)>,
    ended: Option<Reply>,
}

impl Row {
    fn in_doubt(&self) -> bool {
        self.attempts.iter().any(|(_, back)| !back)
    }

    fn accepted(&self) -> Box<Accepted> {
        Box::new(Accepted {
            attempts: self.attempts.last().map_or(0, |(attempt, _)| *attempt),
            ..self.accepted.clone()
        })
    }
}

/// What somebody heard of his prompt.
struct Told {
    text: String,
    what: What,
}

enum What {
    Accepted(TurnId),
    Ended(Box<Reply>),
    Refused(SubmitError),
}

fn failed() -> StoreError {
    StoreError::Failed {
        path: "books".to_owned(),
        detail: "no disk".to_owned(),
    }
}

fn full() -> StoreError {
    StoreError::Full {
        path: "books".to_owned(),
        detail: "no space".to_owned(),
    }
}

impl Books {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Settles what the last life has left, as a journal does when it is opened.
    fn open(&self) -> mpsc::UnboundedReceiver<(Record, Done)> {
        let (disk, jobs) = mpsc::unbounded_channel();
        let mut pages = self.pages();
        pages.disk = Some(disk);
        (pages.full, pages.failed) = (false, false);
        for (turn, row) in &mut pages.rows {
            if row.ended.is_none() && row.in_doubt() {
                row.ended = Some(in_doubt(*turn));
            }
        }
        jobs
    }

    fn tell(&self, text: &str, what: What) {
        let text = text.to_owned();
        self.pages().told.push(Told { text, what });
    }

    /// A tool has read a prompt.
    fn read(&self, text: &str) {
        let mut pages = self.pages();
        let row = pages.rows.values().find(|row| of(row) == text);
        let is_on_its_way = row.is_some_and(|row| {
            row.ended.is_none() && row.attempts.last().is_some_and(|(_, back)| !back)
        });
        if !is_on_its_way {
            pages
                .wrong
                .push(format!("{text} was read before that was in the books"));
        }
        *pages.reads.entry(text.to_owned()).or_default() += 1;
    }
}

fn of(row: &Row) -> &str {
    &row.accepted.prompt.text
}

fn in_doubt(turn: TurnId) -> Reply {
    Reply {
        turn,
        text: String::new(),
        lossy: false,
        outcome: Outcome::Indeterminate(Doubt {
            cause: DoubtCause::ManagerDied,
            detail: String::new(),
        }),
        attribution: None,
        instance: None,
        tool: None,
        generation: 0,
        queued: Duration::ZERO,
        took: Duration::ZERO,
        first_output: None,
        usage: None,
        landed: None,
    }
}

impl Pages {
    fn keep(&mut self, record: Record) -> Result<(), StoreError> {
        let mut wrong = None;
        match record {
            Record::Accepted(_) if self.full => return Err(full()),
            Record::Accepted(accepted) => {
                let row = Row {
                    accepted: *accepted,
                    attempts: Vec::new(),
                    ended: None,
                };
                let turn = row.accepted.turn;
                let twice =
                    |it: &Row| it.accepted.key.is_some() && it.accepted.key == row.accepted.key;
                if self.rows.values().any(twice) {
                    wrong = Some(format!("{turn} is the second prompt with its key"));
                }
                if self.rows.insert(turn, row).is_some() {
                    wrong = Some(format!("{turn} was accepted twice"));
                }
            }
            Record::Dispatching(it) => {
                let Some(row) = self.rows.get_mut(&it.turn) else {
                    return Err(full());
                };
                let last = row.attempts.last().map_or(0, |(attempt, _)| *attempt);
                if row.ended.is_some() || it.attempt != last + 1 {
                    wrong = Some(format!(
                        "{}.{} after {last}, or its end",
                        it.turn, it.attempt
                    ));
                }
                row.attempts.push((it.attempt, false));
            }
            Record::HandedBack { turn, attempt } => {
                let row = self.rows.get_mut(&turn).filter(|row| row.ended.is_none());
                match row.and_then(|row| row.attempts.last_mut()) {
                    Some((last, back)) if *last == attempt && !*back => *back = true,
                    _ => wrong = Some(format!("{turn}.{attempt} comes back from nowhere")),
                }
            }
            Record::Ended { reply, .. } => {
                let Some(row) = self.rows.get_mut(&reply.turn) else {
                    return Err(full());
                };
                let turn = reply.turn;
                if row.ended.replace(*reply).is_some() {
                    wrong = Some(format!("{turn} ended twice"));
                }
            }
            _ => {}
        }
        self.wrong.extend(wrong);
        Ok(())
    }
}

impl Store for Books {
    fn next_turn(&self) -> TurnId {
        TurnId(self.pages().highest + 1)
    }

    fn put(&self, record: Record, done: Option<Done>) {
        let mut pages = self.pages();
        if let Record::Accepted(accepted) = &record {
            pages.highest = pages.highest.max(accepted.turn.0);
        }
        if let (Some(done), Some(disk)) = (done, &pages.disk) {
            // A disk that has gone with its life answers nobody.
            disk.send((record, done)).ok();
        }
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        let pages = self.pages();
        if pages.failed {
            return Err(failed());
        }
        let mut rows = pages.rows.values();
        let row = rows.find(|row| row.accepted.key.as_deref() == Some(key));
        Ok(row.map(|row| match &row.ended {
            Some(reply) => Known::Ended(row.accepted(), Box::new(reply.clone())),
            None if row.in_doubt() => Known::Running(row.accepted()),
            None => Known::Queued(row.accepted()),
        }))
    }

    fn queued(&self, _: &str) -> Result<Vec<Accepted>, StoreError> {
        let pages = self.pages();
        let open = pages.rows.values().filter(|row| row.ended.is_none());
        let queued = open.filter(|row| !row.in_doubt());
        Ok(queued.map(|row| *row.accepted()).collect())
    }
}

/// The disk: writes together what has gathered, and in some lives is full for a while, or fails.
async fn disk(
    books: Books,
    mut jobs: mpsc::UnboundedReceiver<(Record, Done)>,
    mut chance: StdRng,
    mishaps: bool,
) {
    let fails = mishaps && chance.random_bool(0.3);
    while let Some(first) = jobs.recv().await {
        sleep(Duration::from_millis(chance.random_range(0..30))).await;
        let mut batch = vec![first];
        while let Ok(next) = jobs.try_recv() {
            batch.push(next);
        }
        let mut answers = Vec::new();
        {
            let mut pages = books.pages();
            if mishaps && chance.random_bool(0.05) {
                pages.full = !pages.full;
            }
            let breaks = fails && !pages.failed && chance.random_bool(0.02);
            // Nobody knows of a write that has failed whether it was written.
            let written = !pages.failed && (!breaks || chance.random_bool(0.5));
            pages.failed |= breaks;
            for (record, done) in batch {
                let kept = if written { pages.keep(record) } else { Ok(()) };
                let result = if pages.failed { Err(failed()) } else { kept };
                answers.push((done, result));
            }
        }
        for (done, result) in answers {
            done(result);
        }
    }
}

/// A tool that answers, or does anything else that tools do.
async fn behave(mut tool: Tool, books: Books, mut chance: StdRng, mishaps: bool) {
    let mut pause = chance.clone();
    let mut pause = |most| sleep(Duration::from_millis(pause.random_range(0..most)));
    let mut mishap = |percent: f64| mishaps && chance.random_bool(percent / 100.0);
    pause(50).await;
    if mishap(5.0) {
        return tool.exit(1);
    }
    if !tool.try_say("standin ready\n").await {
        return;
    }
    loop {
        if mishap(5.0) {
            tool.close_stdin();
            pause(200).await;
            return tool.exit(1);
        }
        let Some(read) = tool.maybe_read().await else {
            return;
        };
        books.read(&read.text);
        pause(200).await;
        if mishap(8.0) {
            return tool.exit(1);
        }
        if mishap(8.0) {
            tool.try_say("half an").await;
            pause(20).await;
            return tool.exit(1);
        }
        if mishap(8.0) {
            // Nothing comes of it any more.
            while tool.maybe_read().await.is_some() {}
            return;
        }
        let answer = format!("did {}\n{} end\n", read.text, read.nonce);
        if !tool.try_say(&answer).await {
            return;
        }
    }
}

/// Sends a prompt, and perhaps thinks better of it.
async fn call(cluster: ClusterManager, books: Books, life: u64, caller: u64, mut chance: StdRng) {
    sleep(Duration::from_millis(chance.random_range(0..3000))).await;
    let key = chance.random_bool(0.4).then(|| chance.random_range(0..6));
    let text = key.map_or_else(|| format!("p{life}/{caller}"), |key| format!("k{key}"));
    let mut submission = Submission::text(&text).retry(policy(&text));
    if key.is_some() {
        submission = submission.key(&text);
    }
    if chance.random_bool(0.3) {
        submission = submission.session(format!("s{}", chance.random_range(0..2)));
        submission = submission.on_loss([OnLoss::Fresh, OnLoss::Fail][chance.random_range(0..2)]);
    }
    let mut limit = |most| {
        let some = chance.random_bool(0.3);
        some.then(|| Duration::from_millis(chance.random_range(1..most)))
    };
    if let Some(limit) = limit(2000) {
        submission = submission.queue_timeout(limit);
    }
    if let Some(limit) = limit(600) {
        submission = submission.turn_timeout(limit);
    }
    let stream = match cluster.stream(submission).await {
        Ok(stream) => stream,
        Err(AskError::Submit(refusal)) => return books.tell(&text, What::Refused(refusal)),
        Err(AskError::Turn(reply)) => return books.tell(&text, What::Ended(reply)),
        Err(other) => panic!("{other}"),
    };
    books.tell(&text, What::Accepted(stream.turn()));
    if chance.random_bool(0.2) {
        sleep(Duration::from_millis(chance.random_range(0..500))).await;
        match chance.random_bool(0.5) {
            true => return drop(stream),
            false => stream.cancel().await,
        }
    }
    match stream.reply().await {
        Ok(reply) => books.tell(&text, What::Ended(Box::new(reply))),
        Err(AskError::Turn(reply)) => books.tell(&text, What::Ended(reply)),
        Err(AskError::Submit(refusal)) => books.tell(&text, What::Refused(refusal)),
        Err(other) => panic!("{other}"),
    }
}

/// A prompt has the same policy in all lives.
fn policy(text: &str) -> RetryPolicy {
    match text.bytes().map(usize::from).sum::<usize>() % 4 {
        0 => RetryPolicy::Idempotent { attempts: 2 },
        1 => RetryPolicy::UntilOutput,
        2 => RetryPolicy::Reconcile,
        _ => RetryPolicy::Once,
    }
}

/// Says anything, and takes its time for it.
struct Oracle(Mutex<StdRng>);

#[async_trait]
impl Reconciler for Oracle {
    async fn reconcile(&self, _: &Doubtful) -> Reconciled {
        let (wait, answer) = {
            let mut chance = self.0.lock().expect("nobody panics with it");
            (chance.random_range(0..500), chance.random_range(0..3))
        };
        sleep(Duration::from_millis(wait)).await;
        match answer {
            0 => Reconciled::Absent,
            1 => Reconciled::Unclear,
            _ => Reconciled::Completed("it was done".to_owned()),
        }
    }
}

/// An owner who meddles.
async fn operate(cluster: ClusterManager, mut chance: StdRng) {
    loop {
        sleep(Duration::from_millis(chance.random_range(100..1500))).await;
        let instance = chance.random_range(0..2);
        let cluster = cluster.clone();
        if chance.random_bool(0.3) {
            cluster.drain_instance(instance).await.ok();
        }
        tokio::spawn(async move { cluster.restart_instance(instance).await });
    }
}

async fn live(books: &Books, life: u64, mut chance: StdRng) {
    let mut draw = || StdRng::seed_from_u64(chance.random());
    let mishaps = life < LIVES;
    let jobs = books.open();
    tokio::spawn(disk(books.clone(), jobs, draw(), mishaps));
    let (builder, mut tools) = Tools::cluster(2);
    let (tools_books, mut behavior) = (books.clone(), draw());
    tokio::spawn(async move {
        loop {
            let tool = tools.next().await;
            let draw = StdRng::seed_from_u64(behavior.random());
            tokio::spawn(behave(tool, tools_books.clone(), draw, mishaps));
        }
    });
    let builder = patient(builder).journal(books.clone()).queue_limit(9);
    let builder = builder.reconciler(Oracle(Mutex::new(draw())));
    let Ok(cluster) = builder.await else { return };
    if mishaps {
        tokio::spawn(operate(cluster.clone(), draw()));
    }
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(cluster.clone(), books.clone(), life, caller, draw()));
    }
    let how = draw().random_range(0..5000);
    if mishaps && how < 4000 {
        // It is killed, whatever it was doing.
        return sleep(Duration::from_millis(how)).await;
    }
    let all = timeout(LONG, callers.join_all()).await;
    all.expect("everybody hears something");
    let report = timeout(LONG, cluster.shutdown()).await.expect("it ends");
    assert!(report.books.balance(), "{:?}", report.books);
}

/// What is wrong when all is over.
fn judge(pages: &Pages) -> Vec<String> {
    let mut wrong = pages.wrong.clone();
    for (turn, row) in &pages.rows {
        let Some(reply) = &row.ended else {
            wrong.push(format!("{turn} has no end"));
            continue;
        };
        // What was handed back has cost no time.
        let read = row.attempts.iter().filter(|(_, back)| !back).count();
        if let (Outcome::Indeterminate(doubt), Some(limit)) =
            (&reply.outcome, row.accepted.turn_timeout)
            && doubt.cause == DoubtCause::TimedOut
            && read == 1
            && reply.took < limit
        {
            wrong.push(format!("{turn} had {:?} of {limit:?}", reply.took));
        }
    }
    for (text, reads) in &pages.reads {
        let most = match policy(text) {
            RetryPolicy::Idempotent { attempts } => attempts,
            RetryPolicy::Reconcile => 3,
            _ => 1,
        };
        if *reads > most {
            wrong.push(format!("{text} was read {reads} times"));
        }
    }
    for Told { text, what } in &pages.told {
        let row = pages.rows.values().find(|row| of(row) == text);
        let is_right = match what {
            What::Accepted(turn) => row.is_some_and(|row| row.accepted.turn == *turn),
            What::Ended(reply) => match &reply.outcome {
                Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::JournalFailed => true,
                // Its end was told in another life, or is that of the one with its key.
                outcome => row.is_some_and(|row| {
                    let ended = row.ended.as_ref();
                    let same = |it: &Reply| it.outcome == *outcome && it.text == reply.text;
                    row.accepted.turn == reply.turn && ended.is_some_and(same)
                }),
            },
            // Nobody knows before it is opened again.
            What::Refused(SubmitError::Journal(StoreError::Failed { .. })) => true,
            // With a key it may be there since, or before.
            What::Refused(_) => row.is_none() || text.starts_with('k'),
        };
        if !is_right {
            let heard = match what {
                What::Accepted(turn) => format!("that it is accepted as {turn}"),
                What::Ended(reply) => format!("{reply:?}"),
                What::Refused(refusal) => format!("{refusal}"),
            };
            let ended = row.map(|row| (row.accepted.turn, &row.attempts, &row.ended));
            wrong.push(format!("of {text} was told {heard}; it is {ended:?}"));
        }
    }
    wrong
}

#[test]
fn whatever_dies_what_was_told_is_in_the_books_and_nothing_is_read_too_often() {
    let storms = std::env::var("TOOLPOOL_STORMS");
    let storms = storms.ok().and_then(|wanted| wanted.parse().ok());
    for seed in 0..storms.unwrap_or(24) {
        let books = Books::default();
        let mut chance = StdRng::seed_from_u64(seed);
        for life in 0..=LIVES {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let chance = StdRng::seed_from_u64(chance.random());
            runtime.block_on(live(&books, life, chance));
            drop(runtime);
        }
        let wrong = judge(&books.pages());
        assert!(wrong.is_empty(), "storm {seed}: {}", wrong.join("\n"));
    }
}
