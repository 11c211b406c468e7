//! What the journal tells people: prompts and what became of them, the lives of instances, events, batches.
//!
//! Owns the reading connection and its questions. Must not know who asks or how it is shown. Invariant: it writes nothing and
//! locks nothing; each answer is from one point of time, so no half of a record is ever seen.

mod batches;
mod lives;
mod prompts;
mod query;
mod rows;

use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row};
use serde_json::Value;
use toolpool_cluster::TurnId;

use crate::error::{JournalError, Trouble};
use crate::journal::Journal;
use crate::{file, integrity, log, record, schema, seal};

pub use query::{Query, State};
pub use rows::{Attempt, Batch, EventRow, Item, Life, PromptRow, Settlement, Shown, Table, Text};

/// Reads a journal, whether somebody writes it or not. Each call blocks; for several threads open several.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    connection: Connection,
}

impl Journal {
    /// Reads what is in this journal. What was put and not waited for is there within a second, or after [`Journal::flush`].
    ///
    /// # Errors
    /// If the file cannot be opened once more.
    pub fn history(&self) -> Result<History, JournalError> {
        // Its owner has looked at the file.
        History::begin(self.path())
    }
}

impl History {
    /// Opens a journal for reading, and looks at all of it if it has no more than 8 MiB.
    ///
    /// # Errors
    /// If there is none, if it is no journal or one of a later version, if it is damaged, or if the system refuses
    /// something.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JournalError> {
        let path = path.as_ref();
        log::is_whole(path)?;
        let history = Self::begin(path)?;
        history.read(|connection| integrity::before_reading(connection, path))?;
        Ok(history)
    }

    fn begin(path: &Path) -> Result<Self, JournalError> {
        if !file::is_a_journal(path)? {
            return Err(JournalError::Missing {
                path: path.display().to_string(),
            });
        }
        let connection = file::reader(path)?;
        let history = Self {
            path: path.to_owned(),
            connection,
        };
        // A later version may have got no further than its log.
        let found = history.read(schema::format)?;
        file::see_format(path, found)?;
        if found == 0 {
            return Err(JournalError::Missing {
                path: path.display().to_string(),
            });
        }
        Ok(history)
    }

    /// Whether somebody writes it now. If nobody does, what it calls running was with a tool when its owner died.
    pub fn is_written(&self) -> bool {
        file::is_owned(&self.path)
    }

    /// Asks at one point of time.
    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, JournalError> {
        let asked = || {
            let all_at_once = self.connection.unchecked_transaction()?;
            let answer = ask(&all_at_once)?;
            // What a search has put into its own memory needs no end of its own.
            all_at_once.finish()?;
            Ok(answer)
        };
        asked().map_err(|trouble: Trouble| trouble.at(&self.path, "read it"))
    }

    /// The prompts that were asked for, the newest first, with the beginnings of their texts.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn find(&self, query: &Query) -> Result<Vec<PromptRow>, JournalError> {
        self.read(|connection| {
            let turns = prompts::turns(connection, query)?;
            turns
                .into_iter()
                .filter_map(|turn| prompts::row(connection, turn, false).transpose())
                .collect()
        })
    }

    /// All that is known of one prompt; None if there is none of that number.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn show(&self, turn: TurnId) -> Result<Option<Shown>, JournalError> {
        self.read(|connection| prompts::show(connection, record::number(turn)))
    }

    /// Every process of every instance, or of one, in the order of their starts.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn lives(&self, instance: Option<&str>) -> Result<Vec<Life>, JournalError> {
        self.read(|connection| lives::lives(connection, instance))
    }

    /// The events with a number above `since`, at most `limit`, in their order.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn events(&self, since: u64, limit: usize) -> Result<Vec<EventRow>, JournalError> {
        self.read(|connection| {
            let mut select = connection
                .prepare_cached("SELECT id, instance, turn, body, seal FROM events WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = select.query((i64::try_from(since).unwrap_or(i64::MAX), limit))?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(event(row)?);
            }
            Ok(events)
        })
    }

    /// The number of the last event; 0 if there is none.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn last_event(&self) -> Result<u64, JournalError> {
        self.read(|connection| {
            let last: i64 =
                connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| {
                    row.get(0)
                })?;
            Ok(last.cast_unsigned())
        })
    }

    /// Every batch, the newest first.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn batches(&self) -> Result<Vec<Batch>, JournalError> {
        self.read(batches::batches)
    }

    /// The items of a batch with the latest prompt for each, in the order of their first prompts. Empty if there is no such
    /// batch.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn batch(&self, id: &str) -> Result<Vec<Item>, JournalError> {
        self.read(|connection| batches::batch(connection, id))
    }

    /// Asks a question of your own. The view `history` has one row for each prompt; docs/journal.md has the tables.
    ///
    /// # Errors
    /// If it is no SQL, if it would change something, or if the journal cannot be read.
    pub fn sql(&self, text: &str, limit: usize) -> Result<Table, JournalError> {
        let wrong = |detail: String| JournalError::Sql { detail };
        let mut statement = self
            .connection
            .prepare(text)
            .map_err(|error| wrong(format!("{error}; try: SELECT * FROM history LIMIT 10")))?;
        if !statement.readonly() {
            return Err(wrong(
                "this would change the journal, and history only reads; ask with SELECT".to_owned(),
            ));
        }
        if statement.column_count() == 0 {
            return Err(wrong(
                "this asks for nothing; try: SELECT * FROM history LIMIT 10".to_owned(),
            ));
        }
        let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let mut table = Table {
            columns,
            rows: Vec::new(),
            more: false,
        };
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::Unknown) => wrong(error.to_string()),
            _ => Trouble::from(error).at(&self.path, "answer this"),
        };
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if table.rows.len() == limit {
                table.more = true;
                break;
            }
            let cells = (0..table.columns.len()).map(|column| row.get_ref(column).map(json));
            table
                .rows
                .push(cells.collect::<Result<_, _>>().map_err(failed)?);
        }
        Ok(table)
    }

    /// Looks at all of it: every page, every index, every row that is sealed and every text. Takes seconds for each GiB.
    ///
    /// # Errors
    /// If anything is not as it was written, or if it cannot be read.
    pub fn check(&self) -> Result<(), JournalError> {
        self.read(integrity::everything)
    }

    /// Writes all that is known of the prompts that were asked for, one as JSON on each line, the oldest first; says how many.
    ///
    /// # Errors
    /// If the journal cannot be read, or if `out` cannot be written.
    pub fn export(&self, query: &Query, out: &mut dyn Write) -> Result<u64, JournalError> {
        let turns = self.read(|connection| prompts::turns(connection, query))?;
        let mut written = 0;
        // A point of time for each, so that a long export does not keep the log from being brought in.
        for turn in turns.into_iter().rev() {
            let Some(shown) = self.read(|connection| prompts::show(connection, turn))? else {
                continue;
            };
            let line = serde_json::to_string(&shown).expect("the maps have texts as keys");
            writeln!(out, "{line}").map_err(file::refused(&self.path, "write what it has"))?;
            written += 1;
        }
        Ok(written)
    }
}

