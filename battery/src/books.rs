//! A journal as anybody can read it: with SQLite and the view that is made for people.
//!
//! Owns the look into the file. Must not know toolpool's own reader, so that a mistake in it is seen. Invariant: it only
//! reads, and needs neither the lock nor that nobody writes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
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
    /// Whether it has no end yet.
    pub(crate) fn is_open(&self) -> bool {
        ["queued", "running"].contains(&self.state.as_str())
    }

    /// The same for the checker of all accounts.
    fn kept(self) -> Kept {
        let is_open = self.is_open();
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

/// All prompts, in the order of their numbers. Each that has ended has one record of its end, and no other has any.
pub(crate) fn rows(journal: &Path) -> Result<Vec<Row>> {
    if !journal.exists() {
        return Ok(Vec::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection =
        Connection::open_with_flags(journal, flags).context("cannot read the journal")?;
    // All of it as it is at one point of time.
    let connection = connection.unchecked_transaction()?;
    let ends: i64 = connection.query_row("SELECT count(*) FROM ends", [], |row| row.get(0))?;
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
    let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    let ended = rows.iter().filter(|row| !row.is_open()).count();
    ensure!(
        i64::try_from(ended)? == ends,
        "{ended} prompts have ended, and {ends} ends are in the journal"
    );
    Ok(rows)
}

/// The same for the checker of all accounts.
pub(crate) fn kept(journal: &Path) -> Result<Vec<Kept>> {
    Ok(rows(journal)?.into_iter().map(Row::kept).collect())
}
