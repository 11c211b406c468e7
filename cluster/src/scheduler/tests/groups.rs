//! Instances of several groups behind one queue.

use proptest::prelude::*;
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::{Candidate, InstanceId, Route, RouteRequest, Strategy as Routes};

use super::cases::{ends, of_session, plain, ticket};
use super::model::{Model, Step, Wish};
use crate::fit::GroupSet;
use crate::instance::InstanceState;
use crate::scheduler::{Decision, Scheduler, Ticket};
use crate::session::OnLoss;

fn of_group(group: usize) -> Wish {
    Wish {
        group: Some(group),
        ..plain()
    }
}

#[test]
fn a_queue_whose_front_waits_for_one_group_does_not_stop_another() {
    let mut model = Model::ready_groups(&[0, 0, 1], 9);
    model.take(Step::Submit(of_group(1)));
    for _ in 0..3 {
        model.take(Step::Submit(of_group(1)));
    }
    model.take(Step::Submit(of_group(0)));
    model.take(Step::Submit(plain()));
    assert_eq!((model.runs_on(5), model.runs_on(6)), (Some(0), Some(1)));
    model.take(Step::Submit(of_group(0)));
    model.take(Step::End(1, true));
    assert_eq!(model.runs_on(7), Some(1));
    model.take(Step::End(2, true));
    assert_eq!(model.runs_on(2), Some(2), "the oldest of its group is next");
}

#[test]
fn a_group_that_is_tripped_keeps_its_prompts_and_one_that_is_gone_ends_them() {
    let mut model = Model::ready_groups(&[0, 1, 1], 9);
    for instance in [1, 2] {
        let written = true;
        model.take(Step::Crash { instance, written });
    }
    model.take(Step::Submit(of_group(1)));
    assert_eq!(
        ends(&model),
        [""; 0],
        "it waits as in a wholly tripped cluster"
    );
    model.take(Step::Submit(of_group(0)));
    assert_eq!(model.runs_on(2), Some(0));
    model.take(Step::Down(1, true));
    assert_eq!(ends(&model), [""; 0]);
    model.take(Step::Down(2, true));
    assert_eq!(ends(&model), ["unroutable"]);
    model.take(Step::Submit(of_group(1)));
    assert_eq!(ends(&model), ["unroutable"]);
    model.take(Step::Ready(1));
    model.take(Step::Submit(of_group(1)));
    assert_eq!(model.runs_on(4), Some(1), "an operator brought it back");
}

#[test]
fn a_turn_that_is_handed_back_is_the_next_of_its_group() {
    let mut model = Model::ready_groups(&[0, 1], 9);
    for _ in 0..3 {
        model.take(Step::Submit(of_group(1)));
    }
    let written = false;
    let instance = 1;
    model.take(Step::Crash { instance, written });
    model.take(Step::Submit(of_group(0)));
    assert_eq!(model.runs_on(4), Some(0), "it holds up no other group");
    model.take(Step::Ready(1));
    assert_eq!(model.runs_on(1), Some(1));
}

#[test]
fn a_full_queue_for_one_group_takes_prompts_for_another() {
    let mut model = Model::new(&[0, 1], 2);
    for _ in 0..3 {
        model.take(Step::Submit(of_group(1)));
    }
    assert_eq!(model.scheduler.books().refused, 1);
    model.take(Step::Submit(of_group(0)));
    model.take(Step::Submit(plain()));
    assert_eq!(model.scheduler.books().accepted, 4);
    model.take(Step::Submit(plain()));
    assert_eq!(model.scheduler.books().refused, 2, "both are full now");
}

#[test]
fn a_session_is_refused_by_a_group_that_it_does_not_live_in() {
    let mut model = Model::ready_groups(&[0, 1], 9);
    let there = Wish {
        group: Some(1),
        ..of_session(1)
    };
    model.take(Step::Submit(there.clone()));
    model.take(Step::End(1, true));
    model.take(Step::Submit(of_session(1)));
    assert_eq!(model.runs_on(2), Some(1), "it goes on where it began");
    model.take(Step::End(1, true));
    model.take(Step::Submit(Wish {
        group: Some(0),
        ..of_session(1)
    }));
    assert_eq!(ends(&model), ["unroutable"]);
    model.take(Step::Submit(there));
    assert_eq!(model.runs_on(4), Some(1), "nothing happened to it");
}

