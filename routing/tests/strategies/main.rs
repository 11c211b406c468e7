//! What the strategies promise, over many inputs.

mod contract;
mod fairness;
mod least_busy;
mod sticky;

use std::time::Duration;

use proptest::prelude::*;
use toolpool_routing::{Candidate, InstanceId, Route, RouteRequest};

/// An idle instance that has never worked.
fn idle(id: usize) -> Candidate {
    Candidate {
        id: InstanceId(id),
        available: true,
        in_flight: 0,
        capacity: 1,
        pinned_waiting: 0,
        sessions: 0,
        busy_ratio: 0.0,
        idle_for: Duration::ZERO,
    }
}

/// Idle instances with the ids `0..`, available as told.
fn instances(available: &[bool]) -> Vec<Candidate> {
    let with = |(id, &available)| Candidate {
        available,
        ..idle(id)
    };
    available.iter().enumerate().map(with).collect()
}

/// A prompt of this session.
fn of_session(session: &str) -> RouteRequest<'_> {
    RouteRequest {
        session: Some(session),
        ..RouteRequest::default()
    }
}

fn to(id: usize) -> Route {
    Route::To(InstanceId(id))
}

/// Up to eight instances in any state, with distinct ids in any order. The values are few, so that ties are frequent.
fn any_candidates() -> impl proptest::strategy::Strategy<Value = Vec<Candidate>> {
    let one = (
        any::<bool>(),
        0..3usize,
        0..4usize,
        0..3usize,
        0..3usize,
        prop::sample::select(vec![0.0, 0.25, 0.5, 1.0, f64::NAN, -f64::NAN]),
        0..3u64,
    )
        .prop_map(
            |(available, in_flight, capacity, pinned_waiting, sessions, busy_ratio, idle)| {
                Candidate {
                    id: InstanceId(0),
                    available,
                    in_flight,
                    capacity,
                    pinned_waiting,
                    sessions,
                    busy_ratio,
                    idle_for: Duration::from_secs(idle),
                }
            },
        );
    let ids = Just((0..12).collect::<Vec<usize>>()).prop_shuffle();
    (prop::collection::vec(one, 0..8), ids).prop_map(|(mut candidates, ids)| {
        for (candidate, id) in candidates.iter_mut().zip(ids) {
            candidate.id = InstanceId(id);
        }
        candidates
    })
}
