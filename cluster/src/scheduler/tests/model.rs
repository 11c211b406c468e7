//! A cluster as an onlooker sees it: which turns there are, where they run, and which conversation is where.

mod instances;
mod judging;
mod steps;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::{FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::RoundRobin;

use crate::error::SubmitError;
use crate::instance::InstanceState;
use crate::scheduler::{Books, Decision, Scheduler};
pub(super) use steps::{Step, Wish, steps};
use steps::{key, ticket_of};

#[derive(Clone, Debug)]
struct Prompt {
    wish: Wish,
    since: Instant,
    deadline: Option<Instant>,
    /// It was withdrawn while it ran.
    withdrawn: bool,
    /// It began the conversation that it runs in.
    opens: bool,
}

#[derive(Clone, Debug)]
struct Place {
    state: InstanceState,
    running: Option<TurnId>,
    conversation: u64,
    group: usize,
    /// Its group gets no prompts.
    held: bool,
    retired: bool,
    /// Since when it has had no process, and whether that has been for as long as sessions wait.
    absent: Option<Instant>,
    given_up: bool,
}

/// How long sessions wait for an instance that does not come up.
const SESSION_WAIT: Duration = Duration::from_millis(50);

/// What a group's tool has said: until when it gets no prompts, if it knows.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    closed: Option<Option<Instant>>,
    refusals: u32,
}

impl Place {
    fn is_down(&self) -> bool {
        self.retired || matches!(self.state, InstanceState::Stopped | InstanceState::Failed)
    }
}

pub(super) struct Model {
    pub(super) scheduler: Scheduler,
    pub(super) now: Instant,
    places: Vec<Place>,
    groups: usize,
    said: Vec<Said>,
    queue: Vec<TurnId>,
    prompts: HashMap<TurnId, Prompt>,
    /// How often a client that could have run was passed over for another since it was served.
    passed: HashMap<(Option<u8>, Option<u8>), usize>,
    /// Where each session's conversation is.
    homes: HashMap<u8, (usize, u64)>,
    /// The sessions whose loss was told in this step: what was queued behind goes with the one that was told.
    told: Vec<u8>,
    books: Books,
    offered: u64,
    queue_limit: usize,
    draining: bool,
    closed: bool,
    /// What was decided in the last step, for tests of single cases.
    pub(super) decided: Vec<Decision>,
}

impl Model {
    /// A model whose instances belong to these groups.
    pub(super) fn new(groups: &[usize], queue_limit: usize) -> Self {
        let now = Instant::now();
        let place = |group: &usize| Place {
            state: InstanceState::Starting,
            running: None,
            conversation: 0,
            group: *group,
            held: false,
            retired: false,
            absent: None,
            given_up: false,
        };
        let mut scheduler = Scheduler::new(groups, queue_limit, Box::new(RoundRobin::new()), now);
        scheduler.session_wait(SESSION_WAIT);
        Self {
            scheduler,
            now,
            places: groups.iter().map(place).collect(),
            groups: groups.iter().max().map_or(0, |last| last + 1),
            said: vec![Said::default(); groups.iter().max().map_or(0, |last| last + 1)],
            queue: Vec::new(),
            prompts: HashMap::new(),
            passed: HashMap::new(),
            homes: HashMap::new(),
            told: Vec::new(),
            books: Books::default(),
            offered: 0,
            queue_limit,
            draining: false,
            closed: false,
            decided: Vec::new(),
        }
    }

    /// A model of one group with all instances ready.
    pub(super) fn ready(instances: usize, queue_limit: usize) -> Self {
        Self::ready_groups(&vec![0; instances], queue_limit)
    }

    /// A model of several groups with all instances ready.
    pub(super) fn ready_groups(groups: &[usize], queue_limit: usize) -> Self {
        let mut model = Self::new(groups, queue_limit);
        for instance in 0..groups.len() {
            model.take(Step::Ready(instance));
        }
        model
    }

