//! A walk over every state that the machine can reach, and long random lives.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::moves::MOVES;
use super::*;

/// A path to each shape that the machine can reach, shortest first.
fn reachable() -> Vec<Vec<Move>> {
    let mut seen = HashSet::from([World::new().shape()]);
    let mut paths = vec![Vec::new()];
    let mut open = VecDeque::from(paths.clone());
    while let Some(path) = open.pop_front() {
        for made in MOVES {
            let mut world = World::after(&path);
            if !world.can(made) {
                continue;
            }
            world.make(made);
            if seen.insert(world.shape()) {
                let longer = [path.as_slice(), &[made]].concat();
                paths.push(longer.clone());
                open.push_back(longer);
            }
        }
    }
    paths
}

#[test]
fn every_input_in_every_reachable_state_keeps_every_promise() {
    let paths = reachable();
    let states: HashSet<_> = paths
        .iter()
        .map(|path| World::after(path).machine.state())
        .collect();
    assert_eq!(states.len(), InstanceState::ALL.len(), "{states:?}");
    assert!(paths.len() > 100, "the walk was cut short: {}", paths.len());
}

#[test]
fn after_a_drain_or_a_stop_every_path_ends_without_a_process_and_without_an_open_turn() {
    for path in reachable() {
        for order in [Move::Drain, Move::Stop, Move::Kill] {
            for stubborn in [false, true] {
                let mut world = World::after(&path);
                world.make(order);
                let mut steps = 0;
                while !matches!(
                    world.machine.state(),
                    InstanceState::Stopped | InstanceState::Failed
                ) {
                    steps += 1;
                    assert!(steps < 10, "{path:?}, {order:?} never ends");
                    let dies = !stubborn
                        && world.asked != Asked::No
                        && world.can(Move::Exit { written: true });
                    let next = if dies {
                        Move::Exit { written: true }
                    } else {
                        Move::Deadline
                    };
                    world.make(next);
                }
                assert_eq!(world.process, Process::None);
                assert_eq!(world.turn, None);
                let had_failed = World::after(&path).machine.state() == InstanceState::Failed;
                if !stubborn && !had_failed {
                    assert_eq!(
                        world.machine.state(),
                        InstanceState::Stopped,
                        "{path:?}, {order:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_restart_brings_every_state_up_again_and_heals_its_breaker() {
    for path in reachable() {
        let mut world = World::after(&path);
        world.make(Move::Restart);
        while world.machine.state() == InstanceState::Stopping {
            if world.can(Move::LaunchSucceeds) {
                world.make(Move::LaunchSucceeds);
            }
            world.make(Move::Exit { written: true });
        }
        assert_eq!(world.machine.state(), InstanceState::Starting, "{path:?}");
        assert_eq!(world.machine.breaker.failures(), 0, "{path:?}");
        assert_eq!(
            world.machine.breaker.state(),
            BreakerState::Closed,
            "{path:?}"
        );
    }
}

#[test]
fn it_backs_off_longer_and_longer_and_trips_at_exactly_the_kth_failure() {
    let mut world = World::after(&[Move::Start]);
    world.make(Move::LaunchSucceeds);
    world.make(Move::Exit { written: true });
    assert_eq!(world.machine.state(), InstanceState::Backoff);
    world.make(Move::Deadline);
    world.make(Move::LaunchFails { permanent: false });
    assert_eq!(world.machine.state(), InstanceState::Tripped, "k is 2");
    let opened = world.now;
    world.make(Move::Deadline);
    assert!(world.now - opened >= Duration::from_secs(5));
    assert_eq!(world.machine.breaker.state(), BreakerState::HalfOpen);
    for made in [
        Move::LaunchSucceeds,
        Move::Ready,
        Move::Assign { own_limit: false },
        Move::End,
    ] {
        world.make(made);
    }
    assert_eq!(world.machine.breaker.state(), BreakerState::Closed);
    assert_eq!(
        world.machine.deadline(),
        None,
        "a healthy one proves nothing"
    );
}

#[test]
fn a_kill_for_a_cancel_feeds_the_breaker_only_where_the_tool_could_have_been_interrupted() {
    for (interruptible, failures) in [(true, 1), (false, 0)] {
        let mut world = World::new();
        let config = InstanceConfig {
            interruptible,
            ..config()
        };
        world.machine = Instance::new(config, 7);
        for made in [
            Move::Start,
            Move::LaunchSucceeds,
            Move::Ready,
            Move::Assign { own_limit: false },
            Move::Cancel,
            Move::Deadline,
            Move::Exit { written: true },
        ] {
            world.make(made);
        }
        assert_eq!(world.machine.breaker.failures(), failures);
    }
}

#[test]
fn a_limit_without_end_is_no_overflow() {
    let mut endless = config();
    for limit in [
        &mut endless.start_timeout,
        &mut endless.turn_timeout,
        &mut endless.write_timeout,
        &mut endless.first_byte_timeout,
        &mut endless.silence_timeout,
        &mut endless.approval_timeout,
        &mut endless.interrupt_grace,
        &mut endless.stop_grace,
        &mut endless.kill_wait,
        &mut endless.restart_delay,
        &mut endless.restart_delay_max,
        &mut endless.probation,
        &mut endless.breaker.open_for,
        &mut endless.breaker.open_for_max,
        &mut endless.restarts.burst.within,
        &mut endless.restarts.sustained.within,
    ] {
        *limit = Duration::MAX;
    }
    for path in reachable() {
        let mut world = World::new();
        world.machine = Instance::new(endless.clone(), 7);
        for made in path {
            if world.can(made) {
                world.make(made);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_long_random_life_keeps_every_promise(
        life in prop::collection::vec((0..MOVES.len(), 0u64..400), 0..400)
    ) {
        let mut world = World::after(&[Move::Start]);
        for (choice, millis) in life {
            world.now += Duration::from_millis(millis);
            if world.can(MOVES[choice]) {
                world.make(MOVES[choice]);
            }
        }
    }
}
