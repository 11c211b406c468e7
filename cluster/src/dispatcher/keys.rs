//! Prompts that are known by a key: whoever sends one again hears of the first one's end.
//!
//! Owns the keys of open prompts, and who waits for them. Must not know how the journal finds a key. Invariant: of all
//! prompts with one key at most one is ever taken in; a key is looked up only while nobody else with it can be, and is
//! let go of only when the journal has its end.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use toolpool_pool_core::outcome::{Doubt, DoubtCause, Outcome};
use toolpool_pool_core::prompt::{Prompt, TurnId};

use super::Answered;
use super::Dispatcher;
use crate::error::SubmitError;
use crate::reply::{End, ReplyWriter, Run};
use crate::store::{Known, Store, StoreError};
use crate::turn::Turn;

/// What is known of a key here.
pub(crate) enum Keyed {
    /// The journal is asked. These wait for what it says, in the order in which they came.
    Sought(Vec<Turn>),
    /// A prompt with it is open.
    Open {
        turn: TurnId,
        prompt: Prompt,
        /// Its acceptance is durable.
        accepted: bool,
        /// Whoever sent it again.
        followers: Vec<ReplyWriter>,
    },
}

/// What the journal says of a key.
pub(crate) type Found = Result<Option<Known>, StoreError>;

/// Answers even if the store panics.
struct Lookup {
    key: String,
    to: Option<mpsc::UnboundedSender<Answered>>,
}

impl Lookup {
    fn give(mut self, found: Found) {
        self.send(found);
    }

    fn send(&mut self, found: Found) {
        if let Some(to) = self.to.take() {
            let key = std::mem::take(&mut self.key);
            // A dispatcher that has gone waits for nothing.
            to.send(Answered::Key(key, found)).ok();
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.send(Err(StoreError::Failed {
            path: "the journal".to_owned(),
            detail: "a key could not be looked up".to_owned(),
        }));
    }
}

impl Dispatcher {
    /// A prompt with a key came in: it follows one that is open, or the journal is asked.
    pub(super) fn on_keyed(&mut self, key: String, turn: Box<Turn>) {
        let Some(journal) = &mut self.history.journal else {
            return self.refuse(turn, SubmitError::KeyWithoutJournal);
        };
        match journal.keys.get_mut(&key) {
            Some(Keyed::Sought(waiting)) => waiting.push(*turn),
            Some(Keyed::Open { .. }) => self.follow(&key, turn),
            None => {
                let waiting = Keyed::Sought(vec![*turn]);
                journal.keys.insert(key.clone(), waiting);
                let store = Arc::clone(&journal.store);
                let lookup = Lookup {
                    key: key.clone(),
                    to: Some(journal.answers()),
                };
                tokio::task::spawn_blocking(move || lookup.give(store.find(&key)));
            }
        }
    }

