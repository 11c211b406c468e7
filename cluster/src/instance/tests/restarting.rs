//! Restarts: which there are, how far apart, and when there are none.

use super::*;

/// A machine whose processes become ready and end as they are told to.
struct Restarted {
    machine: Instance,
    now: Instant,
    turns: u64,
}

impl Restarted {
    fn up(config: InstanceConfig) -> Self {
        let mut restarted = Self {
            machine: Instance::new(config, 7),
            now: Instant::now(),
            turns: 0,
        };
        restarted.feed(Input::Start);
        restarted.feed(Input::Ready);
        restarted
    }

    fn feed(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        out
    }

    fn begin_turn(&mut self) {
        self.turns += 1;
        self.feed(Input::Assign {
            turn: TurnId(self.turns),
            timeout: None,
            generation: self.machine.generation(),
        });
    }

    /// A whole turn, which heals whatever the breaker has counted.
    fn turn(&mut self) {
        self.begin_turn();
        self.feed(Input::TurnEnded(TurnId(self.turns)));
    }

    fn exits(&mut self, code: i32) -> Vec<Action> {
        let exit = Exit {
            code: Some(code),
            signal: None,
        };
        let words = String::new();
        self.feed(Input::Exited {
            exit,
            written: true,
            words,
        })
    }

    /// Lets it start again and become ready; how long that took.
    fn returns(&mut self) -> Duration {
        let before = self.now;
        self.now = self.machine.deadline().expect("it is to return");
        let out = self.feed(Input::Timer(Pulse::default()));
        assert!(out.contains(&Action::Spawn), "{out:?}");
        self.feed(Input::Ready);
        self.now - before
    }

    fn state(&self) -> InstanceState {
        self.machine.state()
    }

    fn lives(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn policy(restart: RestartPolicy) -> InstanceConfig {
    InstanceConfig {
        restart,
        ..InstanceConfig::default()
    }
}

fn reason(out: &[Action]) -> &str {
    let changed = out.iter().rev().find_map(|action| match action {
        Action::Changed { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    changed.expect("its state has changed")
}

#[test]
fn an_end_and_a_policy_say_what_follows() {
    use InstanceState::{Backoff, Failed, Stopped};
    let policies = [
        RestartPolicy::Permanent,
        RestartPolicy::Transient,
        RestartPolicy::Temporary,
    ];
    // An exit code, whether a turn ran, what follows under each policy, and whether it was a failure.
    let ends = [
        (0, false, [Backoff, Stopped, Stopped], false),
        (0, true, [Backoff, Backoff, Failed], true),
        (1, false, [Backoff, Backoff, Failed], true),
        (1, true, [Backoff, Backoff, Failed], true),
        (125, false, [Failed, Failed, Failed], true),
        (125, true, [Failed, Failed, Failed], true),
    ];
    for (code, busy, follows, failure) in ends {
        for (restart, state) in policies.into_iter().zip(follows) {
            let mut restarted = Restarted::up(policy(restart));
            if busy {
                restarted.begin_turn();
            }
            let out = restarted.exits(code);
            let told = format!("{code} {busy} {restart:?}: {out:?}");
            assert_eq!(restarted.state(), state, "{told}");
            assert_eq!(restarted.machine.faults, u64::from(failure), "{told}");
            let hits = u32::from(failure && state == Backoff);
            assert_eq!(restarted.machine.breaker.failures(), hits, "{told}");
        }
    }
}

#[test]
fn a_failed_start_is_a_failure_whatever_its_exit_code() {
    for code in [0, 1] {
        let mut restarted = Restarted::up(InstanceConfig::default());
        restarted.exits(1);
        restarted.now = restarted.machine.deadline().expect("it is to return");
        restarted.feed(Input::Timer(Pulse::default()));
        restarted.exits(code);
        assert_eq!(restarted.machine.breaker.failures(), 2);
    }
}

#[test]
fn the_first_restart_comes_almost_at_once_and_the_next_ones_at_least_a_second_after_the_end() {
    let mut restarted = Restarted::up(InstanceConfig::default());
    restarted.exits(1);
    assert!(restarted.returns() <= Duration::from_millis(200));
    for _ in 0..3 {
        restarted.exits(1);
        assert!(restarted.returns() >= Duration::from_secs(1));
    }
    restarted.turn();
    restarted.exits(1);
    assert!(restarted.returns() <= Duration::from_millis(200), "healed");
}

#[test]
fn one_that_works_a_little_and_dies_again_and_again_is_found_though_its_breaker_never_trips() {
    let mut restarted = Restarted::up(InstanceConfig::default());
    for _ in 0..5 {
        restarted.lives(1);
        restarted.turn();
        restarted.exits(1);
        assert_eq!(restarted.state(), InstanceState::Backoff);
        restarted.returns();
    }
    let mut wait = Duration::from_secs(10);
    for round in 0..8 {
        restarted.lives(1);
        restarted.turn();
        assert_eq!(restarted.machine.breaker.failures(), 0, "the turn was good");
        let out = restarted.exits(1);
        assert_eq!(restarted.state(), InstanceState::Tripped, "{round}");
        assert_eq!(reason(&out), "crash-looping: exit code 1");
        assert!(restarted.machine.standing().crash_looping);
        let took = restarted.returns();
        assert!(took >= wait / 2 && took <= wait, "{took:?} for {wait:?}");
        assert_eq!(restarted.machine.breaker.state(), BreakerState::HalfOpen);
        wait = (wait * 2).min(Duration::from_secs(300));
    }
    restarted.lives(599);
    restarted.exits(1);
    assert_eq!(
        restarted.state(),
        InstanceState::Tripped,
        "not for long enough"
    );
    restarted.returns();
    restarted.lives(600);
    restarted.exits(1);
    assert_eq!(restarted.state(), InstanceState::Backoff, "it was healthy");
    assert!(!restarted.machine.standing().crash_looping);
}

#[test]
fn one_that_leaves_without_a_word_again_and_again_is_found_too() {
    let mut restarted = Restarted::up(InstanceConfig::default());
    for _ in 0..5 {
        restarted.exits(0);
        restarted.returns();
        restarted.turn();
    }
    restarted.exits(0);
    assert_eq!(restarted.state(), InstanceState::Tripped);
    assert_eq!(restarted.machine.faults, 0, "it never failed");
    restarted.returns();
    restarted.turn();
    assert_eq!(restarted.machine.breaker.state(), BreakerState::Closed);
}

#[test]
fn restarts_that_its_owner_asks_for_are_not_counted_and_forgive_those_before() {
    let mut restarted = Restarted::up(InstanceConfig::default());
    for _ in 0..20 {
        for input in [Input::Restart, Input::Replace("worn".to_owned())] {
            restarted.feed(input);
            restarted.exits(0);
            assert_eq!(restarted.state(), InstanceState::Starting);
            restarted.feed(Input::Ready);
        }
    }
    for _ in 0..4 {
        for _ in 0..5 {
            restarted.turn();
            restarted.exits(1);
            assert_eq!(restarted.state(), InstanceState::Backoff);
            restarted.returns();
        }
        restarted.feed(Input::Restart);
        restarted.exits(0);
        restarted.feed(Input::Ready);
    }
}