/// An event as it was told.
fn event(row: &Row<'_>) -> Result<EventRow, Trouble> {
    let id: i64 = row.get("id")?;
    seal::check(row, 0..4, &format!("the event {id}"))?;
    let body: String = row.get("body")?;
    let event = serde_json::from_str(&body)
        .map_err(|_| Trouble::Damaged(format!("the event {id} is not as it was written")))?;
    Ok(EventRow {
        id: id.cast_unsigned(),
        event,
    })
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => seal::hex(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;
    use toolpool_cluster::{Accepted, Prompt, Record, Store as _};

    use super::*;

    #[test]
    fn what_was_prepared_once_is_not_prepared_anew_for_each_prompt() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("books.db");
        let journal = Journal::open(&path).expect("a new one");
        for turn in 1..=10 {
            let accepted = Accepted::new(
                TurnId(turn),
                "main",
                std::time::SystemTime::now(),
                Prompt::text("fix it"),
            );
            journal.put(Record::Accepted(Box::new(accepted)), None);
        }
        journal.flush().expect("it is kept");
        let history = journal.history().expect("it can be read");
        for turn in 1..=10 {
            history.show(TurnId(turn)).expect("it can be read");
        }
        for sql in [
            "SELECT turn, at, outcome, who, note, seal FROM settlements WHERE turn = ?1 ORDER BY id",
            "SELECT id, instance, turn, body, seal FROM events WHERE turn = ?1 ORDER BY id",
        ] {
            let select = history.connection.prepare_cached(sql).expect("it is right");
            assert!(select.get_status(StatementStatus::Run) >= 10, "{sql}");
            assert_eq!(select.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}