    /// The journal has said what it knows of a key.
    pub(super) fn on_found(&mut self, now: Instant, key: &str, found: Found) {
        let Some(journal) = &mut self.history.journal else {
            return;
        };
        let Some(Keyed::Sought(waiting)) = journal.keys.remove(key) else {
            return;
        };
        let store = Arc::clone(&journal.store);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                for turn in waiting {
                    self.refuse(Box::new(turn), SubmitError::Journal(error.clone()));
                }
                return self.on_journal_error(&error);
            }
        };
        for turn in waiting.into_iter().map(Box::new) {
            // Whoever comes first takes it in.
            if self.is_open(key) {
                self.follow(key, turn);
            } else {
                self.on_known(now, &*store, turn, found.as_ref());
            }
        }
    }

    fn is_open(&self, key: &str) -> bool {
        let journal = self.history.journal.as_ref();
        journal.is_some_and(|journal| journal.keys.contains_key(key))
    }

    /// Nobody with its key is open.
    fn on_known(
        &mut self,
        now: Instant,
        store: &dyn Store,
        mut turn: Box<Turn>,
        known: Option<&Known>,
    ) {
        let Some(known) = known else {
            return self.admit(now, turn);
        };
        let (Known::Queued(accepted) | Known::Running(accepted) | Known::Ended(accepted, _)) =
            known;
        if !store.is_same(&accepted.prompt, &turn.prompt) {
            let first = accepted.turn;
            return self.refuse(turn, SubmitError::KeyConflict { first });
        }
        turn.become_known(accepted);
        match known {
            Known::Queued(_) => self.admit(now, turn),
            Known::Running(_) => {
                let doubt = Doubt {
                    cause: DoubtCause::Stopped,
                    detail: "its instance's task was lost; the journal tells its end when it is opened again".to_owned(),
                };
                let end = End::of(Outcome::Indeterminate(doubt));
                turn.writer.end(end, Run::default());
            }
            Known::Ended(_, reply) => turn.writer.recall(reply),
        }
    }

    /// The prompt with its key is open: it hears of that one's end.
    fn follow(&mut self, key: &str, turn: Box<Turn>) {
        let journal = self.history.journal.as_mut();
        let Some(Keyed::Open {
            turn: first,
            prompt,
            accepted,
            followers,
        }) = journal.and_then(|journal| journal.keys.get_mut(key))
        else {
            return;
        };
        if *prompt != turn.prompt {
            let first = *first;
            return self.refuse(turn, SubmitError::KeyConflict { first });
        }
        turn.writer.rename(*first);
        if *accepted {
            turn.writer.accept();
        }
        followers.push(turn.writer);
    }

    /// A prompt with a key was taken in.
    pub(super) fn open_key(&mut self, turn: &Turn, accepted: bool) {
        if let (Some(key), Some(journal)) = (&turn.key, &mut self.history.journal) {
            let open = Keyed::Open {
                turn: turn.id,
                prompt: turn.prompt.clone(),
                accepted,
                followers: Vec::new(),
            };
            journal.keys.insert(key.clone(), open);
        }
    }

    /// Its acceptance is durable.
    pub(super) fn accept_key(&mut self, key: Option<&str>) {
        let journal = self.history.journal.as_mut();
        let known = key.and_then(|key| journal?.keys.get_mut(key));
        if let Some(Keyed::Open {
            accepted,
            followers,
            ..
        }) = known
        {
            *accepted = true;
            for follower in followers {
                follower.accept();
            }
        }
    }

    /// It has its end, or was never accepted. Those who followed are to be told.
    pub(super) fn close_key(&mut self, key: Option<&str>) -> Vec<ReplyWriter> {
        let journal = self.history.journal.as_mut();
        match key.and_then(|key| journal?.keys.remove(key)) {
            Some(Keyed::Open { followers, .. }) => followers,
            _ => Vec::new(),
        }
    }

    /// The turn is lost, and nobody here will hear of its end.
    pub(super) fn lose_key(&mut self, lost: Option<TurnId>) {
        if let Some(journal) = &mut self.history.journal {
            let is_lost =
                |keyed: &Keyed| matches!(keyed, Keyed::Open { turn, .. } if Some(*turn) == lost);
            // Its followers are answered as its caller is.
            journal.keys.retain(|_, keyed| !is_lost(keyed));
        }
    }

    /// Nothing is looked up any more: whoever waits for that is refused.
    pub(super) fn close_keys(&mut self) {
        let failure = self.journal_failure().cloned();
        let refusal = failure.map_or(SubmitError::Draining, SubmitError::Journal);
        let Some(journal) = &mut self.history.journal else {
            return;
        };
        let sought = journal
            .keys
            .extract_if(|_, keyed| matches!(keyed, Keyed::Sought(_)));
        let waiting: Vec<_> = sought
            .filter_map(|(_, keyed)| match keyed {
                Keyed::Sought(waiting) => Some(waiting),
                Keyed::Open { .. } => None,
            })
            .flatten()
            .collect();
        for turn in waiting {
            self.refuse(Box::new(turn), refusal.clone());
        }
    }
}
