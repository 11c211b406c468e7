//! Every instance in turn.
//!
//! Owns the plain rotation. Must not know load: a slow instance gets as many prompts as a fast one, as long as it is
//! available when its turn comes. Invariant: while all instances are available, the numbers of prompts that they got
//! differ by one at most; an available instance is passed over at most once for each of the others.

use crate::rotation::Rotation;
use crate::{Candidate, Route, RouteRequest, Strategy};

/// Rotates over the instances, skipping the unavailable ones.
///
/// An instance that was skipped keeps its turn and is served first when it is back. Waits if none is available.
///
/// ```
/// use toolpool_routing::{Candidate, InstanceId, Route, RouteRequest, RoundRobin, Strategy};
/// # let candidate = |id, available| Candidate {
/// #     id: InstanceId(id), available, in_flight: 0, capacity: 1, pinned_waiting: 0, sessions: 0,
/// #     busy_ratio: 0.0, idle_for: std::time::Duration::ZERO,
/// # };
/// let mut strategy = RoundRobin::new();
/// let request = RouteRequest::default();
///
/// let instances = [candidate(0, true), candidate(1, false), candidate(2, true)];
/// assert_eq!(strategy.route(&request, &instances), Route::To(InstanceId(0)));
/// assert_eq!(strategy.route(&request, &instances), Route::To(InstanceId(2)));
///
/// // Instance 1 is back; the turn it missed is still its own.
/// let instances = [candidate(0, true), candidate(1, true), candidate(2, true)];
/// assert_eq!(strategy.route(&request, &instances), Route::To(InstanceId(1)));
/// assert_eq!(strategy.route(&request, &instances), Route::To(InstanceId(0)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    rotation: Rotation,
}

impl RoundRobin {
    /// A rotation that begins with the smallest id.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn route(&mut self, _: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        let next = candidates
            .iter()
            .filter(|candidate| candidate.available)
            .map(|candidate| candidate.id)
            .min_by_key(|&id| self.rotation.place(id));
        match next {
            Some(id) => {
                self.rotation.take_turn(id);
                Route::To(id)
            }
            None => Route::Wait,
        }
    }
}
