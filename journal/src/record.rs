//! Records as rows, and rows as records.
//!
//! Owns what of a record goes into which column, and back. Must not know when anything is written. Invariant: what is read
//! back is what was put, but for texts that were not kept, and times finer than a microsecond.

mod attempt;
mod end;
mod event;
mod prompt;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};
use toolpool_cluster::TurnId;

use crate::error::Trouble;
use crate::seal;

pub(crate) use attempt::{
    forget_output, in_doubt, read_attempts, read_output, write_dispatching, write_handed_back,
    write_output,
};
pub(crate) use end::{END, END_COLUMNS, read_ended, read_settled, write_ended};
pub(crate) use event::write_event;
pub(crate) use prompt::{PROMPT, PROMPT_COLUMNS, read_accepted, read_is_kept, write_accepted};

/// A number as SQLite has them: the same 64 bits.
pub(crate) fn number(turn: TurnId) -> i64 {
    turn.0.cast_signed()
}

pub(crate) fn turn(number: i64) -> TurnId {
    TurnId(number.cast_unsigned())
}

/// What stands for a text of which only the hash was kept.
pub(crate) fn not_kept(hash: &[u8]) -> String {
    format!("sha256:{}", seal::hex(hash))
}

/// The text that belongs to a row, with its hash checked; None if it was not kept.
pub(crate) fn text_of(
    connection: &Connection,
    table: &'static str,
    turn: TurnId,
    row: &Row<'_>,
) -> Result<Option<String>, Trouble> {
    if !row.get::<_, bool>("kept")? {
        return Ok(None);
    }
    let sql = format!("SELECT text FROM {table} WHERE turn = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number(turn)])?;
    let text = match rows.next()? {
        Some(text) => text.get_ref(0)?,
        None => ValueRef::Null,
    };
    let text = check_text(turn, row.get_ref("sha256")?, text)?;
    Ok(Some(text.to_owned()))
}

/// The text that belongs to a row, if it is there and has that hash.
pub(crate) fn check_text<'a>(
    turn: TurnId,
    hash: ValueRef<'_>,
    text: ValueRef<'a>,
) -> Result<&'a str, Trouble> {
    let text = text
        .as_str()
        .map_err(|_| Trouble::Damaged(format!("a text of {turn} is missing, or no text")))?;
    let hash = hash.as_blob().unwrap_or_default();
    seal::check_text(text, hash, &format!("a text of {turn}"))?;
    Ok(text)
}

/// Takes a prompt out of the open ones; false if it was none.
pub(crate) fn close(connection: &Connection, turn: TurnId) -> rusqlite::Result<bool> {
    let mut delete = connection.prepare_cached("DELETE FROM open WHERE turn = ?1")?;
    Ok(delete.execute([number(turn)])? > 0)
}

/// The prompts without an end, in their order.
pub(crate) fn read_open(connection: &Connection) -> rusqlite::Result<Vec<TurnId>> {
    let mut select = connection.prepare_cached("SELECT turn FROM open ORDER BY turn")?;
    let turns = select.query_map([], |row| Ok(turn(row.get(0)?)))?;
    turns.collect()
}

pub(crate) fn is_open(connection: &Connection, turn: TurnId) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT 1 FROM open WHERE turn = ?1")?;
    let found = select.query_row([number(turn)], |_| Ok(())).optional()?;
    Ok(found.is_some())
}
