//! Single cases.

use std::time::Duration;

use proptest::prelude::*;
use toolpool_pool_core::outcome::{Failure, Outcome};
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::{Candidate, Route, RouteRequest, Strategy as Routes};

use super::model::{Model, Step, Wish};
use crate::fit::GroupSet;
use crate::instance::InstanceState;
use crate::scheduler::{Decision, Scheduler, Ticket};
use crate::session::OnLoss;

pub(super) fn plain() -> Wish {
    Wish {
        client: None,
        session: None,
        target: None,
        group: None,
        fresh: false,
        on_loss: OnLoss::Fail,
        timeout: None,
    }
}

pub(super) fn of_session(session: u8) -> Wish {
    Wish {
        session: Some(session),
        ..plain()
    }
}

pub(super) fn ticket(session: Option<&str>) -> Ticket {
    Ticket {
        client: None,
        session: session.map(str::to_owned),
        on_loss: OnLoss::Fail,
        target: None,
        groups: GroupSet::ALL,
        labels: Vec::new(),
        fresh: false,
        bytes: 1,
        queue_timeout: None,
    }
}

/// The outcomes of the last step.
pub(super) fn ends(model: &Model) -> Vec<&'static str> {
    let ends = model.decided.iter().filter_map(|decision| match decision {
        Decision::End {
            outcome: Outcome::Failed(Failure { class, .. }),
            ..
        } => Some(class.word()),
        Decision::End { outcome, .. } => Some(outcome.word()),
        Decision::Unavailable { .. } => Some("session_unavailable"),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_prompt_for_nobody_ends_at_once_instead_of_waiting_for_ever() {
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(of_session(1)));
    model.take(Step::End(0, true));
    model.take(Step::Down(0, false));
    let targeted = Wish {
        target: Some(0),
        ..plain()
    };
    model.take(Step::Submit(targeted));
    assert_eq!(ends(&model), ["unroutable"]);
    model.take(Step::Submit(of_session(1)));
    assert_eq!(
        ends(&model),
        ["unroutable"],
        "its conversation is on the stopped one"
    );
    model.take(Step::Submit(of_session(1)));
    assert_eq!(
        model.runs_on(4),
        Some(1),
        "the next one knowingly begins anew"
    );
    model.take(Step::Down(1, true));
    model.take(Step::Submit(plain()));
    assert_eq!(ends(&model), ["unroutable"]);
}

#[test]
fn a_session_that_may_begin_anew_moves_away_from_a_stopped_instance() {
    let mut model = Model::ready(2, 9);
    let wish = Wish {
        on_loss: OnLoss::Fresh,
        ..of_session(1)
    };
    model.take(Step::Submit(wish.clone()));
    model.take(Step::Submit(wish));
    model.take(Step::Down(0, false));
    assert_eq!(model.runs_on(2), Some(1));
}

#[test]
fn a_turn_that_was_withdrawn_and_then_handed_back_is_not_run_elsewhere() {
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(plain()));
    model.take(Step::Cancel(0));
    model.take(Step::Cancel(0));
    let written = false;
    model.take(Step::Crash {
        instance: 0,
        written,
    });
    assert_eq!(ends(&model), ["cancelled"]);
}

#[test]
fn a_turn_that_comes_back_when_its_time_is_up_runs_nowhere() {
    let mut model = Model::ready(2, 9);
    let wish = Wish {
        timeout: Some(50),
        ..plain()
    };
    model.take(Step::Submit(wish));
    model.take(Step::Wait(60));
    model.take(Step::Crash {
        instance: 0,
        written: false,
    });
    assert_eq!(ends(&model), ["expired"]);
}

#[test]
fn a_turn_that_comes_back_after_the_end_of_the_queue_ends_too() {
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(plain()));
    model.take(Step::Close);
    let written = false;
    model.take(Step::Crash {
        instance: 0,
        written,
    });
    assert_eq!(ends(&model), ["cancelled"]);
}

