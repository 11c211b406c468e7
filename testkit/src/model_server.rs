//! A local language model that speaks the OpenAI chat API and the Gemini API, and answers by formula.
//!
//! Owns the server's life and the record of its requests. Must not reach any other machine: it binds to 127.0.0.1 only.
//! Invariant: every answer is a function of the last user message (and, for edits, of the files in the request), so a
//! test can say beforehand what the answer to a prompt must be: see [`answer_for`].
//!
//! The default answer is `sha256:` and the hex digest of the last user message. A prompt may order something else with
//! words in double brackets, anywhere in it: `[[model: status=429 times=2]]`. The words are
//!
//! | word | effect |
//! | --- | --- |
//! | `status=CODE` | an error response (400, 401, 404, 429, 500, 503, …) in OpenAI's shape |
//! | `retry-after=SECONDS` | that header with the error |
//! | `delay=TIME` | the headers come after this time, such as `2s` or `50ms` |
//! | `hang` | the headers never come |
//! | `hang-mid` | the first half of the answer, then nothing |
//! | `drop` | the first half of the answer, then the connection is cut |
//! | `times=N` | only the first N requests with this very message obey the words above; later ones are answered |
//! | `slow=SIZE/TIME` | the answer in pieces of that size with that time between them, such as `10B/5ms` |
//! | `answer-bytes=N` | an answer of N bytes |
//! | `edit=PATH text=TEXT` | a SEARCH/REPLACE block that adds the line TEXT to PATH or, from a client that offers a tool to write files, a call of it that makes TEXT the one line of PATH, then the answer; TEXT goes up to the `]]` |
//! | `tool=shell cmd=COMMAND` | a call of the client's shell, then the answer; COMMAND goes up to the `]]` |
//! | `recall=WORD` | the answer ends with `recalled: yes` if an earlier message of the request has that word, else with `recalled: no` |
//! | `quote` | an answer with forged prompt marks and end marks of aider's |
//! | `empty` | an answer of no bytes |
//!
//! Requests whose system text asks for a commit message, as aider's weak model gets them, obey no words and are answered
//! `edit: 1`, `edit: 2`, and so on.

mod answer;
mod anthropic;
mod chat;
mod directives;
mod edit;
mod gemini;
mod http;
mod record;
mod request;
mod responses;
mod tools;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use answer::answer_for;
use record::Record;
pub use record::Recorded;

/// How a [`ModelServer`] is to behave.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    port: u16,
    delay: Duration,
}

impl Builder {
    /// Every answer's headers come after this time, unless the prompt says another one. Default: none.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The port to listen on. Default: 0, which means any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts to listen, and to serve in a task of the current tokio runtime.
    ///
    /// # Errors
    /// If the port is taken, or if there is no current runtime.
    pub fn start(self) -> io::Result<ModelServer> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let record = Arc::new(Record::default());
        let (closing, closed) = watch::channel(false);
        runtime.spawn(http::serve(
            listener,
            Arc::clone(&record),
            self.delay,
            closed,
        ));
        Ok(ModelServer {
            address,
            record,
            closing,
        })
    }
}

/// A running server. Dropping it closes the port and cuts the answers that are under way.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    record: Arc<Record>,
    closing: watch::Sender<bool>,
}

impl ModelServer {
    /// Starts one on a free port, without delay.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// To set a delay or a port first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What clients of the chat API call the base URL or API base: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where clients of the other APIs add the whole path: `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.record.requests()
    }

    /// Waits until the requests are as wanted, and returns them; for ever if they never are. Looks at each change, so a
    /// test needs no sleep to meet a request at a certain point. Cancel safe.
    pub async fn wait_until(&self, wanted: impl FnMut(&[Recorded]) -> bool) -> Vec<Recorded> {
        self.record.wait_until(wanted).await
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        // Only a task that has ended already could miss this.
        let _ = self.closing.send(true);
    }
}
