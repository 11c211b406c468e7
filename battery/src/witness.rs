//! Who was there: the events of a cluster, to be looked at while it runs and after it has ended.
//!
//! Owns a copy of them. Must not judge them, and takes no part in the reconciling: the rig keeps an account of its own.

use std::sync::{Arc, Mutex, PoisonError};

use toolpool::{Event, EventKind, EventSink};

/// Every event so far, in order. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<Vec<EventKind>>>);

impl EventSink for Witness {
    fn on_event(&mut self, event: &Event) {
        self.seen(|events| events.push(event.kind.clone()));
    }
}

impl Witness {
    fn seen<T>(&self, look: impl FnOnce(&mut Vec<EventKind>) -> T) -> T {
        // Nothing panics while it is held but a case that has failed.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at all of them.
    pub(crate) fn all<T>(&self, look: impl FnOnce(&[EventKind]) -> T) -> T {
        self.seen(|events| look(events))
    }

    /// How many are so.
    pub(crate) fn count(&self, is_so: impl Fn(&EventKind) -> bool) -> usize {
        self.all(|events| events.iter().filter(|event| is_so(event)).count())
    }

    /// How often a breaker went to that state.
    pub(crate) fn breaker(&self, state: &str) -> usize {
        self.count(|event| matches!(event, EventKind::BreakerChanged { to, .. } if *to == state))
    }

    /// How many turns each instance began, by index from 0, of the events from one place on.
    pub(crate) fn turns_of(&self, instances: usize, from: usize) -> Vec<usize> {
        let mut turns = vec![0; instances];
        self.all(|events| {
            for event in &events[from..] {
                if let EventKind::TurnStarted { instance, .. } = event {
                    turns[place(instance)] += 1;
                }
            }
        });
        turns
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.all(<[EventKind]>::len)
    }
}

/// The index in an instance's name, which counts from 1.
pub(crate) fn place(instance: &str) -> usize {
    let number = instance.rsplit_once('/').and_then(|(_, n)| n.parse().ok());
    number.unwrap_or(1usize) - 1
}