#[test]
fn the_first_prompt_of_a_session_that_is_handed_back_begins_it_elsewhere() {
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(of_session(1)));
    model.take(Step::Submit(of_session(1)));
    let written = false;
    model.take(Step::Crash {
        instance: 0,
        written,
    });
    assert_eq!(model.runs_on(1), Some(1));
    model.take(Step::End(1, true));
    assert_eq!(model.runs_on(2), Some(1));
}

#[test]
fn an_instance_that_hands_back_does_not_look_busy_ever_after() {
    let mut model = Model::ready(1, 9);
    model.take(Step::Submit(plain()));
    model.take(Step::Crash {
        instance: 0,
        written: false,
    });
    model.take(Step::Cancel(0));
    model.take(Step::Wait(600_000));
    model.take(Step::Ready(0));
    assert!(model.scheduler.candidates[0].busy_ratio < 0.01);
}

#[test]
fn a_fresh_prompt_spares_sessions_but_does_not_wait_for_an_instance_that_is_down() {
    let mut model = Model::ready(3, 9);
    for session in 0..2 {
        model.take(Step::Submit(of_session(session)));
    }
    model.take(Step::End(0, true));
    model.take(Step::End(1, true));
    let fresh = Wish {
        fresh: true,
        ..plain()
    };
    model.take(Step::Submit(fresh.clone()));
    assert_eq!(model.runs_on(3), Some(2), "the one without sessions");
    model.take(Step::Down(2, true));
    model.take(Step::Submit(fresh));
    assert!(model.runs_on(4).is_some());
}

#[test]
fn a_session_with_a_target_lives_there_and_is_refused_elsewhere() {
    let mut model = Model::ready(3, 9);
    let there = Wish {
        target: Some(2),
        ..of_session(1)
    };
    model.take(Step::Submit(there));
    assert_eq!(model.scheduler.sessions_on(2), 1);
    model.take(Step::End(2, true));
    model.take(Step::Submit(of_session(1)));
    assert_eq!(model.runs_on(2), Some(2), "it goes on where it began");
    model.take(Step::Submit(Wish {
        target: Some(0),
        ..of_session(1)
    }));
    assert_eq!(ends(&model), ["unroutable"]);
}

#[test]
fn a_lost_conversation_fails_one_prompt_and_a_fresh_prompt_does_not_mind() {
    let mut model = Model::ready(1, 9);
    for _ in 0..2 {
        model.take(Step::Submit(of_session(1)));
        model.take(Step::End(0, true));
        model.take(Step::Crash {
            instance: 0,
            written: true,
        });
        model.take(Step::Ready(0));
    }
    assert_eq!(model.scheduler.books().failed, 1);
    model.take(Step::Submit(of_session(1)));
    model.take(Step::End(0, true));
    model.take(Step::Crash {
        instance: 0,
        written: true,
    });
    model.take(Step::Ready(0));
    model.take(Step::Submit(Wish {
        fresh: true,
        ..of_session(1)
    }));
    assert_eq!(model.runs_on(4), Some(0));
}

#[test]
fn a_prompt_that_would_begin_anew_but_never_ran_hides_no_loss() {
    let mut model = Model::ready(1, 9);
    model.take(Step::Submit(of_session(1)));
    model.take(Step::Crash {
        instance: 0,
        written: true,
    });
    model.take(Step::Ready(0));
    model.take(Step::Submit(plain()));
    model.take(Step::Submit(Wish {
        on_loss: OnLoss::Fresh,
        ..of_session(1)
    }));
    model.take(Step::Cancel(0));
    model.take(Step::Submit(of_session(1)));
    model.take(Step::End(0, true));
    assert_eq!(ends(&model), ["session_lost"]);
}

#[test]
fn a_timeout_without_end_is_no_overflow() {
    let mut model = Model::ready(1, 9);
    let endless = Ticket {
        queue_timeout: Some(Duration::MAX),
        ..ticket(None)
    };
    let mut out = Vec::new();
    model
        .scheduler
        .on_submit(model.now, TurnId(77), endless, &mut out)
        .expect("accepted");
}

/// Waits until a prompt has been asked about `patience` times.
struct Hesitant {
    patience: usize,
    asked: usize,
}

