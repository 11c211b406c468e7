//! Replacing processes that are worn, or that their owner wants replaced.
//!
//! Owns how a replacement is carried out. Must not decide whose turn it is: that is [`Replacements`]. Invariant: nothing
//! is replaced while the cluster shuts down.
//!
//! [`Replacements`]: crate::replacing::Replacements

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Dispatcher;
use crate::error::ControlError;
use crate::event::EventKind;
use crate::instance::{InstanceState, after};
use crate::replacing::Wish;
use crate::turn::{Heard, Order};

/// A replacement under way.
pub(crate) struct Replacing {
    instance: usize,
    heard: oneshot::Receiver<Result<(), ControlError>>,
    answer: Option<Heard>,
}

impl Dispatcher {
    /// Asks for a new process for an instance that is worn.
    pub(super) fn look_for_wear(&mut self, instance: usize, now: Instant) {
        let entry = &mut self.roster[instance];
        if entry.may_be_worn()
            && let Some(worn) = self
                .facts
                .recycle
                .worn(entry.wear(&self.facts.recycle, now))
        {
            entry.worn_generation = entry.generation;
            let wish = Wish::Worn(entry.generation, worn);
            self.replacements.wish(instance, wish);
        }
    }

    /// When the next process comes of age.
    pub(super) fn next_age(&self) -> Option<Instant> {
        let age = self.facts.recycle.age?;
        let young = self.roster.iter();
        let young = young.filter(|entry| entry.may_be_worn());
        young.map(|entry| after(entry.spawned, age)).min()
    }

    pub(super) fn advance_replacements(&mut self, now: Instant) {
        if self.shutdown.is_some() {
            return;
        }
        if self.next_age().is_some_and(|when| when <= now) {
            for instance in 0..self.roster.len() {
                self.look_for_wear(instance, now);
            }
        }
        loop {
            if let Some(mut replacing) = self.replacing.take() {
                let result = match replacing.heard.try_recv() {
                    Err(oneshot::error::TryRecvError::Empty) => {
                        self.replacing = Some(replacing);
                        return;
                    }
                    Err(oneshot::error::TryRecvError::Closed) => Err(ControlError::ShutDown),
                    Ok(result) => result,
                };
                let entry = &self.roster[replacing.instance];
                // One that leaves is missed by nobody.
                let leaves = entry.left || entry.retiring.is_some();
                self.replacements.over(result.is_ok() || leaves);
                // It may have become ready again in the meantime.
                if self.roster[replacing.instance].state == InstanceState::Ready {
                    self.replacements.on_ready(replacing.instance);
                }
                if let Some(answer) = replacing.answer {
                    answer.send(result).ok();
                }
            }
            // What cannot be started now must not be stopped.
            let may_start = |instance| self.starts.pause_of(instance).is_none();
            let Some((instance, wish)) = self.replacements.next(may_start) else {
                return;
            };
            self.replace(now, instance, wish);
        }
    }

    fn replace(&mut self, now: Instant, instance: usize, wish: Wish<Heard>) {
        let entry = &self.roster[instance];
        let (reason, answer) = match wish {
            Wish::Owner(answer) if answer.is_closed() => return self.replacements.over(true),
            // What its owner has stopped stays stopped.
            Wish::Owner(answer) if entry.state == InstanceState::Stopped => {
                answer.send(Ok(())).ok();
                return self.replacements.over(true);
            }
            Wish::Owner(answer) => {
                self.urge(now, instance);
                ("replaced by its owner".to_owned(), Some(answer))
            }
            Wish::Worn(generation, worn) => {
                if entry.generation != generation || !entry.serves() {
                    return self.replacements.over(true);
                }
                self.history.record(EventKind::InstanceRecycled {
                    instance: Arc::clone(&entry.name),
                    generation,
                    cause: worn.word(),
                    reason: worn.to_string(),
                });
                (format!("replaced because {worn}"), None)
            }
        };
        let (told, heard) = oneshot::channel();
        self.roster[instance].order(Order::Replace(reason, told));
        self.replacing = Some(Replacing {
            instance,
            heard,
            answer,
        });
    }
}