    pub(super) fn take(&mut self, step: Step) {
        let mut out = Vec::new();
        self.told.clear();
        match step {
            Step::Submit(wish) => self.submit(wish, &mut out),
            Step::Cancel(choice) => self.cancel(choice, &mut out),
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                for place in &mut self.places {
                    place.given_up |= place.absent.is_some_and(|it| it + SESSION_WAIT <= self.now);
                }
                self.scheduler.on_timer(self.now, &mut out);
                for group in 0..self.said.len() {
                    if matches!(self.said[group].closed, Some(Some(until)) if until <= self.now) {
                        self.open(group);
                    }
                }
            }
            Step::Forget(session) => {
                self.homes.remove(&session);
                self.scheduler
                    .on_close_session(self.now, &key(session), &mut out);
            }
            Step::Drain => {
                self.draining = true;
                self.scheduler.drain();
            }
            Step::Close => {
                self.draining = true;
                self.closed = true;
                self.scheduler.drain();
                self.scheduler
                    .end_queue(self.now, &Outcome::Cancelled, &mut out);
            }
            Step::Ready(at)
            | Step::End(at, _)
            | Step::Limit(at, _)
            | Step::Refuse(at)
            | Step::Retire(at)
            | Step::Crash { instance: at, .. }
            | Step::Down(at, _)
                if at >= self.places.len() => {}
            Step::Ready(instance) => self.become_ready(instance, &mut out),
            Step::End(instance, good) => self.end_turn(instance, good, &mut out),
            Step::Retire(instance) => self.retire(instance, &mut out),
            Step::Add(group) => self.add(group % self.groups, &mut out),
            Step::Limit(instance, millis) => {
                let wait = Duration::from_millis(millis);
                self.fail_turn(instance, FailureClass::RateLimit, Some(wait), &mut out);
            }
            Step::Refuse(instance) => {
                self.fail_turn(instance, FailureClass::Auth, None, &mut out);
            }
            Step::Crash { instance, written } => {
                self.lose_process(instance, InstanceState::Backoff, written, &mut out)
            }
            Step::Down(instance, failed) => {
                let state = if failed {
                    InstanceState::Failed
                } else {
                    InstanceState::Stopped
                };
                self.lose_process(instance, state, true, &mut out);
            }
        }
        self.judge(&out);
        self.decided = out;
        self.look();
    }

    fn submit(&mut self, wish: Wish, out: &mut Vec<Decision>) {
        self.offered += 1;
        let turn = TurnId(self.offered);
        let wish = self.possible(wish);
        let ticket = ticket_of(&wish);
        let expected = if self.draining {
            Err("draining")
        } else if self.is_full_for(&wish) {
            Err("queue_full")
        } else if wish
            .target
            .is_some_and(|target| self.places.get(target).is_none_or(|place| place.retired))
        {
            Err("not_found")
        } else {
            Ok(())
        };
        let answered = self.scheduler.on_submit(self.now, turn, ticket, out);
        assert_eq!(
            answered.as_ref().err().map(SubmitError::code),
            expected.err()
        );
        if expected.is_err() {
            self.books.refused += 1;
            return;
        }
        self.books.accepted += 1;
        self.queue.push(turn);
        let deadline = wish
            .timeout
            .map(|millis| self.now + Duration::from_millis(millis));
        let since = self.now;
        self.prompts.insert(
            turn,
            Prompt {
                wish,
                since,
                deadline,
                withdrawn: false,
                opens: false,
            },
        );
    }

    /// A wish for a group that is not there, or for another than that of its instance, never gets to the scheduler.
    fn possible(&self, mut wish: Wish) -> Wish {
        let target = wish.target.and_then(|target| self.places.get(target));
        wish.group = wish.group.map(|group| match target {
            Some(place) => place.group,
            None => group % self.groups,
        });
        wish
    }

    /// Every group that could run it has as many prompts waiting as a queue may hold, and its client more than its share;
    /// or twice as many.
    fn is_full_for(&self, wish: &Wish) -> bool {
        let asked = |turn: &TurnId| &self.prompts[turn].wish;
        let waiting = |group: usize| {
            let asking = self.queue.iter().map(asked);
            let asking = asking.filter(|other| other.group.is_none_or(|asked| asked == group));
            asking.count()
        };
        let least = match wish.group {
            Some(group) => waiting(group),
            None => (0..self.groups).map(waiting).min().unwrap_or(0),
        };
        let mut clients: Vec<_> = self.queue.iter().map(|turn| asked(turn).client).collect();
        let own = clients.iter().filter(|client| **client == wish.client);
        let own = own.count();
        clients.push(wish.client);
        clients.sort_unstable();
        clients.dedup();
        let has_less = own < (self.queue_limit / clients.len()).max(1);
        least >= self.queue_limit * if has_less { 2 } else { 1 }
    }

    /// Whether the wish allows it to run there, whatever is going on.
    fn fits(&self, wish: &Wish, instance: usize) -> bool {
        wish.target.is_none_or(|target| target == instance)
            && wish
                .group
                .is_none_or(|group| group == self.places[instance].group)
    }

    fn cancel(&mut self, choice: usize, out: &mut Vec<Decision>) {
        let running = self.places.iter().filter_map(|place| place.running);
        let turns: Vec<TurnId> = self.queue.iter().copied().chain(running).collect();
        let Some(&turn) = turns.get(choice) else {
            self.scheduler.on_cancel(self.now, TurnId(u64::MAX), out);
            assert!(out.is_empty());
            return;
        };
        let is_queued = self.queue.contains(&turn);
        self.scheduler.on_cancel(self.now, turn, out);
        if let Some(prompt) = self.prompts.get_mut(&turn).filter(|_| !is_queued) {
            // An instance is asked to stop a turn once, however often it is withdrawn.
            let asked = out
                .iter()
                .filter(|decision| matches!(decision, Decision::Interrupt { .. }))
                .count();
            assert_eq!(asked, usize::from(!prompt.withdrawn));
            prompt.withdrawn = true;
        }
    }

    /// Lets everything that runs end; then every prompt must have its one end.
    pub(super) fn all_ends(&mut self) {
        for instance in 0..self.places.len() {
            self.take(Step::End(instance, true));
        }
        let books = self.scheduler.books();
        assert_eq!((books.queued, books.running), (0, 0));
        assert!(self.prompts.is_empty());
    }

    /// The instance that runs the turn.
    pub(super) fn runs_on(&self, turn: u64) -> Option<usize> {
        self.places
            .iter()
            .position(|place| place.running == Some(TurnId(turn)))
    }
}
