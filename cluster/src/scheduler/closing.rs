//! Groups that get no prompts for a while, and how that is over.
//!
//! Owns which instances are held. Must not know what of a turn's end closes a group: `hold.rs` does. Invariant: an
//! instance is held only while its group is closed.

use std::time::Instant;

use toolpool_pool_core::outcome::Outcome;

use super::{Closed, Decision, Scheduler};
use crate::planted::planted;

impl Scheduler {
    /// An instance has a process that reads its login anew.
    pub(crate) fn on_spawned(&mut self, now: Instant, instance: usize, out: &mut Vec<Decision>) {
        let group = self.slots[instance].group;
        if self.holds[group].is_refused() {
            self.slots[instance].held = false;
            self.reopen_renewed(now, group, out);
        }
    }

    /// Why a group gets no prompts, if it gets none.
    pub(crate) fn closed(&self, group: usize) -> Option<&Closed> {
        self.holds[group].closed.as_ref()
    }

    /// Whether an instance gets no prompts because its group gets none.
    pub(crate) fn is_held(&self, instance: usize) -> bool {
        self.slots[instance].held
    }

    /// The owner thinks that the tool of a group can be asked again before the time that it has named.
    pub(crate) fn on_lifted(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        if self.holds[group].until().is_some() {
            self.reopen(now, group, out);
        }
    }

    pub(super) fn learn(
        &mut self,
        now: Instant,
        group: usize,
        outcome: &Outcome,
        out: &mut Vec<Decision>,
    ) {
        let before = self.holds[group].closed.clone();
        if self.holds[group].on_end(now, outcome) {
            out.extend(before.map(|closed| Decision::Reopened { group, closed }));
            for slot in self.slots.iter_mut().filter(|slot| slot.group == group) {
                slot.held = !planted("limit_ignored");
            }
            out.push(Decision::Closed { group });
        } else if *outcome == Outcome::Completed && self.holds[group].is_refused() {
            // A new process has shown that the login is good again.
            let each = self.slots.iter().enumerate();
            let stale = each.filter(|(_, slot)| slot.group == group && slot.held);
            out.extend(stale.map(|(instance, _)| Decision::Renew { instance }));
        }
    }

    pub(super) fn reopen(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        if let Some(closed) = self.holds[group].open() {
            for slot in self.slots.iter_mut().filter(|slot| slot.group == group) {
                slot.held = false;
            }
            out.push(Decision::Reopened { group, closed });
            self.route_all(now, out);
        }
    }

    /// A refused login is over when every instance that is left has read it anew.
    pub(super) fn reopen_renewed(&mut self, now: Instant, group: usize, out: &mut Vec<Decision>) {
        let mut members = self.slots.iter().filter(|slot| slot.group == group);
        if self.holds[group].is_refused() && !members.any(|slot| slot.held && !slot.is_down()) {
            self.reopen(now, group, out);
        }
    }
}
