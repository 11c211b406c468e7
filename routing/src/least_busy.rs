//! The instance with the least to do.
//!
//! Owns the order in which loads are compared. Must not know how they were measured. Invariant: of the available
//! instances none is less busy, key by key, than the one chosen. All of them are scanned: clusters are small, and
//! sampling two at random would be worse and not reproducible.

use std::cmp::Ordering;

use crate::rotation::Rotation;
use crate::{Candidate, Route, RouteRequest, Strategy};

/// Chooses the least busy of the available instances; waits if none is available.
///
/// Compared are, the first difference deciding: the share of its capacity that is in use, the prompts that wait for it
/// because their session is pinned to it, the sessions that live on it (only for a prompt that belongs to a session,
/// because it will stay there), the recent busy ratio, and the time since it last worked, the longest first. Where all
/// are equal the instances take turns. The finer keys matter because with one turn at a time every idle instance has
/// load zero.
///
/// ```
/// use toolpool_routing::{Candidate, InstanceId, LeastBusy, Route, RouteRequest, Strategy};
/// # let candidate = |id, busy_ratio| Candidate {
/// #     id: InstanceId(id), available: true, in_flight: 0, capacity: 1, pinned_waiting: 0, sessions: 0,
/// #     busy_ratio, idle_for: std::time::Duration::ZERO,
/// # };
/// let mut strategy = LeastBusy::new();
/// let instances = [candidate(0, 0.7), candidate(1, 0.2), candidate(2, 0.4)];
/// assert_eq!(strategy.route(&RouteRequest::default(), &instances), Route::To(InstanceId(1)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct LeastBusy {
    rotation: Rotation,
}

impl LeastBusy {
    /// The strategy, with ties beginning at the smallest id.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for LeastBusy {
    fn name(&self) -> &'static str {
        "least-busy"
    }

    fn route(&mut self, request: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        let opens_session = request.session.is_some();
        let least = candidates
            .iter()
            .filter(|candidate| candidate.available)
            .min_by(|a, b| {
                busyness(a, b, opens_session)
                    .then_with(|| self.rotation.place(a.id).cmp(&self.rotation.place(b.id)))
            })
            .map(|candidate| candidate.id);
        match least {
            Some(id) => {
                self.rotation.take_turn(id);
                Route::To(id)
            }
            None => Route::Wait,
        }
    }
}

/// Orders two instances, the less busy one first.
fn busyness(a: &Candidate, b: &Candidate, opens_session: bool) -> Ordering {
    let sessions = |candidate: &Candidate| if opens_session { candidate.sessions } else { 0 };
    in_use(a, b)
        .then_with(|| a.pinned_waiting.cmp(&b.pinned_waiting))
        .then_with(|| sessions(a).cmp(&sessions(b)))
        .then_with(|| known(a.busy_ratio).total_cmp(&known(b.busy_ratio)))
        .then_with(|| b.idle_for.cmp(&a.idle_for))
}

/// Compares `in_flight / capacity` without dividing, so that equal shares are equal exactly.
fn in_use(a: &Candidate, b: &Candidate) -> Ordering {
    let times = |turns: usize, capacity: usize| turns as u128 * capacity.max(1) as u128;
    times(a.in_flight, b.capacity).cmp(&times(b.in_flight, a.capacity))
}

/// A ratio that is not a number counts as busy: nothing good is known of that instance.
fn known(busy_ratio: f64) -> f64 {
    if busy_ratio.is_nan() { 1.0 } else { busy_ratio }
}
