//! What waits, and in which order it is looked at.
//!
//! Owns the queued prompts, their deadlines and whose turn it is. Must not know instances or strategies. Invariants: the
//! clients that have something to look at are looked at in turn, the one that was served longest ago first; within a
//! client the oldest prompt comes first, and before it what was handed back; of a session only the next prompt is looked
//! at, whoever sent it; a client that has nothing queued leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use toolpool_pool_core::prompt::TurnId;

use super::Ticket;
use crate::fit::GroupSet;
use crate::planted::planted;

/// Where a prompt stands among all, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(i64);

impl Place {
    pub(super) const FIRST: Self = Self(i64::MIN);

    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) turn: TurnId,
    pub(super) ticket: Ticket,
    pub(super) since: Instant,
    pub(super) deadline: Option<Instant>,
    /// The instance that it waits for and no other, once that is known.
    pub(super) waits_for: Option<usize>,
}

/// Whoever gave no name shares one with all who gave none.
type Name = Option<Arc<str>>;

#[derive(Debug)]
struct Client {
    queued: usize,
    /// What can be looked at: of each session the next prompt, and all that belong to none.
    heads: BTreeSet<Place>,
    /// Its place in the round, if it has something to look at: the smallest is the next.
    place: i64,
    /// It was looked at up to here when it was served last.
    resume: Place,
}

#[derive(Debug)]
pub(super) struct Queue {
    queued: BTreeMap<Place, Queued>,
    places: HashMap<TurnId, Place>,
    deadlines: BTreeSet<(Instant, TurnId)>,
    sessions: HashMap<String, BTreeSet<Place>>,
    clients: HashMap<Name, Client>,
    round: BTreeMap<i64, Name>,
    /// How many may run on each group.
    waiting: Vec<usize>,
    /// Counts places, of prompts and in the round: at the back they grow, at the front they fall.
    back: i64,
    front: i64,
}

/// How far one look over the queue has come.
#[derive(Debug)]
pub(super) struct Look {
    /// Who has a later place in the round has been served since it began.
    begun: i64,
    client: i64,
    at: Option<Place>,
}

impl Queue {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            queued: BTreeMap::new(),
            places: HashMap::new(),
            deadlines: BTreeSet::new(),
            sessions: HashMap::new(),
            clients: HashMap::new(),
            round: BTreeMap::new(),
            waiting: vec![0; groups],
            back: 0,
            front: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    pub(super) fn get(&self, place: Place) -> Option<&Queued> {
        self.queued.get(&place)
    }

    pub(super) fn place_of(&self, turn: TurnId) -> Option<Place> {
        self.places.get(&turn).copied()
    }

    /// The first prompt from there on, in the order in which they came.
    pub(super) fn from(&self, place: Place) -> Option<(Place, &Queued)> {
        let (place, queued) = self.queued.range(place..).next()?;
        Some((*place, queued))
    }

    /// The next prompt of a session.
    pub(super) fn next_of(&self, session: &str) -> Option<(Place, &Queued)> {
        let place = *self.sessions.get(session)?.first()?;
        Some((place, self.queued.get(&place)?))
    }

    /// When the next deadline is, and whose.
    pub(super) fn deadline(&self) -> Option<(Instant, TurnId)> {
        self.deadlines.first().copied()
    }

    /// How many of the client's prompts are queued, and how many clients there are with it.
    pub(super) fn share(&self, client: &Name) -> (usize, usize) {
        match self.clients.get(client) {
            Some(known) => (known.queued, self.clients.len()),
            None => (0, self.clients.len() + 1),
        }
    }

    /// Of the groups that are meant, how many prompts wait for that with the fewest.
    pub(super) fn waiting_for(&self, groups: GroupSet) -> usize {
        let each = self.waiting.iter().enumerate();
        let meant = each.filter(|(group, _)| groups.contains(*group));
        meant.map(|(_, waiting)| *waiting).min().unwrap_or(0)
    }

    pub(super) fn push_back(&mut self, queued: Queued) -> Place {
        self.back += 1;
        let place = Place(self.back);
        self.insert(place, queued);
        place
    }

    /// Puts it before all others, and its client before the others.
    pub(super) fn push_front(&mut self, queued: Queued) {
        self.front -= 1;
        let front = self.front;
        let client = queued.ticket.client.clone();
        self.insert(Place(front), queued);
        self.move_client(&client, front);
    }

    /// Whether no other prompt of its session is to run before it.
    pub(super) fn is_next(&self, place: Place) -> bool {
        let client = |queued: &Queued| self.clients.get(&queued.ticket.client);
        let client = self.queued.get(&place).and_then(client);
        client.is_some_and(|client| client.heads.contains(&place))
    }

