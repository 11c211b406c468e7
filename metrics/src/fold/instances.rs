//! The life of an instance in the numbers.
//!
//! Owns what is remembered of each, and what its events change. Must not know turns. Invariant: an instance is in one state,
//! and its tool counts it there.

use std::sync::Arc;
use std::time::Duration;

use toolpool_cluster::InstanceState;

use super::Fold;
use crate::series::{BREAKER_STATES, InstanceSeries};

/// Instances of a cluster that get series of their own. Each takes 17 of them, and Prometheus pays for every one.
const MAX_INSTANCE_SERIES: usize = 64;

/// What is remembered of an instance.
pub(super) struct Instance {
    /// Its tool's place among the cluster's.
    pub(super) tool: usize,
    state: InstanceState,
    /// Its process is being replaced because it is worn.
    pub(super) worn: bool,
    /// It restarts too often.
    looping: bool,
    /// Its breaker's place in [`BREAKER_STATES`].
    breaker: usize,
    /// When the prompt that it began last was accepted.
    pub(super) accepted_at: f64,
    pub(super) series: Option<InstanceSeries>,
}

impl Fold {
    /// A new instance, or one that comes back to the series that it had.
    pub(super) fn add(&mut self, at: f64, name: &Arc<str>, tool: &Arc<str>) {
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

    pub(super) fn remove(&mut self, name: &Arc<str>) {
        if let Some(index) = self.index(name) {
            self.instances[index].show_nothing();
            let state = self.instances[index].state;
            self.tool(index).count(state, -1);
        }
    }

    pub(super) fn on_changed(
        &mut self,
        at: f64,
        instance: &Arc<str>,
        generation: u64,
        from: InstanceState,
        to: InstanceState,
        start: Option<Duration>,
    ) {
        let Some(index) = self.index(instance) else {
            return;
        };
        if to == InstanceState::Starting && generation > 1 {
            self.count_restart(index, from);
        }
        self.set_state(index, to, at);
        if let Some(start) = start {
            let series = &self.tool(index).series;
            series.start_duration.record(start.as_secs_f64());
            self.note_samples(1);
        }
    }

    pub(super) fn on_breaker(&mut self, instance: &Arc<str>, to: &'static str) {
        self.series.breaker_transitions.add(&self.metrics, to, 1);
        let state = BREAKER_STATES.iter().position(|state| *state == to);
        if let (Some(index), Some(state)) = (self.index(instance), state) {
            self.instances[index].breaker = state;
            self.instances[index].show_breaker(state);
        }
    }

    pub(super) fn count_exit(
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

    /// The instance's turn has shown no life since then.
    pub(super) fn on_silence(&mut self, instance: &Arc<str>, since: f64) {
        if let Some(index) = self.index(instance) {
            self.tool(index).series.silences.increment(1);
            self.instances[index].show_silent_since(since);
        }
    }

    /// The instance's turn shows life.
    pub(super) fn show_life(&self, instance: &Arc<str>) {
        if let Some(instance) = self.instance(instance) {
            instance.show_silent_since(0.0);
        }
    }

    pub(super) fn note_loop(&mut self, instance: &Arc<str>, looping: bool) {
        let Some(index) = self.index(instance) else {
            return;
        };
        let instance = &mut self.instances[index];
        let was_looping = std::mem::replace(&mut instance.looping, looping);
        instance.show_looping();
        if looping && !was_looping {
            self.tool(index).series.crash_loops.increment(1);
        }
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

    pub(super) fn set_state(&mut self, index: usize, to: InstanceState, at: f64) {
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
}

impl Instance {
    fn new(tool: usize, series: Option<InstanceSeries>, at: f64) -> Self {
        let instance = Self {
            tool,
            state: InstanceState::Starting,
            worn: false,
            looping: false,
            breaker: 0,
            accepted_at: at,
            series,
        };
        instance.show_state(InstanceState::Starting, at);
        instance.show_breaker(0);
        instance.show_silent_since(0.0);
        instance.show_looping();
        instance
    }

    /// It is in no state any more.
    fn show_nothing(&self) {
        if let Some(series) = &self.series {
            let gauges = series.states.iter().chain(&series.breaker);
            gauges
                .chain([&series.since, &series.silent_since, &series.crash_looping])
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

    pub(super) fn show_silent_since(&self, at: f64) {
        if let Some(series) = &self.series {
            series.silent_since.set(at);
        }
    }

    fn show_looping(&self) {
        if let Some(series) = &self.series {
            series.crash_looping.set(f64::from(u8::from(self.looping)));
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
