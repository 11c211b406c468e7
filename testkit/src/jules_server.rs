//! A stand-in of Jules' REST API, on which a session does what its prompt orders.
//!
//! Owns the server's life and the ledger of its requests. Must not reach any other machine: it binds to 127.0.0.1 only.
//! Invariants: paths, fields and states are those that the official `@google/jules-sdk` 0.2.0 works with (a test runs it
//! against this server); whatever of the API is not here is answered with an error, never with a guess.
//!
//! It knows one repository, [`REPOSITORY`] with the branches `main` and `next`, and one key, [`KEY`]. A session is looked at
//! a few times before it ends, then it has said [`message_for`] its prompt. A prompt may order something else with words
//! in double brackets: `[[jules: end=failed looks=3]]`. The words are
//!
//! | word | effect |
//! | --- | --- |
//! | `looks=N` | it is found at work this often before its end; 2 by default |
//! | `end=HOW` | `completed`, `failed`, `feedback` (it asks something), `plan` (it waits for approval), or `never` |
//! | `quiet` | it says nothing |
//! | `pages=N` | what it said comes on so many pages |
//! | `pr` | its changes are in a pull request too |
//! | `late=N` | the first N questions about it are answered 404, as a service does that has not yet spread the news |
//! | `new=PATH text=TEXT` | its change: a new file PATH with the line TEXT, which goes up to the `]]` |
//! | `misfit` | its change is one of a file that is not there |
//! | `status=CODE` | an error response |
//! | `retry-after=SECONDS` | that header with the error |
//! | `drop` | the request is obeyed and the connection is cut in the middle of the answer |
//! | `hang` | the answer never comes |
//! | `at=WHAT` | where the last three strike: `create` (the default), `look` or `activities` |
//! | `times=N` | how often they do; for ever by default |

mod directives;
mod http;
mod ledger;
mod session;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use crate::hash::sha256;
use ledger::Ledger;
pub use ledger::Request;
pub use session::patch_for;

/// The key that the server accepts.
pub const KEY: &str = "a-key-for-tests";
/// The repository that is connected.
pub const REPOSITORY: &str = "acme/demo";

/// What a session says at its end, which tells which prompt it was about.
pub fn message_for(prompt: &str) -> String {
    format!("sha256:{}", sha256(prompt.as_bytes()))
}

/// A running server. Dropping it closes the port and cuts the answers that are under way.
#[derive(Debug)]
pub struct JulesServer {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    closing: watch::Sender<bool>,
}

impl JulesServer {
    /// Starts one on a free port, in a task of the current tokio runtime.
    ///
    /// # Errors
    /// If there is no current runtime, or no port.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let ledger = Arc::new(Ledger::default());
        let (closing, closed) = watch::channel(false);
        runtime.spawn(http::serve(listener, Arc::clone(&ledger), closed));
        Ok(Self {
            address,
            ledger,
            closing,
        })
    }

    /// What clients call the base URL: `http://127.0.0.1:PORT/v1alpha`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1alpha", self.address)
    }

    /// The requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.ledger.requests()
    }

    /// The prompts of the sessions that there are, in the order of their creation.
    pub fn prompts(&self) -> Vec<String> {
        self.ledger.prompts()
    }

    /// Waits until the requests are as wanted; for ever if they never are. Looks at each change. Cancel safe.
    pub async fn wait_until(&self, wanted: impl FnMut(&[Request]) -> bool) {
        self.ledger.wait_until(wanted).await;
    }
}

impl Drop for JulesServer {
    fn drop(&mut self) {
        // Only a task that has ended already could miss this.
        let _ = self.closing.send(true);
    }
}
