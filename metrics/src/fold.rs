//! From events to numbers.
//!
//! Owns what has to be remembered between the events of one cluster. Must not know clocks: the time is each event's own,
//! so that the same events always give the same numbers. Invariant: accepted prompts = ended + queued + in flight, after
//! every event.

mod instances;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::Label;
use toolpool_cluster::{Event, EventKind, EventSink, InstanceState, PauseCause, planted};

use crate::queue::Queue;
use crate::registry::Metrics;
use crate::series::{ClusterSeries, STATES, ToolSeries};
use instances::Instance;

/// Samples that may wait to be sorted into buckets. So their memory is bounded whether anybody scrapes or not; sorting
/// this many keeps the dispatcher for about 50 microseconds, measured on a shared two-core machine.
const MAX_SAMPLES: usize = 16_384;

/// Folds the events of one cluster into the [`Metrics`] that it came from.
pub struct MetricsSink {
    metrics: Metrics,
    fold: Option<Fold>,
}

impl MetricsSink {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            fold: None,
        }
    }
}

impl std::fmt::Debug for MetricsSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsSink").finish_non_exhaustive()
    }
}

impl EventSink for MetricsSink {
    fn on_event(&mut self, event: &Event) {
        let at = event
            .at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        if let EventKind::ClusterStarted {
            cluster,
            tool,
            tools,
            instances,
            strategy,
            queue_limit,
        } = &event.kind
        {
            let series = ClusterSeries::new(&self.metrics, cluster, tool, strategy, *queue_limit);
            self.fold = Some(Fold::new(
                &self.metrics,
                cluster,
                tools,
                instances,
                series,
                at,
            ));
        } else if let Some(fold) = &mut self.fold {
            fold.on_event(at, &event.kind);
        }
    }
}

struct Fold {
    metrics: Metrics,
    cluster: Arc<str>,
    series: ClusterSeries,
    desired: usize,
    tools: Vec<Tool>,
    instances: Vec<Instance>,
    indices: HashMap<Arc<str>, usize>,
    queue: Queue,
    samples: usize,
}

/// What is remembered of a tool.
struct Tool {
    name: Arc<str>,
    /// How many instances are in each state.
    in_state: [usize; STATES],
    in_flight: usize,
    series: ToolSeries,
}

impl Fold {
    fn new(
        metrics: &Metrics,
        cluster: &Arc<str>,
        tools_of: &[Arc<str>],
        names: &[Arc<str>],
        series: ClusterSeries,
        at: f64,
    ) -> Self {
        let mut tools: Vec<Tool> = Vec::new();
        for tool in tools_of {
            if !tools.iter().any(|known| known.name == *tool) {
                tools.push(Tool::new(metrics, cluster, tool));
            }
        }
        series.instances_desired.set(names.len() as f64);
        series.sessions.set(0.0);
        let mut fold = Self {
            metrics: metrics.clone(),
            cluster: Arc::clone(cluster),
            series,
            desired: names.len(),
            tools,
            instances: Vec::new(),
            indices: HashMap::new(),
            queue: Queue::default(),
            samples: 0,
        };
        for (name, tool) in names.iter().zip(tools_of) {
            fold.add(at, name, tool);
        }
        fold.show_queue();
        fold
    }

