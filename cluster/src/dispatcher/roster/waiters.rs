//! Who waits for an instance to come up.
//!
//! Owns the answers that are owed. Must not know why anybody waits. Invariant: each is answered once, by what becomes of the
//! process that it is about.

use tokio::sync::oneshot;

use super::Entry;
use crate::error::ControlError;
use crate::instance::InstanceState;

impl Entry {
    /// Answers when the instance has settled, which may be now.
    pub(crate) fn await_settled(&mut self, answer: oneshot::Sender<Result<(), ControlError>>) {
        match self.settled() {
            Some(settled) => drop(answer.send(settled)),
            None => self.waiters.push((0, answer)),
        }
    }

    /// Remembers somebody who asked for a restart that begins now: what the instance is at this moment says nothing.
    pub(crate) fn await_restarted(&mut self, answer: oneshot::Sender<Result<(), ControlError>>) {
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
    pub(crate) fn tell_waiters(&mut self) {
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
