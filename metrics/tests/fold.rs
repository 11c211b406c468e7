//! What each event does to the page.

mod support;

use std::collections::BTreeSet;

use support::*;
use toolpool_cluster::InstanceState::{
    self, Backoff, Busy, Draining, Failed, Ready, Starting, Stopped, Stopping, Tripped, Waiting,
};
use toolpool_cluster::{EventKind, SubmitError};
use toolpool_metrics::Metrics;

/// Tells the events to a cluster of two instances, and looks for each series with its value on the page.
#[track_caller]
fn check(events: impl IntoIterator<Item = EventKind>, expected: &[(&str, f64)]) {
    let mut story = Story::of(2);
    story.tell_all(events);
    let text = story.text();
    let samples = samples(&text);
    for (series, value) in expected {
        let series = format!("toolpool_{series}");
        assert_eq!(samples.get(&series), Some(value), "{series} in\n{text}");
    }
}

#[track_caller]
fn check_state(events: impl IntoIterator<Item = EventKind>, expected: InstanceState) {
    let mut story = Story::of(2);
    story.tell_all(events);
    let samples = story.samples();
    for state in InstanceState::ALL {
        let word = state.word();
        let series = format!(
            "toolpool_instance_state{{cluster=\"main\",tool_instance=\"main/1\",state=\"{word}\"}}"
        );
        let is = f64::from(u8::from(state == expected));
        assert_eq!(samples.get(&series), Some(&is), "{series}");
    }
    let total: f64 = InstanceState::ALL
        .map(|state| {
            samples[&format!(
                "toolpool_instances{{cluster=\"main\",tool=\"aider\",state=\"{}\"}}",
                state.word()
            )]
        })
        .iter()
        .sum();
    assert_eq!(total, 2.0, "each instance is in exactly one state");
}

#[test]
fn a_bit_of_everything_makes_this_page() {
    let mut story = Story::of(2);
    story.tell_all(everything());
    insta::assert_snapshot!(story.text());
}

#[test]
fn an_instance_that_comes_and_goes_is_counted_while_it_is_there() {
    check(
        [scaled(2, 3), added(3)],
        &[
            ("instances_desired{cluster=\"main\"}", 3.0),
            (
                "instances{cluster=\"main\",tool=\"aider\",state=\"starting\"}",
                3.0,
            ),
            (
                "instance_state{cluster=\"main\",tool_instance=\"main/3\",state=\"starting\"}",
                1.0,
            ),
        ],
    );
    let left = [
        changed(2, 1, Stopped, Starting),
        changed(2, 1, Starting, Ready),
        scaled(2, 1),
        changed(2, 1, Ready, Stopping),
        changed(2, 1, Stopping, Stopped),
        removed(2),
    ];
    check(
        left.clone(),
        &[
            ("instances_desired{cluster=\"main\"}", 1.0),
            (
                "instances{cluster=\"main\",tool=\"aider\",state=\"starting\"}",
                1.0,
            ),
            (
                "instances{cluster=\"main\",tool=\"aider\",state=\"stopped\"}",
                0.0,
            ),
            (
                "instance_state{cluster=\"main\",tool_instance=\"main/2\",state=\"stopped\"}",
                0.0,
            ),
            (
                "breaker_state{cluster=\"main\",tool_instance=\"main/2\",state=\"closed\"}",
                0.0,
            ),
        ],
    );
    check(
        left.into_iter().chain([scaled(1, 2), added(2)]),
        &[
            ("instances_desired{cluster=\"main\"}", 2.0),
            (
                "instances{cluster=\"main\",tool=\"aider\",state=\"starting\"}",
                2.0,
            ),
            (
                "instance_state{cluster=\"main\",tool_instance=\"main/2\",state=\"starting\"}",
                1.0,
            ),
        ],
    );
}

#[test]
fn a_pause_is_shown_while_it_lasts_by_what_for() {
    check(
        [paused("login")],
        &[
            (
                "paused{cluster=\"main\",tool=\"aider\",reason=\"login\"}",
                1.0,
            ),
            (
                "paused{cluster=\"main\",tool=\"aider\",reason=\"limit\"}",
                0.0,
            ),
        ],
    );
    check(
        [paused("start"), paused("limit"), resumed("start")],
        &[
            (
                "paused{cluster=\"main\",tool=\"aider\",reason=\"start\"}",
                0.0,
            ),
            (
                "paused{cluster=\"main\",tool=\"aider\",reason=\"limit\"}",
                1.0,
            ),
        ],
    );
}

