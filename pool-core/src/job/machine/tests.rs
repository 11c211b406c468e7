use super::*;

const PACE: Duration = Duration::from_secs(5);

/// A machine with its clock, and what it has told.
struct Driver {
    machine: Machine,
    now: Instant,
    told: Vec<Report>,
    /// The step under way.
    step: Option<(u64, Step)>,
    gave_up: Option<String>,
}

impl Driver {
    fn new() -> Self {
        let mut driver = Self {
            machine: Machine::new(PACE),
            now: Instant::now(),
            told: Vec::new(),
            step: None,
            gave_up: None,
        };
        let mut out = Vec::new();
        driver.machine.start(&mut out);
        driver.perform(out);
        driver
    }

    /// One that runs turn 1.
    fn creating() -> Self {
        let mut driver = Self::new();
        driver.found(Found::Probed);
        driver.order(Order::Submit {
            turn: 1,
            prompt: "do it".to_owned(),
        });
        let prompt = "do it".to_owned();
        assert_eq!(driver.step(), Some(Step::Create { prompt }));
        assert_eq!(std::mem::take(&mut driver.told), [Report::Ready]);
        driver
    }

    /// One whose job has begun and is looked at.
    fn looking() -> Self {
        let mut driver = Self::creating();
        driver.found(Found::Created {
            id: "12".to_owned(),
            url: "https://x/12".to_owned(),
        });
        let place = "session 12 goes on by itself: https://x/12".to_owned();
        assert_eq!(
            std::mem::take(&mut driver.told),
            [Report::Started { turn: 1, place }]
        );
        driver.wait();
        driver
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Do(number, step) => self.step = Some((number, step)),
                Action::Tell(report) => self.told.push(report),
                Action::GiveUp(why) => self.gave_up = Some(why),
            }
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.perform(out);
    }

    fn step(&self) -> Option<Step> {
        self.step.as_ref().map(|(_, step)| step.clone())
    }

    fn order(&mut self, order: Order) {
        self.input(Input::Order(order));
    }

    fn answer(&mut self, answer: Result<Found, Trouble>) {
        let (number, _) = self.step.take().expect("a step is under way");
        self.input(Input::Answer(number, answer));
    }

    fn found(&mut self, found: Found) {
        self.answer(Ok(found));
    }

    fn trouble(&mut self, kind: Kind) {
        self.answer(Err(trouble(kind)));
    }

    /// Lets the time pass that the machine wants to wait, and answers how long that is.
    fn wait(&mut self) -> Duration {
        let wake = self.machine.wake().expect("it waits");
        let waited = wake - self.now;
        self.input(Input::Timer);
        assert_eq!(self.step, None, "a timer that fires early does nothing");
        self.now = wake;
        self.input(Input::Timer);
        assert!(self.step.is_some(), "it goes on");
        waited
    }

    /// How the turn ended, and with which answer.
    fn ended(&self) -> (Outcome, Option<String>) {
        match &self.told[..] {
            [
                Report::Ended {
                    turn: 1,
                    outcome,
                    answer,
                },
            ] => (outcome.clone(), answer.clone()),
            other => panic!("{other:?}"),
        }
    }
}

fn trouble(kind: Kind) -> Trouble {
    Trouble {
        kind,
        message: "it said so".to_owned(),
        retry_after: None,
    }
}

fn work(message: &str, patch: &str) -> Work {
    Work {
        message: (!message.is_empty()).then(|| message.to_owned()),
        patch: patch.to_owned(),
        pull_request: None,
    }
}

#[test]
fn a_job_is_looked_at_ever_more_slowly_until_it_is_complete_and_its_patch_is_applied() {
    let mut driver = Driver::looking();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        driver.found(Found::Seen(State::Running));
        pauses.push(driver.wait().as_millis());
    }
    assert_eq!(
        pauses,
        [5_000, 7_500, 11_250, 16_875, 25_312, 30_000, 30_000, 30_000]
    );
    driver.found(Found::Seen(State::Completed));
    let id = "12".to_owned();
    let state = State::Completed;
    assert_eq!(driver.step(), Some(Step::Fetch { id, state }));
    driver.found(Found::Fetched(Work {
        pull_request: Some("https://pr".to_owned()),
        ..work("done", "diff --git a b\n")
    }));
    let patch = "diff --git a b\n".to_owned();
    assert_eq!(driver.step(), Some(Step::Apply { patch }));
    assert_eq!(driver.told, [], "nothing ends before the changes are made");
    driver.found(Found::Applied);
    let answer = "done\n\npull request: https://pr\n\ndiff --git a b\n".to_owned();
    assert_eq!(driver.ended(), (Outcome::Completed, Some(answer)));
    assert_eq!(driver.machine.wake(), None);
}

