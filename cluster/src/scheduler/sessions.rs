//! Which instance has the conversation of a session.
//!
//! Owns the ends of sessions. Must not know what is said in them. Invariant: a session that is forgotten leaves nothing
//! behind, and one that has lost its conversation is told so before it begins another.

use std::time::Instant;

use toolpool_routing::{InstanceId, Strategy as _};

use super::{Decision, Scheduler, Ticket};

impl Scheduler {
    pub(crate) fn sessions(&self) -> usize {
        self.strategy.len()
    }

    pub(crate) fn sessions_on(&self, instance: usize) -> usize {
        self.strategy.sessions_on(InstanceId(instance))
    }

    pub(super) fn pinned_to(&self, ticket: &Ticket) -> Option<usize> {
        let session = ticket.session.as_deref()?;
        self.strategy.pinned(session).map(|id| id.0)
    }

    /// An instance has a new process, which knows nothing of earlier conversations; one that is to go on with them is
    /// new in this sense when it turns out that it does not.
    pub(crate) fn on_new_process(&mut self, instance: usize, out: &mut Vec<Decision>) {
        self.lose_conversation(instance, out);
    }

    /// The caller closes a session; what it still has queued may run anywhere.
    pub(crate) fn on_close_session(
        &mut self,
        now: Instant,
        session: &str,
        out: &mut Vec<Decision>,
    ) {
        self.forget(session, out);
        self.route_all(now, out);
    }

    pub(super) fn forget(&mut self, session: &str, out: &mut Vec<Decision>) {
        let pinned = self.strategy.pinned(session).is_some();
        let known = self.conversations.remove(session).is_some();
        let shelved = self.shelf.remove(session);
        self.strategy.forget(session);
        if pinned || known || shelved {
            out.push(Decision::SessionClosed {
                session: session.to_owned(),
            });
        }
    }

    pub(super) fn lose_conversation(&mut self, instance: usize, out: &mut Vec<Decision>) {
        self.slots[instance].conversation += 1;
        let lost = self.strategy.sessions_on(InstanceId(instance));
        if lost > 0 {
            out.push(Decision::SessionsLost { instance, lost });
        }
    }
}
