//! The cluster's one task: it waits for one message, lets the scheduler decide, and performs.
//!
//! Owns the scheduler, the waiting turns, the history and the supervisors' mailboxes. Must not decide: each decision is
//! in [`Scheduler`]. Invariant: it never waits for a supervisor, so that supervisors may always wait for it.

mod deciding;
mod journal;
mod keys;
mod pausing;
mod permissions;
mod recording;
mod replacing;
mod reports;
mod retrying;
mod roster;
mod scaling;
mod sessions;
mod silence;
mod starting;
mod stopping;
mod telling;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use toolpool_pool_core::prompt::TurnId;

use crate::clock::{self, now};
use crate::error::SubmitError;
use crate::event::EventKind;
use crate::history::History;
use crate::instance::after;
use crate::replacing::{Replacements, Wish};
use crate::retry::RetryPolicy;
use crate::scheduler::{Decision, Scheduler};
use crate::session::OnLoss;
use crate::starting::Starts;
use crate::status::{ClusterStatus, KeptWork};
use crate::turn::{Control, Heard, Message, Order, Turn};
pub(crate) use journal::{Answered, Journal};
pub(crate) use replacing::Replacing;
pub(crate) use retrying::Retries;
#[cfg(test)]
pub(crate) use roster::KEPT_PLACES;
pub(crate) use roster::{Entry, Facts};
pub(crate) use scaling::Addition;
pub(crate) use sessions::{Having, Sessions};
pub(crate) use stopping::Shutdown;

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
        let age = self.next_age().filter(|_| self.shutdown.is_none());
        [
            self.scheduler.deadline(),
            self.starts.deadline(),
            age,
            self.shutdown_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
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
