//! A turn on its instance: from the submission to the end, with the worktree around it.
//!
//! Owns what a turn does to the connection and to the worktree. Must not decide how it ends. Invariant: a turn leaves here
//! once, with its end.

use std::sync::Arc;

use toolpool_pool_core::Connection;
use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::{Refusal, TurnId};

use super::{Supervisor, now};
use crate::instance::{Input, InstanceState};
use crate::reply::{End, Run};
use crate::status::KeptWork;
use crate::store::Record;
use crate::turn::Report;
use crate::worktree::{Landed, Released};

impl Supervisor {
    pub(super) async fn submit(&mut self, turn: TurnId) {
        let refusal = match self.begin_item().await {
            Some(refusal) => Some(refusal),
            None => self.write(turn),
        };
        // A conversation that begins anew may have another name now.
        self.tell_having().await;
        if let Some(refusal) = refusal {
            self.machine
                .handle(now(), Input::Refused(turn), &mut self.actions);
            let failure = Failure {
                class: FailureClass::Refused,
                message: refusal.to_string(),
                retry_after: None,
            };
            self.end_turn(turn, End::of(Outcome::Failed(failure))).await;
        }
    }

    fn write(&mut self, turn: TurnId) -> Option<Refusal> {
        let keeps = self.keeps();
        match (&mut self.connection, &self.running) {
            (Some(connection), Some(running)) => {
                let asked = &running.turn;
                if keeps && asked.ticket.session.is_some() {
                    // What cannot be kept is lost with this program, and missed by the next.
                    connection.keep_folder().ok();
                }
                if asked.prompt.fresh {
                    self.told_having = None;
                }
                let refusal = match &asked.context {
                    None => connection.submit(turn, &asked.prompt).err(),
                    Some((context, _)) => {
                        let mut prompt = asked.prompt.clone();
                        prompt.text.insert_str(0, &context.text);
                        connection.submit(turn, &prompt).err()
                    }
                };
                if refusal.is_none() {
                    let in_session = asked.ticket.session.is_some();
                    self.memory.on_turn(in_session, asked.prompt.fresh);
                }
                refusal
            }
            // The machine is ready only with a connection, and a turn was assigned just now.
            _ => Some(Refusal::Unsupported(
                "the instance has no process".to_owned(),
            )),
        }
    }

    /// Puts the worktree on the newest commit for a turn whose changes are to be brought home.
    async fn begin_item(&mut self) -> Option<Refusal> {
        let wanted = self
            .running
            .as_ref()
            .is_some_and(|running| running.turn.land.is_some());
        match &mut self.worktree {
            Some(worktree) if wanted => worktree
                .begin_item()
                .await
                .err()
                .map(|error| Refusal::Unsupported(error.to_string())),
            _ => None,
        }
    }

    /// Brings the changes of a turn home, or puts them aside if the turn did not complete.
    async fn bring_home(
        &mut self,
        item: &str,
        outcome: &Outcome,
    ) -> Option<Result<Landed, String>> {
        let worktree = self.worktree.as_mut()?;
        let landed = match outcome {
            Outcome::Completed => worktree.land(item).await,
            _ => {
                if self.connection.is_none() {
                    worktree.clear_stale_lock().await.ok();
                }
                worktree.set_aside(item).await
            }
        };
        Some(landed.map_err(|error| error.to_string()))
    }

    /// Gives the worktree back; what it holds that is nowhere else stays.
    pub(super) async fn release(&mut self) -> Option<KeptWork> {
        let worktree = self.worktree.take()?;
        let branch = worktree.branch().to_owned();
        let path = worktree.path().to_owned();
        let (reason, show) = match worktree.release().await {
            Ok(Released::Removed) => return None,
            Ok(Released::Kept(leftover)) => (leftover.reason, leftover.show),
            Err(error) => (
                error.to_string(),
                format!("git -C {} status", path.display()),
            ),
        };
        Some(KeptWork {
            instance: Arc::clone(&self.name),
            branch,
            reason,
            show,
        })
    }

    pub(super) fn on_chunk(&mut self, bytes: Vec<u8>) {
        // A turn that is being killed for what it does gets nothing more into its reply. What comes before a byte of the
        // prompt was written is no answer to it: the last words of a dead process, as a rule.
        let was_written = |it: &Connection| it.turn_was_written();
        let Some(running) = &mut self.running else {
            return;
        };
        if !self.machine.state().runs_turn() || !self.connection.as_deref().is_some_and(was_written)
        {
            return;
        }
        running
            .first_output
            .get_or_insert_with(|| now() - running.started);
        if let Some(journal) = &self.recipe.journal {
            let piece = Record::Output {
                turn: running.turn.id,
                attempt: running.turn.attempts,
                bytes: bytes.clone(),
            };
            journal.put(piece, None);
        }
        running.turn.writer.chunk(bytes);
    }

    pub(super) async fn on_turn_ended(&mut self, turn: TurnId, end: End) {
        // An end that comes while its process is being killed is too late: the turn has its doubt already. And the end of
        // another turn is not that of this one.
        let is_its = self.running.as_ref().is_some_and(|it| it.turn.id == turn);
        if is_its && self.machine.state().runs_turn() {
            self.memory.on_end();
            self.machine
                .handle(now(), Input::TurnEnded(turn), &mut self.actions);
            self.end_turn(turn, end).await;
            self.perform().await;
        }
    }

    pub(super) async fn end_turn(&mut self, turn: TurnId, mut end: End) {
        // The end of another turn must not touch the worktree of this one.
        let Some(mut running) = self.running.take_if(|running| running.turn.id == turn) else {
            return;
        };
        if let Some(item) = &running.turn.land {
            end.landed = self.bring_home(item, &end.outcome).await;
        }
        running.turn.run = Run {
            instance: Some(Arc::clone(&self.name)),
            tool: None,
            generation: self.machine.generation(),
            queued: running.turn.run.queued,
            took: now() - running.started,
            first_output: running.first_output,
            untouched: running.untouched,
        };
        end.outcome = end.outcome.going_on_at(running.elsewhere.as_deref());
        running.turn.end = Some(end);
        let report = Report::TurnEnded {
            turn: running.turn,
            ready: self.machine.state() == InstanceState::Ready,
        };
        self.report(report).await;
    }
}
