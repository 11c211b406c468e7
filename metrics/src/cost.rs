//! What turns cost.
//!
//! Owns `toolpool_cost_usd_total`, which the recorder cannot hold: its counters are whole numbers, and a gauge must not
//! be called `_total`. Invariant: only ever grows; absent until a tool reports a cost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use metrics_exporter_prometheus::formatting::{
    sanitize_label_value, write_help_line, write_type_line,
};

pub(crate) const COST: &str = "toolpool_cost_usd_total";

/// US dollars for each cluster and tool.
#[derive(Default)]
pub(crate) struct Costs(Mutex<BTreeMap<Account, f64>>);

/// A cluster and its tool.
type Account = (Arc<str>, Arc<str>);

impl Costs {
    /// Adds a turn's cost. What is no amount of money is left out.
    pub(crate) fn add(&self, cluster: &Arc<str>, tool: &Arc<str>, usd: f64) {
        if usd.is_finite() && usd >= 0.0 {
            let mut costs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *costs
                .entry((Arc::clone(cluster), Arc::clone(tool)))
                .or_default() += usd;
        }
    }

    pub(crate) fn write(&self, text: &mut String) {
        let costs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if costs.is_empty() {
            return;
        }
        write_help_line(
            text,
            COST,
            None,
            None,
            "Cost in US dollars as the tool reports it; absent while it reports none.",
        );
        write_type_line(text, COST, None, None, "counter");
        for ((cluster, tool), usd) in costs.iter() {
            let (cluster, tool) = (sanitize_label_value(cluster), sanitize_label_value(tool));
            // Writing to a string cannot fail.
            writeln!(
                text,
                "{COST}{{cluster=\"{cluster}\",tool=\"{tool}\"}} {usd}"
            )
            .ok();
        }
        text.push('\n');
    }
}
