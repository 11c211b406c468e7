//! A manager whose wall clock jumps: a program that sets the clock it has, and looks whether anything ends by it.
//!
//! Owns the clock, which is a file that `libfaketime` reads, and what is done around each jump. Must not know how such a
//! program is started, nor judge accounts. Invariant: whether something took its time is told by the monotonic clock,
//! which does not jump.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toolpool::journal::{Journal, Query, Retention};
use toolpool::{
    AskError, ClusterManager, Event, EventSink, Isolation, Reply, ReplyStream, Submission,
    launch_cluster,
};
use toolpool_testkit::census::{Census, MARKER};

use crate::lab::{LONG, Lab};
use crate::manager::{Told, cause};
use crate::rig::in_time;

/// How far the clock is off, in seconds.
pub(crate) type Offset = i64;

/// An hour back and ten days ahead.
pub(crate) const BACK: Offset = -3600;
pub(crate) const AHEAD: Offset = 10 * 24 * 3600;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What one life is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Where the clock, the journal and the ledgers are; the same in each life.
    pub(crate) folder: PathBuf,
    pub(crate) seed: String,
    /// How far the clock is off when it begins.
    pub(crate) offset: Offset,
    pub(crate) part: Part,
}

/// What is done in a life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Part {
    /// Jumps in the middle of work, and ends when all of it is done.
    Jump,
    /// Leaves two prompts in the queue, one of them with an hour, and dies as with `kill -9`.
    Leave,
    /// Finds them, and the one with an hour has had it or not.
    Find { expired: bool },
}

/// The clock of this program and of those that it is to be seen by.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// The file of a clock in this folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.join("clock"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Sets it. Whoever reads it meanwhile sees it as it was or as it is.
    pub(crate) fn set(&self, offset: Offset) -> Result<()> {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{offset:+}"))?;
        Ok(std::fs::rename(&next, &self.0)?)
    }

    /// Sets it while this program runs, which must see it.
    fn jump(&self, from: Offset, to: Offset) -> Result<()> {
        let before = now();
        self.set(to)?;
        let jumped = now() - before;
        let wanted = (to - from) as f64;
        ensure!(
            (jumped - wanted).abs() < 60.0,
            "the clock has jumped by {jumped} s and not by {wanted} s"
        );
        Ok(())
    }
}

/// What the wall clock says, in seconds.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// All events, with the moments at which they were told.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Instant, Value)>>>);

impl EventSink for Seen {
    fn on_event(&mut self, event: &Event) {
        let event = serde_json::to_value(event).unwrap_or_default();
        self.all().push((Instant::now(), event));
    }
}

impl Seen {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Value)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last process of an instance was started.
    fn spawned(&self, instance: &str) -> Option<Instant> {
        let all = self.all();
        let is_it =
            |event: &Value| event["type"] == "instance_spawned" && event["instance"] == instance;
        all.iter()
            .rev()
            .find(|(_, event)| is_it(event))
            .map(|(at, _)| *at)
    }
}

struct Life {
    cluster: ClusterManager,
    journal: Journal,
    told: Told,
    seen: Seen,
    clock: Clock,
}

/// A restart waits for half of this at least.
const RESTART: Duration = Duration::from_millis(800);
const QUEUED: Duration = Duration::from_millis(700);
const RUNNING: Duration = Duration::from_millis(900);

/// Lives one life in this process.
pub(crate) async fn live(orders: &Orders, marker: &str) -> Result<()> {
    let journal = Journal::open(orders.folder.join("journal.db"))?;
    let lab = Lab::at(&orders.folder, &orders.seed, Census::of(marker));
    let profile = lab.standin(&["on prompt ~hangs hang", "on prompt ~dies exit 3"])?;
    let seen = Seen::default();
    let cluster = launch_cluster(profile)
        .count(3)
        .cwd(&orders.folder)
        .isolation(Isolation::Shared)
        .restart_delay(RESTART, RESTART)
        .stop_grace(Duration::from_millis(100))
        .env(MARKER, marker)
        .sink(seen.clone())
        .journal(journal.clone());
    let life = Life {
        cluster: in_time(cluster.into_future()).await??,
        journal,
        told: Told::open(&orders.folder.join("told"))?,
        seen,
        clock: Clock::of(&orders.folder),
    };
    match orders.part {
        Part::Jump => life.jump(orders.offset).await?,
        Part::Leave => return life.leave(orders.offset).await,
        Part::Find { expired } => life.find(expired).await?,
    }
    let report = in_time(life.cluster.shutdown()).await?;
    ensure!(report.books.balance(), "{:?}", report.books);
    life.check_order()
}

