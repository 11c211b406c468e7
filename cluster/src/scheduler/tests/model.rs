//! A cluster as an onlooker sees it: which turns there are, where they run, and which conversation is where.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::RoundRobin;

use crate::error::SubmitError;
use crate::fit::GroupSet;
use crate::instance::InstanceState;
use crate::scheduler::{Books, Decision, Scheduler, Ticket};
use crate::session::OnLoss;

/// What a caller wishes, small enough to meet often.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) client: Option<u8>,
    pub(super) session: Option<u8>,
    pub(super) target: Option<usize>,
    /// The group of instances that it asks for.
    pub(super) group: Option<usize>,
    pub(super) fresh: bool,
    pub(super) on_loss: OnLoss,
    pub(super) timeout: Option<u64>,
}

/// What can happen. An index that names nothing at that moment makes the step an empty one.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit(Wish),
    Cancel(usize),
    /// The instance's process becomes ready: a new one if it had none.
    Ready(usize),
    /// Its turn ends and it takes the next one.
    End(usize, bool),
    /// Its turn ends because the tool can be asked again after so many milliseconds only.
    Limit(usize, u64),
    /// Its turn ends because the login was refused.
    Refuse(usize),
    /// Its process ends; a running turn ends in doubt, or is handed back if nothing of it was written.
    Crash {
        instance: usize,
        written: bool,
    },
    /// It stops for good, by an operator or by itself; a running turn ends in doubt.
    Down(usize, bool),
    Wait(u64),
    /// It is to finish its turn and leave.
    Retire(usize),
    /// One more of a group: one that has left, or a new one.
    Add(usize),
    Forget(u8),
    Drain,
    Close,
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let wish = (
        prop::option::weighted(0.6, 0u8..3),
        prop::option::weighted(0.5, 0u8..3),
        prop::option::weighted(0.2, 0usize..4),
        prop::option::weighted(0.4, 0usize..3),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.3, 1u64..100),
    )
        .prop_map(
            |(client, session, target, group, fresh, anew, timeout)| Wish {
                client,
                session,
                target,
                group,
                fresh,
                on_loss: if anew { OnLoss::Fresh } else { OnLoss::Fail },
                timeout,
            },
        );
    prop_oneof![
        10 => wish.prop_map(Step::Submit),
        3 => (0usize..12).prop_map(Step::Cancel),
        8 => (0usize..3).prop_map(Step::Ready),
        8 => (0usize..3, any::<bool>()).prop_map(|(instance, good)| Step::End(instance, good)),
        1 => (0usize..3, 1u64..100).prop_map(|(instance, millis)| Step::Limit(instance, millis)),
        2 => (0usize..3).prop_map(Step::Refuse),
        3 => (0usize..3, any::<bool>()).prop_map(|(instance, written)| Step::Crash { instance, written }),
        1 => (0usize..3, any::<bool>()).prop_map(|(instance, failed)| Step::Down(instance, failed)),
        3 => (0u64..60).prop_map(Step::Wait),
        1 => (0usize..4).prop_map(Step::Retire),
        2 => (0usize..3).prop_map(Step::Add),
        1 => (0u8..3).prop_map(Step::Forget),
        1 => Just(Step::Drain),
    ]
}

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

    fn become_ready(&mut self, instance: usize, out: &mut Vec<Decision>) {
        if self.places[instance].running.is_some() || self.places[instance].retired {
            return;
        }
        if self.places[instance].state != InstanceState::Ready {
            self.scheduler
                .on_instance(self.now, instance, InstanceState::Starting, out);
            self.places[instance].conversation += 1;
            self.places[instance].absent = None;
            self.places[instance].given_up = false;
            self.scheduler.on_spawned(self.now, instance, out);
            self.scheduler.on_new_process(instance, out);
            let group = self.places[instance].group;
            if self.said[group].closed == Some(None) {
                self.places[instance].held = false;
                self.look_whether_renewed(group);
            }
        }
        self.places[instance].state = InstanceState::Ready;
        self.scheduler
            .on_instance(self.now, instance, InstanceState::Ready, out);
    }

    fn end_turn(&mut self, instance: usize, good: bool, out: &mut Vec<Decision>) {
        let Some(turn) = self.places[instance].running.take() else {
            return;
        };
        self.prompts.remove(&turn);
        self.places[instance].state = InstanceState::Ready;
        let outcome = if good {
            self.said[self.places[instance].group].refusals = 0;
            self.books.completed += 1;
            Outcome::Completed
        } else {
            self.books.cancelled += 1;
            Outcome::Cancelled
        };
        let goes_on = !self.places[instance].retired;
        self.scheduler
            .on_turn_ended(self.now, instance, &outcome, goes_on, out);
    }

    /// The turn fails, and its tool says something that concerns its whole group.
    fn fail_turn(
        &mut self,
        instance: usize,
        class: FailureClass,
        retry_after: Option<Duration>,
        out: &mut Vec<Decision>,
    ) {
        let Some(turn) = self.places[instance].running.take() else {
            return;
        };
        self.prompts.remove(&turn);
        self.places[instance].state = InstanceState::Ready;
        let retired = self.places[instance].retired;
        self.books.failed += 1;
        let group = self.places[instance].group;
        let said = &mut self.said[group];
        let until = retry_after.map(|wait| self.now + wait);
        said.refusals += u32::from(until.is_none());
        if until.is_some() || said.refusals >= 2 {
            let known = said
                .closed
                .filter(|known| known.is_some() == until.is_some());
            if known.is_none() {
                for place in self.places.iter_mut().filter(|place| place.group == group) {
                    place.held = true;
                }
            }
            said.closed = Some(known.flatten().max(until));
        }
        let failure = Failure {
            class,
            message: "no".to_owned(),
            retry_after,
        };
        self.scheduler
            .on_turn_ended(self.now, instance, &Outcome::Failed(failure), !retired, out);
    }

    fn retire(&mut self, instance: usize, out: &mut Vec<Decision>) {
        let place = &mut self.places[instance];
        if place.retired {
            return;
        }
        place.retired = true;
        place.conversation += 1;
        let group = place.group;
        self.scheduler.retire(self.now, instance, out);
        self.resize(group, out);
        self.look_whether_renewed(group);
    }

    fn add(&mut self, group: usize, out: &mut Vec<Decision>) {
        let held = self.said[group].closed.flatten().is_some();
        let mut places = self.places.iter();
        let left = |place: &Place| place.group == group && place.retired && place.running.is_none();
        let instance = places.position(left).unwrap_or(self.places.len());
        if instance == 4 {
            return;
        }
        let new = Place {
            state: InstanceState::Starting,
            running: None,
            conversation: 0,
            group,
            held,
            retired: false,
            absent: None,
            given_up: false,
        };
        match self.places.get_mut(instance) {
            Some(place) => {
                let conversation = place.conversation;
                *place = Place {
                    conversation,
                    ..new
                };
            }
            None => self.places.push(new),
        }
        self.resize(group, out);
        self.scheduler.add(self.now, instance, group, false, out);
    }

    /// All are on duty.
    fn resize(&mut self, group: usize, out: &mut Vec<Decision>) {
        let there = |place: &&Place| place.group == group && !place.retired;
        let count = self.places.iter().filter(there).count();
        self.scheduler.resize(self.now, group, count, out);
    }

    fn open(&mut self, group: usize) {
        self.said[group] = Said::default();
        for place in self.places.iter_mut().filter(|place| place.group == group) {
            place.held = false;
        }
    }

    /// After a refused login every instance that is left must have had a new process.
    fn look_whether_renewed(&mut self, group: usize) {
        let waits = |place: &Place| place.group == group && place.held && !place.is_down();
        if self.said[group].closed == Some(None) && !self.places.iter().any(waits) {
            self.open(group);
        }
    }

    fn lose_process(
        &mut self,
        instance: usize,
        state: InstanceState,
        written: bool,
        out: &mut Vec<Decision>,
    ) {
        let place = &mut self.places[instance];
        if matches!(place.state, InstanceState::Stopped | InstanceState::Failed) {
            return;
        }
        place.state = state;
        match state {
            InstanceState::Backoff => drop(place.absent.get_or_insert(self.now)),
            _ => (place.absent, place.given_up) = (None, false),
        }
        match place.running.take() {
            None => self.scheduler.on_instance(self.now, instance, state, out),
            Some(turn) if written => {
                self.prompts.remove(&turn);
                self.books.indeterminate += 1;
                let doubt = Outcome::Indeterminate(Doubt {
                    cause: DoubtCause::Crashed,
                    detail: "exit code 1".to_owned(),
                });
                self.scheduler
                    .on_turn_ended(self.now, instance, &doubt, false, out);
                self.scheduler.on_instance(self.now, instance, state, out);
            }
            Some(turn) => {
                self.scheduler.on_instance(self.now, instance, state, out);
                self.hand_back(instance, turn, out);
            }
        }
        if state.is_down() {
            self.look_whether_renewed(self.places[instance].group);
        }
    }

    fn hand_back(&mut self, instance: usize, turn: TurnId, out: &mut Vec<Decision>) {
        let prompt = &self.prompts[&turn];
        let ticket = ticket_of(&prompt.wish);
        if let (true, Some(session)) = (prompt.opens, prompt.wish.session)
            && self
                .homes
                .get(&session)
                .is_some_and(|(home, _)| *home == instance)
        {
            // Nothing was said yet, so nothing is lost with the process.
            self.homes.remove(&session);
        }
        self.queue.insert(0, turn);
        let (since, client) = (prompt.since, prompt.wish.client);
        // Its client has a turn to get back.
        self.passed.retain(|(_, by), _| *by != client);
        self.scheduler
            .on_handed_back(self.now, instance, turn, ticket, since, out);
    }

    /// Judges each decision at the moment at which it was taken.
    fn judge(&mut self, out: &[Decision]) {
        for decision in out {
            match decision {
                Decision::Assign { turn, instance, .. } => self.judge_assignment(*turn, *instance),
                Decision::End { turn, outcome, .. } => self.judge_end(*turn, outcome),
                Decision::Unavailable {
                    turn,
                    instance,
                    absent,
                    ..
                } => self.judge_unavailable(*turn, *instance, *absent),
                Decision::Interrupt { turn, instance } => {
                    assert_eq!(self.places[*instance].running, Some(*turn));
                }
                Decision::SessionPinned { .. }
                | Decision::SessionClosed { .. }
                | Decision::TakeUp { .. }
                | Decision::SessionsLost { .. }
                | Decision::Reopened { .. }
                | Decision::Relieved { .. } => {}
                Decision::Closed { group } => assert!(self.said[*group].closed.is_some()),
                Decision::Renew { instance } => assert!(self.places[*instance].held),
            }
        }
    }

    fn leave_queue(&mut self, turn: TurnId) -> usize {
        let at = self.queue.iter().position(|queued| *queued == turn);
        let at = at.unwrap_or_else(|| panic!("{turn} is not queued: it has an end, or runs"));
        self.queue.remove(at);
        let client = self.prompts[&turn].wish.client;
        let waits = |queued: &TurnId| {
            let wish = &self.prompts[queued].wish;
            wish.client == client && wish.is_free()
        };
        if !self.queue.iter().any(waits) {
            self.passed.retain(|(passed, _), _| *passed != client);
        }
        at
    }

    /// Clients are served in turn: who could have run there is passed over once for each of the others.
    fn judge_turn(&mut self, turn: TurnId, instance: usize) {
        let wish = self.prompts[&turn].wish.clone();
        self.passed.retain(|(passed, _), _| *passed != wish.client);
        let others = self.queue.iter().map(|queued| &self.prompts[queued].wish);
        let could = others.filter(|other| other.is_free() && self.fits(other, instance));
        let mut clients: Vec<_> = could.map(|other| other.client).collect();
        clients.sort_unstable();
        clients.dedup();
        for client in clients.into_iter().filter(|other| *other != wish.client) {
            let passed = self.passed.entry((client, wish.client)).or_default();
            *passed += 1;
            assert!(*passed <= 1, "{turn}: {client:?} was passed over twice");
        }
    }

    fn judge_assignment(&mut self, turn: TurnId, instance: usize) {
        assert!(
            self.is_available(instance),
            "{turn} on an instance that cannot take it"
        );
        let at = self.leave_queue(turn);
        let wish = self.prompts[&turn].wish.clone();
        assert!(self.fits(&wish, instance), "{turn} is for another instance");
        for earlier in &self.queue[..at] {
            let other = &self.prompts[earlier].wish;
            assert!(
                wish.session.is_none() || other.session != wish.session,
                "{turn} overtakes {earlier} of its session"
            );
            assert!(
                !other.is_free() || other.client != wish.client || !self.fits(other, instance),
                "{turn} overtakes {earlier}, which could run there"
            );
        }
        self.judge_turn(turn, instance);
        let place = &mut self.places[instance];
        let before = place.conversation;
        if wish.fresh {
            place.conversation += 1;
        }
        place.running = Some(turn);
        place.state = InstanceState::Busy;
        let Some(session) = wish.session else { return };
        let home = self.homes.insert(session, (instance, place.conversation));
        let same = home == Some((instance, before));
        if let Some((home, _)) = home {
            let moves = self.may_leave(&wish, home);
            assert!(
                home == instance || moves,
                "{turn} is far from its conversation"
            );
            assert!(
                same || wish.fresh || wish.on_loss == OnLoss::Fresh,
                "{turn} goes on in a conversation that is lost"
            );
        }
        if let Some(prompt) = self.prompts.get_mut(&turn) {
            prompt.opens = !same || wish.fresh;
        }
    }

    fn judge_end(&mut self, turn: TurnId, outcome: &Outcome) {
        self.leave_queue(turn);
        let Some(prompt) = self.prompts.remove(&turn) else {
            panic!("{turn} ends twice")
        };
        let home = prompt
            .wish
            .session
            .and_then(|session| self.homes.get(&session).copied());
        match outcome {
            Outcome::Cancelled => self.books.cancelled += 1,
            Outcome::Expired => {
                assert!(
                    prompt.deadline.is_some_and(|deadline| deadline <= self.now),
                    "{turn} expired early"
                );
                self.books.expired += 1;
            }
            Outcome::Failed(failure) => {
                self.books.failed += 1;
                let wish = &prompt.wish;
                let elsewhere = home.is_some_and(|(at, _)| !self.fits(wish, at));
                let home_down = home.is_some_and(|(at, _)| self.is_down(at));
                let told = wish.on_loss == OnLoss::Fail
                    && wish
                        .session
                        .is_some_and(|session| self.told.contains(&session));
                let target_down = wish.target.is_some_and(|at| self.is_down(at));
                let none_left =
                    (0..self.places.len()).all(|at| self.is_down(at) || !self.fits(wish, at));
                match failure.class {
                    FailureClass::SessionLost => {
                        let lost =
                            home.is_some_and(|(at, known)| self.places[at].conversation != known);
                        assert!(
                            (lost || told) && wish.on_loss == OnLoss::Fail && !wish.fresh,
                            "{turn}: {home:?}"
                        );
                    }
                    FailureClass::Unroutable => assert!(
                        none_left || home_down || target_down || elsewhere || told,
                        "{turn} could run: {failure:?}"
                    ),
                    other => panic!("{turn} failed for {other:?}"),
                }
                let lost = failure.class == FailureClass::SessionLost;
                if let Some(session) = wish.session
                    && (lost || home_down)
                {
                    self.homes.remove(&session);
                    self.told.push(session);
                }
            }
            other => panic!("{turn} did not run, and ended {other:?}"),
        }
    }

    /// It has waited for its instance for as long as sessions do, and nobody else can take it.
    fn judge_unavailable(&mut self, turn: TurnId, instance: usize, absent: Duration) {
        self.leave_queue(turn);
        let wish = self.prompts.remove(&turn).expect("ends once").wish;
        let home = wish.session.and_then(|session| self.homes.get(&session));
        assert_eq!(home.map(|(home, _)| *home), Some(instance), "{turn}");
        assert!(absent >= SESSION_WAIT && self.places[instance].given_up);
        let others = (0..self.places.len()).filter(|at| *at != instance && self.fits(&wish, *at));
        let mut up = others.filter(|at| !self.is_down(*at) && self.places[*at].absent.is_none());
        assert!(
            wish.on_loss == OnLoss::Fail || up.next().is_none(),
            "{turn} could go on elsewhere"
        );
        self.books.failed += 1;
    }

    /// It may begin anew, and the instance with its conversation does not come up.
    fn may_leave(&self, wish: &Wish, home: usize) -> bool {
        wish.on_loss == OnLoss::Fresh && (self.is_down(home) || self.places[home].given_up)
    }

    fn is_available(&self, instance: usize) -> bool {
        let place = &self.places[instance];
        let up = place.state == InstanceState::Ready && !place.retired;
        up && place.running.is_none() && !place.held
    }

    fn is_down(&self, instance: usize) -> bool {
        self.places[instance].is_down()
    }

    /// What must be true between two steps.
    fn look(&self) {
        let books = self.scheduler.books();
        assert!(books.balance(), "{books:?}");
        let running = self
            .places
            .iter()
            .filter(|place| place.running.is_some())
            .count();
        let expected = Books {
            queued: self.queue.len() as u64,
            running: running as u64,
            ..self.books
        };
        assert_eq!(books, expected);
        assert_eq!(books.accepted + books.refused, self.offered);
        assert!(
            self.scheduler.conversations.len() <= self.scheduler.sessions(),
            "forgotten sessions are kept"
        );
        assert_eq!(
            self.scheduler.is_idle(),
            self.queue.is_empty() && running == 0
        );
        let deadlines = self
            .queue
            .iter()
            .filter_map(|turn| self.prompts[turn].deadline);
        let reopens = self.said.iter().filter_map(|said| said.closed?);
        let absent = self.places.iter().filter(|place| !place.given_up);
        let given_up = absent.filter_map(|place| Some(place.absent? + SESSION_WAIT));
        let expected = deadlines.chain(reopens).chain(given_up).min();
        assert_eq!(self.scheduler.deadline(), expected);
        for (group, said) in self.said.iter().enumerate() {
            assert_eq!(
                self.scheduler.closed(group).is_some(),
                said.closed.is_some()
            );
        }
        for (at, turn) in self.queue.iter().enumerate() {
            self.look_at_waiting(at, *turn);
        }
    }

    /// Nothing waits without a reason.
    fn look_at_waiting(&self, at: usize, turn: TurnId) {
        let wish = &self.prompts[&turn].wish;
        let fitting = (0..self.places.len()).filter(|instance| self.fits(wish, *instance));
        let fitting: Vec<usize> = fitting.collect();
        let all_down = fitting.iter().all(|instance| self.is_down(*instance));
        assert!(!all_down, "{turn} waits for nobody");
        let behind = |earlier: &TurnId| {
            wish.session.is_some() && self.prompts[earlier].wish.session == wish.session
        };
        if self.queue[..at].iter().any(behind) {
            return;
        }
        let home = wish
            .session
            .and_then(|session| self.homes.get(&session))
            .map(|(home, _)| *home)
            .filter(|home| !self.may_leave(wish, *home));
        match wish.target.or(home) {
            Some(instance) => {
                assert!(
                    !self.is_down(instance),
                    "{turn} waits for an instance that will not come"
                );
                assert!(
                    home != Some(instance) || !self.places[instance].given_up,
                    "{turn} waits for an instance that does not come"
                );
                assert!(
                    !self.is_available(instance) || !fitting.contains(&instance),
                    "{turn} waits for an instance that is free"
                );
            }
            None if wish.fresh => {}
            None => {
                let free = fitting.into_iter().find(|at| self.is_available(*at));
                assert_eq!(free, None, "{turn} waits while an instance is free");
            }
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

impl Wish {
    /// It may run wherever it fits.
    fn is_free(&self) -> bool {
        self.session.is_none() && !self.fresh
    }
}

fn ticket_of(wish: &Wish) -> Ticket {
    Ticket {
        client: wish.client.map(|client| format!("c{client}").into()),
        session: wish.session.map(key),
        on_loss: wish.on_loss,
        target: wish.target,
        groups: wish.group.map_or(GroupSet::ALL, GroupSet::of),
        labels: Vec::new(),
        fresh: wish.fresh,
        bytes: 1,
        queue_timeout: wish.timeout.map(Duration::from_millis),
    }
}

fn key(session: u8) -> String {
    format!("s{session}")
}