impl Routes for Hesitant {
    fn name(&self) -> &'static str {
        "hesitant"
    }
    fn route(&mut self, _: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        self.asked += 1;
        match candidates.iter().find(|candidate| candidate.available) {
            Some(candidate) if self.asked > self.patience => Route::To(candidate.id),
            _ => Route::Wait,
        }
    }
}

#[test]
fn prompts_of_a_session_keep_their_order_under_a_strategy_that_waits() {
    let now = std::time::Instant::now();
    let hesitant = Hesitant {
        patience: 1,
        asked: 0,
    };
    let mut scheduler = Scheduler::new(&[0, 0], 9, Box::new(hesitant), now);
    let mut out = Vec::new();
    for instance in 0..2 {
        scheduler.on_instance(now, instance, InstanceState::Ready, &mut out);
    }
    for turn in 1..=2 {
        let accepted = scheduler.on_submit(now, TurnId(turn), ticket(Some("s")), &mut out);
        assert_eq!(accepted, Ok(()));
    }
    assert_eq!(out, [], "the second must not overtake the first");
    scheduler
        .on_submit(now, TurnId(3), ticket(None), &mut out)
        .expect("accepted");
    let [
        Decision::Assign {
            turn: TurnId(3), ..
        },
    ] = out[..]
    else {
        panic!("{out:?}")
    };
    out.clear();
    scheduler.on_cancel(now, TurnId(1), &mut out);
    let [
        Decision::End { .. },
        Decision::SessionPinned { .. },
        Decision::Assign { turn, .. },
    ] = &out[..]
    else {
        panic!("nobody asked again about what waited behind: {out:?}")
    };
    assert_eq!(*turn, TurnId(2));
}

proptest! {
    #[test]
    fn while_all_are_free_round_robin_gives_everyone_the_same(
        instances in 1usize..9,
        prompts in 1u64..60,
    ) {
        let mut model = Model::ready(instances, 9);
        let mut runs = vec![0u64; instances];
        for turn in 1..=prompts {
            model.take(Step::Submit(plain()));
            let instance = model.runs_on(turn).expect("all are free");
            runs[instance] += 1;
            model.take(Step::End(instance, true));
        }
        let least = runs.iter().min().copied().unwrap_or_default();
        prop_assert!(runs.iter().all(|count| count - least <= 1), "{runs:?}");
    }

    #[test]
    fn under_load_round_robin_passes_nobody_over(
        instances in 1usize..6,
        order in prop::collection::vec(0usize..6, 1..80),
    ) {
        let mut model = Model::ready(instances, 500);
        for _ in 0..instances + order.len() {
            model.take(Step::Submit(plain()));
        }
        // Whoever becomes free gets the oldest prompt at once.
        for (next, choice) in (instances as u64 + 1..).zip(order) {
            let instance = choice % instances;
            model.take(Step::End(instance, true));
            prop_assert_eq!(model.runs_on(next), Some(instance));
        }
    }
}

#[test]
fn a_turn_of_a_closed_session_that_is_handed_back_leaves_the_next_conversation_of_that_name_alone()
{
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(of_session(1)));
    assert_eq!(model.runs_on(1), Some(0));
    model.take(Step::Forget(1));
    model.take(Step::Submit(of_session(1)));
    assert_eq!(model.runs_on(2), Some(1), "it begins anew, elsewhere");
    model.take(Step::End(1, true));
    model.take(Step::Crash {
        instance: 0,
        written: false,
    });
    assert_eq!(
        model.runs_on(1),
        Some(1),
        "it goes on in the conversation that its session has now"
    );
}

#[test]
fn a_fresh_prompt_that_waits_for_an_instance_without_sessions_runs_elsewhere_once_that_is_down() {
    let mut model = Model::ready(2, 9);
    model.take(Step::Submit(of_session(1)));
    model.take(Step::End(0, true));
    model.take(Step::Submit(plain()));
    assert_eq!(model.runs_on(2), Some(1));
    model.take(Step::Submit(Wish {
        fresh: true,
        ..plain()
    }));
    assert_eq!(model.runs_on(3), None, "it would wipe the session");
    model.take(Step::Down(1, false));
    assert_eq!(model.runs_on(3), Some(0), "nobody else is left");
}
