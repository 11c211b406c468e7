//! Round robin: nobody gets more than a turn ahead.

use std::collections::BTreeMap;

use proptest::prelude::*;
use toolpool_routing::{Candidate, InstanceId, RoundRobin, Route, RouteRequest, Strategy};

use crate::{idle, instances, to};

/// Routes `turns` prompts and counts who got them.
fn counts(
    strategy: &mut RoundRobin,
    candidates: &[Candidate],
    turns: usize,
) -> BTreeMap<InstanceId, usize> {
    let mut counts: BTreeMap<_, _> = candidates.iter().map(|c| (c.id, 0)).collect();
    for _ in 0..turns {
        let Route::To(id) = strategy.route(&RouteRequest::default(), candidates) else {
            panic!("all are available");
        };
        *counts.entry(id).or_default() += 1;
    }
    counts
}

fn spread(counts: &BTreeMap<InstanceId, usize>) -> usize {
    let most = counts.values().max().copied().unwrap_or(0);
    most - counts.values().min().copied().unwrap_or(0)
}

proptest! {
    #[test]
    fn counts_differ_by_one_at_most_before_and_after_instances_leave_and_join(
        count in 2..8usize, leaves in 0..8usize, joins in 0..4usize, turns in prop::array::uniform3(0..50usize),
    ) {
        let mut strategy = RoundRobin::new();
        let mut present: Vec<_> = (0..count).map(idle).collect();
        prop_assert!(spread(&counts(&mut strategy, &present, turns[0])) <= 1);

        present.remove(leaves % count);
        prop_assert!(spread(&counts(&mut strategy, &present, turns[1])) <= 1);

        present.extend((count..count + joins).map(idle));
        prop_assert!(spread(&counts(&mut strategy, &present, turns[2])) <= 1);
    }

    #[test]
    fn an_available_instance_is_passed_over_once_for_each_other_at_most(
        count in 1..6usize, rounds in prop::collection::vec(prop::array::uniform6(any::<bool>()), 1..100),
    ) {
        let mut strategy = RoundRobin::new();
        let mut passed_over = vec![0; count];
        for round in &rounds {
            let route = strategy.route(&RouteRequest::default(), &instances(&round[..count]));
            for id in 0..count {
                if route == to(id) {
                    passed_over[id] = 0;
                } else if round[id] {
                    passed_over[id] += 1;
                    prop_assert!(passed_over[id] < count, "instance {id} starves");
                }
            }
        }
    }
}

#[test]
fn the_rotation_goes_by_id_whatever_the_order_shown() {
    let mut strategy = RoundRobin::new();
    let shown = [idle(2), idle(0), idle(1)];
    let routes: Vec<_> = (0..6)
        .map(|_| strategy.route(&RouteRequest::default(), &shown))
        .collect();
    assert_eq!(routes, [0, 1, 2, 0, 1, 2].map(to));
}

#[test]
fn an_instance_that_is_away_at_each_of_its_turns_still_gets_one() {
    // A rotation that only remembers a position would starve instance 1 here for ever.
    let mut strategy = RoundRobin::new();
    let request = RouteRequest::default();
    assert_eq!(
        strategy.route(&request, &instances(&[true, false, true])),
        to(0)
    );
    assert_eq!(
        strategy.route(&request, &instances(&[true, false, true])),
        to(2)
    );
    assert_eq!(
        strategy.route(&request, &instances(&[true, true, true])),
        to(1)
    );
}

#[test]
fn nobody_available_means_wait_and_costs_no_turn() {
    let mut strategy = RoundRobin::new();
    let request = RouteRequest::default();
    assert_eq!(strategy.route(&request, &[]), Route::Wait);
    assert_eq!(
        strategy.route(&request, &instances(&[false, false])),
        Route::Wait
    );
    assert_eq!(strategy.route(&request, &instances(&[true, true])), to(0));
}
