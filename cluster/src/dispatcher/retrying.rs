//! What follows an attempt that has ended: its end, another attempt, or a question to whoever knows more.
//!
//! Owns the budget, and the turns whose end is being looked up. Must not decide when a prompt may be tried again: that is
//! [`Attempt::judge`]. Invariants: a turn that is tried again or looked up has no end yet and is in one place; what it ends
//! with if nothing comes of that is the last attempt's end, and never better than that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use toolpool_pool_core::outcome::{Attribution, Grade, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::Dispatcher;
use crate::event::EventKind;
use crate::reply::{End, Run};
use crate::retry::{Attempt, Budget, Doubtful, Reconciled, Reconciler, Verdict, follows};
use crate::turn::Turn;

/// Everything about prompts that are tried again.
pub(crate) struct Retries {
    budget: Budget,
    reconciler: Option<Arc<dyn Reconciler>>,
    /// Turns whose end is being looked up.
    asked: HashMap<TurnId, Asked>,
    /// Ends with the dispatcher.
    answers: JoinSet<(TurnId, Reconciled)>,
}

struct Asked {
    turn: Box<Turn>,
    instance: usize,
    withdrawn: bool,
}

impl Retries {
    pub(crate) fn new(reconciler: Option<Arc<dyn Reconciler>>) -> Self {
        Self {
            budget: Budget::default(),
            reconciler,
            asked: HashMap::new(),
            answers: JoinSet::new(),
        }
    }

    pub(super) fn can_ask(&self) -> bool {
        self.reconciler.is_some()
    }

    /// The next answer of the reconciler. Cancel safe.
    pub(super) async fn answer(&mut self) -> (TurnId, Reconciled) {
        match self.answers.join_next().await {
            Some(Ok(answer)) => answer,
            // Nothing is asked. The task cannot panic: the reconciler has one of its own.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    /// Whoever asks for nothing more about a turn gets no further attempt.
    pub(super) fn withdraw(&mut self, turn: TurnId) {
        if let Some(asked) = self.asked.get_mut(&turn) {
            asked.withdrawn = true;
        }
    }

    /// One more end: whoever was tried again is so no more.
    pub(super) fn give_back(&mut self, turn: &Turn) {
        if turn.last.is_some() {
            self.budget.give_back();
        }
    }
}

impl Dispatcher {
    /// A turn has left its instance, with its end.
    pub(super) fn on_turn_ended(
        &mut self,
        now: Instant,
        instance: usize,
        mut turn: Box<Turn>,
        ready: bool,
    ) {
        turn.run.tool = Some(Arc::clone(&self.roster[instance].tool));
        // A supervisor always says how; a turn without an end is dropped, and so ends in doubt.
        let Some(end) = &turn.end else { return };
        let verdict = self.judge(now, instance, &turn, &end.outcome);
        let out = &mut self.decisions;
        self.roster[instance].on_turn_ended(now, &end.outcome, ready);
        match verdict {
            Verdict::End => {
                self.scheduler
                    .on_turn_ended(now, instance, &end.outcome, ready, out);
                self.note_session_end(&turn, instance);
                self.end(turn, ready);
            }
            Verdict::Again => {
                self.scheduler
                    .on_turn_aside(now, instance, &end.outcome, ready, out);
                self.note_session_end(&turn, instance);
                self.again(now, instance, turn, ready);
            }
            Verdict::Ask => {
                self.scheduler
                    .on_turn_aside(now, instance, &end.outcome, ready, out);
                self.note_session_end(&turn, instance);
                self.ask(turn, instance);
            }
        }
        if ready {
            self.look_for_wear(instance, now);
        }
    }

    fn judge(&mut self, now: Instant, instance: usize, turn: &Turn, outcome: &Outcome) -> Verdict {
        let is_late = turn.deadline.is_some_and(|deadline| deadline <= now);
        let attempt = Attempt {
            policy: turn.retry,
            number: turn.attempts,
            outcome,
            untouched: turn.run.untouched,
            is_last: is_late
                || self.shutdown.is_some()
                || self.scheduler.is_withdrawn(instance)
                || self.journal_failure().is_some(),
            may_ask: self.retries.can_ask(),
        };
        match attempt.judge() {
            Verdict::Again if !self.has_budget(turn) => Verdict::End,
            verdict => verdict,
        }
    }

    /// Takes a place in the budget, unless the turn has one.
    fn has_budget(&mut self, turn: &Turn) -> bool {
        let books = self.scheduler.books();
        let under_way = usize::try_from(books.queued + books.running).unwrap_or(usize::MAX);
        turn.last.is_some() || self.retries.budget.take(under_way)
    }

    /// Queues a turn again that is in no queue and on no instance.
    fn again(&mut self, now: Instant, instance: usize, mut turn: Box<Turn>, ready: bool) {
        let Some(mut end) = turn.end.take() else {
            return;
        };
        self.history.record(EventKind::TurnRetried {
            turn: turn.id,
            instance: Arc::clone(&self.roster[instance].name),
            attempt: turn.attempts,
            outcome: end.outcome.word(),
            cause: end.outcome.cause(),
            took: turn.run.took,
            ready,
        });
        let reply = turn.writer.reply(&end, &turn.run);
        (end.answer, end.lossy) = (Some(reply.text), reply.lossy);
        turn.writer.restart();
        let run = std::mem::take(&mut turn.run);
        turn.last = Some(Box::new((end, run)));
        turn.since = now;
        // It has been on its way: what limits it now is the time for all attempts.
        turn.ticket.queue_timeout = turn
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now));
        let (id, ticket) = (turn.id, turn.ticket.clone());
        self.turns.insert(id, turn);
        self.scheduler
            .on_again(now, id, ticket, &mut self.decisions);
    }

