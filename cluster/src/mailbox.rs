//! Replies to prompts that were sent without waiting.
//!
//! Owns the replies that came and were not read, by instance. Must not know how prompts are run. Invariant: each reply
//! is read once; as many are outstanding as the cluster accepted, which its queue bounds, plus what callers leave unread,
//! of which the oldest beyond [`UNREAD_LIMIT`] for each instance are dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::error::{ControlError, SubmitError};
use crate::reply::Reply;

/// Unread replies kept for each instance.
pub(crate) const UNREAD_LIMIT: usize = 1024;

/// Replies that neither ran on an instance nor were sent to one, such as expired ones, are kept under this name.
const NOWHERE: &str = "";

#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox(Arc<Boxes>);

#[derive(Debug, Default)]
struct Boxes {
    unread: DashMap<Arc<str>, VecDeque<Reply>>,
    outstanding: AtomicUsize,
    arrived: Notify,
}

/// A place for one reply that is on its way.
#[derive(Debug)]
pub(crate) struct Expected {
    boxes: Arc<Boxes>,
    /// The instance that it was sent to, if to one.
    target: Option<Arc<str>>,
}

impl Expected {
    /// Keeps the reply, if one came of it.
    pub(crate) fn keep(self, reply: Option<Result<Reply, SubmitError>>) {
        if let Some(Ok(reply)) = reply {
            let ran_on = reply.instance.clone().or(self.target);
            let name = ran_on.unwrap_or_else(|| Arc::from(NOWHERE));
            let mut unread = self.boxes.unread.entry(name).or_default();
            if unread.len() == UNREAD_LIMIT {
                unread.pop_front();
            }
            unread.push_back(reply);
        }
        self.boxes.outstanding.fetch_sub(1, Ordering::SeqCst);
        self.boxes.arrived.notify_waiters();
    }
}

impl Mailbox {
    /// Makes a place for a reply to come; `target` is the instance that the prompt was sent to, if to one.
    pub(crate) fn expect(&self, target: Option<Arc<str>>) -> Expected {
        self.0.outstanding.fetch_add(1, Ordering::SeqCst);
        Expected {
            boxes: Arc::clone(&self.0),
            target,
        }
    }

    /// The oldest unread reply of one instance, or of any.
    pub(crate) async fn read(
        &self,
        instance: Option<&Arc<str>>,
        timeout: Duration,
    ) -> Result<Reply, ControlError> {
        let wait = async {
            loop {
                // A future of `notified` hears each `notify_waiters` from its making on, so that made before looking it
                // misses nothing.
                let arrived = self.0.arrived.notified();
                let outstanding = self.0.outstanding.load(Ordering::SeqCst);
                if let Some(reply) = self.take(instance) {
                    return Ok(reply);
                }
                if outstanding == 0 {
                    return Err(ControlError::NothingSent);
                }
                arrived.await;
            }
        };
        tokio::time::timeout(timeout, wait)
            .await
            .unwrap_or(Err(ControlError::NoReplyYet(timeout)))
    }

    fn take(&self, instance: Option<&Arc<str>>) -> Option<Reply> {
        match instance {
            Some(name) => self.0.unread.get_mut(name)?.pop_front(),
            None => self
                .0
                .unread
                .iter_mut()
                .filter(|entry| !entry.value().is_empty())
                .min_by_key(|entry| entry.value().front().map(|reply| reply.turn))?
                .value_mut()
                .pop_front(),
        }
    }
}