#[test]
fn every_state_in_which_a_job_stops_ends_the_turn_in_its_own_way() {
    for (state, said, class, words) in [
        (
            State::Failed,
            "out of disk",
            FailureClass::Unknown,
            "session 12 failed: out of disk; https://x/12",
        ),
        (
            State::Failed,
            "",
            FailureClass::Unknown,
            "session 12 failed: no more was said",
        ),
        (
            State::AwaitingFeedback,
            "which color?",
            FailureClass::Unknown,
            "waits for an answer and gets none from here: which color?; answer it at https://x/12",
        ),
        (
            State::AwaitingPlan,
            "a plan",
            FailureClass::Unknown,
            "approve it at https://x/12",
        ),
        (
            State::Completed,
            "",
            FailureClass::EmptyAnswer,
            "said nothing and changed nothing",
        ),
    ] {
        let mut driver = Driver::looking();
        driver.found(Found::Seen(state));
        driver.found(Found::Fetched(work(said, "")));
        match driver.ended() {
            (Outcome::Failed(failure), None) => {
                assert_eq!(failure.class, class, "{state:?}");
                assert!(failure.message.contains(words), "{}", failure.message);
            }
            other => panic!("{state:?}: {other:?}"),
        }
    }
}

#[test]
fn words_without_changes_are_an_answer() {
    let mut driver = Driver::looking();
    driver.found(Found::Seen(State::Completed));
    driver.found(Found::Fetched(work("nothing to do", "")));
    assert_eq!(
        driver.ended(),
        (Outcome::Completed, Some("nothing to do".to_owned()))
    );
}

#[test]
fn changes_that_do_not_fit_fail_the_turn_and_stay_in_the_reply() {
    let mut driver = Driver::looking();
    driver.found(Found::Seen(State::Completed));
    driver.found(Found::Fetched(work("done", "diff\n")));
    driver.trouble(Kind::No(FailureClass::Unknown));
    let (outcome, answer) = driver.ended();
    assert_eq!(answer.as_deref(), Some("done\n\ndiff\n"));
    assert!(
        matches!(&outcome, Outcome::Failed(failure) if failure.message.contains("could not be made here: it said so")),
        "{outcome:?}"
    );
}

#[test]
fn a_job_is_handed_over_once_and_only_a_clear_no_is_a_failure() {
    for (kind, expected) in [
        (Kind::No(FailureClass::Auth), Some(FailureClass::Auth)),
        (
            Kind::No(FailureClass::BadRequest),
            Some(FailureClass::BadRequest),
        ),
        (Kind::Missing, Some(FailureClass::BadRequest)),
        (
            Kind::NotNow(FailureClass::RateLimit),
            Some(FailureClass::RateLimit),
        ),
        (
            Kind::NotNow(FailureClass::Network),
            Some(FailureClass::Network),
        ),
        (Kind::Unknown, None),
    ] {
        let mut driver = Driver::creating();
        driver.answer(Err(Trouble {
            retry_after: Some(Duration::from_secs(9)),
            ..trouble(kind)
        }));
        assert_eq!(driver.step, None, "{kind:?}: never again");
        assert_eq!(driver.machine.wake(), None);
        match (driver.ended().0, expected) {
            (Outcome::Failed(failure), Some(class)) => assert_eq!(failure.class, class),
            (Outcome::Indeterminate(doubt), None) => {
                assert_eq!(doubt.cause, DoubtCause::AnswerLost);
                assert!(doubt.detail.contains("look for it among your sessions"));
            }
            other => panic!("{kind:?}: {other:?}"),
        }
    }
}

#[test]
fn questions_are_asked_again_with_growing_pauses_and_given_up_in_doubt() {
    for kind in [
        Kind::Unknown,
        Kind::NotNow(FailureClass::RateLimit),
        Kind::Missing,
    ] {
        let mut driver = Driver::looking();
        let mut pauses = Vec::new();
        for _ in 1..TRIES {
            driver.trouble(kind);
            pauses.push(driver.wait().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30]);
        let retries = driver.told.len();
        assert_eq!(retries as u32, TRIES - 1);
        driver.told.clear();
        driver.trouble(kind);
        assert!(
            matches!(driver.ended().0, Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::AnswerLost)
        );
    }
}

