//! The series of one cluster, of its tools and of its instances.
//!
//! Owns the cached handles: finding a series by its labels costs more than everything else about an event. Must not know
//! events. Invariant: what can be counted is there, at 0, from the start.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Label};
use toolpool_cluster::{InstanceState, PauseCause, SubmitError};

use crate::families::*;
use crate::registry::Metrics;

/// How many states an instance has.
pub(crate) const STATES: usize = InstanceState::ALL.len();

/// A breaker's states in the words of the events.
pub(crate) const BREAKER_STATES: [&str; 3] = ["closed", "open", "half_open"];

const OUTCOMES: &[&str] = &[
    "completed",
    "failed",
    "cancelled",
    "expired",
    "indeterminate",
];
const PERMISSION_RESULTS: &[&str] = &["allowed", "denied", "timed_out", "withdrawn", "late"];
const ROUTES: &[&str] = &["direct", "sticky", "target"];

/// Counters of one family, one for each word of a small set.
pub(crate) struct Words {
    family: &'static str,
    labels: Vec<Label>,
    key: &'static str,
    counters: Vec<(&'static str, Counter)>,
}

impl Words {
    fn new(
        metrics: &Metrics,
        family: &'static str,
        labels: &[Label],
        key: &'static str,
        words: &[&'static str],
    ) -> Self {
        let mut new = Self {
            family,
            labels: labels.to_vec(),
            key,
            counters: Vec::with_capacity(words.len()),
        };
        for word in words {
            new.add(metrics, word, 0);
        }
        new
    }

    /// Counts. A word that was not known from the start is one of the program's own constants too, so the series stay
    /// few.
    pub(crate) fn add(&mut self, metrics: &Metrics, word: &'static str, count: u64) {
        match self.counters.iter().find(|(known, _)| *known == word) {
            Some((_, counter)) => counter.increment(count),
            None => {
                let counter = metrics.counter(self.family, with(&self.labels, self.key, word));
                counter.increment(count);
                self.counters.push((word, counter));
            }
        }
    }
}

/// What is shown of a whole cluster.
pub(crate) struct ClusterSeries {
    pub(crate) instances_desired: Gauge,
    pub(crate) queue_wait: Histogram,
    pub(crate) retries: Words,
    pub(crate) permissions: Words,
    pub(crate) rejected: Words,
    pub(crate) queue_depth: Gauge,
    pub(crate) queue_oldest: Gauge,
    pub(crate) routes: Words,
    pub(crate) sessions: Gauge,
    pub(crate) breaker_transitions: Words,
    /// Turns that never ran, under the name for all tools of the cluster.
    pub(crate) turns: Words,
}

impl ClusterSeries {
    pub(crate) fn new(
        metrics: &Metrics,
        cluster: &Arc<str>,
        tool: &Arc<str>,
        strategy: &'static str,
        queue_limit: usize,
    ) -> Self {
        let cluster = vec![Label::new("cluster", Arc::clone(cluster))];
        let tool = with(&cluster, "tool", Arc::clone(tool));
        let strategy = with(&cluster, "strategy", strategy);
        let words = |family, labels, key, words| Words::new(metrics, family, labels, key, words);
        // Of the refusals' codes those that a cluster itself gives; others are refused before it hears of them.
        let refusals = [
            SubmitError::QueueFull { limit: 0 }.code(),
            SubmitError::Draining.code(),
            SubmitError::NoInstance { index: 0, last: 0 }.code(),
        ];
        metrics
            .gauge(QUEUE_CAPACITY, cluster.clone())
            .set(queue_limit as f64);
        Self {
            instances_desired: metrics.gauge(INSTANCES_DESIRED, cluster.clone()),
            queue_wait: metrics.histogram(TURN_QUEUE_WAIT, cluster.clone()),
            retries: words(
                TURN_RETRIES,
                &cluster,
                "reason",
                &["tool", "handed_back", "policy"],
            ),
            permissions: words(PERMISSIONS, &cluster, "result", PERMISSION_RESULTS),
            rejected: words(REJECTED, &cluster, "reason", &refusals),
            queue_depth: metrics.gauge(QUEUE_DEPTH, cluster.clone()),
            queue_oldest: metrics.gauge(QUEUE_OLDEST, cluster.clone()),
            routes: words(ROUTE_DECISIONS, &strategy, "result", ROUTES),
            sessions: metrics.gauge(SESSIONS, cluster.clone()),
            breaker_transitions: words(BREAKER_TRANSITIONS, &cluster, "to", &BREAKER_STATES),
            turns: words(TURNS, &tool, "outcome", OUTCOMES),
        }
    }
}

/// What is shown of one tool of a cluster.
pub(crate) struct ToolSeries {
    pub(crate) instances: [Gauge; STATES],
    pub(crate) exits: Words,
    pub(crate) leaks: Counter,
    pub(crate) crash_loops: Counter,
    pub(crate) silences: Counter,
    pub(crate) restarts: Words,
    pub(crate) start_duration: Histogram,
    pub(crate) turns: Words,
    pub(crate) in_flight: Gauge,
    pub(crate) paused: [Gauge; PauseCause::ALL.len()],
    pub(crate) takeovers: Counter,
    pub(crate) duration: Histogram,
    pub(crate) first_output: Histogram,
    /// Empty until the tool reports some.
    pub(crate) tokens: Words,
}

impl ToolSeries {
    pub(crate) fn new(metrics: &Metrics, cluster: &Arc<str>, tool: &Arc<str>) -> Self {
        let tool = vec![
            Label::new("cluster", Arc::clone(cluster)),
            Label::new("tool", Arc::clone(tool)),
        ];
        let words = |family, key, words| Words::new(metrics, family, &tool, key, words);
        Self {
            instances: states(metrics, INSTANCES, &tool),
            exits: words(
                INSTANCE_EXITS,
                "reason",
                &["exit", "signal", "stopped", "unknown"],
            ),
            leaks: metrics.counter(INSTANCE_LEAKS, tool.clone()),
            crash_loops: metrics.counter(INSTANCE_CRASH_LOOPS, tool.clone()),
            silences: metrics.counter(TURN_SILENCES, tool.clone()),
            restarts: words(
                INSTANCE_RESTARTS,
                "reason",
                &["failure", "probe", "worn", "manual"],
            ),
            start_duration: metrics.histogram(INSTANCE_START_DURATION, tool.clone()),
            turns: words(TURNS, "outcome", OUTCOMES),
            in_flight: metrics.gauge(TURNS_IN_FLIGHT, tool.clone()),
            takeovers: metrics.counter(TAKEOVERS, tool.clone()),
            paused: PauseCause::ALL
                .map(|cause| metrics.gauge(PAUSED, with(&tool, "reason", cause.word()))),
            duration: metrics.histogram(TURN_DURATION, tool.clone()),
            first_output: metrics.histogram(TURN_FIRST_OUTPUT, tool.clone()),
            tokens: words(TOKENS, "kind", &[]),
        }
    }
}

/// What is shown of one instance.
pub(crate) struct InstanceSeries {
    labels: Vec<Label>,
    pub(crate) states: [Gauge; STATES],
    pub(crate) since: Gauge,
    pub(crate) silent_since: Gauge,
    pub(crate) crash_looping: Gauge,
    pub(crate) breaker: [Gauge; BREAKER_STATES.len()],
}

impl InstanceSeries {
    pub(crate) fn new(metrics: &Metrics, cluster: &Arc<str>, instance: &Arc<str>) -> Self {
        // Prometheus gives each target a label `instance` and would rename ours.
        let labels = vec![
            Label::new("cluster", Arc::clone(cluster)),
            Label::new("tool_instance", Arc::clone(instance)),
        ];
        Self {
            states: states(metrics, INSTANCE_STATE, &labels),
            since: metrics.gauge(INSTANCE_STATE_SINCE, labels.clone()),
            silent_since: metrics.gauge(INSTANCE_SILENT_SINCE, labels.clone()),
            crash_looping: metrics.gauge(INSTANCE_CRASH_LOOPING, labels.clone()),
            breaker: BREAKER_STATES
                .map(|state| metrics.gauge(BREAKER_STATE, with(&labels, "state", state))),
            labels,
        }
    }

    /// A new process; there is no such series before the first.
    pub(crate) fn set_started(&self, metrics: &Metrics, at: f64) {
        metrics.gauge(INSTANCE_STARTED, self.labels.clone()).set(at);
    }
}

fn states(metrics: &Metrics, family: &'static str, labels: &[Label]) -> [Gauge; STATES] {
    InstanceState::ALL.map(|state| metrics.gauge(family, with(labels, "state", state.word())))
}

fn with(
    labels: &[Label],
    key: &'static str,
    value: impl Into<metrics::SharedString>,
) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::new(key, value));
    labels
}
