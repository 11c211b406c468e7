//! What every promise means for the whole: the ledger of turns, of questions and of conversations.
//!
//! Owns the judgment. Must not know how the cores decide. Invariant: it is told what happened to the outside world, such
//! as a byte that a tool has read, and never what a core believes.

use std::collections::{BTreeMap, BTreeSet};

use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::TurnId;

use crate::instance::InstanceState;
use crate::permission::{PermissionId, Question, Settlement};
use crate::scheduler::{Books, Ticket};
use crate::session::OnLoss;

/// A process: the instance, and the how-manieth of its processes.
pub(super) type Place = (usize, u64);

/// A conversation: its process, and how often that began anew.
type Conversation = (Place, u64);

#[derive(Debug)]
struct Account {
    session: Option<String>,
    /// How often its session had been let go of when it was assigned.
    epoch: u64,
    fresh: bool,
    on_loss: OnLoss,
    read_by: Option<Place>,
    withdrawn: bool,
    ended: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
struct Bound {
    epoch: u64,
    conversation: Option<Conversation>,
}

/// What has been met at all.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) states: BTreeSet<InstanceState>,
    pub(super) outcomes: BTreeSet<&'static str>,
    pub(super) handed_back: bool,
    pub(super) disowned: bool,
    /// A turn was killed because its tool showed no life.
    pub(super) hung: bool,
    /// An instance was restarted after it had been so too often.
    pub(super) looped: bool,
    pub(super) refused: bool,
    /// A prompt was queued again after the cluster had died.
    pub(super) recovered: bool,
    pub(super) paused: bool,
    pub(super) limited: bool,
    /// A prompt waited for the instance of its session until that was given up.
    pub(super) unavailable: bool,
    /// The disk had no space for a prompt, and failed for good.
    pub(super) full: bool,
    pub(super) failed: bool,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.states.extend(&other.states);
        self.outcomes.extend(&other.outcomes);
        self.handed_back |= other.handed_back;
        self.disowned |= other.disowned;
        self.hung |= other.hung;
        self.looped |= other.looped;
        self.refused |= other.refused;
        self.recovered |= other.recovered;
        self.paused |= other.paused;
        self.limited |= other.limited;
        self.unavailable |= other.unavailable;
        self.full |= other.full;
        self.failed |= other.failed;
    }
}

#[derive(Debug, Default)]
pub(super) struct Judge {
    turns: BTreeMap<TurnId, Account>,
    open: usize,
    books: Books,
    sessions: BTreeMap<String, Bound>,
    questions: BTreeMap<PermissionId, bool>,
    /// Groups whose starts pause.
    pub(super) paused: BTreeSet<usize>,
    pub(super) seen: Seen,
}

impl Judge {
    /// The cluster has died, and all that only lived in it. Those are still queued.
    pub(super) fn begin_anew(&mut self, queued: &[TurnId]) {
        for turn in queued {
            let read_by = self.turns.remove(turn).and_then(|account| account.read_by);
            assert_eq!(read_by, None, "{turn} would be read twice");
        }
        *self = Self {
            turns: std::mem::take(&mut self.turns),
            seen: std::mem::take(&mut self.seen),
            ..Self::default()
        };
        self.seen.recovered |= !queued.is_empty();
        // What is not queued never comes again; if it does, that is seen.
        for account in self.turns.values_mut() {
            account.ended = true;
        }
    }

    pub(super) fn open_turns(&self) -> usize {
        self.open
    }

    pub(super) fn accepted(&mut self, turn: TurnId, ticket: &Ticket) {
        self.books.accepted += 1;
        self.open += 1;
        let account = Account {
            session: ticket.session.clone(),
            epoch: 0,
            fresh: ticket.fresh,
            on_loss: ticket.on_loss,
            read_by: None,
            withdrawn: false,
            ended: false,
            outcome: None,
        };
        assert!(self.turns.insert(turn, account).is_none());
    }

    pub(super) fn refused(&mut self) {
        self.books.refused += 1;
        self.seen.refused = true;
    }

    fn account(&mut self, turn: TurnId) -> &mut Account {
        self.turns.get_mut(&turn).expect("it was accepted")
    }

    /// The caller does not want it any more, wherever it is.
    pub(super) fn withdrawn(&mut self, turn: TurnId) {
        if let Some(account) = self.turns.get_mut(&turn) {
            account.withdrawn = true;
        }
    }

    /// The caller lets go of a session, or is told that it is lost.
    pub(super) fn let_go(&mut self, session: &str) {
        let bound = self.sessions.entry(session.to_owned()).or_default();
        bound.epoch += 1;
        bound.conversation = None;
    }

    pub(super) fn assigned(&mut self, turn: TurnId) {
        let account = self.turns.get_mut(&turn).expect("it was accepted");
        assert!(!account.ended, "{turn} runs after its end");
        assert!(!account.withdrawn, "{turn} runs after its cancel");
        if let Some(session) = &account.session {
            let bound = self.sessions.entry(session.clone()).or_default();
            if account.fresh {
                bound.conversation = None;
            }
            account.epoch = bound.epoch;
        }
    }