#[test]
fn the_same_events_make_the_same_page() {
    let page = || {
        let mut story = Story::of(2);
        story.tell_all(everything());
        story.text()
    };
    assert_eq!(page(), page());
}

#[test]
fn before_a_cluster_starts_there_is_only_the_build() {
    let mut story = Story::sharing(&Metrics::new());
    story.tell(accepted(1));
    assert!(story.samples().is_empty(), "{}", story.text());
    assert!(
        story
            .metrics
            .render()
            .contains("\ntoolpool_build_info{version=")
    );
}

#[test]
fn what_can_be_counted_is_zero_from_the_start() {
    let mut story = Story::of(2);
    let at_start: BTreeSet<String> = story.samples().into_keys().collect();
    story.tell_all(everything());
    let later: BTreeSet<String> = story.samples().into_keys().collect();
    let new: Vec<&str> = later.difference(&at_start).map(String::as_str).collect();
    // A time that has not come and a report that was not made are absent, which is not 0.
    assert_eq!(
        new,
        [
            "toolpool_cost_usd_total{cluster=\"main\",tool=\"aider\"}",
            "toolpool_instance_started_timestamp_seconds{cluster=\"main\",tool_instance=\"main/1\"}",
            "toolpool_instance_started_timestamp_seconds{cluster=\"main\",tool_instance=\"main/2\"}",
            "toolpool_tokens_total{cluster=\"main\",tool=\"aider\",kind=\"input\"}",
            "toolpool_tokens_total{cluster=\"main\",tool=\"aider\",kind=\"output\"}",
        ]
    );
    assert!(at_start.is_subset(&later));
}

#[test]
fn each_question_is_counted_by_what_became_of_it() {
    let series =
        |result: &str| format!("permissions_total{{cluster=\"main\",result=\"{result}\"}}");
    check(
        [
            answered(true, "person"),
            answered(true, "policy"),
            answered(false, "person"),
            answered(false, "policy"),
            answered(false, "cancel"),
            answered(false, "timeout"),
            withdrawn(),
            answered_too_late(),
        ],
        &[
            (&series("allowed"), 2.0),
            (&series("denied"), 3.0),
            (&series("timed_out"), 1.0),
            (&series("withdrawn"), 1.0),
            (&series("late"), 1.0),
        ],
    );
}

#[test]
fn the_state_follows_the_changes_and_the_turns() {
    let ready = || {
        [
            changed(1, 1, Stopped, Starting),
            changed(1, 1, Starting, Ready),
        ]
    };
    check_state([], Starting);
    check_state(ready(), Ready);
    let busy = || ready().into_iter().chain([accepted(1), began(1, 1)]);
    check_state(busy(), Busy);
    check_state(busy().chain([ended(1, 1, "completed", true)]), Ready);
    let waits = || busy().chain([changed(1, 1, Busy, Waiting)]);
    check_state(waits(), Waiting);
    check_state(waits().chain([changed(1, 1, Waiting, Busy)]), Busy);
    check_state(waits().chain([ended(1, 1, "completed", true)]), Ready);
    check_state(busy().chain([ended(1, 1, "completed", false)]), Busy);
    check_state(busy().chain([changed(1, 1, Busy, Draining)]), Draining);
    check_state(
        busy().chain([
            changed(1, 1, Busy, Stopping),
            ended(1, 1, "indeterminate", false),
        ]),
        Stopping,
    );
    // The order in which a hand-over and a stop cross each other.
    check_state(
        busy().chain([changed(1, 1, Ready, Stopping), handed_back(1, 1)]),
        Stopping,
    );
    check_state(
        busy().chain([handed_back(1, 1), changed(1, 1, Busy, Backoff)]),
        Backoff,
    );
    check_state([changed(1, 1, Starting, Failed)], Failed);
}

#[test]
fn the_time_of_the_last_change_is_that_of_its_event() {
    let since = "instance_state_since_timestamp_seconds{cluster=\"main\",tool_instance=\"main/1\"}";
    check([], &[(since, START as f64)]);
    check(
        [pinned(1, 1), changed(1, 1, Starting, Ready)],
        &[(since, START as f64 + 2.0)],
    );
    check(
        [changed(1, 1, Starting, Ready), accepted(1), began(1, 1)],
        &[(since, START as f64 + 3.0)],
    );
}

