//! The cluster's one task: it waits for one message, lets the scheduler decide, and performs.
//!
//! Owns the scheduler, the waiting turns, the history and the supervisors' mailboxes. Must not decide: each decision is
//! in [`Scheduler`]. Invariant: it never waits for a supervisor, so that supervisors may always wait for it.

mod journal;
mod keys;
mod pausing;
mod permissions;
mod recording;
mod replacing;
mod retrying;
mod roster;
mod scaling;
mod sessions;
mod silence;
mod starting;
mod telling;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;

use crate::clock::{self, now};
use crate::error::{ControlError, SubmitError};
use crate::event::EventKind;
use crate::history::History;
use crate::instance::{InstanceState, Standing, after};
use crate::replacing::{Replacements, Wish};
use crate::retry::RetryPolicy;
use crate::scheduler::{Decision, Scheduler};
use crate::session::OnLoss;
use crate::starting::Starts;
use crate::status::{ClusterStatus, KeptWork, ShutdownReport};
use crate::turn::{Control, Heard, Message, Order, Report, Turn};
pub(crate) use journal::{Answered, Journal};
pub(crate) use replacing::Replacing;
pub(crate) use retrying::Retries;
#[cfg(test)]
pub(crate) use roster::KEPT_PLACES;
pub(crate) use roster::{Entry, Facts};
pub(crate) use scaling::Addition;
pub(crate) use sessions::{Having, Sessions};

pub(crate) struct Dispatcher {
    pub(crate) facts: Facts,
    pub(crate) scheduler: Scheduler,
    pub(crate) history: History,
    pub(crate) roster: Vec<Entry>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// What the journal says, if there is one.
    pub(crate) answers: Option<mpsc::UnboundedReceiver<Answered>>,
    /// Closes when the last handle is gone.
    pub(crate) handles: oneshot::Receiver<()>,
    pub(crate) turns: HashMap<TurnId, Box<Turn>>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) retries: Retries,
    pub(crate) starts: Starts,
    pub(crate) replacements: Replacements<Heard>,
    pub(crate) replacing: Option<Replacing>,
    /// With books on disk.
    pub(crate) sessions: Option<Sessions>,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) kept: Vec<KeptWork>,
}

/// How long a journal that does not answer is waited for when nothing else is. A disk that is only slow has synced by then.
const LAST_WORD: Duration = Duration::from_secs(30);

pub(crate) struct Shutdown {
    deadline: Instant,
    /// The instances were told to stop.
    stopping: bool,
    /// When the journal is given up, once nothing but it is waited for.
    last_word: Option<Instant>,
    done: Vec<oneshot::Sender<ShutdownReport>>,
}

