//! What was asked, and when.
//!
//! Owns the list of requests. Must not know how they are answered. Invariant: a request is in the list before its
//! answer begins, and its end is noted however the answer ends.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::request::ChatRequest;
use crate::hash::sha256;

/// One chat request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The last user message as it came.
    pub last_user: String,
    /// The same without what aider adds to it, see [`answer_for`](super::answer_for).
    pub prompt: String,
    /// Hex SHA-256 of `prompt`.
    pub sha256: String,
    /// The first 200 characters of the first system message; empty if there is none.
    pub system_head: String,
    /// The name of the model that was asked for.
    pub model: String,
    /// Whether the answer was to be streamed.
    pub stream: bool,
    /// How many messages the request had, of all roles.
    pub messages: usize,
    /// Whether it asks for a commit message.
    pub commit_message: bool,
    /// When the request had arrived.
    pub started: Instant,
    /// When the answer was written, cut, or given up by the client; `None` while it is under way.
    pub finished: Option<Instant>,
}

/// All requests of one server.
#[derive(Debug, Default)]
pub(super) struct Record(watch::Sender<Vec<Recorded>>);

impl Record {
    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.0.borrow().clone()
    }

    pub(super) async fn wait_until(
        &self,
        mut wanted: impl FnMut(&[Recorded]) -> bool,
    ) -> Vec<Recorded> {
        let mut changes = self.0.subscribe();
        match changes.wait_for(|requests| wanted(requests)).await {
            Ok(requests) => requests.clone(),
            // The sender is our own field, so this cannot be.
            Err(_) => self.requests(),
        }
    }

    /// Notes a request, and its number among those with the same prompt, from 1. The end is noted when the returned
    /// value is dropped.
    pub(super) fn begin(self: &Arc<Self>, request: &ChatRequest) -> (Running, u64) {
        let recorded = Recorded {
            last_user: request.last_user.clone(),
            prompt: request.prompt.clone(),
            sha256: sha256(request.prompt.as_bytes()),
            system_head: request.system.chars().take(200).collect(),
            model: request.model.clone(),
            stream: request.stream,
            messages: request.messages.len(),
            commit_message: request.is_for_commit(),
            started: Instant::now(),
            finished: None,
        };
        let (mut index, mut number) = (0, 0);
        self.0.send_modify(|requests| {
            let same = |other: &&Recorded| {
                other.commit_message == recorded.commit_message
                    && (recorded.commit_message || other.sha256 == recorded.sha256)
            };
            number = 1 + requests.iter().filter(same).count() as u64;
            index = requests.len();
            requests.push(recorded);
        });
        (
            Running {
                record: Arc::clone(self),
                index,
            },
            number,
        )
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Running {
    record: Arc<Record>,
    index: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.record
            .0
            .send_modify(|requests| requests[self.index].finished = Some(Instant::now()));
    }
}
