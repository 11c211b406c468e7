//! The cluster's one task, step by step: the real scheduler between its mailbox and those of the supervisors.
//!
//! Owns what the real dispatcher does around the scheduler, in its order. Must not decide. Invariant: it never waits.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::{Doubt, DoubtCause, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::RoundRobin;

use super::disk::{Disk, Fact, Row};
use super::supervisor::Supervisor;
use super::{Message, Order, Report, Stage, Turn};
use crate::breaker::BreakerConfig;
use crate::dispatcher::KEPT_PLACES;
use crate::durable::Point;
use crate::instance::{InstanceState, after};
use crate::permission::PermissionId;
use crate::scheduler::{Decision, Scheduler};
use crate::starting::{Starts, Verdict};

/// Breakers are open for longer at times.
const SESSION_WAIT: Duration = Duration::from_secs(3);

struct Shutdown {
    deadline: Instant,
    stopping: bool,
}

pub(super) struct Dispatcher {
    scheduler: Scheduler,
    turns: HashMap<TurnId, Turn>,
    decisions: Vec<Decision>,
    starts: Starts,
    starts_at_once: usize,
    /// Of each instance, the process that it wants to start.
    to_start: Vec<u64>,
    shutdown: Option<Shutdown>,
    gone: Vec<bool>,
    /// Of each instance, the process that was last heard of.
    generations: Vec<u64>,
    /// Of each instance, whether its turn waits for the disk.
    departing: Vec<bool>,
    /// The questions that wait for an answer, and where.
    questions: Vec<(PermissionId, usize)>,
}

