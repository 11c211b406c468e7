//! What a model demands of each decision, and between two steps.

use std::time::Duration;

use toolpool_pool_core::outcome::{FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use super::steps::Wish;
use super::{Model, SESSION_WAIT};
use crate::instance::InstanceState;
use crate::scheduler::{Books, Decision};
use crate::session::OnLoss;

impl Model {
    /// Judges each decision at the moment at which it was taken.
    pub(super) fn judge(&mut self, out: &[Decision]) {
        for decision in out {
            match decision {
                Decision::Assign { turn, instance, .. } => self.judge_assignment(*turn, *instance),
                Decision::End { turn, outcome, .. } => self.judge_end(*turn, outcome),
                Decision::Unavailable {
                    turn,
                    instance,
                    absent,
                    ..
                } => self.judge_unavailable(*turn, *instance, *absent),
                Decision::Interrupt { turn, instance } => {
                    assert_eq!(self.places[*instance].running, Some(*turn));
                }
                Decision::SessionPinned { .. }
                | Decision::SessionClosed { .. }
                | Decision::TakeUp { .. }
                | Decision::SessionsLost { .. }
                | Decision::Reopened { .. }
                | Decision::Relieved { .. } => {}
                Decision::Closed { group } => assert!(self.said[*group].closed.is_some()),
                Decision::Renew { instance } => assert!(self.places[*instance].held),
            }
        }
    }

    pub(super) fn leave_queue(&mut self, turn: TurnId) -> usize {
        let at = self.queue.iter().position(|queued| *queued == turn);
        let at = at.unwrap_or_else(|| panic!("{turn} is not queued: it has an end, or runs"));
        self.queue.remove(at);
        let client = self.prompts[&turn].wish.client;
        let waits = |queued: &TurnId| {
            let wish = &self.prompts[queued].wish;
            wish.client == client && wish.is_free()
        };
        if !self.queue.iter().any(waits) {
            self.passed.retain(|(passed, _), _| *passed != client);
        }
        at
    }

    /// Clients are served in turn: who could have run there is passed over once for each of the others.
    fn judge_turn(&mut self, turn: TurnId, instance: usize) {
        let wish = self.prompts[&turn].wish.clone();
        self.passed.retain(|(passed, _), _| *passed != wish.client);
        let others = self.queue.iter().map(|queued| &self.prompts[queued].wish);
        let could = others.filter(|other| other.is_free() && self.fits(other, instance));
        let mut clients: Vec<_> = could.map(|other| other.client).collect();
        clients.sort_unstable();
        clients.dedup();
        for client in clients.into_iter().filter(|other| *other != wish.client) {
            let passed = self.passed.entry((client, wish.client)).or_default();
            *passed += 1;
            assert!(*passed <= 1, "{turn}: {client:?} was passed over twice");
        }
    }

    fn judge_assignment(&mut self, turn: TurnId, instance: usize) {
        assert!(
            self.is_available(instance),
            "{turn} on an instance that cannot take it"
        );
        let at = self.leave_queue(turn);
        let wish = self.prompts[&turn].wish.clone();
        assert!(self.fits(&wish, instance), "{turn} is for another instance");
        for earlier in &self.queue[..at] {
            let other = &self.prompts[earlier].wish;
            assert!(
                wish.session.is_none() || other.session != wish.session,
                "{turn} overtakes {earlier} of its session"
            );
            assert!(
                !other.is_free() || other.client != wish.client || !self.fits(other, instance),
                "{turn} overtakes {earlier}, which could run there"
            );
        }
        self.judge_turn(turn, instance);
        let place = &mut self.places[instance];
        let before = place.conversation;
        if wish.fresh {
            place.conversation += 1;
        }
        place.running = Some(turn);
        place.state = InstanceState::Busy;
        let Some(session) = wish.session else { return };
        let home = self.homes.insert(session, (instance, place.conversation));
        let same = home == Some((instance, before));
        if let Some((home, _)) = home {
            let moves = self.may_leave(&wish, home);
            assert!(
                home == instance || moves,
                "{turn} is far from its conversation"
            );
            assert!(
                same || wish.fresh || wish.on_loss == OnLoss::Fresh,
                "{turn} goes on in a conversation that is lost"
            );
        }
        if let Some(prompt) = self.prompts.get_mut(&turn) {
            prompt.opens = !same || wish.fresh;
        }
    }

    fn judge_end(&mut self, turn: TurnId, outcome: &Outcome) {
        self.leave_queue(turn);
        let Some(prompt) = self.prompts.remove(&turn) else {
            panic!("{turn} ends twice")
        };
        let home = prompt
            .wish
            .session
            .and_then(|session| self.homes.get(&session).copied());
        match outcome {
            Outcome::Cancelled => self.books.cancelled += 1,
            Outcome::Expired => {
                assert!(
                    prompt.deadline.is_some_and(|deadline| deadline <= self.now),
                    "{turn} expired early"
                );
                self.books.expired += 1;
            }
            Outcome::Failed(failure) => {
                self.books.failed += 1;
                let wish = &prompt.wish;
                let elsewhere = home.is_some_and(|(at, _)| !self.fits(wish, at));
                let home_down = home.is_some_and(|(at, _)| self.is_down(at));
                let told = wish.on_loss == OnLoss::Fail
                    && wish
                        .session
                        .is_some_and(|session| self.told.contains(&session));
                let target_down = wish.target.is_some_and(|at| self.is_down(at));
                let none_left =
                    (0..self.places.len()).all(|at| self.is_down(at) || !self.fits(wish, at));
                match failure.class {
                    FailureClass::SessionLost => {
                        let lost =
                            home.is_some_and(|(at, known)| self.places[at].conversation != known);
                        assert!(
                            (lost || told) && wish.on_loss == OnLoss::Fail && !wish.fresh,
                            "{turn}: {home:?}"
                        );
                    }
                    FailureClass::Unroutable => assert!(
                        none_left || home_down || target_down || elsewhere || told,
                        "{turn} could run: {failure:?}"
                    ),
                    other => panic!("{turn} failed for {other:?}"),
                }
                let lost = failure.class == FailureClass::SessionLost;
                if let Some(session) = wish.session
                    && (lost || home_down)
                {
                    self.homes.remove(&session);
                    self.told.push(session);
                }
            }
            other => panic!("{turn} did not run, and ended {other:?}"),
        }
    }

    /// It has waited for its instance for as long as sessions do, and nobody else can take it.
    fn judge_unavailable(&mut self, turn: TurnId, instance: usize, absent: Duration) {
        self.leave_queue(turn);
        let wish = self.prompts.remove(&turn).expect("ends once").wish;
        let home = wish.session.and_then(|session| self.homes.get(&session));
        assert_eq!(home.map(|(home, _)| *home), Some(instance), "{turn}");
        assert!(absent >= SESSION_WAIT && self.places[instance].given_up);
        let others = (0..self.places.len()).filter(|at| *at != instance && self.fits(&wish, *at));
        let mut up = others.filter(|at| !self.is_down(*at) && self.places[*at].absent.is_none());
        assert!(
            wish.on_loss == OnLoss::Fail || up.next().is_none(),
            "{turn} could go on elsewhere"
        );
        self.books.failed += 1;
    }

    /// It may begin anew, and the instance with its conversation does not come up.
    fn may_leave(&self, wish: &Wish, home: usize) -> bool {
        wish.on_loss == OnLoss::Fresh && (self.is_down(home) || self.places[home].given_up)
    }

    pub(super) fn is_available(&self, instance: usize) -> bool {
        let place = &self.places[instance];
        let up = place.state == InstanceState::Ready && !place.retired;
        up && place.running.is_none() && !place.held
    }

    pub(super) fn is_down(&self, instance: usize) -> bool {
        self.places[instance].is_down()
    }

    /// What must be true between two steps.
    pub(super) fn look(&self) {
        let books = self.scheduler.books();
        assert!(books.balance(), "{books:?}");
        let running = self
            .places
            .iter()
            .filter(|place| place.running.is_some())
            .count();
        let expected = Books {
            queued: self.queue.len() as u64,
            running: running as u64,
            ..self.books
        };
        assert_eq!(books, expected);
        assert_eq!(books.accepted + books.refused, self.offered);
        assert!(
            self.scheduler.conversations.len() <= self.scheduler.sessions(),
            "forgotten sessions are kept"
        );
        assert_eq!(
            self.scheduler.is_idle(),
            self.queue.is_empty() && running == 0
        );
        let deadlines = self
            .queue
            .iter()
            .filter_map(|turn| self.prompts[turn].deadline);
        let reopens = self.said.iter().filter_map(|said| said.closed?);
        let absent = self.places.iter().filter(|place| !place.given_up);
        let given_up = absent.filter_map(|place| Some(place.absent? + SESSION_WAIT));
        let expected = deadlines.chain(reopens).chain(given_up).min();
        assert_eq!(self.scheduler.deadline(), expected);
        for (group, said) in self.said.iter().enumerate() {
            assert_eq!(
                self.scheduler.closed(group).is_some(),
                said.closed.is_some()
            );
        }
        for (at, turn) in self.queue.iter().enumerate() {
            self.look_at_waiting(at, *turn);
        }
    }

    /// Nothing waits without a reason.
    fn look_at_waiting(&self, at: usize, turn: TurnId) {
        let wish = &self.prompts[&turn].wish;
        let fitting = (0..self.places.len()).filter(|instance| self.fits(wish, *instance));
        let fitting: Vec<usize> = fitting.collect();
        let all_down = fitting.iter().all(|instance| self.is_down(*instance));
        assert!(!all_down, "{turn} waits for nobody");
        let behind = |earlier: &TurnId| {
            wish.session.is_some() && self.prompts[earlier].wish.session == wish.session
        };
        if self.queue[..at].iter().any(behind) {
            return;
        }
        let home = wish
            .session
            .and_then(|session| self.homes.get(&session))
            .map(|(home, _)| *home)
            .filter(|home| !self.may_leave(wish, *home));
        match wish.target.or(home) {
            Some(instance) => {
                assert!(
                    !self.is_down(instance),
                    "{turn} waits for an instance that will not come"
                );
                assert!(
                    home != Some(instance) || !self.places[instance].given_up,
                    "{turn} waits for an instance that does not come"
                );
                assert!(
                    !self.is_available(instance) || !fitting.contains(&instance),
                    "{turn} waits for an instance that is free"
                );
            }
            None if wish.fresh => {}
            None => {
                let free = fitting.into_iter().find(|at| self.is_available(*at));
                assert_eq!(free, None, "{turn} waits while an instance is free");
            }
        }
    }
}