#[test]
fn the_queue_shows_how_many_and_since_when() {
    let depth = "queue_depth{cluster=\"main\"}";
    let oldest = "queue_oldest_timestamp_seconds{cluster=\"main\"}";
    let flying = "turns_in_flight{cluster=\"main\",tool=\"aider\"}";
    let since = START as f64;
    check([], &[(depth, 0.0), (oldest, 0.0), (flying, 0.0)]);
    let two = || vec![accepted(1), accepted(2)];
    check(two(), &[(depth, 2.0), (oldest, since + 1.0), (flying, 0.0)]);
    let and = |events: Vec<EventKind>| two().into_iter().chain(events);
    check(
        and(vec![began(1, 1)]),
        &[(depth, 1.0), (oldest, since + 2.0), (flying, 1.0)],
    );
    check(
        and(vec![began(1, 1), handed_back(1, 1)]),
        &[(depth, 2.0), (oldest, since + 1.0), (flying, 0.0)],
    );
    check(
        and(vec![ended_in_queue(1, "expired"), began(2, 1)]),
        &[(depth, 0.0), (oldest, 0.0), (flying, 1.0)],
    );
    check([], &[("queue_capacity{cluster=\"main\"}", 1024.0)]);
}

#[test]
fn outcomes_and_times_are_counted_at_the_end_of_a_turn() {
    check(
        [
            accepted(1),
            began(1, 1),
            ended(1, 1, "completed", true),
            accepted(2),
            began(2, 1),
            ended(2, 1, "failed", true),
            accepted(3),
            ended_in_queue(3, "expired"),
        ],
        &[
            (
                "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"completed\"}",
                1.0,
            ),
            (
                "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"failed\"}",
                1.0,
            ),
            (
                "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"expired\"}",
                1.0,
            ),
            (
                "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"cancelled\"}",
                0.0,
            ),
            (
                "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"indeterminate\"}",
                0.0,
            ),
            // What never ran has no time on an instance, but waited all the same.
            (
                "turn_duration_seconds_count{cluster=\"main\",tool=\"aider\"}",
                2.0,
            ),
            (
                "turn_duration_seconds_sum{cluster=\"main\",tool=\"aider\"}",
                60.0,
            ),
            (
                "turn_duration_seconds_bucket{cluster=\"main\",tool=\"aider\",le=\"20\"}",
                0.0,
            ),
            (
                "turn_duration_seconds_bucket{cluster=\"main\",tool=\"aider\",le=\"40\"}",
                2.0,
            ),
            (
                "turn_first_output_seconds_sum{cluster=\"main\",tool=\"aider\"}",
                4.0,
            ),
            ("turn_queue_wait_seconds_count{cluster=\"main\"}", 3.0),
            ("turn_queue_wait_seconds_sum{cluster=\"main\"}", 4.5),
            (
                "route_decisions_total{cluster=\"main\",strategy=\"least-busy\",result=\"direct\"}",
                2.0,
            ),
            (
                "route_decisions_total{cluster=\"main\",strategy=\"least-busy\",result=\"sticky\"}",
                0.0,
            ),
        ],
    );
}

#[test]
fn silence_is_shown_with_its_beginning_until_there_is_life_or_the_turn_is_over() {
    let since = |at: f64| {
        (
            "instance_silent_since_timestamp_seconds{cluster=\"main\",tool_instance=\"main/1\"}",
            at,
        )
    };
    let times = |count: f64| {
        (
            "turn_silences_total{cluster=\"main\",tool=\"aider\"}",
            count,
        )
    };
    let ready = changed(1, 1, Starting, Ready);
    let begun = [ready, accepted(1), began(1, 1)];
    let told = |events: &[EventKind], expected: &[(&str, f64)]| {
        check(begun.iter().chain(events).cloned(), expected);
    };
    told(&[], &[since(0.0), times(0.0)]);
    // The fifth event comes four seconds after the first, and tells of ten seconds.
    told(
        &[silent(1, 1)],
        &[since(START as f64 + 4.0 - 10.0), times(1.0)],
    );
    for over in [
        heard(1, 1),
        ended(1, 1, "completed", true),
        handed_back(1, 1),
    ] {
        told(&[silent(1, 1), over], &[since(0.0), times(1.0)]);
    }
    let again = [silent(1, 1), heard(1, 1), silent(1, 1)];
    told(&again, &[times(2.0)]);
}

