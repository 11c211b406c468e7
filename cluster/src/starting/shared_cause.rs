//! One trouble that many instances share: a pure core.
//!
//! Owns what failed starts have in common, when the starts of a group pause for that, and who is let go to find out
//! whether it is over. Must not know processes or clocks. Invariants: a pause is told once, and ends with the first
//! instance that becomes ready; while it lasts one start at a time goes out, at growing intervals; what serves goes on
//! serving.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::breaker::BreakerConfig;
use crate::instance::after;
use crate::planted::planted;

/// Failures so far apart have nothing to do with each other.
const WINDOW: Duration = Duration::from_secs(60);

/// What two failed starts are compared by: the reason, without the words that differ from instance to instance, such as
/// numbers, times and paths; and how the process ended, if there was one.
pub(super) fn likeness(end: Option<String>, reason: &str) -> String {
    let mut likeness = end.unwrap_or_default();
    for word in reason.split_whitespace() {
        likeness.push(' ');
        let differs = word.contains(|letter: char| letter.is_ascii_digit() || letter == '/');
        likeness.push_str(if differs { "#" } else { word });
    }
    likeness
}

/// The pause of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pause {
    /// What its instances fail of, in the words of the one that failed last.
    pub(crate) cause: String,
    /// How many had failed alike when it began.
    pub(crate) instances: usize,
    pub(crate) since: Instant,
    /// When the next probe may go.
    pub(crate) probe_at: Instant,
    /// The instance that probes now.
    pub(crate) probe: Option<usize>,
}

/// The failed starts of one group, and its pause.
#[derive(Debug)]
pub(super) struct SharedCause {
    failed: Vec<(usize, Instant, String)>,
    pause: Option<Pause>,
    delay: Backoff,
    /// Whoever is started at its owner's wish waits for no probe.
    urged: Vec<usize>,
}

impl SharedCause {
    /// Nothing has failed yet. The probes of a pause are as far apart as those of a breaker.
    pub(super) fn new(breaker: &BreakerConfig, seed: u64) -> Self {
        Self {
            failed: Vec::new(),
            pause: None,
            delay: Backoff::new(breaker.open_for, breaker.open_for_max, seed),
            urged: Vec::new(),
        }
    }

    /// The pause, while there is one.
    pub(super) fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// A start has failed. `likeness`: what it may share with others; `reason`: the same for a human. If a second instance
    /// has failed as another did, and none has become ready in between, a pause begins for these instances.
    pub(super) fn on_failure(
        &mut self,
        now: Instant,
        instance: usize,
        likeness: String,
        reason: &str,
    ) -> Vec<usize> {
        self.urged.retain(|urged| *urged != instance);
        if let Some(pause) = &mut self.pause {
            if pause.probe.take_if(|probe| *probe == instance).is_some() {
                reason.clone_into(&mut pause.cause);
                pause.probe_at = after(now, self.delay.next().unwrap_or(WINDOW));
            }
            return Vec::new();
        }
        self.failed.retain(|(other, when, _)| {
            *other != instance && now.saturating_duration_since(*when) <= WINDOW
        });
        self.failed.push((instance, now, likeness));
        let last = self.failed.last().map(|(_, _, likeness)| likeness);
        let each = self.failed.iter();
        let alike = each.filter(|(_, _, other)| Some(other) == last);
        let alike: Vec<usize> = alike.map(|(instance, _, _)| *instance).collect();
        if alike.len() < 2 || planted("each_for_itself") {
            return Vec::new();
        }
        self.failed.clear();
        self.pause = Some(Pause {
            cause: reason.to_owned(),
            instances: alike.len(),
            since: now,
            probe_at: after(now, self.delay.next().unwrap_or(WINDOW)),
            probe: None,
        });
        alike
    }

    /// An instance has become ready, or none is left in trouble: whatever it was, it is over. The pause that ends.
    pub(super) fn on_over(&mut self) -> Option<Pause> {
        self.failed.clear();
        self.urged.clear();
        self.delay.reset();
        self.pause.take()
    }

    /// The start of an instance has ended neither well nor badly: somebody has stopped it.
    pub(super) fn on_stopped(&mut self, now: Instant, instance: usize) {
        if let Some(pause) = &mut self.pause
            && pause.probe.take_if(|probe| *probe == instance).is_some()
        {
            pause.probe_at = now;
        }
    }

    /// The owner wants that instance started, whatever others fail of: perhaps the trouble has been mended.
    pub(super) fn urge(&mut self, instance: usize) {
        if !self.urged.contains(&instance) {
            self.urged.push(instance);
        }
    }

    /// Whether an instance may start now.
    pub(super) fn lets_start(&self, now: Instant, instance: usize) -> bool {
        self.pause.as_ref().is_none_or(|pause| {
            self.urged.contains(&instance)
                || planted("probes_together")
                || (pause.probe.is_none() && pause.probe_at <= now)
        })
    }

    /// An instance starts now. In a pause it is the probe.
    pub(super) fn on_start(&mut self, instance: usize) {
        if let Some(pause) = &mut self.pause {
            pause.probe = Some(instance);
        }
    }