impl Dispatcher {
    /// Runs until the cluster has shut down.
    pub(crate) async fn run(mut self) {
        self.history.record(EventKind::ClusterStarted {
            cluster: Arc::clone(&self.facts.cluster),
            tool: Arc::clone(&self.facts.tool),
            tools: self
                .roster
                .iter()
                .map(|entry| Arc::clone(&entry.tool))
                .collect(),
            instances: self
                .roster
                .iter()
                .map(|entry| Arc::clone(&entry.name))
                .collect(),
            strategy: self.facts.strategy,
            queue_limit: self.facts.queue_limit,
        });
        let mut timer = Box::pin(tokio::time::sleep_until(tokio::time::Instant::now()));
        let mut handles_gone = false;
        while !self.has_stopped() {
            let deadline = self.deadline();
            // The timer only wakes: callers that never pause must not keep a deadline from being looked at.
            tokio::select! {
                biased;
                answered = next(&mut self.answers) => self.on_answered(now(), answered),
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(now(), message),
                    // Impossible while supervisors hold senders; with none left there is nothing to wait for.
                    None => break,
                },
                (turn, answer) = self.retries.answer() => self.on_reconciled(now(), turn, answer),
                () = sleep_until(&mut timer, deadline), if deadline.is_some() => {}
                // Nobody can ask for anything any more: what still runs is stopped.
                _ = &mut self.handles, if !handles_gone => {
                    handles_gone = true;
                    self.begin_shutdown(now(), now(), None);
                }
            }
            self.carry_out();
            self.tell_durable(now());
            self.scheduler.on_timer(now(), &mut self.decisions);
            self.carry_out();
            self.advance_starts(now());
            self.advance_replacements(now());
            self.advance_shutdown(now());
            self.give_up_journal(now());
        }
        self.finish().await;
    }

    fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Submit(mut turn) => match turn.key.clone() {
                Some(key) if !turn.is_kept => {
                    turn.since = now;
                    self.on_keyed(key, turn);
                }
                _ => self.admit(now, turn),
            },
            Message::Report(instance, report) => self.on_report(now, instance, report),
            Message::Control(control) => self.on_control(now, control),
        }
    }

    fn admit(&mut self, now: Instant, mut turn: Box<Turn>) {
        turn.since = now;
        let id = turn.id;
        let groups = &self.facts.groups;
        let session = turn.ticket.session.as_deref();
        // What is not there the scheduler refuses, with the range.
        let group = |index: usize| self.roster.get(index).map(|entry| entry.group);
        let target = turn.ticket.target;
        let target = target.and_then(|index| Some((index, group(index)?)));
        let nobody = turn.retry == RetryPolicy::Reconcile && !self.retries.can_ask();
        let fits = match self.journal_failure() {
            Some(failure) => Err(SubmitError::Journal(failure.clone())),
            None if nobody && !turn.is_kept => Err(SubmitError::NoReconciler),
            None => groups.admit(&turn.prompt, &turn.asked, target, session),
        };
        let groups = match fits {
            Err(refusal) => return self.refuse(turn, refusal),
            Ok(groups) => groups,
        };
        turn.ticket.groups = groups;
        if !self.can_replay(&turn) {
            turn.ticket.on_loss = OnLoss::Fail;
        }
        let (ticket, out) = (turn.ticket.clone(), &mut self.decisions);
        let admitted = match turn.is_kept {
            true => self.scheduler.on_submit_again(now, id, ticket, out),
            false => self.scheduler.on_submit(now, id, ticket, out),
        };
        match admitted {
            Ok(()) => self.on_admitted(turn),
            Err(refusal) => self.tell_refusal(turn, refusal),
        }
    }

    fn refuse(&mut self, turn: Box<Turn>, refusal: SubmitError) {
        let refusal = self.scheduler.refuse(refusal);
        self.tell_refusal(turn, refusal);
    }

    fn tell_refusal(&mut self, turn: Box<Turn>, refusal: SubmitError) {
        self.history.record(EventKind::PromptRefused {
            reason: refusal.code(),
        });
        if turn.is_kept {
            self.history.record(EventKind::PromptLeft {
                turn: turn.id,
                reason: refusal.to_string(),
            });
        }
        turn.writer.refuse(refusal);
    }

    fn on_report(&mut self, now: Instant, instance: usize, report: Report) {
        let name = Arc::clone(&self.roster[instance].name);
        match report {
            Report::WantsToStart { generation } => {
                self.on_wants_to_start(now, instance, generation)
            }
            Report::Forgot => self.scheduler.on_new_process(instance, &mut self.decisions),
            Report::Having(having) => self.roster[instance].having = having,
            Report::Resumed { generation } => self.history.record(EventKind::SessionsResumed {
                instance: name,
                generation,
                resumed: self.scheduler.sessions_on(instance),
            }),
            Report::Spawned {
                generation,
                pid,
                resumes,
            } => {
                self.roster[instance].on_spawned(now, generation, pid);
                self.scheduler
                    .on_spawned(now, instance, &mut self.decisions);
                if !resumes {
                    self.scheduler.on_new_process(instance, &mut self.decisions);
                }
                self.history.record(EventKind::InstanceSpawned {
                    instance: name,
                    generation,
                    pid,
                });
            }
            Report::Changed {
                generation,
                from,
                to,
                reason,
                start,
                standing,
            } => {
                self.on_standing(now, instance, standing);
                self.roster[instance].on_changed(now, to, reason.clone());
                let seen = self.watch_start(now, instance, to);
                self.history.record(EventKind::InstanceChanged {
                    instance: name,
                    generation,
                    from,
                    to,
                    reason,
                    start,
                    failures: standing.failures,
                    tries_left: standing.tries_left,
                    crash_looping: standing.crash_looping,
                    next: self.situation(instance).next(now),
                });
                // Whoever waits for this state finds it in the history already.
                self.roster[instance].tell_waiters();
                if to == InstanceState::Ready {
                    self.replacements.on_ready(instance);
                }
                self.scheduler
                    .on_instance(now, instance, seen, &mut self.decisions);
                self.look_for_leave(instance);
            }
            Report::Exited {
                generation,
                exit,
                leaked,
                last,
                printed,
            } => {
                self.roster[instance].on_exited(generation, exit, last, printed);
                self.history.record(EventKind::InstanceExited {
                    instance: name,
                    generation,
                    code: exit.code,
                    signal: exit.signal,
                    leaked,
                });
            }
            Report::Standing(standing) => self.on_standing(now, instance, standing),
            Report::Breaker(state) => {
                self.roster[instance].breaker = state.word();
                self.history.record(EventKind::BreakerChanged {
                    instance: name,
                    to: state.word(),
                });
            }
            Report::Asked {
                question,
                asked,
                until,
            } => self.on_asked(instance, question, asked, until),
            Report::Settled(question, settlement) => {
                self.on_settled(instance, &question, settlement)
            }
            Report::NotOpen(permission) => self.on_answer_refused(permission),
            Report::Retrying(turn) => self.history.record(EventKind::TurnRetrying {
                turn,
                instance: name,
            }),
            Report::Elsewhere { turn, place } => self.history.record(EventKind::TurnElsewhere {
                turn,
                instance: name,
                place,
            }),
            Report::TurnEnded { turn, ready } => self.on_turn_ended(now, instance, turn, ready),
            Report::HandedBack(turn) => self.take_back(now, instance, turn),
            Report::Restarting(answer) => self.roster[instance].await_restarted(answer),
            Report::Gone(kept) => {
                self.roster[instance].gone = true;
                self.forget_start(now, instance);
                self.withdraw_questions(instance);
                self.leave(instance, kept.as_ref());
                self.kept.extend(kept);
                let from = self.roster[instance].state;
                if !from.is_down() {
                    let reason = "its task panicked, which is a bug of toolpool or of a launcher of your own; launch the cluster again".to_owned();
                    // A turn that it was not given yet is still here.
                    if !self.roster[instance].departing {
                        self.lose_key(self.roster[instance].turn());
                        self.scheduler
                            .on_turn_dropped(now, instance, &mut self.decisions);
                    }
                    let changed = Report::Changed {
                        generation: self.roster[instance].generation,
                        from,
                        to: InstanceState::Failed,
                        reason,
                        start: None,
                        standing: Standing::default(),
                    };
                    self.on_report(now, instance, changed);
                }
            }
        }
    }

    fn on_control(&mut self, now: Instant, control: Control) {
        match control {
            Control::Cancel(turn) => {
                self.retries.withdraw(turn);
                self.scheduler.on_cancel(now, turn, &mut self.decisions);
            }
            Control::Forget(session) => {
                self.scheduler
                    .on_close_session(now, &session, &mut self.decisions)
            }
            // Whoever asked may have gone; that is no error.
            Control::Status(answer) => drop(answer.send(self.status(now))),
            Control::Explain(instance, answer) => drop(answer.send(self.explain(instance, now))),
            Control::Answer(permission, answer, heard) => self.on_answer(permission, answer, heard),
            Control::AwaitSettled(instance, answer) => {
                self.roster[instance].await_settled(answer);
                if let Some(pause) = self.starts.pause_of(instance)
                    && self.starts.held(instance).is_some()
                {
                    self.roster[instance].tell_held(&pause.cause);
                }
            }
            Control::Restart(instance, answer) => {
                self.urge(now, instance);
                self.roster[instance].order(Order::Restart(answer))
            }
            Control::Replace(instance, answer) => {
                self.replacements.wish(instance, Wish::Owner(answer));
            }
            Control::Drain(instance) => self.roster[instance].order(Order::Drain),
            Control::Resize { group, from, to } => self.on_resize(now, group, from, to),
            Control::Add(addition, answer) => self.on_add(now, addition, answer),
            Control::Retire(instance, answer) => self.on_retire(now, instance, answer),
            Control::Shutdown { within, done } => {
                self.begin_shutdown(now, after(now, within), Some(done))
            }
            Control::Kill(done) => {
                self.begin_shutdown(now, now, Some(done));
                self.facts.kill.send_replace(true);
            }
        }
    }

    /// Does what the scheduler decided.
    fn carry_out(&mut self) {
        let now = now();
        // What cannot be done may make the scheduler decide again.
        while !self.decisions.is_empty() {
            let mut decisions = std::mem::take(&mut self.decisions);
            for decision in decisions.drain(..) {
                self.carry_out_one(now, decision);
            }
            if self.decisions.is_empty() {
                self.decisions = decisions;
                break;
            }
        }
    }

    fn carry_out_one(&mut self, now: Instant, decision: Decision) {
        match decision {
            Decision::Assign {
                turn,
                instance,
                queued,
                route,
                begins_anew,
            } => self.assign(turn, instance, queued, route, begins_anew),
            Decision::End {
                turn,
                outcome,
                queued,
            } => {
                if let Some(turn) = self.turns.remove(&turn) {
                    self.end_unrun(turn, queued, outcome);
                }
            }
            Decision::Unavailable {
                turn,
                instance,
                absent,
                queued,
            } => self.end_unavailable(turn, instance, absent, queued),
            // A turn that has not gone yet does not go.
            Decision::Interrupt { instance, .. } if self.roster[instance].departing => {}
            Decision::Interrupt { turn, instance } => {
                self.roster[instance].order(Order::Cancel(turn))
            }
            Decision::SessionPinned { instance } => self.history.record(EventKind::SessionPinned {
                instance: Arc::clone(&self.roster[instance].name),
                sessions: self.scheduler.sessions(),
            }),
            Decision::SessionClosed { session } => self.close_session(&session),
            Decision::TakeUp { instance, session } => self.take_up(instance, &session),
            Decision::SessionsLost { instance, lost } => {
                self.history.record(EventKind::SessionsLost {
                    instance: Arc::clone(&self.roster[instance].name),
                    lost,
                    sessions: self.scheduler.sessions(),
                })
            }
            Decision::Relieved { instance, missing } => {
                self.history.record(EventKind::InstanceRelieved {
                    instance: Arc::clone(&self.roster[missing].name),
                    by: Arc::clone(&self.roster[instance].name),
                })
            }
            Decision::Closed { group } => self.on_closed(now, group),
            Decision::Reopened { group, closed } => self.on_reopened(now, group, &closed),
            Decision::Renew { instance } => self.renew(instance),
        }
    }

    fn end_unrun(&mut self, mut turn: Box<Turn>, queued: Duration, outcome: Outcome) {
        turn.run.queued = queued;
        self.end_in_queue(&mut turn, outcome);
        self.end(turn, false);
    }

    fn assign(
        &mut self,
        id: TurnId,
        instance: usize,
        queued: Duration,
        route: &'static str,
        begins_anew: bool,
    ) {
        let Some(mut turn) = self.turns.remove(&id) else {
            return;
        };
        turn.run.queued = queued;
        if let Err(outcome) = self.note_session_turn(&mut turn, instance, begins_anew) {
            return self.end_unsent(turn, instance, outcome);
        }
        let entry = &mut self.roster[instance];
        entry.on_turn_started(id);
        let event = EventKind::TurnStarted {
            turn: id,
            instance: Arc::clone(&entry.name),
            generation: entry.generation,
            queued,
            queue: self.scheduler.queue_len(),
            route,
        };
        self.send_off(now(), turn, instance, event);
    }

    fn status(&self, now: Instant) -> ClusterStatus {
        ClusterStatus {
            cluster: Arc::clone(&self.facts.cluster),
            tool: Arc::clone(&self.facts.tool),
            strategy: self.facts.strategy,
            books: self.books(),
            queue_limit: self.facts.queue_limit,
            sessions: self.scheduler.sessions(),
            paused: self.paused(now),
            instances: self
                .roster
                .iter()
                .enumerate()
                .filter(|(_, entry)| !entry.left)
                .map(|(index, entry)| {
                    let why = self.why(index, now);
                    let sessions = self.scheduler.sessions_on(index);
                    let paused = self.scheduler.is_held(index);
                    let spare = self.scheduler.stands_by(index);
                    entry.status(index, why, (sessions, paused, spare), now)
                })
                .collect(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let shutdown = self
            .shutdown
            .as_ref()
            .and_then(|shutdown| match shutdown.stopping {
                true => shutdown.last_word,
                false => Some(shutdown.deadline),
            });
        let age = self.next_age().filter(|_| self.shutdown.is_none());
        [
            self.scheduler.deadline(),
            self.starts.deadline(),
            age,
            shutdown,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn begin_shutdown(
        &mut self,
        now: Instant,
        deadline: Instant,
        done: Option<oneshot::Sender<ShutdownReport>>,
    ) {
        self.scheduler.drain();
        match &mut self.shutdown {
            Some(shutdown) => {
                // A second, more urgent wish counts.
                shutdown.deadline = shutdown.deadline.min(deadline);
                shutdown.done.extend(done);
            }
            None => {
                self.shutdown = Some(Shutdown {
                    deadline,
                    stopping: false,
                    last_word: None,
                    done: done.into_iter().collect(),
                });
                self.history.record(EventKind::ClusterDraining);
            }
        }
        self.advance_shutdown(now);
    }

    /// Drain first; then, when all is done or the time is up, stop all together.
    fn advance_shutdown(&mut self, now: Instant) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.stopping || (now < shutdown.deadline && !self.scheduler.is_idle()) {
            return;
        }
        shutdown.stopping = true;
        self.starts.close();
        self.stop_asking(now);
        let outcome = self.end_of_queue();
        self.scheduler.end_queue(now, &outcome, &mut self.decisions);
        self.carry_out();
        for entry in &mut self.roster {
            entry.order(Order::Stop);
            entry.dismiss();
        }
    }

    fn has_stopped(&self) -> bool {
        self.are_all_gone() && self.is_all_told()
    }

    fn are_all_gone(&self) -> bool {
        self.roster.iter().all(|entry| entry.gone)
    }

    /// A journal that hangs must not keep the cluster: what it has not answered for by now counts as not kept.
    fn give_up_journal(&mut self, now: Instant) {
        let is_last = self.is_stopping() && self.are_all_gone() && !self.is_all_told();
        let Some(shutdown) = self.shutdown.as_mut().filter(|_| is_last) else {
            return;
        };
        if now >= *shutdown.last_word.get_or_insert(after(now, LAST_WORD)) {
            shutdown.last_word = None;
            self.on_journal_silent(LAST_WORD);
            self.tell_durable(now);
        }
    }

    /// The instances were told to stop.
    fn is_stopping(&self) -> bool {
        self.shutdown
            .as_ref()
            .is_some_and(|shutdown| shutdown.stopping)
    }

    async fn finish(mut self) {
        // A prompt that was on its way while the last instance stopped is answered too.
        self.inbox.close();
        self.scheduler.drain();
        while let Some(message) = self.inbox.recv().await {
            self.on_message(now(), message);
            self.carry_out();
        }
        self.close_keys();
        // A disk that hangs or fails is left alone.
        let sessions = self.sessions.take();
        if let Some(sessions) = sessions.filter(|_| self.journal_failure().is_none()) {
            sessions.sweep().await;
        }
        self.history.record(EventKind::ClusterStopped);
        let report = ShutdownReport {
            books: self.books(),
            kept: self.kept,
        };
        for done in self.shutdown.into_iter().flat_map(|shutdown| shutdown.done) {
            done.send(report.clone()).ok();
        }
    }
}

impl Entry {
    /// Answers when the instance has settled, which may be now.
    fn await_settled(&mut self, answer: oneshot::Sender<Result<(), ControlError>>) {
        match self.settled() {
            Some(settled) => drop(answer.send(settled)),
            None => self.waiters.push((0, answer)),
        }
    }

    /// Remembers somebody who asked for a restart that begins now: what the instance is at this moment says nothing.
    fn await_restarted(&mut self, answer: oneshot::Sender<Result<(), ControlError>>) {
        self.waiters.push((self.started + 1, answer));
    }

    fn settled(&self) -> Option<Result<(), ControlError>> {
        match self.state {
            InstanceState::Starting | InstanceState::Stopping => None,
            InstanceState::Ready
            | InstanceState::Busy
            | InstanceState::Draining
            | InstanceState::Waiting => Some(Ok(())),
            InstanceState::Backoff
            | InstanceState::Tripped
            | InstanceState::Stopped
            | InstanceState::Failed => Some(Err(ControlError::NotReady {
                instance: self.name.to_string(),
                reason: self.reason.clone(),
            })),
        }
    }

    /// The state has changed: tells those whose process it is about, and all if there will be no process.
    fn tell_waiters(&mut self) {
        let Some(settled) = self.settled() else {
            return;
        };
        let for_good = self.state.is_down();
        for (generation, answer) in std::mem::take(&mut self.waiters) {
            if self.started >= generation || for_good {
                answer.send(settled.clone()).ok();
            } else {
                self.waiters.push((generation, answer));
            }
        }
    }
}

async fn next(answers: &mut Option<mpsc::UnboundedReceiver<Answered>>) -> Answered {
    // The journal beside the dispatcher holds a sender.
    match answers {
        Some(answers) => match answers.recv().await {
            Some(answered) => answered,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(timer: &mut Pin<Box<Sleep>>, deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        let deadline = clock::timer(deadline);
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().await;
    }
}