#[test]
fn an_instance_that_restarts_too_often_shows_and_each_such_time_counts_once() {
    let shown = |is: f64, times: f64| {
        [
            (
                "instance_crash_looping{cluster=\"main\",tool_instance=\"main/1\"}",
                is,
            ),
            (
                "instance_crash_loops_total{cluster=\"main\",tool=\"aider\"}",
                times,
            ),
        ]
    };
    let falls = || looping(changed(1, 1, Starting, Backoff));
    let starts = || looping(changed(1, 2, Backoff, Starting));
    check([], &shown(0.0, 0.0));
    check([falls(), starts(), falls()], &shown(1.0, 1.0));
    let calm = changed(1, 3, Starting, Ready);
    check([falls(), starts(), calm.clone()], &shown(0.0, 1.0));
    check([falls(), calm, falls()], &shown(1.0, 2.0));
}

#[test]
fn refusals_are_counted_by_their_code() {
    let full = SubmitError::QueueFull { limit: 1024 }.code();
    check(
        [
            refused(full),
            refused(full),
            refused("a_code_of_a_later_version"),
        ],
        &[
            (
                "rejected_total{cluster=\"main\",reason=\"queue_full\"}",
                2.0,
            ),
            ("rejected_total{cluster=\"main\",reason=\"draining\"}", 0.0),
            ("rejected_total{cluster=\"main\",reason=\"not_found\"}", 0.0),
            (
                "rejected_total{cluster=\"main\",reason=\"a_code_of_a_later_version\"}",
                1.0,
            ),
        ],
    );
}

#[test]
fn retries_of_the_tool_and_turns_handed_back_are_told_apart() {
    check(
        [
            accepted(1),
            began(1, 1),
            retrying(1, 1),
            retrying(1, 1),
            handed_back(1, 1),
        ],
        &[
            ("turn_retries_total{cluster=\"main\",reason=\"tool\"}", 2.0),
            (
                "turn_retries_total{cluster=\"main\",reason=\"handed_back\"}",
                1.0,
            ),
        ],
    );
}

#[test]
fn an_exit_is_told_by_what_ended_it() {
    let reason = |reason: &str| {
        format!("instance_exits_total{{cluster=\"main\",tool=\"aider\",reason=\"{reason}\"}}")
    };
    let count = |events: Vec<EventKind>, expected: &str| {
        for word in ["exit", "signal", "stopped", "unknown"] {
            check(
                events.clone(),
                &[(&reason(word), f64::from(u8::from(word == expected)))],
            );
        }
    };
    count(vec![exited(1, Some(1), None)], "exit");
    count(vec![exited(1, None, Some(11))], "signal");
    count(vec![exited(1, None, None)], "unknown");
    count(
        vec![changed(1, 1, Ready, Stopping), exited(1, None, Some(15))],
        "stopped",
    );
    count(
        vec![changed(2, 1, Ready, Stopping), exited(1, None, Some(15))],
        "signal",
    );
}

#[test]
fn a_leak_is_counted_whatever_ended_the_process() {
    let leaks = "instance_leaks_total{cluster=\"main\",tool=\"aider\"}";
    check(vec![exited(1, Some(0), None)], &[(leaks, 0.0)]);
    let leaked = EventKind::InstanceExited {
        instance: name(1),
        generation: 1,
        code: None,
        signal: Some(9),
        leaked: true,
    };
    check(vec![exited(1, Some(0), None), leaked], &[(leaks, 1.0)]);
}

#[test]
fn a_restart_is_told_by_what_it_follows() {
    let restarts = |reason: &str| {
        format!("instance_restarts_total{{cluster=\"main\",tool=\"aider\",reason=\"{reason}\"}}")
    };
    let count = |events: Vec<EventKind>, expected: &[&str]| {
        for word in ["failure", "probe", "worn", "manual"] {
            let is = f64::from(u8::from(expected.contains(&word)));
            check(events.clone(), &[(&restarts(word), is)]);
        }
    };
    count(vec![changed(1, 1, Stopped, Starting)], &[]);
    count(vec![changed(1, 2, Backoff, Starting)], &["failure"]);
    count(vec![changed(1, 2, Stopping, Starting)], &["manual"]);
    count(
        vec![recycled(1), changed(1, 2, Stopping, Starting)],
        &["worn"],
    );
    count(
        vec![
            recycled(1),
            changed(1, 2, Stopping, Starting),
            changed(1, 3, Stopping, Starting),
        ],
        &["worn", "manual"],
    );
    count(vec![changed(1, 2, Stopped, Starting)], &["manual"]);
    count(
        vec![
            breaker(1, "open"),
            breaker(1, "half_open"),
            changed(1, 6, Tripped, Starting),
        ],
        &["probe"],
    );
    count(
        vec![
            breaker(1, "open"),
            breaker(1, "closed"),
            changed(1, 6, Tripped, Starting),
        ],
        &["manual"],
    );
}

