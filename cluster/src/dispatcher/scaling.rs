//! Instances that come and go while the cluster runs.
//!
//! Owns how one is taken in, and how one leaves. Must not decide how many there are. Invariant: an index keeps its name; an
//! instance that leaves finishes its turn first, and costs no prompt that could run elsewhere.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Dispatcher;
use crate::event::EventKind;
use crate::launch::Made;
use crate::status::KeptWork;
use crate::turn::Order;

/// An instance that is to be taken in.
pub(crate) struct Addition {
    pub(crate) index: usize,
    /// For a short time only.
    pub(crate) passing: bool,
    pub(crate) made: Made,
}

impl Dispatcher {
    pub(super) fn on_resize(&mut self, now: Instant, group: usize, from: usize, to: usize) {
        self.facts.groups.resize(group, to);
        self.scheduler.resize(now, group, to, &mut self.decisions);
        self.history.record(EventKind::GroupScaled {
            tool: Arc::clone(self.facts.groups.tool_of(group)),
            from,
            to,
        });
    }

    pub(super) fn on_add(
        &mut self,
        now: Instant,
        addition: Box<Addition>,
        answer: oneshot::Sender<Result<(), Box<Addition>>>,
    ) {
        let is_free = self
            .roster
            .get(addition.index)
            .is_none_or(|entry| entry.left);
        if self.shutdown.is_some() || !is_free {
            answer.send(Err(addition)).ok();
            return;
        }
        let Addition {
            index,
            passing,
            made: Made {
                entry,
                mut supervisor,
            },
        } = *addition;
        self.history.record(EventKind::InstanceAdded {
            instance: Arc::clone(&entry.name),
            tool: Arc::clone(&entry.tool),
        });
        self.scheduler
            .add(now, index, entry.group, passing, &mut self.decisions);
        self.starts.add(index, entry.group);
        if passing {
            // Its owner wants to know whether the trouble is mended, if there is any.
            self.starts.urge(index);
        }
        if index < self.roster.len() {
            // A process is known by the name and the generation, so these go on.
            supervisor.continue_behind(self.roster[index].to_start);
            self.roster[index] = entry;
        } else {
            self.roster.push(entry);
        }
        tokio::spawn(supervisor.run());
        answer.send(Ok(())).ok();
    }

    pub(super) fn on_retire(
        &mut self,
        now: Instant,
        instance: usize,
        answer: oneshot::Sender<Option<KeptWork>>,
    ) {
        let is_there = |entry: &super::Entry| !entry.left;
        if !self.roster.get(instance).is_some_and(is_there) {
            answer.send(None).ok();
            return;
        }
        self.scheduler.retire(now, instance, &mut self.decisions);
        let entry = &mut self.roster[instance];
        entry.retiring = Some(answer);
        entry.order(Order::Drain);
        self.look_for_leave(instance);
    }

    /// Lets an instance that is to leave go, once its process is gone.
    pub(super) fn look_for_leave(&mut self, instance: usize) {
        let entry = &mut self.roster[instance];
        if entry.retiring.is_some() && entry.state.is_down() {
            entry.order(Order::Stop);
            entry.dismiss();
        }
    }

    /// The task of an instance is gone; if it was to leave, it has left.
    pub(super) fn leave(&mut self, instance: usize, kept: Option<&KeptWork>) {
        let entry = &mut self.roster[instance];
        if let Some(answer) = entry.retiring.take() {
            self.history.record(EventKind::InstanceRemoved {
                instance: Arc::clone(&entry.name),
            });
            entry.left = true;
            self.replacements.on_ready(instance);
            // Whoever scaled may have gone; that is no error.
            answer.send(kept.cloned()).ok();
        }
    }
}
