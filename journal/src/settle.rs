//! Settling a doubt.
//!
//! Owns what [`Journal::resolve`] writes. Must not know how anybody came to know. Invariant: the end that was recorded stays as
//! it was; what settled it stands beside it, and the last of several counts.

use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, TransactionBehavior};
use toolpool_cluster::TurnId;

use crate::error::{JournalError, Trouble};
use crate::history::State;
use crate::journal::Journal;
use crate::{record, seal, stamp};

/// As what a doubt is settled, by whom, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// As completed, failed or cancelled.
    pub state: State,
    /// Who or what knows: a person's name, or that of a program.
    pub by: String,
    /// Why, for people.
    pub note: Option<String>,
}

impl Journal {
    /// Records what became of a prompt whose end was in doubt. Its first outcome stays recorded. Settling it again changes what
    /// counts. Blocks until it is durable.
    ///
    /// # Errors
    /// If there is no such prompt, if it did not end as indeterminate, or if the journal cannot be written.
    pub fn resolve(&self, turn: TurnId, settle: &Settle) -> Result<(), JournalError> {
        let not_in_doubt = |state| Err(JournalError::NotInDoubt { turn, state });
        if !matches!(
            settle.state,
            State::Completed | State::Failed | State::Cancelled
        ) {
            return not_in_doubt(settle.state);
        }
        let path = self.path().to_owned();
        let shown = self.history()?.show(turn)?;
        let Some(shown) = shown else {
            return Err(JournalError::Unknown {
                path: path.display().to_string(),
                turn,
            });
        };
        if shown.settlements.is_empty() && shown.prompt.state != State::Indeterminate {
            return not_in_doubt(shown.prompt.state);
        }
        let settle = settle.clone();
        self.on_writer(move |writer| {
            let mut write = || -> Result<(), Trouble> {
                let transaction = writer
                    .connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)?;
                let in_doubt = transaction
                    .query_row(
                        "SELECT 1 FROM ends WHERE turn = ?1 AND outcome = 'indeterminate'",
                        [record::number(turn)],
                        |_| Ok(()),
                    )
                    .optional()?;
                if in_doubt.is_some() {
                    seal::write(
                        &transaction,
                        "INSERT INTO settlements (turn, at, outcome, who, note, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        &[
                            &record::number(turn),
                            &stamp::of_time(SystemTime::now()),
                            &settle.state.word(),
                            &settle.by,
                            &settle.note,
                        ],
                    )?;
                }
                Ok(transaction.commit()?)
            };
            let written = write();
            written.map_err(|trouble| writer.refused(&trouble))
        })
    }
}
