//! Sessions whose conversation has no process: those of an earlier life of the cluster.
//!
//! Owns which conversation each of them is in, and where that can go on. Must not know files or names of conversations.
//! Invariant: a conversation is taken up once; then its sessions are like all others.

use std::collections::HashMap;
use std::time::Instant;

use toolpool_routing::InstanceId;

use super::ending::unroutable;
use super::placing::{LIVES_ELSEWHERE, Placed};
use super::queue::Place;
use super::slot::Slot;
use super::{Decision, Scheduler, Ticket};
use crate::instance::InstanceState;

const ALL_IN_USE: &str = "its session is of an earlier run and needs an instance that has no session, and every instance that could go on with it has one; nothing was sent, and the session stays. Close another session, or launch more instances";

/// No instance ever has this one, so whoever is in it has lost it.
pub(super) const LOST: u64 = u64::MAX;

/// A session that is known from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shelved {
    pub(crate) session: String,
    /// Names the conversation: several sessions may be in one.
    pub(crate) conversation: usize,
    /// The instances that can go on with it, the best first. None at all: it is lost.
    pub(crate) homes: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Shelf(HashMap<String, Shelved>);

impl Shelf {
    pub(super) fn remove(&mut self, session: &str) -> bool {
        self.0.remove(session).is_some()
    }

    /// The session with all others that are in its conversation.
    fn take(&mut self, session: &str) -> Vec<String> {
        let Some(conversation) = self.0.get(session).map(|known| known.conversation) else {
            return Vec::new();
        };
        let taken = self
            .0
            .extract_if(|_, known| known.conversation == conversation);
        let mut taken: Vec<String> = taken.map(|(session, _)| session).collect();
        taken.sort_unstable();
        taken
    }
}

impl Scheduler {
    /// Takes in what is known from an earlier life, before anything is submitted.
    pub(crate) fn shelve(&mut self, known: Vec<Shelved>) {
        for shelved in known {
            if shelved.homes.is_empty() {
                self.conversations.insert(shelved.session, LOST);
            } else {
                self.shelf.0.insert(shelved.session.clone(), shelved);
            }
        }
    }

    /// Has an instance go on with the conversation of a queued prompt's session, if that has no process. None: the prompt
    /// is to be placed as any other.
    pub(super) fn take_up(
        &mut self,
        place: Place,
        now: Instant,
        out: &mut Vec<Decision>,
    ) -> Option<Placed> {
        let ticket = &self.queue.get(place)?.ticket;
        let session = ticket.session.clone()?;
        let homes = &self.shelf.0.get(&session)?.homes;
        if ticket.fresh {
            // Its caller wants another one.
            self.shelf.remove(&session);
            return None;
        }
        let is_up = homes.iter().any(|home| !self.slots[*home].is_down());
        let possible = self.possible_homes(&session, ticket);
        if possible.is_empty() && is_up {
            self.end_queued(place, now, unroutable(LIVES_ELSEWHERE), out);
            return Some(Placed::Ended { in_session: true });
        }
        if possible.is_empty() {
            for session in self.shelf.take(&session) {
                self.conversations.insert(session, LOST);
            }
            return None;
        }
        if possible.iter().all(|home| self.may_leave(*home, ticket)) {
            // The others that are in the conversation may wait.
            self.shelf.remove(&session);
            self.conversations.insert(session, LOST);
            return None;
        }
        let is_spare = |home: &&usize| self.strategy.sessions_on(InstanceId(**home)) == 0;
        let mut spare = possible.iter().filter(is_spare).peekable();
        if spare.peek().is_none() {
            self.end_queued(place, now, unroutable(ALL_IN_USE), out);
            return Some(Placed::Ended { in_session: true });
        }
        if let Some(home) = spare.find(|home| Slot::is_available(&self.slots[**home])) {
            let home = *home;
            self.begin_to_take_up(home, session, now, out);
        }
        Some(Placed::Waits)
    }

    /// The instances that could go on with the conversation of a session that is on the shelf.
    pub(super) fn possible_homes(&self, session: &str, ticket: &Ticket) -> Vec<usize> {
        let homes = self
            .shelf
            .0
            .get(session)
            .map(|known| known.homes.as_slice());
        let homes = homes.unwrap_or_default().iter().copied();
        let possible = |home: &usize| {
            let slot = &self.slots[*home];
            !slot.is_down() && slot.fits(*home, ticket)
        };
        homes.filter(possible).collect()
    }

    fn begin_to_take_up(
        &mut self,
        instance: usize,
        session: String,
        now: Instant,
        out: &mut Vec<Decision>,
    ) {
        self.lose_conversation(instance, out);
        let slot = &mut self.slots[instance];
        // Until its new process is ready; nothing may go to the one that it has.
        slot.enter(now, InstanceState::Stopping);
        let conversation = slot.conversation;
        for session in self.shelf.take(&session) {
            self.strategy.pin(&session, InstanceId(instance));
            self.conversations.insert(session, conversation);
            out.push(Decision::SessionPinned { instance });
        }
        out.push(Decision::TakeUp { instance, session });
        self.view(instance, now);
    }
}