    /// Asks the reconciler what became of a turn.
    fn ask(&mut self, turn: Box<Turn>, instance: usize) {
        let (Some(reconciler), Some(end)) = (&self.retries.reconciler, &turn.end) else {
            return;
        };
        let doubtful = Doubtful {
            prompt: turn.prompt.clone(),
            session: turn.ticket.session.clone(),
            attempt: turn.attempts,
            reply: turn.writer.reply(end, &turn.run),
        };
        let (id, reconciler) = (turn.id, Arc::clone(reconciler));
        let asked = Asked {
            turn,
            instance,
            withdrawn: false,
        };
        self.retries.asked.insert(id, asked);
        self.retries.answers.spawn(async move {
            let asking = tokio::spawn(async move { reconciler.reconcile(&doubtful).await });
            // A panic says as little as silence.
            (id, asking.await.unwrap_or(Reconciled::Unclear))
        });
    }

    /// The reconciler has answered.
    pub(super) fn on_reconciled(&mut self, now: Instant, turn: TurnId, answer: Reconciled) {
        let Some(asked) = self.retries.asked.remove(&turn) else {
            return;
        };
        let (mut turn, instance) = (asked.turn, asked.instance);
        let is_late = turn.deadline.is_some_and(|deadline| deadline <= now);
        let is_last = is_late || asked.withdrawn || self.shutdown.is_some();
        if follows(&answer, turn.attempts) == Verdict::Again && !is_last && self.has_budget(&turn) {
            return self.again(now, instance, turn, false);
        }
        let Some(end) = &mut turn.end else { return };
        if let Reconciled::Completed(text) = answer {
            *end = End {
                attribution: Some(Attribution {
                    grade: Grade::D,
                    by: "reconciled",
                }),
                answer: Some(text),
                landed: end.landed.take(),
                ..End::of(Outcome::Completed)
            };
        }
        self.scheduler.on_aside_ended(&end.outcome);
        self.end(turn, false);
    }

    /// Nobody is asked any more: what was looked up ends in doubt.
    pub(super) fn stop_asking(&mut self, now: Instant) {
        self.retries.answers.abort_all();
        let asked: Vec<TurnId> = self.retries.asked.keys().copied().collect();
        for turn in asked {
            self.on_reconciled(now, turn, Reconciled::Unclear);
        }
    }

    /// How a turn ends that ends in the queue: as its last attempt, if it had one.
    pub(super) fn end_in_queue(&mut self, turn: &mut Turn, outcome: Outcome) {
        match turn.last.as_deref() {
            Some((end, run)) => {
                self.scheduler.recount(&outcome, &end.outcome);
                turn.run = Run {
                    queued: turn.run.queued,
                    ..run.clone()
                };
                turn.end = Some(end.clone());
            }
            None => turn.end = Some(End::of(outcome)),
        }
    }
}
