//! The owners that a journal has had, as rows.
//!
//! Owns the table of openings. Must not know what an owner does. Invariant: the last row is the owner of now, or the last one.

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::Trouble;
use crate::schema::{self, ALL_SEALED};
use crate::seal;

/// Writes who opens the journal, and the number that its first event has.
pub(crate) fn write(connection: &Connection, at: i64, first_event: i64) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT INTO openings (at, pid, program, first_event, closed, seal) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        &[
            &at,
            &std::process::id(),
            &env!("CARGO_PKG_VERSION"),
            &first_event,
        ],
    )?;
    Ok(())
}

/// Whether the last owner closed the journal in order; None if there was none.
pub(crate) fn is_closed(connection: &Connection) -> rusqlite::Result<Option<bool>> {
    let mut select =
        connection.prepare_cached("SELECT closed FROM openings ORDER BY id DESC LIMIT 1")?;
    select.query_row([], |row| row.get(0)).optional()
}

/// The numbers of the first events of each owner, in order.
pub(crate) fn first_events(connection: &Connection) -> Result<Vec<i64>, Trouble> {
    let is_sealed = schema::format(connection)? >= ALL_SEALED;
    let seal = if is_sealed { "seal" } else { "0" };
    let mut select = connection.prepare(&format!(
        "SELECT at, pid, program, first_event, {seal} FROM openings ORDER BY id"
    ))?;
    let mut rows = select.query([])?;
    let mut firsts = Vec::new();
    while let Some(row) = rows.next()? {
        if is_sealed {
            seal::check(row, 0..4, "an owner")?;
        }
        firsts.push(row.get(3)?);
    }
    Ok(firsts)
}

/// Seals the rows of a format in which they had no seals.
pub(crate) fn seal_all(connection: &Connection) -> Result<(), Trouble> {
    let mut select = connection.prepare("SELECT at, pid, program, first_event FROM openings")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (at, pid, program, first): (i64, i64, String, i64) = row.try_into()?;
        seal::write(
            connection,
            "UPDATE openings SET seal = ?5 WHERE at = ?1 AND pid = ?2 AND program = ?3 AND first_event = ?4",
            &[&at, &pid, &program, &first],
        )?;
    }
    Ok(())
}
