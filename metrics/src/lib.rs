//! COUNTS: folds a cluster's events into Prometheus metrics and serves them.
//!
//! Owns the metrics' names, labels and buckets, the fold and the page that Prometheus scrapes. Must not know anything of
//! a cluster but its events. Invariants: nothing is shown that no event tells; the number of series depends on the
//! number of instances alone, never on prompts, sessions or time.
//!
//! ```no_run
//! use toolpool_cluster::launch_cluster;
//! use toolpool_metrics::Metrics;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::new();
//! let exporter = metrics.serve("127.0.0.1:9464".parse()?)?;
//! let cluster = launch_cluster("aider").count(3).sink(metrics.sink()).await?;
//! println!("scrape http://{}/metrics", exporter.address());
//! # cluster.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod cost;
mod exporter;
mod exposition;
mod families;
mod fold;
mod process;
mod queue;
mod registry;
mod series;

pub use exporter::Exporter;
pub use fold::MetricsSink;
pub use registry::Metrics;