/// Something that was asked, and when.
struct Asked {
    stream: ReplyStream,
    prompt: String,
    at: Instant,
}

impl Life {
    async fn ask(
        &self,
        instance: usize,
        prompt: String,
        wish: impl FnOnce(Submission) -> Submission,
    ) -> Result<Asked> {
        let at = Instant::now();
        let submission = wish(Submission::text(prompt.as_str()).on_instance(instance));
        let stream = in_time(self.cluster.stream(submission)).await??;
        let turn = stream.turn().0;
        self.told
            .say(&json!({"said": "accepted", "prompt": prompt, "turn": turn}))?;
        Ok(Asked { stream, prompt, at })
    }

    /// Waits for an end, and demands which it is and that it took at least so long.
    async fn end(&self, asked: Asked, outcome: &str, at_least: Duration) -> Result<Reply> {
        let prompt = asked.prompt;
        let reply = match in_time(asked.stream.reply()).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(AskError::Turn(reply))) => *reply,
            Ok(Err(error)) => return Err(error.into()),
            Err(late) => return Err(late.context(format!("{prompt:?} has no end"))),
        };
        let took = asked.at.elapsed();
        self.told.say(&json!({
            "said": "ended", "prompt": prompt, "turn": reply.turn.0, "outcome": reply.outcome.word(),
            "cause": cause(&reply.outcome), "text": reply.text,
        }))?;
        ensure!(
            reply.outcome.word() == outcome && took >= at_least,
            "{prompt:?} ended after {took:?} as {:?}, and {outcome} after {at_least:?} is right",
            reply.outcome
        );
        for told in [reply.queued, reply.took] {
            ensure!(told < LONG, "{prompt:?} is told to have taken {told:?}");
        }
        Ok(reply)
    }

    /// Waits until an instance is in a state.
    async fn until(&self, instance: usize, state: &str) -> Result<()> {
        let is_there = async {
            loop {
                let status = self.cluster.status().await?;
                let found = status.instances.get(instance);
                if found.is_some_and(|found| found.state.word() == state) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time(is_there)
            .await
            .with_context(|| format!("instance {instance} does not become {state}"))?
    }

    /// Jumps three times, with something of each kind under way.
    async fn jump(&self, offset: Offset) -> Result<()> {
        let mut from = offset;
        let mut windows = Vec::new();
        for (round, to) in [BACK, AHEAD, 0].into_iter().enumerate() {
            windows.push(self.round(round, from, to).await?);
            from = to;
        }
        // What was accepted while the clock said so is found by that, and nothing else is.
        for (at, turns) in &windows {
            let query = Query {
                since: Some(at.start),
                until: Some(at.end),
                ..Query::default()
            };
            let found = self.journal.history()?.find(&query)?;
            let found: Vec<u64> = found.iter().rev().map(|row| row.turn.0).collect();
            ensure!(
                &found == turns,
                "{found:?} were found, and {turns:?} are right"
            );
        }
        Ok(())
    }

    /// One jump in the middle of work. Gives what was accepted before it, and when.
    async fn round(
        &self,
        round: usize,
        from: Offset,
        to: Offset,
    ) -> Result<(Range<SystemTime>, Vec<u64>)> {
        let begin = SystemTime::now();
        let named = |name: &str| format!("{name} {round}");
        let known = self
            .ask(2, named("known"), |it| it.key(named("key")))
            .await?;
        let known = self.end(known, "completed", Duration::ZERO).await?;
        let dies = self.ask(1, named("dies"), |it| it).await?;
        let died = dies.at;
        let dies = self.end(dies, "indeterminate", Duration::ZERO).await?;
        let after = self
            .ask(1, named("after"), |it| it.queue_timeout(HOUR))
            .await?;
        let hangs = self
            .ask(0, named("hangs"), |it| it.turn_timeout(RUNNING))
            .await?;
        let waits = self
            .ask(0, named("waits"), |it| it.queue_timeout(QUEUED))
            .await?;
        let patient = self
            .ask(0, named("patient"), |it| it.queue_timeout(HOUR))
            .await?;
        self.until(0, "busy").await?;
        let asked = [&after, &hangs, &waits, &patient].map(|asked| asked.stream.turn().0);
        let turns = [known.turn.0, dies.turn.0].into_iter().chain(asked);
        let turns = turns.collect();
        let accepted = begin..SystemTime::now() + Duration::from_micros(1);

        self.clock.jump(from, to)?;
        self.end(waits, "expired", QUEUED).await?;
        self.end(hangs, "indeterminate", RUNNING).await?;
        self.end(patient, "completed", Duration::ZERO).await?;
        self.end(after, "completed", Duration::ZERO).await?;
        let waited = self.seen.spawned("main/2").context("it was started")? - died;
        ensure!(waited >= RESTART / 2, "a restart came after {waited:?}");
        for status in self.cluster.status().await?.instances {
            let since = status.state_for_s;
            ensure!(
                (0.0..LONG.as_secs_f64()).contains(&since),
                "{since} s in a state"
            );
        }
        // A key is known however old its prompt seems to be, and nothing that has just been is too old to be kept.
        let day = Retention {
            older_than: Some(DAY),
            ..Retention::default()
        };
        let journal = self.journal.clone();
        let pruned = tokio::task::spawn_blocking(move || journal.prune(&day)).await??;
        ensure!(
            (pruned.prompts, pruned.events) == (0, 0),
            "what is less than a minute old was taken for a day old: {pruned:?}"
        );
        let again = self
            .ask(2, named("known"), |it| it.key(named("key")))
            .await?;
        let again = self.end(again, "completed", Duration::ZERO).await?;
        ensure!(again.turn == known.turn, "a key was forgotten");
        Ok((accepted, turns))
    }

    /// Leaves two prompts behind one that hangs.
    async fn leave(&self, offset: Offset) -> Result<()> {
        let named = |name: &str| format!("{name} left at {offset}");
        // Dropped, it would be withdrawn.
        let _hangs = self.ask(0, named("hangs"), |it| it).await?;
        self.until(0, "busy").await?;
        let hour = named("hour");
        self.ask(0, hour.clone(), |it| it.queue_timeout(HOUR).key(hour))
            .await?;
        let free = named("free");
        self.ask(0, free.clone(), |it| it.key(free)).await?;
        Ok(kill_process(getpid(), Signal::KILL)?)
    }

    async fn find(&self, expired: bool) -> Result<()> {
        let left = self.journal.history()?.find(&Query::default())?;
        let left = left.iter().filter_map(|row| row.key.clone());
        let left: Vec<String> = left.filter(|key| key.contains("left at")).collect();
        let latest = left.first().context("nothing was left")?;
        let (_, offset) = latest.split_once(" left").context("it has a name")?;
        for (name, outcome) in [("hour", expired), ("free", false)] {
            let prompt = format!("{name} left{offset}");
            let asked = self.ask(0, prompt.clone(), |it| it.key(prompt)).await?;
            let outcome = if outcome { "expired" } else { "completed" };
            self.end(asked, outcome, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Events and prompts are in the order in which they came, whatever time they bear.
    fn check_order(&self) -> Result<()> {
        let seen = self.seen.all();
        let numbers = seen.iter().filter_map(|(_, event)| event["seq"].as_u64());
        let numbers: Vec<u64> = numbers.collect();
        let right: Vec<u64> = (1..=seen.len() as u64).collect();
        ensure!(numbers == right, "the events have the numbers {numbers:?}");
        let history = self.journal.history()?;
        let events = history.events(0, usize::MAX)?;
        ensure!(
            events.is_sorted_by(|one, next| one.id < next.id),
            "events of the journal are not in order"
        );
        let prompts = history.find(&Query::default())?;
        ensure!(
            prompts.is_sorted_by(|one, next| one.turn > next.turn),
            "the newest prompts are not the first"
        );
        Ok(())
    }
}
