//! The scheduler, the instance machines and made-up processes in one thread, on one clock and one seed.
//!
//! Owns the order in which everything happens: who takes the next step, and when time passes. Must not decide: the real
//! cores do, and [`judge`] says whether they kept the promises. Invariant: a seed is a story, and the same one each time.
//!
//! `TOOLPOOL_SEED=7 cargo test -p toolpool-cluster simulation -- --nocapture` tells the story of one seed;
//! `TOOLPOOL_SEEDS=50000` runs so many.

mod disk;
mod dispatcher;
mod judge;
mod people;
mod supervisor;
mod tool;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::Answer;

use crate::approvals::Approvals;
use crate::breaker::BreakerConfig;
use crate::instance::{InstanceConfig, InstanceState};
use crate::permission::{PermissionId, Question};
use crate::restarts::{RestartLimit, RestartLimits, RestartPolicy};
use crate::scheduler::Ticket;
use disk::Disk;
use dispatcher::Dispatcher;
use judge::Judge;
use people::People;
use supervisor::Supervisor;

/// What a landing runs; more by `TOOLPOOL_SEEDS`.
const SEEDS: u64 = 1_000;

/// Beyond every life: a story of so many steps goes round in circles.
const MOST_STEPS: u64 = 200_000;

/// Long enough for everything that was accepted to end once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);

/// A turn on its way: what the real one carries, without its texts.
struct Turn {
    id: TurnId,
    ticket: Ticket,
    timeout: Option<Duration>,
    since: Instant,
    /// The process that it was assigned to.
    generation: u64,
}

/// What the dispatcher takes.
enum Message {
    Submit(Turn),
    /// Accepted in an earlier life.
    Again(Turn),
    Cancel(TurnId),
    Forget(String),
    Answer(PermissionId, Answer),
    Restart(usize),
    Drain(usize),
    Shutdown {
        within: Duration,
    },
    Report(usize, Report),
}

/// What a supervisor tells the dispatcher.
enum Report {
    WantsToStart {
        generation: u64,
    },
    Spawned {
        generation: u64,
    },
    /// The last: it is not to be started again.
    Changed(InstanceState, String, bool),
    Asked(Question),
    Settled(PermissionId),
    TurnEnded {
        turn: Turn,
        outcome: toolpool_pool_core::outcome::Outcome,
        ready: bool,
    },
    HandedBack(Turn),
    Gone,
}

/// What the dispatcher tells a supervisor.
enum Order {
    Assign(Turn),
    Start { generation: u64 },
    Revive,
    Cancel(TurnId),
    Answer(PermissionId, Answer),
    Restart,
    Drain,
    Stop,
}

/// What everybody shares.
struct Stage {
    start: Instant,
    now: Instant,
    chance: StdRng,
    judge: Judge,
    /// The journal, in some stories.
    disk: Option<Disk>,
    /// Tools do nothing wrong any more.
    healed: bool,
    config: InstanceConfig,
    /// Places in the dispatcher's mailbox, and in that of each supervisor.
    mailbox: usize,
    orders: usize,
    questions: u64,
    told: Option<Vec<String>>,
}

impl Stage {
    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let at = (self.now - self.start).as_secs_f64();
            told.push(format!("{at:>10.3} s  {}", what()));
        }
    }

    /// Whether something happens that does so in so many of a hundred cases.
    fn percent(&mut self, percent: u32) -> bool {
        self.chance.random_range(0..100) < percent
    }

    /// One that goes wrong in so many of a hundred cases, until everything is healed.
    fn mishap(&mut self, percent: u32) -> bool {
        self.percent(percent) && !self.healed
    }

    /// A moment within so many milliseconds from now.
    fn within(&mut self, millis: u64) -> Instant {
        self.now + Duration::from_millis(self.chance.random_range(0..=millis))
    }
}

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Actor {
    Dispatcher,
    Disk,
    Supervisor(usize),
    People,
}

