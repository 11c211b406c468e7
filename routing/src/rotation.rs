//! Whose turn it is, when nothing else decides.
//!
//! Owns the order in which instances were last chosen. Must not know availability or load: the strategies filter first.
//! Invariant: the instance whose last turn is longest ago comes first, so one that was passed over while it was
//! unavailable keeps its place instead of losing a whole round.

use std::collections::BTreeMap;

use crate::InstanceId;

/// Remembers when each instance was last chosen, counted in choices and not in time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotation {
    choices: u64,
    last_turn: BTreeMap<InstanceId, u64>,
}

impl Rotation {
    /// Sorts instances into rotation order: the smallest is next. Instances that never had a turn come first, by id.
    pub(crate) fn place(&self, id: InstanceId) -> (u64, InstanceId) {
        (self.last_turn.get(&id).copied().unwrap_or(0), id)
    }

    /// Sends the chosen instance to the end of the rotation. The others keep their places whether they were shown or not:
    /// a prompt may be for some of the instances only. Ids are the places in a cluster, which bounds the table.
    pub(crate) fn take_turn(&mut self, id: InstanceId) {
        self.choices += 1;
        self.last_turn.insert(id, self.choices);
    }
}