#[test]
fn starts_are_timed_and_dated() {
    check(
        [
            changed(1, 1, Stopped, Starting),
            spawned(1, 1),
            changed(1, 1, Starting, Ready),
        ],
        &[
            (
                "instance_start_duration_seconds_count{cluster=\"main\",tool=\"aider\"}",
                1.0,
            ),
            (
                "instance_start_duration_seconds_sum{cluster=\"main\",tool=\"aider\"}",
                1.5,
            ),
            (
                "instance_started_timestamp_seconds{cluster=\"main\",tool_instance=\"main/1\"}",
                START as f64 + 2.0,
            ),
        ],
    );
}

#[test]
fn a_breaker_is_in_one_state_and_its_changes_are_counted() {
    let state = |state: &str| {
        format!("breaker_state{{cluster=\"main\",tool_instance=\"main/1\",state=\"{state}\"}}")
    };
    check(
        [],
        &[
            (&state("closed"), 1.0),
            (&state("open"), 0.0),
            (&state("half_open"), 0.0),
        ],
    );
    check(
        [
            breaker(1, "open"),
            breaker(1, "half_open"),
            breaker(1, "open"),
        ],
        &[
            (&state("closed"), 0.0),
            (&state("open"), 1.0),
            (&state("half_open"), 0.0),
            (
                "breaker_transitions_total{cluster=\"main\",to=\"open\"}",
                2.0,
            ),
            (
                "breaker_transitions_total{cluster=\"main\",to=\"half_open\"}",
                1.0,
            ),
            (
                "breaker_transitions_total{cluster=\"main\",to=\"closed\"}",
                0.0,
            ),
        ],
    );
}

#[test]
fn tokens_and_cost_add_up_as_reported() {
    let turn = |turn, usage| {
        [
            accepted(turn),
            began(turn, 1),
            with_usage(ended(turn, 1, "completed", true), usage),
        ]
    };
    let tokens_only = Usage {
        input_tokens: Some(5),
        ..Usage::default()
    };
    let mut story = Story::of(1);
    story.tell_all(turn(1, tokens_only));
    let samples = story.samples();
    assert_eq!(
        samples["toolpool_tokens_total{cluster=\"main\",tool=\"aider\",kind=\"input\"}"],
        5.0
    );
    assert!(
        !samples
            .keys()
            .any(|series| series.contains("output\"") || series.contains("cost"))
    );

    let costly = |usd| Usage {
        cost_usd: Some(usd),
        ..Usage::default()
    };
    // No amount of money: a counter must not shrink.
    for usd in [0.25, 0.5, -1.0, f64::NAN, f64::INFINITY] {
        story.tell_all(turn(2, costly(usd)));
    }
    assert_eq!(
        story.samples()["toolpool_cost_usd_total{cluster=\"main\",tool=\"aider\"}"],
        0.75
    );
}

#[test]
fn a_cluster_that_shuts_down_wants_no_instances() {
    let desired = "instances_desired{cluster=\"main\"}";
    let sessions = "sessions{cluster=\"main\"}";
    check([pinned(1, 7)], &[(desired, 2.0), (sessions, 7.0)]);
    check(
        [pinned(1, 7), EventKind::ClusterDraining],
        &[(desired, 0.0), (sessions, 7.0)],
    );
    check(
        [
            pinned(1, 7),
            EventKind::ClusterDraining,
            EventKind::ClusterStopped,
        ],
        &[(desired, 0.0), (sessions, 0.0)],
    );
}

