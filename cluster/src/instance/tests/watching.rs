//! Signs of life in a turn: what is killed as hung, when, and what never is.

use super::*;

const TURN: TurnId = TurnId(1);

/// A machine that runs a turn, and what can be seen of its tool; moments are in seconds since the turn's start.
struct Watched {
    machine: Instance,
    start: Instant,
    pulse: Pulse,
}

impl Watched {
    fn running(config: InstanceConfig) -> Self {
        let mut watched = Self {
            machine: Instance::new(config, 7),
            start: Instant::now(),
            pulse: Pulse::default(),
        };
        for input in [
            Input::Start,
            Input::Ready,
            Input::Assign {
                turn: TURN,
                timeout: None,
                generation: 1,
            },
        ] {
            watched.at(0, input);
        }
        watched
    }

    fn at(&mut self, second: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        let now = self.start + Duration::from_secs(second);
        self.machine.handle(now, input, &mut out);
        out
    }

    fn speaks(&mut self, second: u64) {
        self.pulse.heard = Some(self.start + Duration::from_secs(second));
    }

    fn takes_nothing_from(&mut self, second: u64) {
        self.pulse.stuck = Some(self.start + Duration::from_secs(second));
    }

    /// Looks whenever the machine wants to, up to that second. When it killed the process, and what for.
    fn killed_by(&mut self, second: u64) -> Option<(Duration, String)> {
        let end = self.start + Duration::from_secs(second);
        while let Some(now) = self.machine.deadline().filter(|due| *due <= end) {
            let mut out = Vec::new();
            self.machine.handle(now, Input::Timer(self.pulse), &mut out);
            if let Phase::Stopping {
                doubt: Some((TURN, doubt)),
                failure: Some(_),
                ..
            } = &self.machine.phase
            {
                assert_eq!(out[0], Action::Terminate);
                let is_too_large = doubt.detail.contains("MiB");
                let cause = match is_too_large {
                    true => DoubtCause::MemoryLimit,
                    false => DoubtCause::TimedOut,
                };
                assert_eq!(doubt.cause, cause);
                return Some((now - self.start, doubt.detail.clone()));
            }
        }
        None
    }

