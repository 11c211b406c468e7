//! One commit: all that it has in it, or, where there is no space, what has to be.
//!
//! Owns which record becomes which rows, and what is left out on a full disk. Must not know who waits. Invariants: a
//! transaction has all of its records or none; what follows an accepted prompt finds room.

use std::collections::HashSet;

use rusqlite::{Connection, TransactionBehavior};
use toolpool_cluster::{Event, Record, TurnId};

use super::pending::Piece;
use super::{Writer, checkpoints};
use crate::error::Trouble;
use crate::journal::Bodies;
use crate::{record, sessions, stamp};

/// How much of a batch is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All of it.
    All,
    /// What follows accepted prompts: there is no space for more.
    Needed,
    /// The same, and of replies only their hashes.
    Bare,
}

/// What became of a record.
pub(super) enum Answer {
    Kept,
    /// There was no space for it.
    Refused,
    /// Its prompt is none of the open ones: there was no space for that.
    NotOpen,
}

impl Writer {
    /// Writes all of it, or, where there is no space, what follows accepted prompts.
    pub(super) fn write_somehow(
        &mut self,
        records: &[Record],
        events: &[Event],
        pieces: &[Piece],
    ) -> Result<Vec<Answer>, Trouble> {
        let wants_space = records
            .iter()
            .any(|record| matches!(record, Record::Accepted(_)));
        if self.is_scarce && wants_space && self.reserve.set_aside().is_ok() {
            self.is_scarce = false;
        }
        if !self.is_scarce {
            match self.write(records, events, pieces, Extent::All) {
                Err(trouble) if trouble.is_full() => {
                    self.reserve.give_up();
                    self.is_scarce = true;
                }
                result => return result,
            }
        }
        let result = match self.write(records, &[], &[], Extent::Needed) {
            Err(trouble) if trouble.is_full() => self.write(records, &[], &[], Extent::Bare),
            result => result,
        };
        // So the log stays short and is used again, and the reserve lasts.
        checkpoints::checkpoint(&self.connection)?;
        result
    }

    fn write(
        &mut self,
        records: &[Record],
        events: &[Event],
        pieces: &[Piece],
        extent: Extent,
    ) -> Result<Vec<Answer>, Trouble> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut next_event = self.next_event;
        let mut answers = Vec::with_capacity(records.len());
        for record in records {
            let answer = match record {
                Record::Event(event) => {
                    record::write_event(&transaction, next_event, event)?;
                    next_event += 1;
                    Answer::Kept
                }
                record => apply(&transaction, record, self.bodies, extent, &self.in_pieces)?,
            };
            answers.push(answer);
        }
        for event in events {
            record::write_event(&transaction, next_event, event)?;
            next_event += 1;
        }
        for ((turn, attempt), bytes) in pieces {
            record::write_output(&transaction, *turn, *attempt, bytes)?;
        }
        transaction.commit()?;
        // SQLite goes on writing a file that has no name any more: nobody would ever read what is called kept here.
        if self.identity.has_left(&self.shared.path) {
            return Err(Trouble::Damaged(
                "its file was moved or removed while it was written".to_owned(),
            ));
        }
        self.next_event = next_event;
        self.in_pieces
            .extend(pieces.iter().map(|((turn, _), _)| *turn));
        for record in records {
            if let Record::Ended { reply, .. } = record {
                self.is_behind = true;
                self.in_pieces.remove(&reply.turn);
            }
        }
        self.checkpoints.committed();
        if self.checkpoints.is_long() {
            checkpoints::checkpoint(&self.connection)?;
        }
        Ok(answers)
    }
}

/// Writes one record.
fn apply(
    connection: &Connection,
    record: &Record,
    bodies: Bodies,
    extent: Extent,
    in_pieces: &HashSet<TurnId>,
) -> Result<Answer, Trouble> {
    Ok(match record {
        Record::Accepted(_) | Record::Output { .. } if extent != Extent::All => Answer::Refused,
        Record::Accepted(accepted) => {
            record::write_accepted(connection, accepted, bodies)?;
            Answer::Kept
        }
        Record::Dispatching(dispatching) => {
            if !record::is_open(connection, dispatching.turn)? {
                return Ok(Answer::NotOpen);
            }
            record::write_dispatching(connection, dispatching)?;
            Answer::Kept
        }
        Record::HandedBack { turn, attempt } => {
            if in_pieces.contains(turn) {
                record::forget_output(connection, *turn, *attempt)?;
            }
            record::write_handed_back(connection, *turn, *attempt)?;
            Answer::Kept
        }
        Record::Output {
            turn,
            attempt,
            bytes,
        } => {
            if bodies == Bodies::Keep {
                record::write_output(connection, *turn, *attempt, bytes)?;
            }
            Answer::Kept
        }
        Record::Ended {
            reply,
            attempts,
            at,
        } => {
            if !record::close(connection, reply.turn)? {
                return Ok(Answer::NotOpen);
            }
            let bodies = if extent == Extent::Bare {
                Bodies::Hash
            } else {
                bodies
            };
            let at = stamp::of_time(*at);
            record::write_ended(connection, reply, *attempts, at, bodies)?;
            if in_pieces.contains(&reply.turn) {
                record::forget_output(connection, reply.turn, *attempts)?;
            }
            Answer::Kept
        }
        Record::Session(known) => {
            sessions::write(connection, known)?;
            Answer::Kept
        }
        Record::SessionClosed { cluster, session } => {
            sessions::close(connection, cluster, session)?;
            Answer::Kept
        }
        _ => Answer::Kept,
    })
}
