//! Whether a file holds together.
//!
//! Owns what is looked at, and when. Must not know who opens it. Invariant: nothing is written to a file that is known to be
//! damaged. What is not looked at on opening has seals, which are checked when it is read.

use std::path::Path;

use rusqlite::Connection;

use crate::error::Trouble;
use crate::openings;
use crate::planted::planted;

/// Up to this size a file is looked at as a whole whenever it is opened, which takes some tenths of a second.
const SMALL: u64 = 64 << 20;

/// Up to this size also whenever somebody opens it to read, which takes some hundredths.
const SMALL_TO_READ: u64 = 16 << 20;

/// Looks at a file before it is told from, if that is cheap. In a larger one, what is told is as it was written, and something
/// that was lost may be missing: that is found by looking at all of it.
pub(crate) fn before_reading(connection: &Connection, path: &Path) -> Result<(), Trouble> {
    if size(path) > SMALL_TO_READ {
        return Ok(());
    }
    as_a_whole(connection)
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Looks at a file before it is written to: as a whole if that is cheap; else, unless it was closed in order, at the tables
/// that say how prompts stand.
pub(crate) fn before_writing(connection: &Connection, path: &Path) -> Result<(), Trouble> {
    if planted("damage_accepted") {
        return Ok(());
    }
    if size(path) <= SMALL {
        return as_a_whole(connection);
    }
    if openings::is_closed(connection)? == Some(true) {
        return Ok(());
    }
    for table in ["open", "attempts", "ends", "prompts"] {
        is_ok(connection, &format!("PRAGMA quick_check({table})"))?;
    }
    add_up(connection)
}

/// Looks at every page and every index.
pub(crate) fn as_a_whole(connection: &Connection) -> Result<(), Trouble> {
    is_ok(connection, "PRAGMA integrity_check(1)")?;
    add_up(connection)
}

fn is_ok(connection: &Connection, check: &str) -> Result<(), Trouble> {
    let found: String = connection.query_row(check, [], |row| row.get(0))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(Trouble::Damaged(found))
    }
}

/// Every prompt is open or has an end, and nothing else is or has one.
fn add_up(connection: &Connection) -> Result<(), Trouble> {
    let (prompts, ends, open): (i64, i64, i64) = connection.query_row(
        "SELECT (SELECT count(*) FROM prompts), (SELECT count(*) FROM ends), (SELECT count(*) FROM open)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if prompts == ends + open {
        return Ok(());
    }
    Err(Trouble::Damaged(format!(
        "it has {prompts} prompts, {ends} ends and {open} open prompts, which do not add up"
    )))
}
