//! Sessions of an earlier life.

use std::time::{Duration, Instant};

use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::prompt::TurnId;
use toolpool_routing::RoundRobin;

use super::cases::ticket;
use crate::instance::InstanceState::{Backoff, Ready, Starting, Stopped, Tripped};
use crate::scheduler::{Decision, Scheduler, Shelved, Ticket};
use crate::session::OnLoss;

struct Known {
    scheduler: Scheduler,
    now: Instant,
    last: u64,
}

/// What became of a prompt, in a word or two.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Assign {
            turn,
            instance,
            begins_anew,
            ..
        } => format!(
            "{turn} on {instance}{}",
            ["", " anew"][usize::from(*begins_anew)]
        ),
        Decision::End {
            turn,
            outcome: Outcome::Failed(failure),
            ..
        } => format!("{turn} {}", failure.class.word()),
        Decision::Unavailable { turn, instance, .. } => {
            format!("{turn} waited for {instance} in vain")
        }
        Decision::TakeUp { instance, session } => format!("{instance} takes up {session}"),
        Decision::SessionPinned { instance } => format!("pinned to {instance}"),
        Decision::SessionClosed { session } => format!("{session} closed"),
        other => format!("{other:?}"),
    }
}

impl Known {
    /// A cluster of so many instances that are ready, and sessions with their conversations and homes.
    fn new(instances: usize, sessions: &[(&str, usize, &[usize])]) -> Self {
        let now = Instant::now();
        let groups = vec![0; instances];
        let strategy = Box::new(RoundRobin::new());
        let mut known = Self {
            scheduler: Scheduler::new(&groups, 9, strategy, now),
            now,
            last: 0,
        };
        let shelved = sessions
            .iter()
            .map(|(session, conversation, homes)| Shelved {
                session: (*session).to_owned(),
                conversation: *conversation,
                homes: homes.to_vec(),
            });
        known.scheduler.shelve(shelved.collect());
        for instance in 0..instances {
            assert_eq!(known.is(instance, Ready), [""; 0]);
        }
        known
    }

    fn is(&mut self, instance: usize, state: crate::instance::InstanceState) -> Vec<String> {
        let mut out = Vec::new();
        self.scheduler
            .on_instance(self.now, instance, state, &mut out);
        out.iter().map(word).collect()
    }

    fn submit(&mut self, ticket: Ticket) -> Vec<String> {
        self.last += 1;
        let mut out = Vec::new();
        let turn = TurnId(self.last);
        self.scheduler
            .on_submit(self.now, turn, ticket, &mut out)
            .expect("there is room");
        out.iter().map(word).collect()
    }

    fn ask(&mut self, session: &str) -> Vec<String> {
        self.submit(ticket(Some(session)))
    }
}

#[test]
fn a_conversation_is_taken_up_for_all_of_its_sessions_and_nothing_goes_to_the_old_process() {
    let mut known = Known::new(2, &[("a", 0, &[1, 0]), ("b", 0, &[1, 0]), ("c", 1, &[0])]);
    assert_eq!(
        known.ask("b"),
        ["pinned to 1", "pinned to 1", "1 takes up b"]
    );
    assert_eq!(known.ask("a"), [""; 0], "it waits");
    assert_eq!(known.submit(ticket(None)), ["t3 on 0"]);
    let mut out = Vec::new();
    known.scheduler.on_cancel(known.now, TurnId(2), &mut out);
    assert_eq!(known.is(1, Ready), ["t1 on 1"]);
}

#[test]
fn a_conversation_that_the_new_process_does_not_know_is_lost_for_all_that_waits() {
    let mut known = Known::new(1, &[("a", 0, &[0])]);
    known.ask("a");
    known.ask("a");
    let mut out = Vec::new();
    known.scheduler.on_new_process(0, &mut out);
    assert_eq!(
        known.is(0, Ready),
        ["a closed", "t1 session_lost", "t2 session_lost"]
    );
    assert_eq!(known.ask("a"), ["pinned to 0", "t3 on 0"]);
}

#[test]
fn an_instance_with_a_session_of_its_own_is_left_alone() {
    let mut known = Known::new(1, &[("a", 0, &[0])]);
    assert_eq!(known.ask("new"), ["pinned to 0", "t1 on 0"]);
    let mut out = Vec::new();
    known
        .scheduler
        .on_turn_ended(known.now, 0, &Outcome::Completed, true, &mut out);
    assert_eq!(known.ask("a"), ["t2 unroutable"]);
    let mut out = Vec::new();
    known.scheduler.on_close_session(known.now, "new", &mut out);
    assert_eq!(
        known.ask("a"),
        ["pinned to 0", "0 takes up a"],
        "it was kept"
    );
}

#[test]
fn what_cannot_go_on_anywhere_is_lost_as_its_caller_chose() {
    for (homes, down) in [(&[][..], false), (&[1][..], true)] {
        for (on_loss, told) in [
            (OnLoss::Fail, vec!["a closed", "t1 session_lost"]),
            (OnLoss::Fresh, vec!["pinned to 0", "t1 on 0 anew"]),
        ] {
            let mut known = Known::new(2, &[("a", 0, homes)]);
            if down {
                known.is(1, Stopped);
            }
            let wish = Ticket {
                on_loss,
                ..ticket(Some("a"))
            };
            assert_eq!(known.submit(wish), told, "{homes:?}");
        }
    }
}

