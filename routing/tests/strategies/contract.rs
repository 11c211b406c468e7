//! What holds for every strategy that comes with toolpool.

use proptest::prelude::*;
use toolpool_routing::{Route, RouteRequest, Routing, Strategy};

use crate::{any_candidates, instances, of_session, to};

proptest! {
    #[test]
    fn without_sessions_every_strategy_names_an_available_candidate_or_waits(
        rounds in prop::collection::vec(any_candidates(), 1..20),
    ) {
        for routing in Routing::ALL {
            let mut strategy = routing.strategy();
            for candidates in &rounds {
                match strategy.route(&RouteRequest::default(), candidates) {
                    Route::To(id) => {
                        prop_assert!(candidates.iter().any(|c| c.id == id && c.available), "{routing} named {id:?}");
                    }
                    Route::Wait => prop_assert!(candidates.iter().all(|c| !c.available), "{routing} waits"),
                    Route::Reject(reason) => prop_assert!(false, "{routing} rejected: {reason}"),
                }
            }
        }
    }

    #[test]
    fn the_same_questions_get_the_same_answers(rounds in prop::collection::vec(any_candidates(), 1..20)) {
        for routing in Routing::ALL {
            let mut first = routing.strategy();
            let mut second = routing.strategy();
            for (round, candidates) in rounds.iter().enumerate() {
                let key = (round % 3).to_string();
                let request = of_session(&key);
                prop_assert_eq!(first.route(&request, candidates), second.route(&request, candidates));
            }
        }
    }
}

#[test]
fn names_are_read_back_and_are_the_strategies_own() {
    for routing in Routing::ALL {
        assert_eq!(routing.to_string().parse(), Ok(routing));
        assert_eq!(routing.name().replace('-', "_").parse(), Ok(routing));
        assert_eq!(routing.strategy().name(), routing.name());
    }
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones() {
    for wrong in ["", "Least-Busy", "least busy", "random", "sticky "] {
        let error = wrong.parse::<Routing>().expect_err(wrong).to_string();
        for routing in Routing::ALL {
            assert!(error.contains(routing.name()), "{error}");
        }
        assert!(error.contains(&format!("{wrong:?}")), "{error}");
    }
}

#[test]
fn the_named_sticky_choice_keeps_sessions() {
    let mut strategy = Routing::Sticky.strategy();
    let all = instances(&[true, true]);
    assert_eq!(strategy.route(&of_session("a"), &all), to(0));
    assert_eq!(strategy.route(&of_session("b"), &all), to(1));
    assert_eq!(
        strategy.route(&of_session("b"), &instances(&[true, false])),
        to(1)
    );
    strategy.forget("b");
    assert_eq!(
        strategy.route(&of_session("b"), &instances(&[true, false])),
        to(0)
    );
}
