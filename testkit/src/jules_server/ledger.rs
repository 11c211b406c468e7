//! What was asked, and the sessions that came of it.
//!
//! Owns both lists. Must not know how requests are answered. Invariant: a request is in the ledger before its answer
//! begins.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::session::Session;

/// One request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path behind `/v1alpha/`, without the query.
    pub path: String,
    /// The body, or null.
    pub body: Value,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    requests: watch::Sender<Vec<Request>>,
    sessions: Mutex<Vec<Session>>,
}

impl Ledger {
    pub(super) fn note(&self, request: Request) {
        self.requests.send_modify(|requests| requests.push(request));
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    pub(super) fn prompts(&self) -> Vec<String> {
        let sessions = self.sessions();
        sessions
            .iter()
            .map(|session| session.prompt.clone())
            .collect()
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn wait_until(&self, mut wanted: impl FnMut(&[Request]) -> bool) {
        let mut changes = self.requests.subscribe();
        // The sender is our own field, so it outlives the wait.
        let _ = changes.wait_for(|requests| wanted(requests)).await;
    }
}
