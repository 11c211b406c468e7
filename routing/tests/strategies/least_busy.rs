//! Least busy: key by key, then in turn.

use std::time::Duration;

use proptest::prelude::*;
use toolpool_routing::{Candidate, InstanceId, LeastBusy, Route, RouteRequest, Strategy};

use crate::{any_candidates, idle, instances, of_session, to};

/// The keys written down a second time, plainly; all values used in these tests are exact in `f64`.
fn keys(candidate: &Candidate, opens_session: bool) -> [f64; 5] {
    let ratio = candidate.busy_ratio;
    [
        candidate.in_flight as f64 / candidate.capacity.max(1) as f64,
        candidate.pinned_waiting as f64,
        if opens_session {
            candidate.sessions as f64
        } else {
            0.0
        },
        if ratio.is_nan() { 1.0 } else { ratio },
        -candidate.idle_for.as_secs_f64(),
    ]
}

proptest! {
    #[test]
    fn nobody_available_is_less_busy_than_the_one_chosen(
        rounds in prop::collection::vec((any_candidates(), any::<bool>()), 1..20),
    ) {
        let mut strategy = LeastBusy::new();
        for (candidates, opens_session) in &rounds {
            let request = if *opens_session { of_session("new") } else { RouteRequest::default() };
            let Route::To(id) = strategy.route(&request, candidates) else {
                continue;
            };
            let chosen = candidates.iter().find(|c| c.id == id).expect("the contract test covers it");
            for other in candidates.iter().filter(|c| c.available) {
                prop_assert!(keys(other, *opens_session) >= keys(chosen, *opens_session), "{other:?} < {chosen:?}");
            }
        }
    }

    #[test]
    fn equals_take_turns(count in 1..8usize, rounds in 1..5usize) {
        let mut strategy = LeastBusy::new();
        let candidates = instances(&vec![true; count]);
        for turn in 0..count * rounds {
            prop_assert_eq!(strategy.route(&RouteRequest::default(), &candidates), to(turn % count));
        }
    }

    #[test]
    fn a_slow_instance_gets_fewer_prompts_than_each_fast_one(
        count in 2..6usize, slow in 0..6usize, turn_ticks in 1..4u64, factor in 3..10u64, gap in 1..5u64,
    ) {
        let slow = slow % count;
        let ticks_of = |id| if id == slow { turn_ticks * factor } else { turn_ticks };
        let served = simulate(count, ticks_of, gap);
        for id in (0..count).filter(|&id| id != slow) {
            prop_assert!(served[slow] < served[id], "{served:?}");
        }
    }
}

/// Three thousand ticks of a cluster that runs one turn per instance, with a prompt every `gap` ticks as long as
/// somebody is free to take it. Answers how many prompts each instance got.
fn simulate(count: usize, ticks_of: impl Fn(usize) -> u64, gap: u64) -> Vec<usize> {
    const KEPT_PER_TICK: f64 = 0.998;
    let mut strategy = LeastBusy::new();
    let mut served = vec![0; count];
    let mut free_at = vec![0; count];
    let mut candidates = instances(&vec![true; count]);
    for tick in 0..3_000u64 {
        for (candidate, &free_at) in candidates.iter_mut().zip(&free_at) {
            let busy = tick < free_at;
            candidate.available = !busy;
            candidate.in_flight = usize::from(busy);
            candidate.idle_for = Duration::from_secs(tick.saturating_sub(free_at));
            candidate.busy_ratio *= KEPT_PER_TICK;
            candidate.busy_ratio += f64::from(u8::from(busy)) * (1.0 - KEPT_PER_TICK);
        }
        if tick % gap == 0
            && let Route::To(InstanceId(id)) = strategy.route(&RouteRequest::default(), &candidates)
        {
            served[id] += 1;
            free_at[id] = tick + ticks_of(id);
        }
    }
    served
}

#[test]
fn each_key_decides_only_when_those_before_it_are_equal() {
    let request = RouteRequest::default();
    let base = Candidate {
        capacity: 4,
        in_flight: 2,
        ..idle(0)
    };
    // In each pair instance 1 wins by one key and loses by all later ones.
    let worse_later = |better: Candidate| Candidate {
        id: InstanceId(1),
        ..better
    };
    let winners = [
        worse_later(Candidate {
            capacity: 8,
            in_flight: 3,
            pinned_waiting: 9,
            busy_ratio: 1.0,
            ..base.clone()
        }),
        worse_later(Candidate {
            pinned_waiting: 0,
            busy_ratio: 1.0,
            ..base.clone()
        }),
        worse_later(Candidate {
            pinned_waiting: 1,
            busy_ratio: 0.25,
            ..base.clone()
        }),
        worse_later(Candidate {
            pinned_waiting: 1,
            busy_ratio: 0.5,
            idle_for: Duration::from_secs(9),
            ..base.clone()
        }),
    ];
    let loser = Candidate {
        pinned_waiting: 1,
        busy_ratio: 0.5,
        idle_for: Duration::from_secs(5),
        ..base
    };
    for winner in winners {
        let route = LeastBusy::new().route(&request, &[loser.clone(), winner.clone()]);
        assert_eq!(route, to(1), "{winner:?}");
    }
}

#[test]
fn sessions_count_for_prompts_that_belong_to_one_only() {
    let crowded = Candidate {
        sessions: 5,
        ..idle(0)
    };
    let busier = Candidate {
        busy_ratio: 0.5,
        ..idle(1)
    };
    let both = [crowded, busier];
    assert_eq!(LeastBusy::new().route(&of_session("new"), &both), to(1));
    assert_eq!(
        LeastBusy::new().route(&RouteRequest::default(), &both),
        to(0)
    );
}