impl Dispatcher {
    pub(super) fn new(
        groups: &[usize],
        queue_limit: usize,
        starts_at_once: usize,
        breaker: &BreakerConfig,
        now: Instant,
    ) -> Self {
        let strategy = Box::new(RoundRobin::new());
        let mut scheduler = Scheduler::new(groups, queue_limit, strategy, now);
        scheduler.session_wait(SESSION_WAIT);
        Self {
            scheduler,
            turns: HashMap::new(),
            decisions: Vec::new(),
            starts: Starts::new(groups, starts_at_once, breaker),
            starts_at_once,
            to_start: vec![0; groups.len()],
            shutdown: None,
            gone: vec![false; groups.len()],
            generations: vec![0; groups.len()],
            departing: vec![false; groups.len()],
            questions: Vec::new(),
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// An instance that waits until somebody has logged in and restarts it.
    pub(super) fn is_refused(&self, instance: usize) -> bool {
        let closed = self.scheduler.closed(self.scheduler.group_of(instance));
        self.scheduler.is_held(instance) && closed.is_some_and(|closed| closed.until.is_none())
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.gone.iter().all(|gone| *gone)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let shutdown = self.shutdown.as_ref();
        let drains = shutdown.filter(|shutdown| !shutdown.stopping);
        let ends = drains.map(|shutdown| shutdown.deadline);
        [self.scheduler.deadline(), self.starts.deadline(), ends]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn step(
        &mut self,
        stage: &mut Stage,
        message: Option<Message>,
        supervisors: &mut [Supervisor],
    ) {
        if let Some(message) = message {
            self.on_message(stage, message, supervisors);
        }
        self.carry_out(stage, supervisors);
        self.tell_durable(stage, supervisors);
        self.scheduler.on_timer(stage.now, &mut self.decisions);
        self.carry_out(stage, supervisors);
        let mut verdicts = Vec::new();
        self.starts.on_timer(stage.now, &mut verdicts);
        self.carry_out_verdicts(stage, verdicts, supervisors);
        self.advance_shutdown(stage, supervisors);
        stage.judge.look(self.scheduler.books());
        let starting = supervisors.iter().filter(|supervisor| supervisor.starts());
        assert!(
            starting.count() <= self.starts_at_once,
            "too many starts at once"
        );
        let due = self.deadline().is_some_and(|due| due <= stage.now);
        assert!(!due, "the dispatcher would spin");
        for turn in self.turns.values() {
            let limit = turn.ticket.queue_timeout;
            let in_time = limit.is_none_or(|limit| turn.since + limit > stage.now);
            assert!(in_time, "{} should have expired", turn.id);
        }
    }

    /// What was on its way when the last instance went.
    pub(super) fn finish(&mut self, stage: &mut Stage, inbox: &mut VecDeque<Message>) {
        for message in std::mem::take(inbox) {
            self.on_message(stage, message, &mut []);
            self.carry_out(stage, &mut []);
        }
        assert!(self.turns.is_empty() && self.scheduler.is_idle());
        stage.judge.look(self.scheduler.books());
    }

    fn on_message(&mut self, stage: &mut Stage, message: Message, to: &mut [Supervisor]) {
        let now = stage.now;
        match message {
            Message::Submit(mut turn) => {
                turn.since = now;
                let (id, ticket) = (turn.id, turn.ticket.clone());
                let out = &mut self.decisions;
                match self.scheduler.on_submit(now, id, ticket.clone(), out) {
                    Ok(()) => {
                        stage.tell(|| format!("{id} is accepted: {ticket:?}"));
                        stage.judge.accepted(id, &ticket);
                        if stage.disk.is_some() {
                            let due = stage.within(50);
                            if let Some(disk) = &mut stage.disk {
                                disk.accept(id, &ticket, due);
                            }
                        }
                        self.turns.insert(id, turn);
                    }
                    Err(refusal) => {
                        stage.tell(|| format!("{id} is refused: {refusal}"));
                        stage.judge.refused();
                    }
                }
            }
            Message::Again(mut turn) => {
                turn.since = now;
                let (id, ticket) = (turn.id, turn.ticket.clone());
                stage.tell(|| format!("{id} is queued again: {ticket:?}"));
                stage.judge.accepted(id, &ticket);
                let out = &mut self.decisions;
                let taken = self.scheduler.on_submit_again(now, id, ticket, out);
                assert_eq!(taken, Ok(()), "{id} was accepted before");
                self.turns.insert(id, turn);
            }
            Message::Cancel(turn) => {
                stage.tell(|| format!("{turn} is withdrawn"));
                stage.judge.withdrawn(turn);
                self.scheduler.on_cancel(now, turn, &mut self.decisions);
            }
            Message::Forget(session) => {
                stage.tell(|| format!("session {session} is closed"));
                stage.judge.let_go(&session);
                let out = &mut self.decisions;
                self.scheduler.on_close_session(now, &session, out);
            }
            Message::Answer(id, answer) => {
                let open = self.questions.iter().find(|(open, _)| *open == id);
                if let Some((_, instance)) = open {
                    order(stage, to, *instance, Order::Answer(id, answer));
                }
            }
            Message::Restart(instance) => {
                self.starts.urge(instance);
                let group = self.scheduler.group_of(instance);
                self.scheduler.on_lifted(now, group, &mut self.decisions);
                order(stage, to, instance, Order::Restart);
            }
            Message::Drain(instance) => order(stage, to, instance, Order::Drain),
            Message::Shutdown { within } => self.begin_shutdown(stage, within, to),
            Message::Report(instance, report) => self.on_report(stage, instance, report, to),
        }
    }

    fn on_report(
        &mut self,
        stage: &mut Stage,
        instance: usize,
        report: Report,
        supervisors: &mut [Supervisor],
    ) {
        let (now, out) = (stage.now, &mut self.decisions);
        let mut verdicts = Vec::new();
        match report {
            Report::WantsToStart { generation } => {
                self.to_start[instance] = generation;
                self.starts.on_wish(now, instance, &mut verdicts);
            }
            Report::Spawned { generation } => {
                self.generations[instance] = generation;
                self.scheduler.on_spawned(now, instance, out);
                self.scheduler.on_new_process(instance, out);
            }
            Report::Changed(to, reason, for_good) => {
                let told = if for_good { InstanceState::Stopped } else { to };
                let mut seen =
                    self.starts
                        .on_changed(now, instance, told, None, &reason, &mut verdicts);
                if for_good || supervisors.get(instance).is_some_and(|it| it.drained) {
                    seen = to;
                }
                self.scheduler.on_instance(now, instance, seen, out);
            }
            Report::Asked(question) => self.questions.push((question.id, instance)),
            Report::Settled(id) => self.questions.retain(|(open, _)| *open != id),
            Report::TurnEnded {
                turn,
                outcome,
                ready,
            } => {
                stage.tell(|| format!("{} ends: {outcome:?}", turn.id));
                stage.judge.ended(turn.id, &outcome, true);
                put(
                    stage,
                    turn.id,
                    Row::Ended,
                    Point::End,
                    Fact::Ended(turn.id, outcome.clone()),
                );
                self.scheduler
                    .on_turn_ended(now, instance, &outcome, ready, out);
            }
            Report::HandedBack(turn) => self.take_back(stage, instance, turn),
            Report::Gone => {
                self.gone[instance] = true;
                self.starts.on_gone(now, instance, &mut verdicts);
            }
        }
        self.carry_out_verdicts(stage, verdicts, supervisors);
    }

    fn carry_out_verdicts(
        &mut self,
        stage: &mut Stage,
        verdicts: Vec<Verdict>,
        supervisors: &mut [Supervisor],
    ) {
        for verdict in verdicts {
            stage.tell(|| match &verdict {
                // Moments are others each time.
                Verdict::Resumed { group, .. } => format!("decided: group {group} goes on"),
                other => format!("decided: {other:?}"),
            });
            match verdict {
                Verdict::Start(instance) => {
                    let generation = self.to_start[instance];
                    order(stage, supervisors, instance, Order::Start { generation });
                }
                Verdict::Revive(instance) => {
                    let drained = supervisors.get(instance).is_some_and(|it| it.drained);
                    if drained {
                        let mut verdicts = Vec::new();
                        self.starts.on_gone(stage.now, instance, &mut verdicts);
                        self.carry_out_verdicts(stage, verdicts, supervisors);
                    } else {
                        order(stage, supervisors, instance, Order::Revive);
                    }
                }
                Verdict::Paused { group } => {
                    stage.judge.seen.paused |= true;
                    let paused = stage.judge.paused.insert(group);
                    assert!(paused, "a pause that was told twice");
                }
                Verdict::Resumed { group, .. } => {
                    assert!(stage.judge.paused.remove(&group), "it was not paused");
                }
                Verdict::Held { .. } => {}
            }
        }
    }

    fn carry_out(&mut self, stage: &mut Stage, supervisors: &mut [Supervisor]) {
        for decision in std::mem::take(&mut self.decisions) {
            stage.tell(|| match &decision {
                // Moments are others each time.
                Decision::Reopened { group, .. } => format!("decided: group {group} reopens"),
                other => format!("decided: {other:?}"),
            });
            match decision {
                Decision::Assign { turn, instance, .. } => {
                    let mut turn = self.turns.remove(&turn).expect("it was queued");
                    turn.generation = self.generations[instance];
                    stage.judge.assigned(turn.id);
                    if stage.disk.is_some() {
                        self.departing[instance] = true;
                        let (id, fact) = (turn.id, Fact::Departs { turn, instance });
                        put(stage, id, Row::Begun, Point::Dispatch, fact);
                    } else {
                        order(stage, supervisors, instance, Order::Assign(turn));
                    }
                }
                Decision::End { turn, outcome, .. } => {
                    assert!(self.turns.remove(&turn).is_some(), "it was queued");
                    stage.judge.ended(turn, &outcome, false);
                    let fact = Fact::Ended(turn, outcome);
                    put(stage, turn, Row::Ended, Point::End, fact);
                }
                Decision::Unavailable { turn, absent, .. } => {
                    assert!(absent >= SESSION_WAIT, "{turn} waited for {absent:?} only");
                    assert!(self.turns.remove(&turn).is_some(), "it was queued");
                    let outcome = stage.judge.unavailable(turn);
                    let fact = Fact::Ended(turn, outcome);
                    put(stage, turn, Row::Ended, Point::End, fact);
                }
                Decision::Interrupt { instance, .. } if self.departing[instance] => {}
                Decision::Interrupt { turn, instance } => {
                    order(stage, supervisors, instance, Order::Cancel(turn));
                }
                Decision::Closed { .. } => stage.judge.seen.limited = true,
                _ => {}
            }
        }
    }

    fn take_back(&mut self, stage: &mut Stage, instance: usize, turn: Turn) {
        stage.tell(|| format!("{} is handed back", turn.id));
        put(
            stage,
            turn.id,
            Row::Queued,
            Point::HandBack,
            Fact::HandedBack,
        );
        let (id, ticket, since) = (turn.id, turn.ticket.clone(), turn.since);
        self.turns.insert(id, turn);
        let out = &mut self.decisions;
        self.scheduler
            .on_handed_back(stage.now, instance, id, ticket, since, out);
    }

    /// Tells and does what the disk has by now.
    fn tell_durable(&mut self, stage: &mut Stage, supervisors: &mut [Supervisor]) {
        while let Some((fact, result)) = stage.disk.as_mut().and_then(|disk| disk.next()) {
            let disk = stage.disk.as_mut().expect("it has facts");
            let refused = fact.turn().is_some_and(|turn| disk.has_refused(turn));
            let out = &mut self.decisions;
            match fact {
                Fact::Accepted(turn) if result.is_ok() => disk.tell_accepted(turn),
                Fact::Accepted(turn) => {
                    stage.tell(|| format!("{turn} is refused: {result:?}"));
                    // If it has left the queue by now, its next record is in the line.
                    if self.turns.remove(&turn).is_some() {
                        self.scheduler.revoke(stage.now, turn, out);
                        stage.judge.revoked(turn);
                    }
                }
                Fact::Ended(turn, known) if refused => {
                    self.scheduler.revoke_ended(&known);
                    stage.judge.revoked(turn);
                }
                Fact::Ended(turn, _) if result.is_ok() => disk.tell_ended(turn),
                Fact::Ended(turn, known) => {
                    let told = unrecorded();
                    self.scheduler.recount(&known, &told);
                    stage.judge.recount(turn, &known, &told);
                }
                Fact::Departs { turn, instance } if refused => {
                    self.departing[instance] = false;
                    self.scheduler.on_not_given(instance);
                    let now = stage.now;
                    self.scheduler
                        .revoke_assigned(now, instance, &turn.ticket, out);
                    stage.judge.revoked(turn.id);
                }
                Fact::Departs { turn, instance } if result.is_err() => {
                    self.departing[instance] = false;
                    let available = self.scheduler.on_not_given(instance);
                    let outcome = unrecorded();
                    self.scheduler
                        .on_turn_ended(stage.now, instance, &outcome, available, out);
                    stage.judge.ended(turn.id, &outcome, false);
                    let fact = Fact::Ended(turn.id, outcome);
                    put(stage, turn.id, Row::Ended, Point::End, fact);
                }
                Fact::Departs { turn, instance } => {
                    self.departing[instance] = false;
                    let stops = self.shutdown.as_ref().is_some_and(|it| it.stopping);
                    if stops || has_failed(stage) || self.scheduler.is_withdrawn(instance) {
                        self.scheduler.on_not_given(instance);
                        self.take_back(stage, instance, turn);
                    } else {
                        order(stage, supervisors, instance, Order::Assign(turn));
                    }
                }
                _ => {}
            }
            self.carry_out(stage, supervisors);
        }
        let stops = self.shutdown.as_ref().is_some_and(|it| it.stopping);
        if has_failed(stage) && !stops {
            stage.judge.seen.failed = true;
            self.begin_shutdown(stage, Duration::ZERO, supervisors);
        }
    }

    fn begin_shutdown(&mut self, stage: &mut Stage, within: Duration, to: &mut [Supervisor]) {
        let deadline = after(stage.now, within);
        stage.tell(|| format!("shutdown within {within:?}"));
        self.scheduler.drain();
        let shutdown = self.shutdown.get_or_insert(Shutdown {
            deadline,
            stopping: false,
        });
        shutdown.deadline = shutdown.deadline.min(deadline);
        self.advance_shutdown(stage, to);
    }

    fn advance_shutdown(&mut self, stage: &mut Stage, supervisors: &mut [Supervisor]) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.stopping || (stage.now < shutdown.deadline && !self.scheduler.is_idle()) {
            return;
        }
        shutdown.stopping = true;
        self.starts.close();
        let outcome = if has_failed(stage) {
            unrecorded()
        } else {
            Outcome::Cancelled
        };
        self.scheduler
            .end_queue(stage.now, &outcome, &mut self.decisions);
        self.carry_out(stage, supervisors);
        for supervisor in supervisors {
            // A closed mailbox says the same as the order, which may find it full.
            supervisor.orders.push_back(Order::Stop);
        }
    }
}

fn has_failed(stage: &Stage) -> bool {
    stage.disk.as_ref().is_some_and(Disk::has_failed)
}

/// What is told of what the disk does not have.
fn unrecorded() -> Outcome {
    Outcome::Indeterminate(Doubt {
        cause: DoubtCause::JournalFailed,
        detail: "the disk has failed".to_owned(),
    })
}

/// Puts a record, if there is a disk.
fn put(stage: &mut Stage, turn: TurnId, row: Row, point: Point, fact: Fact) {
    if stage.disk.is_some() {
        let due = stage.within(50);
        if let Some(disk) = &mut stage.disk {
            disk.put(turn, row, point, fact, due);
        }
    }
}

/// As the real one: places are kept for what nobody could be told the refusal of, and that always finds one.
fn order(stage: &Stage, to: &mut [Supervisor], instance: usize, order: Order) {
    let Some(supervisor) = to.get_mut(instance) else {
        return;
    };
    let stops = supervisor
        .orders
        .iter()
        .any(|order| matches!(order, Order::Stop));
    let places = stage.orders.saturating_sub(supervisor.orders.len());
    let may_be_refused = matches!(order, Order::Restart | Order::Answer(..));
    let is_turn = matches!(order, Order::Assign(_));
    if (stops && !is_turn) || (may_be_refused && places <= KEPT_PLACES) {
        return;
    }
    match order {
        Order::Drain if std::mem::replace(&mut supervisor.drained, true) => return,
        Order::Restart => supervisor.drained = false,
        _ => {}
    }
    assert!(places > 0 && !stops, "an order finds no place");
    supervisor.orders.push_back(order);
}