    fn silent_since(&self) -> Option<u64> {
        let since = self.machine.standing().silent_since?;
        Some((since - self.start).as_secs())
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Each limit alone, far from the others and from the rhythm of the looks.
fn only(change: impl FnOnce(&mut InstanceConfig)) -> InstanceConfig {
    let mut config = InstanceConfig {
        approvals: Approvals::Ask,
        write_timeout: Duration::MAX,
        ..InstanceConfig::default()
    };
    change(&mut config);
    config
}

#[test]
fn a_tool_that_never_speaks_is_killed_at_the_first_byte_timeout_to_the_moment() {
    let mut watched = Watched::running(only(|it| it.first_byte_timeout = seconds(33)));
    let (when, why) = watched.killed_by(1_000).expect("it is hung");
    assert_eq!(when, seconds(33) + HEARING);
    assert_eq!(
        why,
        "nothing came from the tool (first-byte timeout) for 33s"
    );
}

#[test]
fn after_the_first_byte_only_silence_counts_and_every_byte_is_life() {
    let mut watched = Watched::running(only(|it| {
        it.first_byte_timeout = seconds(33);
        it.silence_timeout = seconds(17);
    }));
    for second in 1..300 {
        watched.speaks(second);
        assert_eq!(watched.killed_by(second), None);
    }
    let (when, why) = watched.killed_by(1_000).expect("it is hung");
    assert_eq!(when, seconds(299 + 17) + HEARING);
    assert_eq!(
        why,
        "nothing more came from the tool (silence timeout) for 17s"
    );
}

#[test]
fn a_tool_that_does_not_take_its_prompt_is_killed_and_one_that_takes_it_slowly_is_not() {
    let mut watched = Watched::running(only(|it| it.write_timeout = seconds(23)));
    for second in 0..200 {
        watched.takes_nothing_from(second);
        assert_eq!(watched.killed_by(second), None, "it took some");
    }
    let (when, why) = watched.killed_by(1_000).expect("it is hung");
    assert_eq!(when, seconds(199 + 23) + HEARING);
    assert!(why.ends_with("(write timeout) for 23s"), "{why}");
    // What became of the turn is known when the process is gone: nobody has read a byte of it, or somebody may have.
    for (written, handed_back) in [(false, true), (true, false)] {
        let mut watched = Watched::running(only(|it| it.write_timeout = seconds(23)));
        watched.takes_nothing_from(0);
        watched.killed_by(1_000).expect("it is hung");
        let exit = Exit {
            code: None,
            signal: Some(15),
        };
        let words = String::new();
        let out = watched.at(
            300,
            Input::Exited {
                exit,
                written,
                words,
            },
        );
        assert_eq!(out.contains(&Action::HandBack(TURN)), handed_back);
        let in_doubt = |action: &Action| matches!(action, Action::Doubt(TURN, _));
        assert_eq!(out.iter().any(in_doubt), !handed_back);
    }
}

#[test]
fn a_tool_that_outgrows_its_memory_is_killed_within_a_second_and_at_its_limit_it_is_not() {
    let mut watched = Watched::running(only(|it| it.memory_limit = Some(300 << 20)));
    watched.pulse.rss_bytes = Some(300 << 20);
    assert_eq!(watched.killed_by(60), None);
    watched.pulse.rss_bytes = Some(301 << 20);
    let (when, why) = watched.killed_by(1_000).expect("it is too large");
    assert_eq!(when, seconds(61));
    assert_eq!(
        why,
        "its process has grown to 301 MiB, and may have 300 MiB"
    );
}

#[test]
fn without_limits_a_silent_turn_has_its_whole_time() {
    let mut watched = Watched::running(only(|_| {}));
    let (when, why) = watched.killed_by(100_000).expect("its time is up");
    assert_eq!(when, seconds(20 * 60));
    assert_eq!(why, "the turn's time was up");
}

#[test]
fn who_waits_for_a_human_is_not_silent_and_has_all_its_time_again_afterwards() {
    let mut watched = Watched::running(only(|it| it.silence_timeout = seconds(30)));
    watched.speaks(20);
    watched.at(20, Input::Asked(question(1, TURN, Act::Execute)));
    assert_eq!(watched.killed_by(200), None);
    assert_eq!(watched.silent_since(), None);
    watched.at(200, Input::Answer(PermissionId(1), Answer::Allow));
    let (when, _) = watched.killed_by(1_000).expect("it is hung");
    assert_eq!(when, seconds(230) + HEARING);
}

#[test]
fn what_was_said_while_nobody_listened_is_heard_before_the_tool_is_judged() {
    let mut watched = Watched::running(only(|it| {
        it.silence_timeout = seconds(30);
        it.turn_timeout = Duration::MAX;
    }));
    watched.speaks(1);
    // Toolpool itself is stopped for an hour, and looks before it has read what came in the meantime.
    let pulse = watched.pulse;
    assert_eq!(watched.at(3_600, Input::Timer(pulse)), []);
    watched.speaks(3_600);
    assert_eq!(watched.killed_by(3_629), None);
    assert!(watched.killed_by(4_000).is_some());
}

#[test]
fn a_turn_that_is_being_cancelled_has_the_grace_and_no_other_limit() {
    let mut watched = Watched::running(only(|it| {
        it.silence_timeout = seconds(5);
        it.first_byte_timeout = seconds(5);
        it.interrupt_grace = seconds(60);
    }));
    watched.at(1, Input::Cancel(TURN));
    assert_eq!(watched.killed_by(60), None);
    assert_eq!(
        watched.machine.deadline(),
        Some(watched.start + seconds(61))
    );
}

#[test]
fn silence_is_told_after_ten_seconds_and_taken_back_with_the_first_byte() {
    let mut watched = Watched::running(only(|_| {}));
    watched.speaks(4);
    watched.killed_by(9);
    assert_eq!(watched.silent_since(), None);
    watched.killed_by(25);
    assert_eq!(watched.silent_since(), Some(4));
    watched.speaks(26);
    let pulse = watched.pulse;
    assert_eq!(
        watched.at(26, Input::Timer(pulse)),
        [],
        "nothing is decided"
    );
    assert_eq!(watched.silent_since(), None);
    watched.killed_by(50);
    assert_eq!(watched.silent_since(), Some(26));
    watched.at(51, Input::TurnEnded(TURN));
    assert_eq!(
        watched.silent_since(),
        None,
        "an idle one owes nobody a word"
    );
}

#[test]
fn a_tool_that_talks_wakes_its_instance_no_more_often_than_one_that_is_silent() {
    let mut looks = 0;
    let mut watched = Watched::running(only(|it| it.silence_timeout = seconds(300)));
    while let Some(now) = watched.machine.deadline() {
        if now > watched.start + seconds(600) {
            break;
        }
        watched.pulse.heard = Some(now);
        watched.at(
            (now - watched.start).as_secs(),
            Input::Timer(Pulse {
                heard: Some(now),
                ..Pulse::default()
            }),
        );
        looks += 1;
    }
    assert_eq!(looks, 60);
}
