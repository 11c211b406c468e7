//! What the dispatcher is told of an instance, beside its turns.
//!
//! Owns when something is worth telling. Must not decide. Invariant: a task that is gone has said so, even if it panicked.

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Supervisor, now};
use crate::dispatcher::Having;
use crate::instance::InstanceState;
use crate::turn::{Message, Report};

/// Says that the task is gone even if it panics, in a launcher of somebody else's perhaps: a shutdown waits for it.
pub(super) struct Farewell(pub(super) usize, pub(super) mpsc::Sender<Message>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Without a runtime there is no dispatcher either.
        if std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            let gone = Message::Report(self.0, Report::Gone(None));
            let dispatcher = self.1.clone();
            // The mailbox may be full, and nothing can wait here.
            runtime.spawn(async move { dispatcher.send(gone).await });
        }
    }
}

impl Supervisor {
    pub(super) async fn changed(&mut self, from: InstanceState, to: InstanceState, reason: String) {
        if from.turn_tells_of(to) {
            return;
        }
        let start = (from == InstanceState::Starting && to == InstanceState::Ready)
            .then(|| now() - self.spawned_at);
        let generation = self.machine.generation();
        let standing = self.machine.standing();
        self.told = Some(standing);
        self.report(Report::Changed {
            generation,
            from,
            to,
            reason,
            start,
            standing,
        })
        .await;
    }

    /// Tells which conversation the process has, where somebody keeps that.
    pub(super) async fn tell_having(&mut self) {
        let Some(connection) = self.connection.as_ref().filter(|_| self.keeps()) else {
            return;
        };
        let having = Having {
            name: connection.conversation().map(str::to_owned),
            folder: connection.folder().to_owned(),
        };
        if self.told_having.as_ref() != Some(&having) {
            self.told_having = Some(having.clone());
            self.report(Report::Having(having)).await;
        }
    }

    /// What its sessions have said outlives this program.
    pub(super) fn keeps(&self) -> bool {
        self.recipe.resumes && self.recipe.options.keep_in.is_some()
    }

    /// Tells what has changed beside the state.
    pub(super) async fn tell_standing(&mut self) {
        let standing = self.machine.standing();
        if self.told.is_none_or(|told| told.differs(&standing)) {
            self.told = Some(standing);
            self.report(Report::Standing(standing)).await;
        }
    }

    pub(super) async fn report(&mut self, report: Report) {
        // A dispatcher that is gone needs no reports; its absence shows in the orders' channel.
        self.dispatcher
            .send(Message::Report(self.index, report))
            .await
            .ok();
    }
}
