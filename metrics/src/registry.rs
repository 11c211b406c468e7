//! One set of metrics, for any number of clusters.
//!
//! Owns the recorder and the rendering. Must not know events. Invariant: nothing is global, so that two sets never mix.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Label};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::cost::Costs;
use crate::families::{BUILD_INFO, FAMILIES, Kind};
use crate::fold::MetricsSink;
use crate::{exposition, process};

/// Metrics of one or several clusters. Clones are handles to the same metrics.
///
/// Clusters that share it must have different names; their gauges would overwrite each other otherwise.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    costs: Costs,
}

impl Metrics {
    /// Metrics that know of no cluster yet.
    pub fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for family in FAMILIES {
            if let Kind::Histogram(buckets) = family.kind {
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)
                    .expect("every family of histograms has buckets");
            }
        }
        let recorder = builder.build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for family in FAMILIES {
                let (name, unit, help) = (family.name, family.unit, family.help);
                match family.kind {
                    Kind::Counter => metrics::describe_counter!(name, unit, help),
                    Kind::Gauge => metrics::describe_gauge!(name, unit, help),
                    Kind::Histogram(_) => metrics::describe_histogram!(name, unit, help),
                }
            }
            metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        Self {
            inner: Arc::new(Inner {
                handle: recorder.handle(),
                recorder,
                costs: Costs::default(),
            }),
        }
    }

    /// A sink for the events of one cluster, to be given to its builder.
    pub fn sink(&self) -> MetricsSink {
        MetricsSink::new(self.clone())
    }

    /// All metrics in Prometheus' text format, version 0.0.4, in a stable order.
    pub fn render(&self) -> String {
        let mut text = self.inner.handle.render();
        self.inner.costs.write(&mut text);
        process::write(&mut text);
        exposition::in_order(&text)
    }

    pub(crate) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        metrics::with_local_recorder(&self.inner.recorder, || metrics::counter!(name, labels))
    }

    pub(crate) fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        metrics::with_local_recorder(&self.inner.recorder, || metrics::gauge!(name, labels))
    }

    pub(crate) fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        metrics::with_local_recorder(&self.inner.recorder, || metrics::histogram!(name, labels))
    }

    pub(crate) fn costs(&self) -> &Costs {
        &self.inner.costs
    }

    /// Sorts observed samples into their buckets; until then each takes up memory of its own.
    pub(crate) fn drain_samples(&self) {
        self.inner.handle.run_upkeep();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