struct World {
    stage: Stage,
    inbox: VecDeque<Message>,
    dispatcher: Dispatcher,
    supervisors: Vec<Supervisor>,
    people: People,
    /// How often the dispatcher misses its turn before it takes one: it may be slow.
    dispatcher_lag: u32,
    steps: u64,
    /// The cluster dies at this step, if it comes to that.
    dies_at: u64,
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let now = Instant::now();
        let mut chance = StdRng::seed_from_u64(seed);
        let instances = chance.random_range(1..=4);
        let groups: Vec<usize> = match chance.random_range(0..3) {
            0 if instances > 1 => (0..instances).map(|at| usize::from(at > 0)).collect(),
            _ => vec![0; instances],
        };
        let seconds = Duration::from_secs;
        let config = InstanceConfig {
            start_timeout: seconds(5),
            turn_timeout: seconds(20),
            write_timeout: seconds(6),
            // A tool without a mishap is never silent for so long.
            first_byte_timeout: [seconds(5), Duration::MAX][chance.random_range(0..2)],
            silence_timeout: [seconds(4), Duration::MAX][chance.random_range(0..2)],
            // The made-up tools have no memory.
            memory_limit: None,
            approvals: [Approvals::Ask, Approvals::Ask, Approvals::Reads]
                [chance.random_range(0..3)],
            approval_timeout: seconds(10),
            interrupt_grace: seconds(2),
            interruptible: chance.random_bool(0.7),
            stop_grace: seconds(1),
            kill_wait: seconds(1),
            restart: [
                RestartPolicy::Permanent,
                RestartPolicy::Permanent,
                RestartPolicy::Permanent,
                RestartPolicy::Transient,
                RestartPolicy::Temporary,
            ][chance.random_range(0..5)],
            restart_delay: Duration::from_millis(100),
            restart_delay_max: seconds(2),
            probation: seconds(5),
            breaker: BreakerConfig {
                failures: chance.random_range(1..=4),
                open_for: seconds(2),
                open_for_max: seconds(10),
            },
            restarts: RestartLimits {
                burst: RestartLimit {
                    restarts: chance.random_range(2..=6),
                    within: seconds(30),
                },
                ..RestartLimits::default()
            },
        };
        let queue_limit = chance.random_range(1..=8);
        let dies_at = [u64::MAX, chance.random_range(1..2_000)][chance.random_range(0..2)];
        let starts_at_once = chance.random_range(1..=3);
        let supervisors = (0..instances)
            .map(|index| Supervisor::new(index, &config, seed, now))
            .collect();
        let people = People::new(instances, &groups, &mut chance, now);
        Self {
            dispatcher: Dispatcher::new(&groups, queue_limit, starts_at_once, &config.breaker, now),
            supervisors,
            people,
            dispatcher_lag: [1, 1, 20, 100][chance.random_range(0..4)],
            stage: Stage {
                start: now,
                now,
                judge: Judge::default(),
                disk: chance.random_bool(0.5).then(|| {
                    let writes = chance.random_range(1..100);
                    Disk::failing_in(chance.random_bool(0.3).then_some(writes))
                }),
                healed: false,
                mailbox: [2, 8, 1024][chance.random_range(0..3)],
                orders: [7, 8, 64][chance.random_range(0..3)],
                chance,
                config,
                questions: 0,
                told: is_told.then(Vec::new),
            },
            inbox: VecDeque::new(),
            steps: 0,
            dies_at,
        }
    }

    /// The cluster has died with all of its tools, and is launched again: what it was is the same, what happens is not.
    fn begin_anew(&mut self, seed: u64) {
        let mut next = Self::new(seed, false);
        let mut disk = self.stage.disk.take().expect("others do not die");
        self.stage.tell(|| "the cluster dies".to_owned());
        let queued = disk.recover();
        let turns: Vec<TurnId> = queued.iter().map(|(turn, _)| *turn).collect();
        self.stage.judge.begin_anew(&turns);
        next.people.continue_behind(disk.newest());
        next.stage.chance = StdRng::seed_from_u64(!seed);
        next.stage.judge = std::mem::take(&mut self.stage.judge);
        next.stage.told = self.stage.told.take();
        next.stage.disk = Some(disk);
        next.dies_at = u64::MAX;
        let since = next.stage.now;
        next.inbox.extend(queued.into_iter().map(|(id, ticket)| {
            Message::Again(Turn {
                id,
                ticket,
                timeout: None,
                since,
                generation: 0,
            })
        }));
        *self = next;
    }

    /// Lives the whole story: mishaps and people, then a time in which all heals, then the shutdown.
    fn live(&mut self, seed: u64) {
        let has_failed = |it: &Self| it.stage.disk.as_ref().is_some_and(Disk::has_failed);
        while !self.people.are_done() && !has_failed(self) {
            self.advance();
            if self.steps >= self.dies_at && self.stage.disk.is_some() {
                self.begin_anew(seed);
            }
        }
        self.stage.healed = true;
        self.people.leave();
        self.stage
            .tell(|| "from here on nothing goes wrong".to_owned());
        let healed_at = self.stage.now;
        let mut helped_at = healed_at;
        while self.stage.judge.open_turns() > 0 && !self.dispatcher.is_shutting_down() {
            assert!(self.stage.now < healed_at + PATIENCE, "a turn never ends");
            self.log_in(&mut helped_at);
            self.advance();
        }
        let end = self.people.shut_down(&mut self.stage, &self.dispatcher);
        self.inbox
            .extend(end.map(|within| Message::Shutdown { within }));
        let limit = self.stage.now + people::LONGEST_DRAIN + Duration::from_secs(15);
        let is_told = |it: &Self| it.stage.disk.as_ref().is_none_or(Disk::is_idle);
        while !self.dispatcher.has_stopped() || !is_told(self) {
            assert!(self.stage.now < limit, "the shutdown never ends");
            self.advance();
        }
        self.dispatcher.finish(&mut self.stage, &mut self.inbox);
        for supervisor in &self.supervisors {
            supervisor.look_at_the_end();
        }
        self.stage.judge.look_at_the_end();
        if let Some(disk) = &self.stage.disk {
            disk.look_at_the_end();
        }
    }

    /// Somebody looks in now and then, logs in and restarts what waits for that.
    fn log_in(&mut self, helped_at: &mut Instant) {
        let nothing_happens = self.able().is_empty() && self.next_moment().is_none();
        if self.stage.now < *helped_at + Duration::from_secs(60) && !nothing_happens {
            return;
        }
        *helped_at = self.stage.now;
        let each = 0..self.supervisors.len();
        let refused = each.filter(|instance| self.dispatcher.is_refused(*instance));
        self.inbox.extend(refused.map(Message::Restart));
    }

    /// Somebody who can takes a step; if nobody can, or at times if everybody is slow, time passes.
    fn advance(&mut self) {
        self.steps += 1;
        assert!(self.steps < MOST_STEPS, "it goes round in circles");
        let able = self.able();
        if able.is_empty() {
            let next = self.next_moment();
            self.stage.now = next.expect("nothing will ever happen again, and somebody waits");
            return;
        }
        if self.stage.percent(2) {
            self.stage.now = self.stage.within(50);
        }
        let actor = able[self.stage.chance.random_range(0..able.len())];
        if matches!(actor, Actor::Dispatcher)
            && !self.stage.healed
            && self.stage.chance.random_range(0..self.dispatcher_lag) > 0
        {
            // It is slow: the world goes on without it.
            if able.len() == 1 {
                self.stage.now += Duration::from_millis(100);
            }
            return;
        }
        match actor {
            Actor::Dispatcher => {
                let message = self.inbox.pop_front();
                self.dispatcher
                    .step(&mut self.stage, message, &mut self.supervisors);
                self.look();
            }
            Actor::Supervisor(index) => {
                self.supervisors[index].step(&mut self.stage, &mut self.inbox);
            }
            Actor::Disk => {
                let is_full = self.stage.mishap(5);
                let disk = self.stage.disk.iter_mut();
                disk.for_each(|disk| disk.commit(is_full));
            }
            Actor::People => {
                let message = self.people.act(&mut self.stage);
                self.inbox.extend(message);
            }
        }
    }

    fn able(&self) -> Vec<Actor> {
        let now = self.stage.now;
        let has_room = self.inbox.len() < self.stage.mailbox;
        let mut able = Vec::new();
        let has_news = self.stage.disk.as_ref().is_some_and(Disk::has_news);
        let is_due = self.dispatcher.deadline().is_some_and(|due| due <= now);
        if !self.inbox.is_empty() || is_due || has_news {
            able.push(Actor::Dispatcher);
        }
        if self.disk_due().is_some_and(|due| due <= now) {
            able.push(Actor::Disk);
        }
        for supervisor in &self.supervisors {
            if supervisor.is_able(now, has_room) {
                able.push(Actor::Supervisor(supervisor.index));
            }
        }
        if has_room && self.people.next().is_some_and(|due| due <= now) {
            able.push(Actor::People);
        }
        able
    }

    fn disk_due(&self) -> Option<Instant> {
        self.stage.disk.as_ref().and_then(Disk::due)
    }

    fn next_moment(&self) -> Option<Instant> {
        let waits = self.supervisors.iter().filter_map(Supervisor::next_moment);
        waits
            .chain(self.dispatcher.deadline())
            .chain(self.people.next())
            .chain(self.disk_due())
            .min()
    }

    /// Each accepted turn is in exactly one place until it ends.
    fn look(&self) {
        let on_the_way = self.inbox.iter().filter(|message| {
            matches!(
                message,
                Message::Report(_, Report::TurnEnded { .. } | Report::HandedBack(_))
            )
        });
        let held = self.supervisors.iter().map(Supervisor::turns_held);
        let departing = self.stage.disk.as_ref().map_or(0, Disk::departing);
        let on_the_way = on_the_way.count() + departing;
        let places = self.dispatcher.queued() + on_the_way + held.sum::<usize>();
        assert_eq!(places, self.stage.judge.open_turns(), "a turn was lost");
    }
}