    /// When the next probe may go.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let pause = self.pause.as_ref()?;
        pause.probe.is_none().then_some(pause.probe_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watch() -> (SharedCause, Instant) {
        let shared = SharedCause::new(&BreakerConfig::default(), 1);
        (shared, Instant::now())
    }

    fn fails(shared: &mut SharedCause, now: Instant, instance: usize, likeness: &str) -> bool {
        let alike = shared.on_failure(now, instance, likeness.to_owned(), likeness);
        assert!(alike.is_empty() || alike.len() > 1);
        !alike.is_empty()
    }

    #[test]
    fn what_is_alike_is_the_end_and_the_words_without_what_differs_each_time() {
        let code = |code: u32| Some(format!("exit code {code}"));
        for (a, b, alike) in [
            ((code(1), "bad key"), (code(1), "bad key"), true),
            (
                (code(1), "no key in /tmp/a-b/conf, pid 7 at 10:01"),
                (code(1), "no key in /tmp/c/conf, pid 4711 at 10:02"),
                true,
            ),
            ((code(1), "bad key"), (code(2), "bad key"), false),
            ((code(1), "bad key"), (code(1), "no disk"), false),
            (
                (None, "aider is not there"),
                (None, "aider is not there"),
                true,
            ),
            ((None, "bad key"), (code(1), "bad key"), false),
        ] {
            let same = likeness(a.0.clone(), a.1) == likeness(b.0.clone(), b.1);
            assert_eq!(same, alike, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_pause_takes_two_instances_that_fail_alike_with_no_success_between_them() {
        let (mut shared, now) = watch();
        assert!(!fails(&mut shared, now, 0, "a"));
        assert!(!fails(&mut shared, now, 0, "a"), "twice the same one");
        assert!(!fails(&mut shared, now, 1, "b"), "not alike");
        assert_eq!(shared.on_over(), None);
        assert!(!fails(&mut shared, now, 1, "a"), "one was ready since");
        let late = now + WINDOW + Duration::from_secs(1);
        assert!(!fails(&mut shared, late, 2, "a"), "too late");
        assert!(fails(&mut shared, late, 3, "a"));
        assert_eq!(shared.pause().map(|pause| pause.instances), Some(2));
        assert!(!fails(&mut shared, late, 0, "a"), "told once");
    }

    #[test]
    fn one_probes_at_a_time_later_and_later_until_one_is_ready() {
        let (mut shared, mut now) = watch();
        fails(&mut shared, now, 0, "a");
        fails(&mut shared, now, 1, "a");
        let mut longest = Duration::ZERO;
        for _ in 0..4 {
            let at = shared.probe_at().expect("a probe follows");
            assert!(at - now >= longest.mul_f64(0.99), "{:?}", at - now);
            longest = at - now;
            assert!(!shared.lets_start(at - Duration::from_millis(1), 1));
            assert!(shared.lets_start(at, 1));
            shared.on_start(1);
            assert_eq!(shared.probe_at(), None);
            assert!(!shared.lets_start(at, 2), "one at a time");
            now = at;
            assert!(!fails(&mut shared, now, 2, "a"), "it was on its way before");
            assert_eq!(shared.probe_at(), None, "the probe is still out");
            assert!(!fails(&mut shared, now, 1, "z"));
        }
        assert_eq!(shared.pause().map(|pause| pause.cause.as_str()), Some("z"));
        let pause = shared.on_over().expect("it was paused");
        assert_eq!(pause.instances, 2);
        assert!(shared.lets_start(now, 2));
    }

    #[test]
    fn a_probe_that_somebody_stops_makes_room_for_the_next_and_the_owner_need_not_wait() {
        let (mut shared, now) = watch();
        fails(&mut shared, now, 0, "a");
        fails(&mut shared, now, 1, "a");
        let at = shared.probe_at().expect("a probe follows");
        shared.on_start(0);
        shared.on_stopped(at, 0);
        assert!(shared.lets_start(at, 1));
        shared.on_start(1);
        shared.urge(2);
        assert!(shared.lets_start(now, 2));
        shared.on_start(2);
        fails(&mut shared, at, 2, "a");
        assert!(!shared.lets_start(at, 2), "it had its chance");
    }

    proptest! {
        #[test]
        fn a_pause_lets_somebody_start_in_the_end(
            steps in proptest::collection::vec((0usize..4, 0usize..4, 0u64..30), 0..200)
        ) {
            let (mut shared, mut now) = watch();
            for (step, instance, seconds) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 => drop(fails(&mut shared, now, instance, "a")),
                    1 => drop(shared.on_over()),
                    2 => shared.on_stopped(now, instance),
                    _ if shared.lets_start(now, instance) => shared.on_start(instance),
                    _ => {}
                }
            }
            let probe = shared.pause().and_then(|pause| pause.probe);
            if let Some(probe) = probe {
                fails(&mut shared, now, probe, "a");
            }
            let at = shared.probe_at().unwrap_or(now);
            prop_assert!(at - now <= Duration::from_secs(300));
            prop_assert!(shared.lets_start(at, 0));
        }
    }
}
