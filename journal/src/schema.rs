//! The formats of the file, one after the other.
//!
//! Owns the schema and its migrations. Must not know what the rows are for. Invariant: a file is of one of these formats,
//! which `user_version` says, or it is not touched.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::Trouble;
use crate::{openings, sessions};

/// Says that a SQLite file is a journal: "tpjl" in the header.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"tpjl");

/// What makes each format from the one before; the first from an empty file.
const STEPS: [&str; 3] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
];

/// The format from which on sessions and owners have seals.
pub(crate) const ALL_SEALED: u32 = 3;

/// The format that this version writes.
pub(crate) const FORMAT: u32 = STEPS.len() as u32;

/// The format that the file has; 0 if there is nothing in it yet.
pub(crate) fn format(connection: &Connection) -> Result<u32, Trouble> {
    let format = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let mut tables = connection.prepare("SELECT 1 FROM sqlite_schema")?;
    if format == 0 && tables.exists([])? {
        let strange = "it has tables, and says that it has none".to_owned();
        return Err(Trouble::Damaged(strange));
    }
    Ok(format)
}

/// Brings an older format, or an empty file, to `format`: each step wholly or not at all.
pub(crate) fn migrate(connection: &mut Connection, to: u32) -> Result<(), Trouble> {
    for (number, step) in (1..=to).zip(STEPS) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if format(&transaction)? >= number {
            continue;
        }
        transaction.execute_batch(step)?;
        if number == ALL_SEALED {
            sessions::seal_all(&transaction)?;
            openings::seal_all(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
