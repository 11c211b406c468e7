//! What the scheduler has decided, done.
//!
//! Owns what each decision means for turns, instances and the history. Must not decide. Invariant: what cannot be done goes
//! back to the scheduler, and all that it decides then is done before anything else is heard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;

use super::Dispatcher;
use crate::clock::now;
use crate::event::EventKind;
use crate::scheduler::Decision;
use crate::turn::{Order, Turn};

impl Dispatcher {
    /// Does what the scheduler decided.
    pub(super) fn carry_out(&mut self) {
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

    pub(super) fn end_unrun(&mut self, mut turn: Box<Turn>, queued: Duration, outcome: Outcome) {
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
}
