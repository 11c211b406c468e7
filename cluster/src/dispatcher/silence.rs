//! Turns in which a tool shows no life.
//!
//! Owns what is told of them. Must not know how silence is noticed: a supervisor says it with its standing. Invariant: a
//! silence is told when it begins, and its end if the turn still runs.

use std::sync::Arc;
use std::time::Instant;

use super::Dispatcher;
use crate::event::EventKind;
use crate::instance::Standing;

impl Dispatcher {
    /// Something has changed of an instance beside its state.
    pub(super) fn on_standing(&mut self, now: Instant, instance: usize, standing: Standing) {
        let entry = &mut self.roster[instance];
        let before = std::mem::replace(&mut entry.standing, standing).silent_since;
        if before == standing.silent_since {
            return;
        }
        let name = Arc::clone(&entry.name);
        let running = entry.turn();
        let told = entry.silent.take();
        if let (Some(turn), Some(since)) = (told, before) {
            self.history.record(EventKind::TurnHeard {
                turn,
                instance: Arc::clone(&name),
                silent: now.saturating_duration_since(since),
            });
        }
        if let (Some(turn), Some(since)) = (running, standing.silent_since) {
            self.roster[instance].silent = Some(turn);
            self.history.record(EventKind::TurnSilent {
                turn,
                instance: name,
                silent: now.saturating_duration_since(since),
            });
        }
    }
}