    /// Notes the instance that a prompt waits for; true if that is new.
    pub(super) fn wait_for(&mut self, place: Place, instance: usize) -> bool {
        let queued = self.queued.get_mut(&place);
        let unknown = queued.filter(|queued| queued.waits_for.is_none());
        unknown.is_some_and(|queued| {
            queued.waits_for = Some(instance);
            true
        })
    }

    /// Takes out a prompt that runs now: its client has had its turn.
    pub(super) fn serve(&mut self, place: Place) -> Option<Queued> {
        let client = self.queued.get(&place)?.ticket.client.clone();
        self.back += 1;
        if !planted("client_unfair") {
            self.move_client(&client, self.back);
        }
        if let Some(client) = self.clients.get_mut(&client) {
            client.resume = place.next();
        }
        self.take(place)
    }

    /// Takes a prompt out, with all that was noted about it here.
    pub(super) fn take(&mut self, place: Place) -> Option<Queued> {
        let queued = self.queued.remove(&place)?;
        self.places.remove(&queued.turn);
        if !planted("place_leaked") {
            self.count(queued.ticket.groups, |count| count - 1);
        }
        if let Some(deadline) = queued.deadline {
            self.deadlines.remove(&(deadline, queued.turn));
        }
        self.hide(place, &queued.ticket.client);
        if let Some(session) = &queued.ticket.session
            && let Some(places) = self.sessions.get_mut(session)
        {
            places.remove(&place);
            match places.first().copied() {
                Some(next) => self.show(next),
                None => drop(self.sessions.remove(session)),
            }
        }
        if let Some(client) = self.clients.get_mut(&queued.ticket.client) {
            client.queued -= 1;
            if client.queued == 0 {
                self.clients.remove(&queued.ticket.client);
            }
        }
        Some(queued)
    }

    /// Begins a look over all that can be looked at.
    pub(super) fn look(&self) -> Look {
        Look {
            begun: self.back + 1,
            client: i64::MIN,
            at: None,
        }
    }

    /// The next prompt to look at: after one that was served, the next client's; otherwise the same client's next one.
    pub(super) fn next(&self, look: &mut Look) -> Option<Place> {
        loop {
            let (place, name) = self.round.range(look.client..).next()?;
            let client = self.clients.get(name)?;
            let at = match look.at.filter(|_| *place == look.client) {
                Some(at) => at,
                // It has had a turn in this look already, and goes on behind that.
                None if *place >= look.begun => client.resume,
                None => Place::FIRST,
            };
            if let Some(next) = client.heads.range(at..).next() {
                look.client = *place;
                look.at = Some(next.next());
                return Some(*next);
            }
            look.client = place + 1;
            look.at = None;
        }
    }

    fn insert(&mut self, place: Place, queued: Queued) {
        self.places.insert(queued.turn, place);
        self.count(queued.ticket.groups, |count| count + 1);
        if let Some(deadline) = queued.deadline {
            self.deadlines.insert((deadline, queued.turn));
        }
        let client = self.clients.entry(queued.ticket.client.clone());
        let client = client.or_insert_with(|| Client {
            queued: 0,
            heads: BTreeSet::new(),
            place: 0,
            resume: Place::FIRST,
        });
        client.queued += 1;
        let mut before = None;
        if let Some(session) = &queued.ticket.session {
            let places = self.sessions.entry(session.clone()).or_default();
            before = places.first().copied();
            places.insert(place);
        }
        self.queued.insert(place, queued);
        match before {
            Some(before) if before < place => return,
            Some(before) => {
                if let Some(client) = self.client_of(before) {
                    self.hide(before, &client);
                }
            }
            None => {}
        }
        self.show(place);
    }

    fn client_of(&self, place: Place) -> Option<Name> {
        let queued = self.queued.get(&place)?;
        Some(queued.ticket.client.clone())
    }

    /// It can be looked at from now on.
    fn show(&mut self, place: Place) {
        let Some(name) = self.client_of(place) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&name) else {
            return;
        };
        client.resume = client.resume.min(place);
        if client.heads.is_empty() {
            self.back += 1;
            client.place = self.back;
            self.round.insert(self.back, name);
        }
        client.heads.insert(place);
    }

    /// It cannot be looked at any more.
    fn hide(&mut self, place: Place, name: &Name) {
        if let Some(client) = self.clients.get_mut(name)
            && client.heads.remove(&place)
            && client.heads.is_empty()
        {
            self.round.remove(&client.place);
        }
    }

    fn move_client(&mut self, name: &Name, to: i64) {
        if let Some(client) = self.clients.get_mut(name)
            && let Some(name) = self.round.remove(&client.place)
        {
            client.place = to;
            self.round.insert(to, name);
        }
    }

    fn count(&mut self, groups: GroupSet, change: impl Fn(usize) -> usize) {
        for (group, waiting) in self.waiting.iter_mut().enumerate() {
            if groups.contains(group) {
                *waiting = change(*waiting);
            }
        }
    }
}
