//! What the supervisors report.
//!
//! Owns who hears of each report: the roster, the history, the scheduler. Must not know processes. Invariant: an instance whose
//! task is gone has failed, and its turn is lost to nobody.

use std::sync::Arc;
use std::time::Instant;

use super::Dispatcher;
use crate::event::EventKind;
use crate::instance::{InstanceState, Standing};
use crate::turn::Report;

impl Dispatcher {
    pub(super) fn on_report(&mut self, now: Instant, instance: usize, report: Report) {
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
}
