//! Sticky: a conversation stays, or its caller is told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use toolpool_routing::{
    Candidate, InstanceId, LeastBusy, RoundRobin, Route, RouteRequest, Routing,
    SESSION_INSTANCE_GONE, Sticky, Strategy, TOO_MANY_SESSIONS,
};

use crate::{any_candidates, instances, of_session, to};

#[derive(Clone, Debug)]
enum Step {
    Prompt {
        session: usize,
        candidates: Vec<Candidate>,
    },
    NoSession {
        candidates: Vec<Candidate>,
    },
    Forget {
        session: usize,
    },
}

fn any_step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6usize, any_candidates()).prop_map(|(session, candidates)| Step::Prompt { session, candidates }),
        1 => any_candidates().prop_map(|candidates| Step::NoSession { candidates }),
        1 => (0..6usize).prop_map(|session| Step::Forget { session }),
    ]
}

proptest! {
    #[test]
    fn a_session_stays_until_it_is_forgotten_or_its_instance_is_gone(
        steps in prop::collection::vec(any_step(), 1..80), limit in 0..6usize,
    ) {
        let mut strategy = Sticky::with_limit(LeastBusy::new(), limit);
        let mut model: BTreeMap<usize, InstanceId> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Forget { session } => {
                    strategy.forget(&session.to_string());
                    model.remove(&session);
                }
                Step::NoSession { candidates } => match strategy.route(&RouteRequest::default(), &candidates) {
                    Route::To(id) => prop_assert!(candidates.iter().any(|c| c.id == id && c.available)),
                    other => prop_assert_eq!(other, Route::Wait),
                },
                Step::Prompt { session, candidates } => {
                    let shown = |id| candidates.iter().find(|c| c.id == id);
                    let route = strategy.route(&of_session(&session.to_string()), &candidates);
                    match (model.get(&session).copied(), route) {
                        (Some(id), Route::To(named)) => {
                            prop_assert_eq!(named, id, "the session moved");
                            prop_assert!(shown(id).is_some());
                        }
                        (Some(id), route) => {
                            prop_assert_eq!(route, Route::Reject(SESSION_INSTANCE_GONE));
                            prop_assert!(shown(id).is_none());
                            model.remove(&session);
                        }
                        (None, Route::To(id)) => {
                            prop_assert!(shown(id).is_some_and(|c| c.available));
                            prop_assert!(model.len() < limit);
                            model.insert(session, id);
                        }
                        (None, Route::Wait) => prop_assert!(candidates.iter().all(|c| !c.available)),
                        (None, route) => {
                            prop_assert_eq!(route, Route::Reject(TOO_MANY_SESSIONS));
                            prop_assert_eq!(model.len(), limit);
                        }
                    }
                }
            }
            prop_assert_eq!(strategy.len(), model.len());
            prop_assert_eq!(strategy.is_empty(), model.is_empty());
            for id in (0..12).map(InstanceId) {
                prop_assert_eq!(strategy.sessions_on(id), model.values().filter(|&&on| on == id).count());
            }
            for session in 0..6 {
                prop_assert_eq!(strategy.pinned(&session.to_string()), model.get(&session).copied());
            }
        }
    }
}

#[test]
fn a_lost_instance_is_told_once_and_the_next_prompt_begins_anew() {
    let mut strategy = Sticky::new(RoundRobin::new());
    let both = instances(&[true, true]);
    assert_eq!(strategy.route(&of_session("a"), &both), to(0));
    let without_0 = &both[1..];
    assert_eq!(
        strategy.route(&of_session("a"), without_0),
        Route::Reject(SESSION_INSTANCE_GONE)
    );
    assert_eq!(strategy.sessions_on(InstanceId(0)), 0);
    assert_eq!(strategy.route(&of_session("a"), without_0), to(1));
}

#[test]
fn a_refused_session_costs_nobody_a_turn_and_known_ones_go_on() {
    let mut strategy = Sticky::with_limit(RoundRobin::new(), 1);
    let both = instances(&[true, true]);
    assert_eq!(strategy.route(&of_session("a"), &both), to(0));
    assert_eq!(
        strategy.route(&of_session("b"), &both),
        Route::Reject(TOO_MANY_SESSIONS)
    );
    assert_eq!(strategy.route(&of_session("a"), &both), to(0));
    assert_eq!(strategy.route(&RouteRequest::default(), &both), to(1));
    strategy.forget("a");
    assert_eq!(strategy.route(&of_session("b"), &both), to(0));
}

#[test]
fn a_prompt_that_must_wait_pins_nothing() {
    let mut strategy = Sticky::new(LeastBusy::new());
    assert_eq!(
        strategy.route(&of_session("a"), &instances(&[false])),
        Route::Wait
    );
    assert!(strategy.is_empty());
    strategy.forget("a");
    strategy.forget("never seen");
}

#[test]
fn any_boxed_strategy_can_be_made_sticky() {
    let mut strategy: Sticky<Box<dyn Strategy>> = Sticky::new(Routing::RoundRobin.strategy());
    let both = instances(&[true, true]);
    assert_eq!(strategy.route(&of_session("a"), &both), to(0));
    assert_eq!(strategy.route(&of_session("b"), &both), to(1));
    assert_eq!(strategy.route(&of_session("a"), &both), to(0));
}

/// A strategy that breaks the contract: it names an instance that was not shown.
struct Astray;

impl Strategy for Astray {
    fn name(&self) -> &'static str {
        "astray"
    }
    fn route(&mut self, _: &RouteRequest<'_>, _: &[Candidate]) -> Route {
        to(99)
    }
}

#[test]
fn an_instance_that_was_not_shown_is_never_pinned() {
    let mut strategy = Sticky::new(Astray);
    assert_eq!(
        strategy.route(&of_session("a"), &instances(&[true])),
        to(99)
    );
    assert!(strategy.is_empty());
}

/// Says on a channel what it is told to forget.
struct Forgetful(std::sync::mpsc::Sender<String>);

impl Strategy for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }
    fn route(&mut self, _: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        candidates
            .first()
            .map_or(Route::Wait, |first| Route::To(first.id))
    }
    fn forget(&mut self, session: &str) {
        self.0.send(session.to_owned()).expect("the test listens");
    }
}

#[test]
fn the_inner_strategy_hears_of_sessions_that_end_or_are_lost() {
    let (sender, forgotten) = std::sync::mpsc::channel();
    let mut strategy: Sticky<Box<dyn Strategy>> = Sticky::new(Box::new(Forgetful(sender)));
    strategy.route(&of_session("lost"), &instances(&[true]));
    strategy.route(&of_session("lost"), &[]);
    strategy.forget("ended");
    drop(strategy);
    assert_eq!(forgotten.iter().collect::<Vec<_>>(), ["lost", "ended"]);
}