/// What went wrong with a seed, if anything did, with the story if it was asked for.
fn run(seed: u64, is_told: bool) -> (Result<(), String>, Vec<String>) {
    let mut world = World::new(seed, is_told);
    let end = catch_unwind(AssertUnwindSafe(|| world.live(seed)));
    let end = end.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or_else(|| "a panic".to_owned(), |text| (*text).to_owned()),
    });
    (end, world.stage.told.unwrap_or_default())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable holds a number"))
}

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = match number("TOOLPOOL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOOLPOOL_SEEDS").unwrap_or(SEEDS),
    };
    let tells = seeds.end - seeds.start == 1;
    for seed in seeds {
        let (mut end, mut story) = run(seed, tells);
        if end.is_err() && !tells {
            (end, story) = run(seed, true);
        }
        if tells || end.is_err() {
            println!("{}", story.join("\n"));
        }
        if let Err(broken) = end {
            panic!(
                "seed {seed}: {broken}\nagain: TOOLPOOL_SEED={seed} cargo test -p toolpool-cluster simulation"
            );
        }
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time_and_another_one_another() {
    let stories: Vec<_> = (0..20).map(|seed| run(seed, true).1).collect();
    for (seed, story) in stories.iter().enumerate() {
        assert!(run(seed as u64, true).1 == *story, "seed {seed}");
    }
    assert!(stories[0] != stories[1]);
}

#[test]
fn the_seeds_reach_every_state_and_every_outcome() {
    let mut seen = judge::Seen::default();
    for seed in 0..200 {
        let mut world = World::new(seed, false);
        world.live(seed);
        seen.add(&world.stage.judge.seen);
    }
    assert_eq!(seen.states.len(), InstanceState::ALL.len(), "{seen:?}");
    for outcome in [
        "completed",
        "failed",
        "cancelled",
        "expired",
        "indeterminate",
    ] {
        assert!(seen.outcomes.contains(outcome), "{seen:?}");
    }
    assert!(
        seen.recovered
            && seen.handed_back
            && seen.disowned
            && seen.refused
            && seen.paused
            && seen.limited
            && seen.hung
            && seen.looped
            && seen.unavailable
            && seen.full
            && seen.failed,
        "{seen:?}"
    );
}
