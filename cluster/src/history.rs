//! Numbers the events and hands them out.
//!
//! Owns the sequence, the sinks and the subscribers' channel. Must not know what events mean. Invariant: sinks see every
//! event in order; a subscriber that lags is told how much it missed, and never slows the cluster down.

use std::time::SystemTime;

use tokio::sync::broadcast;

use crate::dispatcher::Journal;
use crate::event::{Event, EventKind, EventSink};

/// Events a subscriber may be behind before it misses the oldest.
pub(crate) const SUBSCRIBER_BUFFER: usize = 4096;

pub(crate) struct History {
    seq: u64,
    sinks: Vec<Box<dyn EventSink>>,
    subscribers: broadcast::Sender<Event>,
    /// Where events are kept; some are told only when their record is.
    pub(crate) journal: Option<Journal>,
}

impl History {
    pub(crate) fn new(
        sinks: Vec<Box<dyn EventSink>>,
        subscribers: broadcast::Sender<Event>,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            seq: 0,
            sinks,
            subscribers,
            journal,
        }
    }

    /// Tells an event when its time has come: behind those that wait for their records.
    pub(crate) fn record(&mut self, kind: EventKind) {
        let kind = match &mut self.journal {
            Some(journal) => journal.line_up(kind),
            None => Some(kind),
        };
        if let Some(kind) = kind {
            self.tell(kind);
        }
    }

    /// Tells an event now.
    pub(crate) fn tell(&mut self, kind: EventKind) {
        self.seq += 1;
        let event = Event {
            seq: self.seq,
            at: SystemTime::now(),
            kind,
        };
        if let Some(journal) = &self.journal {
            journal.keep(&event);
        }
        for sink in &mut self.sinks {
            sink.on_event(&event);
        }
        if self.subscribers.receiver_count() > 0 {
            // Nobody left to hear it is no error.
            self.subscribers.send(event).ok();
        }
    }
}

/// A subscriber's end of the history.
pub struct Events(pub(crate) broadcast::Receiver<Event>);

/// What a subscriber gets.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The next event.
    Event(Event),
    /// So many events were missed, because the subscriber was too slow.
    Missed(u64),
}

impl Events {
    /// The next event; None once the cluster has stopped.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