#[test]
fn one_good_answer_makes_the_service_trusted_again() {
    let mut driver = Driver::looking();
    for _ in 0..3 {
        for _ in 1..TRIES {
            driver.trouble(Kind::Unknown);
            driver.wait();
        }
        driver.found(Found::Seen(State::Running));
        driver.wait();
    }
    assert!(
        driver
            .told
            .iter()
            .all(|report| matches!(report, Report::Retrying { .. }))
    );
}

#[test]
fn a_pause_that_the_service_asks_for_is_kept_up_to_five_minutes() {
    for (asked, kept) in [(0, 1), (7, 7), (300, 300), (86_400, 300)] {
        let mut driver = Driver::looking();
        driver.answer(Err(Trouble {
            retry_after: Some(Duration::from_secs(asked)),
            ..trouble(Kind::NotNow(FailureClass::RateLimit))
        }));
        assert_eq!(driver.wait(), Duration::from_secs(kept));
    }
}

#[test]
fn a_session_may_be_missing_at_first_and_not_once_it_was_seen_but_its_words_may() {
    let mut driver = Driver::looking();
    driver.trouble(Kind::Missing);
    driver.wait();
    driver.found(Found::Seen(State::Running));
    driver.wait();
    driver.told.clear();
    driver.trouble(Kind::Missing);
    assert!(matches!(driver.ended().0, Outcome::Indeterminate(_)));

    let mut driver = Driver::looking();
    driver.found(Found::Seen(State::Completed));
    driver.trouble(Kind::Missing);
    driver.wait();
    assert!(matches!(driver.step(), Some(Step::Fetch { .. })));
}

#[test]
fn credentials_that_are_refused_in_the_middle_leave_the_job_in_doubt_at_once() {
    let mut driver = Driver::looking();
    driver.trouble(Kind::No(FailureClass::Auth));
    assert!(
        matches!(driver.ended().0, Outcome::Indeterminate(doubt) if doubt.detail.contains("it said so"))
    );
}

#[test]
fn a_job_that_is_let_go_is_in_doubt_and_its_late_answers_are_nobodys() {
    let mut driver = Driver::looking();
    let late = driver.step.clone().expect("a look is under way");
    driver.order(Order::Abandon { turn: 1 });
    let (outcome, answer) = driver.ended();
    assert!(
        matches!(outcome, Outcome::Indeterminate(doubt) if doubt.cause == DoubtCause::CancelUnconfirmed)
    );
    assert_eq!(answer, None);
    driver.told.clear();
    driver.input(Input::Answer(late.0, Ok(Found::Seen(State::Completed))));
    assert_eq!(driver.told, []);
    driver.order(Order::Submit {
        turn: 2,
        prompt: "next".to_owned(),
    });
    driver.input(Input::Answer(late.0, Ok(Found::Seen(State::Completed))));
    driver.order(Order::Abandon { turn: 1 });
    assert_eq!(driver.told, []);
    assert!(matches!(driver.step(), Some(Step::Create { .. })));
    assert_eq!(driver.gave_up, None);
}

#[test]
fn a_job_that_is_let_go_while_it_is_handed_over_is_named_first() {
    let mut driver = Driver::creating();
    driver.order(Order::Abandon { turn: 1 });
    assert_eq!(driver.told, []);
    driver.found(Found::Created {
        id: "12".to_owned(),
        url: "u".to_owned(),
    });
    assert!(matches!(driver.told.remove(0), Report::Started { .. }));
    assert!(matches!(driver.ended().0, Outcome::Indeterminate(_)));

    let mut driver = Driver::creating();
    driver.order(Order::Abandon { turn: 1 });
    driver.trouble(Kind::No(FailureClass::BadRequest));
    assert!(
        matches!(driver.ended().0, Outcome::Failed(_)),
        "it never began"
    );
}

#[test]
fn changes_that_are_being_made_are_made_whole() {
    let mut driver = Driver::looking();
    driver.found(Found::Seen(State::Completed));
    driver.found(Found::Fetched(work("done", "diff\n")));
    driver.order(Order::Abandon { turn: 1 });
    assert_eq!(driver.told, []);
    driver.found(Found::Applied);
    assert_eq!(driver.ended().0, Outcome::Completed);
}

#[test]
fn without_a_service_the_driver_ends_with_its_reason_and_is_never_ready() {
    for kind in [Kind::No(FailureClass::Auth), Kind::Missing, Kind::Unknown] {
        let mut driver = Driver::new();
        driver.trouble(kind);
        assert_eq!(driver.gave_up.as_deref(), Some("it said so"));
        assert_eq!(driver.told, []);
    }
}
