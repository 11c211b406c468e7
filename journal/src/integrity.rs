//! Whether a file holds together.
//!
//! Owns what is looked at, and when. Must not know who opens it. Invariant: nothing is written to a file that is known to be
//! damaged. What is not looked at on opening has seals, which are checked when it is read.

use std::path::Path;

use rusqlite::Connection;

use crate::error::Trouble;
use crate::planted::planted;
use crate::schema::{self, ALL_SEALED};
use crate::{openings, record, seal};

/// Up to this size everything in a file is looked at whenever somebody opens it, which takes some hundredths of a second.
const SMALL: u64 = 8 << 20;

/// Up to this size its pages and indexes are, whenever its owner opens it, which takes some tenths.
const MIDDLING: u64 = 64 << 20;

/// Looks at a small file before it is told from. What is told of a larger one is as it was written, too, but what cannot be
/// found in it any more may be missing.
pub(crate) fn before_reading(connection: &Connection, path: &Path) -> Result<(), Trouble> {
    if size(path) <= SMALL {
        everything(connection)?;
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Looks at a file before it is written to: at all of it, or all pages and indexes, if that is cheap; else, unless it was
/// closed in order, at the tables that say how prompts stand.
pub(crate) fn before_writing(connection: &Connection, path: &Path) -> Result<(), Trouble> {
    if planted("damage_accepted") {
        return Ok(());
    }
    let size = size(path);
    if size <= SMALL {
        return everything(connection);
    }
    if size <= MIDDLING {
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

/// Looks at every page, every index, every row that is sealed and every text.
pub(crate) fn everything(connection: &Connection) -> Result<(), Trouble> {
    as_a_whole(connection)?;
    rows(connection)?;
    texts(connection, "prompts", "prompt_texts")?;
    texts(connection, "ends", "reply_texts")
}

fn rows(connection: &Connection) -> Result<(), Trouble> {
    openings::first_events(connection)?;
    // What is not sealed before it: an `id` of a table's own.
    let tables = [
        ("prompts", 0),
        ("attempts", 0),
        ("ends", 0),
        ("settlements", 1),
        ("outputs", 1),
        ("events", 0),
        ("sessions", 0),
    ];
    let is_sealed = schema::format(connection)? >= ALL_SEALED;
    for (table, first) in tables {
        if table == "sessions" && !is_sealed {
            continue;
        }
        let mut select = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let seal = select.column_count().saturating_sub(1);
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            seal::check(row, first..seal, &format!("a row of {table}"))?;
        }
    }
    Ok(())
}

fn texts(connection: &Connection, rows: &str, texts: &str) -> Result<(), Trouble> {
    let mut select = connection.prepare(&format!(
        "SELECT turn, sha256, text FROM {rows} LEFT JOIN {texts} USING (turn) WHERE kept"
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        record::check_text(record::turn(row.get(0)?), row.get_ref(1)?, row.get_ref(2)?)?;
    }
    Ok(())
}

/// Looks at every page and every index.
fn as_a_whole(connection: &Connection) -> Result<(), Trouble> {
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