#[test]
fn sessions_turns_and_time_add_no_series() {
    let series = |sessions: usize| {
        let mut story = Story::of(2);
        story.tell_all(everything());
        for turn in 0..sessions {
            let id = 100 + turn as u64;
            story.tell_all([
                accepted(id),
                pinned(1 + turn % 2, turn + 1),
                began(id, 1 + turn % 2),
                ended(id, 1 + turn % 2, "completed", true),
            ]);
        }
        story.samples().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(series(10), series(10_000));
}

#[test]
fn only_the_first_64_instances_have_series_of_their_own() {
    let own = |instances: usize| {
        let mut story = Story::of(instances);
        story.tell_all((1..=instances).map(|place| spawned(place, 1)));
        let samples = story.samples();
        assert_eq!(
            samples["toolpool_instances_desired{cluster=\"main\"}"],
            instances as f64
        );
        samples
            .keys()
            .filter(|series| series.contains("tool_instance="))
            .count()
    };
    assert_eq!(own(1), 17);
    assert_eq!(own(64), 64 * 17);
    assert_eq!(own(200), 64 * 17);
}

#[test]
fn an_instance_without_series_of_its_own_counts_all_the_same() {
    let mut story = Story::of(65);
    story.tell_all([changed(65, 1, Starting, Ready), accepted(1), began(1, 65)]);
    let samples = story.samples();
    assert_eq!(
        samples["toolpool_instances{cluster=\"main\",tool=\"aider\",state=\"busy\"}"],
        1.0
    );
    assert_eq!(
        samples["toolpool_turns_in_flight{cluster=\"main\",tool=\"aider\"}"],
        1.0
    );
}

#[test]
fn clusters_that_share_the_metrics_do_not_mix() {
    let metrics = Metrics::new();
    let mut main = Story::sharing(&metrics);
    let mut other = Story::sharing(&metrics);
    main.tell(started("main", 2));
    other.tell(started("other", 3));
    main.tell(accepted(1));
    let samples = main.samples();
    assert_eq!(samples["toolpool_instances_desired{cluster=\"main\"}"], 2.0);
    assert_eq!(
        samples["toolpool_instances_desired{cluster=\"other\"}"],
        3.0
    );
    assert_eq!(samples["toolpool_queue_depth{cluster=\"main\"}"], 1.0);
    assert_eq!(samples["toolpool_queue_depth{cluster=\"other\"}"], 0.0);
}

#[test]
fn each_tool_of_a_mixed_cluster_counts_for_itself_and_what_never_ran_for_all_of_them() {
    let mut story = Story::sharing(&Metrics::new());
    story.tell(started_mixed());
    story.tell_all([
        changed(1, 1, Starting, Ready),
        changed(3, 1, Starting, Ready),
        accepted(1),
        accepted(2),
        accepted(3),
        began(1, 1),
        began(2, 3),
        ended(1, 1, "failed", true),
        ended_in_queue(3, "expired"),
    ]);
    let samples = story.samples();
    for (series, value) in [
        (
            "instances{cluster=\"main\",tool=\"aider\",state=\"ready\"}",
            1.0,
        ),
        (
            "instances{cluster=\"main\",tool=\"aider\",state=\"starting\"}",
            1.0,
        ),
        (
            "instances{cluster=\"main\",tool=\"codex\",state=\"busy\"}",
            1.0,
        ),
        ("instances_desired{cluster=\"main\"}", 3.0),
        ("turns_in_flight{cluster=\"main\",tool=\"aider\"}", 0.0),
        ("turns_in_flight{cluster=\"main\",tool=\"codex\"}", 1.0),
        (
            "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"failed\"}",
            1.0,
        ),
        (
            "turns_total{cluster=\"main\",tool=\"codex\",outcome=\"failed\"}",
            0.0,
        ),
        (
            "turns_total{cluster=\"main\",tool=\"aider+codex\",outcome=\"expired\"}",
            1.0,
        ),
        (
            "turns_total{cluster=\"main\",tool=\"aider\",outcome=\"expired\"}",
            0.0,
        ),
        (
            "turn_duration_seconds_count{cluster=\"main\",tool=\"aider\"}",
            1.0,
        ),
        (
            "turn_duration_seconds_count{cluster=\"main\",tool=\"codex\"}",
            0.0,
        ),
    ] {
        assert_eq!(
            samples.get(&format!("toolpool_{series}")),
            Some(&value),
            "{series}"
        );
    }
}

#[test]
fn no_sample_is_lost_when_nobody_scrapes() {
    let mut story = Story::of(1);
    for turn in 0..20_000 {
        story.tell_all([
            accepted(turn),
            began(turn, 1),
            ended(turn, 1, "completed", true),
        ]);
    }
    let samples = story.samples();
    assert_eq!(
        samples["toolpool_turn_duration_seconds_count{cluster=\"main\",tool=\"aider\"}"],
        20_000.0
    );
    assert_eq!(
        samples["toolpool_turn_queue_wait_seconds_count{cluster=\"main\"}"],
        20_000.0
    );
}
