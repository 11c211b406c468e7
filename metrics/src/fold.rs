//! From events to numbers.
//!
//! Owns what has to be remembered between the events of one cluster. Must not know clocks: the time is each event's own,
//! so that the same events always give the same numbers. Invariant: accepted prompts = ended + queued + in flight, after
//! every event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Label;
use toolpool_cluster::{Event, EventKind, EventSink, InstanceState, PauseCause, planted};

use crate::queue::Queue;
use crate::registry::Metrics;
use crate::series::{BREAKER_STATES, ClusterSeries, InstanceSeries, STATES, ToolSeries};

/// Instances of a cluster that get series of their own. Each takes 15 of them, and Prometheus pays for every one.
const MAX_INSTANCE_SERIES: usize = 64;

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

/// What is remembered of an instance.
struct Instance {
    /// Its tool's place among the cluster's.
    tool: usize,
    state: InstanceState,
    /// Its process is being replaced because it is worn.
    worn: bool,
    /// Its breaker's place in [`BREAKER_STATES`].
    breaker: usize,
    /// When the prompt that it began last was accepted.
    accepted_at: f64,
    series: Option<InstanceSeries>,
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
        let instances: Vec<Instance> = names
            .iter()
            .zip(tools_of)
            .enumerate()
            .map(|(index, (name, tool))| {
                let known = tools.iter().position(|known| known.name == *tool);
                let place = known.unwrap_or_else(|| {
                    tools.push(Tool::new(metrics, cluster, tool));
                    tools.len() - 1
                });
                tools[place].in_state[InstanceState::Starting as usize] += 1;
                let series = (index < MAX_INSTANCE_SERIES)
                    .then(|| InstanceSeries::new(metrics, cluster, name));
                Instance::new(place, series, at)
            })
            .collect();
        for tool in &tools {
            for (gauge, count) in tool.series.instances.iter().zip(tool.in_state) {
                gauge.set(count as f64);
            }
            tool.series.in_flight.set(0.0);
            tool.series.takeovers.increment(0);
            tool.series.leaks.increment(0);
            for paused in &tool.series.paused {
                paused.set(0.0);
            }
        }
        let desired = instances.len();
        series.instances_desired.set(desired as f64);
        series.sessions.set(0.0);
        let fold = Self {
            metrics: metrics.clone(),
            cluster: Arc::clone(cluster),
            series,
            desired,
            tools,
            instances,
            indices: names.iter().cloned().zip(0..).collect(),
            queue: Queue::default(),
            samples: 0,
        };
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
                self.series.retries.add(&self.metrics, "handed_back", 1);
                let accepted_at = self.index(instance).map_or(at, |index| {
                    self.tool(index).fly(|count| count.saturating_sub(1));
                    self.instances[index].accepted_at
                });
                self.enqueue(turn.0, accepted_at);
            }
            EventKind::TurnRetried {
                turn,
                instance,
                ready,
                ..
            } => {
                self.series.retries.add(&self.metrics, "policy", 1);
                let index = self.index(instance);
                if let Some(index) = index {
                    self.tool(index).fly(|count| count.saturating_sub(1));
                    if *ready {
                        self.set_state(index, InstanceState::Ready, at);
                    }
                }
                let accepted_at = index.map_or(at, |index| self.instances[index].accepted_at);
                self.enqueue(turn.0, accepted_at);
            }
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
                ..
            } => {
                if let Some(index) = self.index(instance) {
                    if *to == InstanceState::Starting && *generation > 1 {
                        self.count_restart(index, *from);
                    }
                    self.set_state(index, *to, at);
                    if let Some(start) = start {
                        let series = &self.tool(index).series;
                        series.start_duration.record(start.as_secs_f64());
                        self.note_samples(1);
                    }
                }
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

    fn on_turn_started(
        &mut self,
        at: f64,
        turn: u64,
        instance: &Arc<str>,
        queued: Duration,
        route: &'static str,
    ) {
        let accepted_at = self.dequeue(turn).unwrap_or(at - queued.as_secs_f64());
        if let Some(index) = self.index(instance) {
            self.tool(index).fly(|count| count + 1);
            self.instances[index].accepted_at = accepted_at;
            self.set_state(index, InstanceState::Busy, at);
        }
        self.series.routes.add(&self.metrics, route, 1);
        self.series.queue_wait.record(queued.as_secs_f64());
        self.note_samples(1);
    }

    fn on_turn_ended(&mut self, at: f64, event: &EventKind) {
        let EventKind::TurnEnded {
            turn,
            instance,
            outcome,
            queued,
            took,
            first_output,
            usage,
            ready,
            ..
        } = event
        else {
            return;
        };
        let Some(index) = instance.as_ref().and_then(|name| self.index(name)) else {
            self.series.turns.add(&self.metrics, outcome, 1);
            self.dequeue(turn.0);
            self.series.queue_wait.record(queued.as_secs_f64());
            self.note_samples(1);
            return;
        };
        if *ready {
            self.set_state(index, InstanceState::Ready, at);
        }
        let tool = &mut self.tools[self.instances[index].tool];
        tool.fly(|count| count.saturating_sub(1));
        tool.series.turns.add(&self.metrics, outcome, 1);
        tool.series.duration.record(took.as_secs_f64());
        if let Some(first_output) = first_output {
            tool.series.first_output.record(first_output.as_secs_f64());
        }
        if let Some(usage) = usage {
            let kinds = [
                ("input", usage.input_tokens),
                ("output", usage.output_tokens),
            ];
            for (kind, tokens) in kinds {
                if let Some(tokens) = tokens {
                    tool.series.tokens.add(&self.metrics, kind, tokens);
                }
            }
            if let Some(usd) = usage.cost_usd {
                self.metrics.costs().add(&self.cluster, &tool.name, usd);
            }
        }
        self.note_samples(1 + usize::from(first_output.is_some()));
    }

    /// A new instance, or one that comes back to the series that it had.
    fn add(&mut self, at: f64, name: &Arc<str>, tool: &Arc<str>) {
        let Some(place) = self.tools.iter().position(|known| known.name == *tool) else {
            return;
        };
        let index = self.index(name).unwrap_or(self.instances.len());
        let series = (index < MAX_INSTANCE_SERIES)
            .then(|| InstanceSeries::new(&self.metrics, &self.cluster, name));
        let instance = Instance::new(place, series, at);
        if index < self.instances.len() {
            self.instances[index] = instance;
        } else {
            self.instances.push(instance);
            self.indices.insert(Arc::clone(name), index);
        }
        self.tools[place].count(InstanceState::Starting, 1);
    }

    fn remove(&mut self, name: &Arc<str>) {
        if let Some(index) = self.index(name) {
            self.instances[index].show_nothing();
            let state = self.instances[index].state;
            self.tool(index).count(state, -1);
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

    fn on_breaker(&mut self, instance: &Arc<str>, to: &'static str) {
        self.series.breaker_transitions.add(&self.metrics, to, 1);
        let state = BREAKER_STATES.iter().position(|state| *state == to);
        if let (Some(index), Some(state)) = (self.index(instance), state) {
            self.instances[index].breaker = state;
            self.instances[index].show_breaker(state);
        }
    }

    fn count_exit(
        &mut self,
        instance: &Arc<str>,
        code: Option<i32>,
        signal: Option<i32>,
        leaked: bool,
    ) {
        let Some(index) = self.index(instance) else {
            return;
        };
        let stopping = self.instances[index].state == InstanceState::Stopping;
        let reason = match (code, signal) {
            _ if stopping => "stopped",
            (Some(_), _) => "exit",
            (None, Some(_)) => "signal",
            (None, None) => "unknown",
        };
        let tool = &mut self.tools[self.instances[index].tool];
        tool.series.exits.add(&self.metrics, reason, 1);
        tool.series.leaks.increment(u64::from(leaked));
    }

    fn count_restart(&mut self, index: usize, from: InstanceState) {
        let probes = BREAKER_STATES[self.instances[index].breaker] == "half_open";
        let worn = std::mem::take(&mut self.instances[index].worn);
        let reason = match from {
            _ if worn => "worn",
            InstanceState::Backoff => "failure",
            InstanceState::Tripped if probes => "probe",
            _ => "manual",
        };
        let tool = &mut self.tools[self.instances[index].tool];
        tool.series.restarts.add(&self.metrics, reason, 1);
    }

    fn set_state(&mut self, index: usize, to: InstanceState, at: f64) {
        let instance = &mut self.instances[index];
        let from = std::mem::replace(&mut instance.state, to);
        if from == to {
            return;
        }
        instance.show_state(from, at);
        let tool = self.tool(index);
        tool.count(from, -1);
        tool.count(to, 1);
    }

    fn enqueue(&mut self, turn: u64, accepted_at: f64) {
        self.queue.put(turn, accepted_at);
        self.show_queue();
    }

    fn dequeue(&mut self, turn: u64) -> Option<f64> {
        let accepted_at = self.queue.take(turn);
        self.show_queue();
        accepted_at
    }

    /// The tool of an instance.
    fn tool(&mut self, instance: usize) -> &mut Tool {
        &mut self.tools[self.instances[instance].tool]
    }

    fn show_queue(&self) {
        self.series.queue_depth.set(self.queue.len() as f64);
        let oldest = self.queue.oldest();
        self.series.queue_oldest.set(oldest.unwrap_or_default());
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
        Self {
            name: Arc::clone(name),
            in_state: [0; STATES],
            in_flight: 0,
            series: ToolSeries::new(metrics, cluster, name),
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

impl Instance {
    fn new(tool: usize, series: Option<InstanceSeries>, at: f64) -> Self {
        let instance = Self {
            tool,
            state: InstanceState::Starting,
            worn: false,
            breaker: 0,
            accepted_at: at,
            series,
        };
        instance.show_state(InstanceState::Starting, at);
        instance.show_breaker(0);
        instance
    }

    /// It is in no state any more.
    fn show_nothing(&self) {
        if let Some(series) = &self.series {
            let gauges = series.states.iter().chain(&series.breaker);
            gauges
                .chain([&series.since])
                .for_each(|gauge| gauge.set(0.0));
        }
    }

    fn show_state(&self, from: InstanceState, at: f64) {
        if let Some(series) = &self.series {
            series.states[from as usize].set(0.0);
            series.states[self.state as usize].set(1.0);
            series.since.set(at);
        }
    }

    fn show_breaker(&self, state: usize) {
        if let Some(series) = &self.series {
            for (place, gauge) in series.breaker.iter().enumerate() {
                gauge.set(f64::from(u8::from(place == state)));
            }
        }
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
