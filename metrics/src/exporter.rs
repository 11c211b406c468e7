//! The page that Prometheus scrapes.
//!
//! Owns the listener. Must not know what is on the page. Invariant: it listens on loopback alone, because there is no
//! access control.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::registry::Metrics;

/// The text format's own name; see "Exposition formats" in Prometheus' documentation.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// A page that is being served. Dropping it stops that and closes its connections.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    /// Dropped with the exporter, which its task notices.
    _alive: oneshot::Sender<()>,
}

impl Exporter {
    /// Where it listens, with the port that was chosen if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Metrics {
    /// Serves the metrics at `/metrics` under a loopback address, and nothing else there. Port 0 takes any free port.
    ///
    /// # Errors
    /// If the address is not a loopback address, cannot be listened on, or there is no tokio runtime around.
    ///
    /// # Panics
    /// If the tokio runtime around was built without I/O.
    pub fn serve(&self, address: SocketAddr) -> io::Result<Exporter> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "metrics are not served at {address}: it is not a loopback address, and everybody who reaches it could read them; use 127.0.0.1:{} and let a proxy with access control pass them on",
                    address.port()
                ),
            ));
        }
        let runtime = Handle::try_current().map_err(|_| {
            io::Error::other("metrics cannot be served outside a tokio runtime; call `serve` in an async function")
        })?;
        let listener = listen(address).map_err(|error| refused(address, &error))?;
        let address = listener.local_addr()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let metrics = self.clone();
        let page = get(|| async move { ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.render()) });
        let router = Router::new().route("/metrics", page);
        let (alive, gone) = oneshot::channel::<()>();
        runtime.spawn(async move {
            let server = axum::serve(listener, router).with_graceful_shutdown(async {
                gone.await.ok();
            });
            // It ends with the exporter alone: errors of connections are not its own.
            server.await.ok();
        });
        Ok(Exporter {
            address,
            _alive: alive,
        })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn refused(address: SocketAddr, error: &io::Error) -> io::Error {
    let next = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, choose another port, or port 0 for any free one"
        }
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        _ => "choose another address",
    };
    io::Error::new(
        error.kind(),
        format!("metrics cannot be served at {address}: {error}; {next}"),
    )
}
