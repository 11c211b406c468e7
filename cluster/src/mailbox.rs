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

use crate::error::{AskError, ControlError};
use crate::manager::ReplyStream;
use crate::reply::Reply;

/// Unread replies kept for each instance.
pub(crate) const UNREAD_LIMIT: usize = 1024;

/// Replies that never ran on any instance, such as expired ones, are kept under this name.
const NOWHERE: &str = "";

#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Boxes>);

#[derive(Default)]
struct Boxes {
    unread: DashMap<Arc<str>, VecDeque<Reply>>,
    outstanding: AtomicUsize,
    arrived: Notify,
}

impl Mailbox {
    /// Keeps the reply when it comes.
    pub(crate) fn expect(&self, stream: ReplyStream) {
        let boxes = Arc::clone(&self.0);
        boxes.outstanding.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let reply = match stream.reply().await {
                Ok(reply) => Some(reply),
                Err(AskError::Turn(reply)) => Some(*reply),
                Err(AskError::Submit(_)) => None,
            };
            if let Some(reply) = reply {
                let name = reply.instance.clone().unwrap_or_else(|| Arc::from(NOWHERE));
                let mut unread = boxes.unread.entry(name).or_default();
                if unread.len() == UNREAD_LIMIT {
                    unread.pop_front();
                }
                unread.push_back(reply);
            }
            boxes.outstanding.fetch_sub(1, Ordering::SeqCst);
            boxes.arrived.notify_waiters();
        });
    }

    /// The oldest unread reply of one instance, or of any.
    pub(crate) async fn read(
        &self,
        instance: Option<&Arc<str>>,
        timeout: Duration,
    ) -> Result<Reply, ControlError> {
        let wait = async {
            loop {
                // Registered before looking, so that a reply which comes in between is not missed.
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
