//! What became of the prompts that had no end when their owner died.
//!
//! Owns what opening finds and settles. Must not know how prompts are run. Invariant: all of it is one transaction, so dying
//! in the middle changes nothing, and doing it again finds the same.

use std::time::Duration;

use rusqlite::Connection;
use toolpool_cluster::{
    Dispatching, Doubt, DoubtCause, Failure, FailureClass, Outcome, Reply, TurnId,
};

use crate::error::Trouble;
use crate::journal::Bodies;
use crate::record;

/// What opening a journal found of its earlier owners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Prompts that were accepted and never given to a tool: they are still queued.
    pub queued: u64,
    /// Prompts that were with a tool when their owner died. Nobody knows what became of them, and they ended as
    /// indeterminate just now.
    pub indeterminate: Vec<TurnId>,
    /// Prompts that were never given to a tool and whose text was not kept: they ended as failed just now.
    pub not_kept: Vec<TurnId>,
    /// The owner before this one closed the journal in order, or there was none.
    pub closed_in_order: bool,
}

/// Gives every open prompt that cannot go on its end.
pub(crate) fn recover(connection: &Connection, at: i64) -> Result<Recovered, Trouble> {
    let mut recovered = Recovered::default();
    for turn in record::read_open(connection)? {
        let attempts = record::read_attempts(connection, turn)?;
        let last = attempts.last().map_or(0, |(last, _)| last.attempt);
        if let Some(dispatching) = record::in_doubt(&attempts) {
            end_in_doubt(connection, dispatching, last, at)?;
            recovered.indeterminate.push(turn);
        } else if record::read_is_kept(connection, turn)? {
            recovered.queued += 1;
        } else {
            end_without_text(connection, turn, last, at)?;
            recovered.not_kept.push(turn);
        }
    }
    Ok(recovered)
}

/// The words for an instance whose owner died: its tools died with it, and so did the proof of what they had read.
fn end_in_doubt(
    connection: &Connection,
    dispatching: &Dispatching,
    attempts: u32,
    at: i64,
) -> Result<(), Trouble> {
    let turn = dispatching.turn;
    let output = record::read_output(connection, turn, dispatching.attempt)?;
    let lossy = std::str::from_utf8(&output).is_err();
    let reply = Reply {
        text: String::from_utf8_lossy(&output).into_owned(),
        lossy,
        outcome: Outcome::Indeterminate(Doubt {
            cause: DoubtCause::ManagerDied,
            detail: "toolpool ended in the middle of the turn, and its tools with it; the reply is what had come by then"
                .to_owned(),
        }),
        instance: Some(dispatching.instance.clone()),
        tool: Some(dispatching.tool.clone()),
        generation: dispatching.generation,
        ..blank(turn)
    };
    // Outputs are kept only where texts are, so their text may be kept too.
    let bodies = if record::read_is_kept(connection, turn)? {
        Bodies::Keep
    } else {
        Bodies::Hash
    };
    record::write_ended(connection, &reply, attempts, at, bodies)?;
    record::forget_output(connection, turn, dispatching.attempt)?;
    record::close(connection, turn)?;
    Ok(())
}

fn end_without_text(
    connection: &Connection,
    turn: TurnId,
    attempts: u32,
    at: i64,
) -> Result<(), Trouble> {
    let reply = Reply {
        outcome: Outcome::Failed(Failure {
            class: FailureClass::Unroutable,
            message: "toolpool ended while it was queued, and this journal keeps no texts; nothing of it was given to a \
                      tool. Send it again"
                .to_owned(),
            retry_after: None,
        }),
        ..blank(turn)
    };
    record::write_ended(connection, &reply, attempts, at, Bodies::Keep)?;
    record::close(connection, turn)?;
    Ok(())
}

fn blank(turn: TurnId) -> Reply {
    Reply {
        turn,
        text: String::new(),
        lossy: false,
        outcome: Outcome::Cancelled,
        attribution: None,
        instance: None,
        tool: None,
        generation: 0,
        queued: Duration::ZERO,
        took: Duration::ZERO,
        first_output: None,
        usage: None,
        landed: None,
    }
}
