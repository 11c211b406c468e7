//! The Prometheus page of a running command.
//!
//! Owns the connection between a cluster and the exporter. Must not know what is counted.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use toolpool::{Metrics, MetricsSink};

use crate::error::CliError;

/// Longest page that is read back; one of a few instances has some tens of kilobytes.
const LONGEST_PAGE: u64 = 4 << 20;

/// Serves until it is dropped.
pub(crate) struct Exporter(toolpool::Exporter);

impl Exporter {
    /// Starts to serve; the sink is for the cluster.
    pub(crate) fn start(address: SocketAddr) -> Result<(Self, MetricsSink), CliError> {
        let metrics = Metrics::new();
        let exporter = metrics
            .serve(address)
            .map_err(|error| CliError::usage("metrics", error.to_string()))?;
        Ok((Self(exporter), metrics.sink()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.0.address())
    }

    /// Reads the page back as Prometheus would.
    pub(crate) async fn scrape(&self) -> std::io::Result<String> {
        let address = self.0.address();
        let mut connection = tokio::net::TcpStream::connect(address).await?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        connection
            .take(LONGEST_PAGE)
            .read_to_string(&mut page)
            .await?;
        Ok(page)
    }
}
