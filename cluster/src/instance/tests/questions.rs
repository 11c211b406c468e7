//! Questions and time: what waits, what stands still, and what does not.

use super::*;

const TURN: TurnId = TurnId(1);

/// A machine that runs a turn, in the hands of a test.
struct Asked {
    machine: Instance,
    start: Instant,
}

impl Asked {
    fn running(approvals: Approvals, timeout: Option<Duration>) -> Self {
        let limits = InstanceConfig {
            approvals,
            turn_timeout: minutes(20),
            approval_timeout: minutes(5),
            ..config()
        };
        let mut asked = Self {
            machine: Instance::new(limits, 7),
            start: Instant::now(),
        };
        for input in [
            Input::Start,
            Input::Ready,
            Input::Assign {
                turn: TURN,
                timeout,
                generation: 1,
            },
        ] {
            asked.at(0, input);
        }
        asked
    }

    /// What comes of an input so many minutes after the start.
    fn at(&mut self, minute: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine
            .handle(self.start + minutes(minute), input, &mut out);
        out
    }

    fn due_in(&self) -> Option<Duration> {
        let deadline = self.machine.deadline();
        deadline.map(|deadline| deadline - self.start)
    }

    /// Without what is looked at in between.
    fn turn_ends_in(&self) -> Duration {
        match self.machine.phase {
            Phase::Busy { deadline, .. } => deadline - self.start,
            ref other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> InstanceState {
        self.machine.state()
    }
}

/// A look at a process that says nothing and has taken everything.
fn timer() -> Input {
    Input::Timer(Pulse::default())
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn ask(number: u64) -> Input {
    Input::Asked(question(number, TURN, Act::Execute))
}

fn settled(number: u64, settlement: Settlement) -> Action {
    Action::Settle(question(number, TURN, Act::Execute), settlement)
}

fn answered(answer: Answer, by: AnsweredBy) -> Settlement {
    Settlement::Answered(answer, by)
}

fn changed(from: InstanceState, to: InstanceState, reason: &str) -> Action {
    let reason = reason.to_owned();
    Action::Changed { from, to, reason }
}

#[test]
fn a_policy_answers_at_once_and_nothing_waits() {
    for policy in [
        Approvals::None,
        Approvals::Reads,
        Approvals::Edits,
        Approvals::All,
    ] {
        for act in [Act::Read, Act::Edit, Act::Execute, Act::Other] {
            let mut asked = Asked::running(policy, None);
            let out = asked.at(1, Input::Asked(question(1, TURN, act)));
            let answer = policy.answer(act).expect("it asks nobody");
            let settlement = answered(answer, AnsweredBy::Policy);
            assert_eq!(out, [Action::Settle(question(1, TURN, act), settlement)]);
            assert_eq!(asked.state(), InstanceState::Busy);
        }
    }
}

#[test]
fn the_time_in_which_it_waits_for_somebody_is_not_the_turns() {
    let mut asked = Asked::running(Approvals::Ask, None);
    assert_eq!(asked.turn_ends_in(), minutes(20));
    let out = asked.at(18, ask(1));
    let until = asked.start + minutes(23);
    let waits = changed(
        InstanceState::Busy,
        InstanceState::Waiting,
        "permission: do thing 1",
    );
    assert_eq!(
        out,
        [
            Action::Ask {
                question: question(1, TURN, Act::Execute),
                asked: asked.start + minutes(18),
                until,
            },
            waits.clone()
        ]
    );
    asked.at(20, ask(2));
    assert_eq!(asked.at(22, timer()), [], "past the limit, not hung");
    let allowed = answered(Answer::Allow, AnsweredBy::Person);
    let out = asked.at(22, Input::Answer(PermissionId(1), Answer::Allow));
    assert_eq!(out, [settled(1, allowed)], "the second one still waits");
    assert_eq!(asked.due_in(), Some(minutes(25)), "that is its deadline");
    let out = asked.at(24, Input::Answer(PermissionId(2), Answer::Allow));
    let goes_on = changed(
        InstanceState::Waiting,
        InstanceState::Busy,
        "its question was answered",
    );
    assert_eq!(out, [settled(2, allowed), goes_on]);
    assert_eq!(
        asked.turn_ends_in(),
        minutes(26),
        "it has its two minutes left"
    );
    assert_eq!(asked.at(26, timer())[0], Action::Terminate);
}

#[test]
fn a_limit_of_the_turns_own_ends_it_while_it_waits_and_takes_its_questions_with_it() {
    let mut asked = Asked::running(Approvals::Ask, Some(minutes(3)));
    asked.at(1, ask(1));
    asked.at(1, ask(2));
    assert_eq!(asked.due_in(), Some(minutes(3)));
    let out = asked.at(3, timer());
    assert_eq!(
        out[..3],
        [
            Action::Terminate,
            settled(1, Settlement::Withdrawn),
            settled(2, Settlement::Withdrawn)
        ]
    );
    assert_eq!(asked.state(), InstanceState::Stopping);
}

#[test]
fn what_nobody_answers_in_time_is_answered_with_a_no_and_the_turn_goes_on() {
    let mut asked = Asked::running(Approvals::Ask, None);
    asked.at(1, ask(1));
    asked.at(2, ask(2));
    let denied = answered(Answer::Deny, AnsweredBy::Timeout);
    assert_eq!(asked.at(6, timer()), [settled(1, denied)]);
    assert_eq!(asked.state(), InstanceState::Waiting);
    assert_eq!(asked.at(7, timer())[0], settled(2, denied));
    assert_eq!(asked.state(), InstanceState::Busy);
    let late = asked.at(7, Input::Answer(PermissionId(1), Answer::Allow));
    assert_eq!(late, [Action::NotOpen(PermissionId(1))]);
}

#[test]
fn a_cancel_is_not_kept_waiting_by_questions_and_nobody_is_asked_after_it() {
    let mut asked = Asked::running(Approvals::Ask, None);
    asked.at(1, ask(1));
    let out = asked.at(2, Input::Cancel(TURN));
    assert_eq!(out[0], settled(1, Settlement::Withdrawn));
    assert_eq!(out.last(), Some(&Action::Interrupt));
    assert_eq!(asked.due_in(), Some(minutes(2) + Duration::from_secs(10)));
    let denied = answered(Answer::Deny, AnsweredBy::Cancel);
    assert_eq!(asked.at(2, ask(2)), [settled(2, denied)]);
}

#[test]
fn no_more_questions_than_somebody_could_answer_are_open_at_once() {
    let mut asked = Asked::running(Approvals::Ask, None);
    for number in 1..=32 {
        let out = asked.at(1, ask(number));
        assert!(matches!(out[0], Action::Ask { .. }), "{number}: {out:?}");
    }
    let denied = answered(Answer::Deny, AnsweredBy::Limit);
    assert_eq!(asked.at(1, ask(33)), [settled(33, denied)]);
}

#[test]
fn a_draining_instance_still_asks_and_says_that_it_drains() {
    let mut asked = Asked::running(Approvals::Ask, None);
    asked.at(1, ask(1));
    asked.at(2, Input::Drain);
    assert_eq!(asked.state(), InstanceState::Draining);
    let allowed = answered(Answer::Allow, AnsweredBy::Person);
    let out = asked.at(3, Input::Answer(PermissionId(1), Answer::Allow));
    assert_eq!(out, [settled(1, allowed)]);
}
