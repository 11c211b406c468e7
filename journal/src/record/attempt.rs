//! The times that a prompt was given to a tool, and what came of each.
//!
//! Owns attempts and pieces of output as rows. Must not know ends. Invariant: an attempt that was handed back stays known.

use rusqlite::Connection;
use toolpool_cluster::{Dispatching, TurnId};

use super::number;
use crate::error::Trouble;
use crate::{seal, stamp};

/// Writes that a prompt is about to be given to a tool.
pub(crate) fn write_dispatching(
    connection: &Connection,
    dispatching: &Dispatching,
) -> rusqlite::Result<()> {
    write_attempt(connection, dispatching, false)
}

fn write_attempt(
    connection: &Connection,
    dispatching: &Dispatching,
    handed_back: bool,
) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            &number(dispatching.turn),
            &dispatching.attempt,
            &&*dispatching.instance,
            &&*dispatching.tool,
            &dispatching.generation.cast_signed(),
            &stamp::of_time(dispatching.at),
            &handed_back,
        ],
    )?;
    Ok(())
}

/// Writes that nothing of an attempt was read.
pub(crate) fn write_handed_back(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> Result<(), Trouble> {
    let attempts = read_attempts(connection, turn)?;
    let found = attempts
        .into_iter()
        .find(|(dispatching, _)| dispatching.attempt == attempt);
    match found {
        Some((dispatching, _)) => Ok(write_attempt(connection, &dispatching, true)?),
        None => Ok(()),
    }
}

/// Each time that a prompt was given to a tool, and whether it was handed back, in order.
pub(crate) fn read_attempts(
    connection: &Connection,
    turn: TurnId,
) -> Result<Vec<(Dispatching, bool)>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, attempt, instance, tool, generation, at, handed_back, seal FROM attempts WHERE turn = ?1
         ORDER BY attempt",
    )?;
    let mut rows = select.query([number(turn)])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        seal::check(row, 0..7, &format!("an attempt of {turn}"))?;
        let dispatching = Dispatching {
            turn,
            attempt: row.get(1)?,
            instance: row.get::<_, String>(2)?.into(),
            tool: row.get::<_, String>(3)?.into(),
            generation: row.get::<_, i64>(4)?.cast_unsigned(),
            at: stamp::time(row.get(5)?),
        };
        attempts.push((dispatching, row.get(6)?));
    }
    Ok(attempts)
}

/// The last of these attempts that a tool may have read: it was not handed back. One that was tells nothing about those
/// before it.
pub(crate) fn in_doubt(attempts: &[(Dispatching, bool)]) -> Option<&Dispatching> {
    let doubtful = attempts.iter().rfind(|(_, handed_back)| !handed_back);
    doubtful.map(|(dispatching, _)| dispatching)
}

/// A piece of the reply of a prompt that is open.
pub(crate) fn write_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT INTO outputs (turn, attempt, bytes, seal)
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM open WHERE turn = ?1)",
        &[&number(turn), &attempt, &bytes],
    )?;
    Ok(())
}

/// What came of one attempt, as far as it is apart from the reply.
pub(crate) fn read_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> Result<Vec<u8>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, attempt, bytes, seal FROM outputs WHERE turn = ?1 AND attempt = ?2 ORDER BY id",
    )?;
    let mut rows = select.query((number(turn), attempt))?;
    let mut output = Vec::new();
    while let Some(row) = rows.next()? {
        seal::check(row, 0..3, &format!("a piece of the reply of {turn}"))?;
        let piece = row.get_ref(2)?.as_blob();
        output.extend_from_slice(piece.map_err(rusqlite::Error::from)?);
    }
    Ok(output)
}

/// Removes the pieces of an attempt whose end has the whole reply.
pub(crate) fn forget_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM outputs WHERE turn = ?1 AND attempt = ?2")?;
    delete.execute((number(turn), attempt))?;
    Ok(())
}