    fn on_event(&mut self, at: f64, event: &EventKind) {
        match event {
            EventKind::ClusterDraining => self.series.instances_desired.set(0.0),
            EventKind::ClusterStopped => self.series.sessions.set(0.0),
            EventKind::PromptAccepted { turn, .. } => self.enqueue(turn.0, at),
            EventKind::PromptRefused { reason } => {
                self.series.rejected.add(&self.metrics, reason, 1);
            }
            EventKind::TurnStarted {
                turn,
                instance,
                queued,
                route,
                ..
            } => self.on_turn_started(at, turn.0, instance, *queued, route),
            EventKind::TurnRetrying { .. } => self.series.retries.add(&self.metrics, "tool", 1),
            EventKind::TurnSilent {
                instance, silent, ..
            } => self.on_silence(instance, at - silent.as_secs_f64()),
            EventKind::TurnHeard { instance, .. } => self.show_life(instance),
            EventKind::PermissionAnswered { allowed, by, .. } => {
                let result = match (*allowed, *by) {
                    (true, _) => "allowed",
                    (false, "timeout") => "timed_out",
                    (false, _) => "denied",
                };
                self.series.permissions.add(&self.metrics, result, 1);
            }
            EventKind::PermissionWithdrawn { .. } => {
                self.series.permissions.add(&self.metrics, "withdrawn", 1)
            }
            EventKind::AnswerRefused { .. } => {
                self.series.permissions.add(&self.metrics, "late", 1)
            }
            EventKind::TurnHandedBack { turn, instance } => {
                self.on_queued_again(at, turn.0, instance, "handed_back", false);
            }
            EventKind::TurnRetried {
                turn,
                instance,
                ready,
                ..
            } => self.on_queued_again(at, turn.0, instance, "policy", *ready),
            EventKind::TurnEnded { .. } => self.on_turn_ended(at, event),
            EventKind::InstanceSpawned { instance, .. } => {
                if let Some(instance) = self.instance(instance)
                    && let Some(series) = &instance.series
                {
                    series.set_started(&self.metrics, at);
                }
            }
            EventKind::InstanceChanged {
                instance,
                generation,
                from,
                to,
                start,
                crash_looping,
                ..
            } => {
                self.note_loop(instance, *crash_looping);
                self.on_changed(at, instance, *generation, *from, *to, *start);
            }
            EventKind::GroupScaled { from, to, .. } => {
                self.desired = (self.desired + to).saturating_sub(*from);
                self.series.instances_desired.set(self.desired as f64);
            }
            EventKind::InstanceAdded { instance, tool } => self.add(at, instance, tool),
            EventKind::InstanceRemoved { instance } => self.remove(instance),
            EventKind::InstanceRelieved { instance, .. } => {
                if let Some(index) = self.index(instance) {
                    self.tool(index).series.takeovers.increment(1);
                }
            }
            EventKind::InstanceRecycled { instance, .. } => {
                if let Some(index) = self.index(instance) {
                    self.instances[index].worn = true;
                }
            }
            EventKind::InstanceExited {
                instance,
                code,
                signal,
                leaked,
                ..
            } => self.count_exit(instance, *code, *signal, *leaked),
            EventKind::BreakerChanged { instance, to } => self.on_breaker(instance, to),
            EventKind::GroupPaused { tool, cause, .. } => self.on_pause(tool, cause, 1.0),
            EventKind::GroupResumed { tool, cause, .. } => self.on_pause(tool, cause, -1.0),
            EventKind::SessionPinned { sessions, .. }
            | EventKind::SessionClosed { sessions }
            | EventKind::SessionsLost { sessions, .. } => {
                if planted("session_label") {
                    let label = Label::new("session", sessions.to_string());
                    self.metrics.gauge("toolpool_session", vec![label]).set(1.0);
                }
                self.series.sessions.set(*sessions as f64);
            }
            // The start has been taken before; what is not known yet counts nowhere.
            _ => {}
        }
    }

    fn on_pause(&self, tool: &Arc<str>, cause: &str, more: f64) {
        let cause = PauseCause::ALL
            .iter()
            .position(|known| known.word() == cause);
        let tool = self.tools.iter().find(|known| known.name == *tool);
        if let (Some(tool), Some(cause)) = (tool, cause) {
            tool.series.paused[cause].increment(more);
        }
    }

    /// The tool of an instance.
    fn tool(&mut self, instance: usize) -> &mut Tool {
        &mut self.tools[self.instances[instance].tool]
    }

    fn note_samples(&mut self, more: usize) {
        self.samples += more;
        if self.samples >= MAX_SAMPLES {
            self.samples = 0;
            self.metrics.drain_samples();
        }
    }

    fn index(&self, instance: &Arc<str>) -> Option<usize> {
        self.indices.get(instance).copied()
    }

    fn instance(&self, instance: &Arc<str>) -> Option<&Instance> {
        self.index(instance).map(|index| &self.instances[index])
    }
}

impl Tool {
    fn new(metrics: &Metrics, cluster: &Arc<str>, name: &Arc<str>) -> Self {
        let series = ToolSeries::new(metrics, cluster, name);
        for gauge in series.instances.iter().chain(&series.paused) {
            gauge.set(0.0);
        }
        series.in_flight.set(0.0);
        series.takeovers.increment(0);
        series.leaks.increment(0);
        series.crash_loops.increment(0);
        series.silences.increment(0);
        Self {
            name: Arc::clone(name),
            in_state: [0; STATES],
            in_flight: 0,
            series,
        }
    }

    /// So many instances more are in a state.
    fn count(&mut self, state: InstanceState, more: isize) {
        let count = &mut self.in_state[state as usize];
        *count = count.saturating_add_signed(more);
        self.series.instances[state as usize].set(*count as f64);
    }

    fn fly(&mut self, change: impl Fn(usize) -> usize) {
        self.in_flight = change(self.in_flight);
        self.series.in_flight.set(self.in_flight as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_place_in_the_list_of_all_states() {
        for (place, state) in InstanceState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place, "{}", state.word());
        }
    }
}