#[test]
fn a_prompt_of_a_session_that_waits_for_a_group_holds_the_whole_session() {
    let mut model = Model::ready_groups(&[0, 1], 9);
    model.take(Step::Submit(of_group(1)));
    model.take(Step::Submit(Wish {
        group: Some(1),
        ..of_session(1)
    }));
    model.take(Step::Submit(of_session(1)));
    assert_eq!(model.runs_on(3), None, "it would overtake");
    model.take(Step::End(1, true));
    model.take(Step::End(1, true));
    assert_eq!(model.runs_on(3), Some(1));
}

#[test]
fn what_a_session_has_queued_goes_on_when_the_group_of_its_next_prompt_is_gone() {
    let mut model = Model::ready_groups(&[0, 1], 9);
    model.take(Step::Submit(of_group(1)));
    model.take(Step::Submit(Wish {
        group: Some(1),
        ..of_session(1)
    }));
    model.take(Step::Submit(of_session(1)));
    model.take(Step::Down(1, false));
    assert_eq!(ends(&model), ["unroutable"]);
    assert_eq!(model.runs_on(3), Some(0));
}

#[test]
fn a_session_whose_instance_is_gone_may_begin_anew_in_another_group() {
    let mut model = Model::ready_groups(&[0, 1], 9);
    model.take(Step::Submit(Wish {
        group: Some(0),
        ..of_session(1)
    }));
    model.take(Step::Down(0, false));
    let there = Wish {
        group: Some(1),
        ..of_session(1)
    };
    model.take(Step::Submit(Wish {
        on_loss: OnLoss::Fresh,
        ..there.clone()
    }));
    assert_eq!(model.runs_on(2), Some(1));
    model.take(Step::End(1, true));
    model.take(Step::Submit(there));
    assert_eq!(model.runs_on(3), Some(1));
}

#[test]
fn a_fresh_prompt_spares_the_sessions_of_its_group() {
    let mut model = Model::ready_groups(&[0, 1, 1], 9);
    model.take(Step::Submit(Wish {
        group: Some(1),
        ..of_session(1)
    }));
    model.take(Step::End(1, true));
    let fresh = Wish {
        fresh: true,
        ..of_group(1)
    };
    model.take(Step::Submit(fresh.clone()));
    assert_eq!(model.runs_on(2), Some(2));
    model.take(Step::Down(2, true));
    model.take(Step::Submit(fresh));
    assert_eq!(model.runs_on(3), Some(1), "its group has no other");
}

/// Says which instances it was shown, and wants one that may not be among them.
struct Stubborn(std::sync::mpsc::Sender<Vec<usize>>);

impl Routes for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }
    fn route(&mut self, _: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        let shown = candidates.iter().map(|candidate| candidate.id.0).collect();
        self.0.send(shown).expect("the test listens");
        Route::To(InstanceId(0))
    }
}

#[test]
fn a_strategy_is_shown_what_fits_and_can_choose_nothing_else() {
    let (shows, shown) = std::sync::mpsc::channel();
    let now = std::time::Instant::now();
    let mut scheduler = Scheduler::new(&[0, 1, 1], 9, Box::new(Stubborn(shows)), now);
    let mut out = Vec::new();
    for instance in 0..3 {
        scheduler.on_instance(now, instance, InstanceState::Ready, &mut out);
    }
    for (turn, groups) in [(1, GroupSet::of(1)), (2, GroupSet::ALL)] {
        let ticket = Ticket {
            groups,
            ..ticket(None)
        };
        scheduler
            .on_submit(now, TurnId(turn), ticket, &mut out)
            .expect("accepted");
    }
    assert_eq!(
        shown.try_iter().collect::<Vec<_>>(),
        [vec![1, 2], vec![0, 1, 2]]
    );
    let [
        Decision::End { outcome, .. },
        Decision::Assign { instance: 0, .. },
    ] = &out[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(outcome.word(), "failed");
}

proptest! {
    #[test]
    fn round_robin_is_fair_within_each_group_whatever_the_others_do(
        order in prop::collection::vec(0usize..3, 1..90),
    ) {
        // Prompts for the group of one must not make the rotation among the others forget anything.
        let mut model = Model::ready_groups(&[0, 0, 0, 1], 9);
        let mut runs = [0u64; 4];
        for (turn, group) in (1..).zip(order) {
            model.take(Step::Submit(of_group(usize::from(group == 2))));
            let instance = model.runs_on(turn).expect("all are free");
            runs[instance] += 1;
            model.take(Step::End(instance, true));
        }
        let least = runs[..3].iter().min().copied().unwrap_or_default();
        prop_assert!(runs[..3].iter().all(|count| count - least <= 1), "{:?}", runs);
    }
}
