//! A journal as anybody can read it: with SQLite and the view that is made for people.
//!
//! Owns the look into the file. Must not know toolpool's own reader, so that a mistake in it is seen. Invariant: it only
//! reads, and needs neither the lock nor that nobody writes.

use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};
use toolpool_testkit::ledgers::Kept;

/// A prompt in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) turn: u64,
    /// `queued`, `running` or the outcome's word.
    pub(crate) state: String,
    pub(crate) cause: String,
    pub(crate) prompt: String,
    pub(crate) reply: String,
    pub(crate) attempts: u32,
}

impl Row {
    /// The same for the checker of all accounts.
    pub(crate) fn kept(self) -> Kept {
        let is_open = ["queued", "running"].contains(&self.state.as_str());
        Kept {
            turn: self.turn,
            prompt: self.prompt,
            outcome: (!is_open).then_some(self.state),
            cause: self.cause,
            text: self.reply,
            attempts: self.attempts,
        }
    }
}

/// All prompts, in the order of their numbers.
pub(crate) fn rows(journal: &Path) -> Result<Vec<Row>> {
    if !journal.exists() {
        return Ok(Vec::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection =
        Connection::open_with_flags(journal, flags).context("cannot read the journal")?;
    let mut select = connection.prepare(
        "SELECT turn, state, coalesce(cause, ''), coalesce(prompt, ''), coalesce(reply, ''), attempts \
         FROM history ORDER BY turn",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Row {
            turn: row.get::<_, i64>(0)?.cast_unsigned(),
            state: row.get(1)?,
            cause: row.get(2)?,
            prompt: row.get(3)?,
            reply: row.get(4)?,
            attempts: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