    /// A process has read a byte of the prompt.
    pub(super) fn read(&mut self, turn: TurnId, place: Place, began_anew: u64) {
        let account = self.turns.get_mut(&turn).expect("it was accepted");
        assert!(!account.ended, "{turn} is read after its end");
        assert_eq!(account.read_by, None, "{turn} reached two processes");
        account.read_by = Some(place);
        let Some(session) = &account.session else {
            return;
        };
        let bound = self.sessions.entry(session.clone()).or_default();
        if account.epoch == bound.epoch {
            let here = (place, began_anew);
            let goes_on = bound.conversation.is_none_or(|known| known == here);
            assert!(
                goes_on || account.fresh || account.on_loss == OnLoss::Fresh,
                "{turn} of {session} is in {here:?}, and nobody was told that {:?} is lost",
                bound.conversation
            );
            bound.conversation = Some(here);
        }
    }

    /// A piece of an answer goes into a turn's reply.
    pub(super) fn credited(&self, turn: TurnId, answered: TurnId, place: Place) {
        assert_eq!(turn, answered, "an answer to another prompt");
        let read_by = self.turns[&turn].read_by;
        assert_eq!(read_by, Some(place), "an answer of another process");
    }

    pub(super) fn handed_back(&mut self, turn: TurnId) {
        self.seen.handed_back = true;
        let account = self.account(turn);
        assert_eq!(account.read_by, None, "{turn} would be read twice");
    }

    /// `ran`: its end came from the instance that it ran on, and not from the queue.
    pub(super) fn ended(&mut self, turn: TurnId, outcome: &Outcome, ran: bool) {
        self.seen.outcomes.insert(outcome.word());
        let account = self.account(turn);
        assert!(
            !std::mem::replace(&mut account.ended, true),
            "{turn} ended twice"
        );
        account.outcome = Some(outcome.clone());
        let (read, session) = (account.read_by.is_some(), account.session.clone());
        self.open -= 1;
        let answered = *outcome == Outcome::Completed;
        assert!(!answered || (ran && read), "{turn} was answered by nobody");
        *self.books.line(outcome) += 1;
        if ran {
            return;
        }
        assert!(
            !read,
            "{turn} was read, and its end hides that: {outcome:?}"
        );
        if let (Outcome::Failed(failure), Some(session)) = (outcome, session)
            && matches!(
                failure.class,
                FailureClass::SessionLost | FailureClass::Unroutable
            )
        {
            self.let_go(&session);
        }
    }

    /// It ends in the queue, because the instance of its session does not come up. The session stays as it is.
    pub(super) fn unavailable(&mut self, turn: TurnId) -> Outcome {
        self.seen.unavailable = true;
        let session = self.turns[&turn].session.as_ref();
        assert!(session.is_some(), "others wait for no instance");
        let outcome = Outcome::Failed(Failure {
            class: FailureClass::SessionUnavailable,
            message: String::new(),
            retry_after: None,
        });
        self.ended(turn, &outcome, false);
        outcome
    }

    /// There was no space for it, so it was never accepted, whatever has become of it since.
    pub(super) fn revoked(&mut self, turn: TurnId) {
        self.seen.full = true;
        self.books.accepted -= 1;
        self.books.refused += 1;
        let account = self.account(turn);
        assert_eq!(account.read_by, None, "{turn} was read and is refused");
        account.ended = true;
        match account.outcome.take() {
            Some(outcome) => *self.books.line(&outcome) -= 1,
            None => self.open -= 1,
        }
    }

    /// An end that nobody heard is told as another, because it could not be kept.
    pub(super) fn recount(&mut self, turn: TurnId, known: &Outcome, told: &Outcome) {
        assert_eq!(self.account(turn).outcome.as_ref(), Some(known), "{turn}");
        *self.books.line(known) -= 1;
        *self.books.line(told) += 1;
    }

    pub(super) fn in_doubt(&self, turn: TurnId) {
        assert!(!self.turns[&turn].ended, "{turn} ended twice");
    }

    pub(super) fn asked(&mut self, question: &Question) {
        let known = self.questions.insert(question.id, false);
        assert_eq!(known, None, "{} was shown twice", question.id);
    }

    pub(super) fn settled(&mut self, question: &Question, settlement: Settlement) {
        // What policy answers was never shown.
        match self.questions.get_mut(&question.id) {
            Some(settled) => {
                assert!(
                    !std::mem::replace(settled, true),
                    "{} settled twice",
                    question.id
                );
            }
            None => assert!(matches!(settlement, Settlement::Answered(..))),
        }
    }

    /// The books against what has happened.
    pub(super) fn look(&self, books: Books) {
        assert!(books.balance(), "{books:?}");
        let expected = Books {
            queued: books.queued,
            running: books.running,
            ..self.books
        };
        assert_eq!(books, expected);
        assert_eq!(books.queued + books.running, self.open as u64, "{books:?}");
    }

    pub(super) fn look_at_the_end(&self) {
        assert_eq!(self.open, 0, "turns without an end");
        let open = self.questions.iter().find(|(_, settled)| !**settled);
        assert_eq!(open, None, "a question without an end");
    }
}
