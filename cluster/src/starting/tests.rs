//! The line and the pauses together.

use std::time::Duration;

use super::*;

fn starts(groups: &[usize], limit: usize) -> (Starts, Instant) {
    let starts = Starts::new(groups, limit, &BreakerConfig::default());
    (starts, Instant::now())
}

fn wants(starts: &mut Starts, now: Instant, instance: usize) -> Vec<Verdict> {
    let mut out = Vec::new();
    starts.on_changed(
        now,
        instance,
        InstanceState::Starting,
        None,
        "asked",
        &mut out,
    );
    starts.on_wish(now, instance, &mut out);
    out
}

fn becomes(
    starts: &mut Starts,
    now: Instant,
    instance: usize,
    to: InstanceState,
    reason: &str,
) -> (InstanceState, Vec<Verdict>) {
    let mut out = Vec::new();
    let seen = starts.on_changed(now, instance, to, None, reason, &mut out);
    (seen, out)
}

fn started(verdicts: &[Verdict]) -> Vec<usize> {
    let each = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Start(instance) => Some(*instance),
        _ => None,
    });
    each.collect()
}

#[test]
fn a_mass_of_starts_goes_a_few_at_a_time_and_each_that_ends_lets_the_next_go() {
    let (mut starts, now) = starts(&[0; 6], 2);
    let mut all = Vec::new();
    for instance in 0..6 {
        all.extend(started(&wants(&mut starts, now, instance)));
    }
    assert_eq!(all, [0, 1]);
    assert!(matches!(starts.held(3), Some(Held::InLine { before: 1 })));
    let (_, out) = becomes(&mut starts, now, 0, InstanceState::Ready, "ready");
    assert_eq!(started(&out), [2]);
    let (_, out) = becomes(&mut starts, now, 1, InstanceState::Stopping, "too slow");
    assert_eq!(
        started(&out),
        [3],
        "a start that failed gives its place back"
    );
    // One that waits is stopped: it had no place to give back.
    let (_, out) = becomes(&mut starts, now, 4, InstanceState::Stopping, "stopped");
    assert!(started(&out).is_empty());
    let mut out = Vec::new();
    starts.on_gone(now, 2, &mut out);
    assert_eq!(started(&out), [5]);
}

#[test]
fn a_group_that_fails_alike_pauses_with_one_sentence_and_another_goes_on() {
    let (mut starts, now) = starts(&[0, 0, 0, 1], 4);
    for instance in 0..3 {
        wants(&mut starts, now, instance);
    }
    let (_, out) = becomes(&mut starts, now, 0, InstanceState::Backoff, "no key");
    assert_eq!(out, []);
    let (_, out) = becomes(&mut starts, now, 1, InstanceState::Backoff, "no key");
    assert_eq!(out, [Verdict::Paused { group: 0 }]);
    let (_, out) = becomes(&mut starts, now, 2, InstanceState::Backoff, "no key");
    assert_eq!(out, [], "told once");
    assert_eq!(starts.deadline(), None, "nobody asks yet");
    let out = wants(&mut starts, now, 0);
    assert!(
        matches!(&out[..], [Verdict::Held { instance: 0, .. }]),
        "{out:?}"
    );
    assert_eq!(started(&wants(&mut starts, now, 3)), [3], "another group");
    wants(&mut starts, now, 1);
    let at = starts.deadline().expect("a probe follows");
    assert!(at >= now + Duration::from_secs(5));
    let mut out = Vec::new();
    starts.on_timer(at, &mut out);
    assert_eq!(out, [Verdict::Start(0)]);
    let (_, out) = becomes(&mut starts, at, 0, InstanceState::Ready, "ready");
    assert!(
        matches!(out[0], Verdict::Resumed { group: 0, .. }),
        "{out:?}"
    );
    assert_eq!(started(&out), [1], "all go on");
}

#[test]
fn instances_that_gave_up_alike_are_revived_as_probes_and_prompts_wait_for_them() {
    let (mut starts, now) = starts(&[0; 2], 4);
    for instance in 0..2 {
        wants(&mut starts, now, instance);
    }
    let (seen, _) = becomes(&mut starts, now, 0, InstanceState::Failed, "not installed");
    assert_eq!(seen, InstanceState::Failed, "one alone has given up");
    let (seen, out) = becomes(&mut starts, now, 1, InstanceState::Failed, "not installed");
    assert_eq!(seen, InstanceState::Backoff);
    let revived = [
        Verdict::Paused { group: 0 },
        Verdict::Revive(0),
        Verdict::Revive(1),
    ];
    assert_eq!(out, revived);
    for instance in 0..2 {
        assert!(started(&wants(&mut starts, now, instance)).is_empty());
    }
    let at = starts.deadline().expect("a probe follows");
    let mut out = Vec::new();
    starts.on_timer(at, &mut out);
    assert_eq!(out, [Verdict::Start(0)]);
    let (seen, out) = becomes(&mut starts, at, 0, InstanceState::Failed, "not installed");
    assert_eq!(
        (seen, out),
        (InstanceState::Backoff, vec![Verdict::Revive(0)])
    );
    assert!(starts.deadline().is_some_and(|next| next > at));
}

#[test]
fn a_pause_ends_when_nobody_is_left_that_could_probe() {
    let (mut starts, now) = starts(&[0; 3], 4);
    for instance in 0..3 {
        wants(&mut starts, now, instance);
    }
    becomes(&mut starts, now, 2, InstanceState::Ready, "ready");
    for instance in 0..2 {
        becomes(&mut starts, now, instance, InstanceState::Backoff, "no key");
    }
    becomes(&mut starts, now, 0, InstanceState::Stopped, "asked to stop");
    assert!(starts.pause(0).is_some());
    let (_, out) = becomes(&mut starts, now, 1, InstanceState::Stopped, "asked to stop");
    assert!(matches!(out[..], [Verdict::Resumed { .. }]), "{out:?}");
}