#[test]
fn a_prompt_for_another_instance_does_not_cost_the_conversation() {
    let mut known = Known::new(2, &[("a", 0, &[1])]);
    let wish = Ticket {
        target: Some(0),
        ..ticket(Some("a"))
    };
    assert_eq!(known.submit(wish), ["t1 unroutable"]);
    assert_eq!(known.ask("a"), ["pinned to 1", "1 takes up a"]);
}

#[test]
fn a_fresh_prompt_and_a_closed_session_need_no_conversation() {
    let mut known = Known::new(1, &[("a", 0, &[0]), ("b", 1, &[0])]);
    let wish = Ticket {
        fresh: true,
        ..ticket(Some("a"))
    };
    assert_eq!(
        known.submit(wish),
        [
            "pinned to 0",
            "SessionsLost { instance: 0, lost: 1 }",
            "t1 on 0"
        ]
    );
    let mut out = Vec::new();
    known.scheduler.on_close_session(known.now, "b", &mut out);
    assert_eq!(out.iter().map(word).collect::<Vec<_>>(), ["b closed"]);
}

impl Known {
    fn after(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        let mut out = Vec::new();
        self.scheduler.on_timer(self.now, &mut out);
        out.iter().map(word).collect()
    }

    fn ask_as(&mut self, session: &str, on_loss: OnLoss) -> Vec<String> {
        self.submit(Ticket {
            on_loss,
            ..ticket(Some(session))
        })
    }

    /// A session has had a turn on an instance, whose process has ended since and starts again in vain.
    fn with_absent(instances: usize) -> Self {
        let mut known = Self::new(instances, &[]);
        assert_eq!(known.ask("a"), ["pinned to 0", "t1 on 0"]);
        let mut out = Vec::new();
        let (scheduler, now) = (&mut known.scheduler, known.now);
        scheduler.on_turn_ended(now, 0, &Outcome::Completed, true, &mut out);
        for state in [Backoff, Starting, Tripped, Starting] {
            assert_eq!(known.is(0, state), [""; 0]);
            assert_eq!(known.after(60), [""; 0]);
        }
        known
    }
}

#[test]
fn a_session_waits_for_an_instance_that_does_not_come_up_as_long_as_that_is_bounded_and_stays() {
    let mut known = Known::with_absent(2);
    assert_eq!(known.ask("a"), [""; 0]);
    assert_eq!(known.after(59), [""; 0]);
    let due = known.scheduler.deadline();
    assert_eq!(due, Some(known.now + Duration::from_secs(1)));
    assert_eq!(known.after(1), ["t2 waited for 0 in vain"]);
    assert_eq!(known.scheduler.deadline(), None);
    // Nor does the next one wait as long again.
    assert_eq!(known.ask("a"), ["t3 waited for 0 in vain"]);
    assert_eq!(known.is(0, Ready), [""; 0]);
    assert_eq!(known.ask("a"), ["t4 on 0"], "in the same conversation");
}

#[test]
fn a_session_that_may_begin_anew_goes_elsewhere_and_is_told_so() {
    let mut known = Known::with_absent(2);
    assert_eq!(known.ask_as("a", OnLoss::Fresh), [""; 0]);
    assert_eq!(known.after(60), ["pinned to 1", "t2 on 1 anew"]);
    assert_eq!(known.is(0, Ready), [""; 0]);
    assert_eq!(known.ask("a"), [""; 0], "it lives there now");
}

#[test]
fn a_session_that_finds_nobody_else_keeps_its_conversation() {
    let mut known = Known::with_absent(2);
    known.is(1, Backoff);
    assert_eq!(known.ask_as("a", OnLoss::Fresh), [""; 0]);
    assert_eq!(known.after(60), ["t2 waited for 0 in vain"]);
    // Another one is up and has no time yet: whoever comes first has it.
    known.is(1, Ready);
    assert_eq!(known.submit(ticket(None)), ["t3 on 1"]);
    assert_eq!(known.ask_as("a", OnLoss::Fresh), [""; 0]);
    assert_eq!(known.is(0, Ready), ["t4 on 0"]);
}

#[test]
fn a_conversation_that_is_lost_meanwhile_is_told_as_lost() {
    let mut known = Known::with_absent(1);
    known.ask("a");
    known.ask("a");
    let mut out = Vec::new();
    known.scheduler.on_new_process(0, &mut out);
    assert_eq!(
        known.after(60),
        ["a closed", "t2 session_lost", "t3 session_lost"]
    );
}

#[test]
fn a_kept_session_waits_no_longer_for_one_that_does_not_come_up() {
    for (on_loss, told) in [
        (OnLoss::Fail, vec!["t1 waited for 0 in vain"]),
        (OnLoss::Fresh, vec!["pinned to 1", "t1 on 1 anew"]),
    ] {
        let mut known = Known::new(2, &[("a", 0, &[0])]);
        known.is(0, Backoff);
        assert_eq!(known.ask_as("a", on_loss), [""; 0]);
        assert_eq!(known.after(299), [""; 0]);
        assert_eq!(known.after(1), told);
    }
}

#[test]
fn a_session_whose_instance_has_failed_is_told_that_it_begins_anew() {
    let mut known = Known::with_absent(2);
    assert_eq!(known.ask_as("a", OnLoss::Fresh), [""; 0]);
    assert_eq!(known.is(0, Stopped), ["pinned to 1", "t2 on 1 anew"]);
}
