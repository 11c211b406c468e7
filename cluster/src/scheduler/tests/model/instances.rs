//! What befalls the instances of a model: processes come up and end, turns end, a tool refuses, instances come and go.

use std::time::Duration;

use toolpool_pool_core::outcome::{Doubt, DoubtCause, Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::steps::ticket_of;
use super::{Model, Place, Said};
use crate::instance::InstanceState;
use crate::scheduler::Decision;

impl Model {
    pub(super) fn become_ready(&mut self, instance: usize, out: &mut Vec<Decision>) {
        if self.places[instance].running.is_some() || self.places[instance].retired {
            return;
        }
        if self.places[instance].state != InstanceState::Ready {
            self.scheduler
                .on_instance(self.now, instance, InstanceState::Starting, out);
            self.places[instance].conversation += 1;
            self.places[instance].absent = None;
            self.places[instance].given_up = false;
            self.scheduler.on_spawned(self.now, instance, out);
            self.scheduler.on_new_process(instance, out);
            let group = self.places[instance].group;
            if self.said[group].closed == Some(None) {
                self.places[instance].held = false;
                self.look_whether_renewed(group);
            }
        }
        self.places[instance].state = InstanceState::Ready;
        self.scheduler
            .on_instance(self.now, instance, InstanceState::Ready, out);
    }

    pub(super) fn end_turn(&mut self, instance: usize, good: bool, out: &mut Vec<Decision>) {
        let Some(turn) = self.places[instance].running.take() else {
            return;
        };
        self.prompts.remove(&turn);
        self.places[instance].state = InstanceState::Ready;
        let outcome = if good {
            self.said[self.places[instance].group].refusals = 0;
            self.books.completed += 1;
            Outcome::Completed
        } else {
            self.books.cancelled += 1;
            Outcome::Cancelled
        };
        let goes_on = !self.places[instance].retired;
        self.scheduler
            .on_turn_ended(self.now, instance, &outcome, goes_on, out);
    }

    /// The turn fails, and its tool says something that concerns its whole group.
    pub(super) fn fail_turn(
        &mut self,
        instance: usize,
        class: FailureClass,
        retry_after: Option<Duration>,
        out: &mut Vec<Decision>,
    ) {
        let Some(turn) = self.places[instance].running.take() else {
            return;
        };
        self.prompts.remove(&turn);
        self.places[instance].state = InstanceState::Ready;
        let retired = self.places[instance].retired;
        self.books.failed += 1;
        let group = self.places[instance].group;
        let said = &mut self.said[group];
        let until = retry_after.map(|wait| self.now + wait);
        said.refusals += u32::from(until.is_none());
        if until.is_some() || said.refusals >= 2 {
            let known = said
                .closed
                .filter(|known| known.is_some() == until.is_some());
            if known.is_none() {
                for place in self.places.iter_mut().filter(|place| place.group == group) {
                    place.held = true;
                }
            }
            said.closed = Some(known.flatten().max(until));
        }
        let failure = Failure {
            class,
            message: "no".to_owned(),
            retry_after,
        };
        self.scheduler
            .on_turn_ended(self.now, instance, &Outcome::Failed(failure), !retired, out);
    }

    pub(super) fn retire(&mut self, instance: usize, out: &mut Vec<Decision>) {
        let place = &mut self.places[instance];
        if place.retired {
            return;
        }
        place.retired = true;
        place.conversation += 1;
        let group = place.group;
        self.scheduler.retire(self.now, instance, out);
        self.resize(group, out);
        self.look_whether_renewed(group);
    }

    pub(super) fn add(&mut self, group: usize, out: &mut Vec<Decision>) {
        let held = self.said[group].closed.flatten().is_some();
        let mut places = self.places.iter();
        let left = |place: &Place| place.group == group && place.retired && place.running.is_none();
        let instance = places.position(left).unwrap_or(self.places.len());
        if instance == 4 {
            return;
        }
        let new = Place {
            state: InstanceState::Starting,
            running: None,
            conversation: 0,
            group,
            held,
            retired: false,
            absent: None,
            given_up: false,
        };
        match self.places.get_mut(instance) {
            Some(place) => {
                let conversation = place.conversation;
                *place = Place {
                    conversation,
                    ..new
                };
            }
            None => self.places.push(new),
        }
        self.resize(group, out);
        self.scheduler.add(self.now, instance, group, false, out);
    }

    /// All are on duty.
    fn resize(&mut self, group: usize, out: &mut Vec<Decision>) {
        let there = |place: &&Place| place.group == group && !place.retired;
        let count = self.places.iter().filter(there).count();
        self.scheduler.resize(self.now, group, count, out);
    }

    pub(super) fn open(&mut self, group: usize) {
        self.said[group] = Said::default();
        for place in self.places.iter_mut().filter(|place| place.group == group) {
            place.held = false;
        }
    }

    /// After a refused login every instance that is left must have had a new process.
    fn look_whether_renewed(&mut self, group: usize) {
        let waits = |place: &Place| place.group == group && place.held && !place.is_down();
        if self.said[group].closed == Some(None) && !self.places.iter().any(waits) {
            self.open(group);
        }
    }

    pub(super) fn lose_process(
        &mut self,
        instance: usize,
        state: InstanceState,
        written: bool,
        out: &mut Vec<Decision>,
    ) {
        let place = &mut self.places[instance];
        if place.state.is_down() {
            return;
        }
        place.state = state;
        match state {
            InstanceState::Backoff => drop(place.absent.get_or_insert(self.now)),
            _ => (place.absent, place.given_up) = (None, false),
        }
        match place.running.take() {
            None => self.scheduler.on_instance(self.now, instance, state, out),
            Some(turn) if written => {
                self.prompts.remove(&turn);
                self.books.indeterminate += 1;
                let doubt = Outcome::Indeterminate(Doubt {
                    cause: DoubtCause::Crashed,
                    detail: "exit code 1".to_owned(),
                });
                self.scheduler
                    .on_turn_ended(self.now, instance, &doubt, false, out);
                self.scheduler.on_instance(self.now, instance, state, out);
            }
            Some(turn) => {
                self.scheduler.on_instance(self.now, instance, state, out);
                self.hand_back(instance, turn, out);
            }
        }
        if state.is_down() {
            self.look_whether_renewed(self.places[instance].group);
        }
    }

    fn hand_back(&mut self, instance: usize, turn: TurnId, out: &mut Vec<Decision>) {
        let prompt = &self.prompts[&turn];
        let ticket = ticket_of(&prompt.wish);
        if let (true, Some(session)) = (prompt.opens, prompt.wish.session)
            && self
                .homes
                .get(&session)
                .is_some_and(|(home, _)| *home == instance)
        {
            // Nothing was said yet, so nothing is lost with the process.
            self.homes.remove(&session);
        }
        self.queue.insert(0, turn);
        let (since, client) = (prompt.since, prompt.wish.client);
        // Its client has a turn to get back.
        self.passed.retain(|(_, by), _| *by != client);
        self.scheduler
            .on_handed_back(self.now, instance, turn, ticket, since, out);
    }
}
