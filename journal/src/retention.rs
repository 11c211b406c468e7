//! How long things are kept.
//!
//! Owns what [`Journal::prune`] removes. Must not know who wants it gone. Invariants: an open prompt is never removed; a prompt
//! goes with all that belongs to it or not at all; its number is never given again.

use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{JournalError, Trouble};
use crate::journal::Journal;
use crate::stamp;
use crate::writer::checkpoints;

/// Prompts, or events, that go in one transaction: what is put meanwhile waits for no more.
const CHUNK: i64 = 500;

/// More bytes than a prompt takes beside its texts.
const AROUND: i64 = 4096;

/// Pages that are given back to the system at a time.
const PAGES: i64 = 2000;

/// What is to be kept. What one of the two wants gone is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Prompts that ended, and events that happened, no longer ago than this.
    pub older_than: Option<Duration>,
    /// The newest, so that the journal holds no more bytes than this. Its file is smaller afterwards, and may be larger
    /// for as long as somebody reads.
    pub keep_bytes: Option<u64>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Prompts, with all that belonged to them.
    pub prompts: u64,
    /// Events.
    pub events: u64,
    /// Bytes that the journal holds less.
    pub bytes: u64,
}

/// When a journal was opened, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened(SystemTime, Instant);

impl Opened {
    pub(crate) fn now() -> Self {
        Self(SystemTime::now(), Instant::now())
    }

    /// The time by which things are old: no later than can have passed since, so that a wall clock which is set ahead makes
    /// nothing older.
    fn time(self, wall: SystemTime, monotonic: Instant) -> SystemTime {
        let passed = monotonic.saturating_duration_since(self.1);
        wall.min(self.0.checked_add(passed).unwrap_or(wall))
    }
}

/// One step of pruning.
enum Step {
    Removed(Pruned),
    Done,
}

impl Journal {
    /// Removes what is older than wanted or more than wanted, and gives the space back, in small steps between other records.
    /// Never removes a prompt that is open. A wall clock that was set ahead since this journal was opened makes nothing older.
    /// Blocks until it is done.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn prune(&self, keep: &Retention) -> Result<Pruned, JournalError> {
        let mut pruned = Pruned::default();
        let before = self.on_writer(|writer| {
            used(&writer.connection).map_err(|trouble| writer.refused(&trouble))
        })?;
        let time = self.opened().time(SystemTime::now(), Instant::now());
        let cutoff = keep
            .older_than
            .map(|age| stamp::of_time(time).saturating_sub(stamp::of_duration(age)));
        let keep_bytes = keep.keep_bytes;
        loop {
            let step = self.on_writer(move |writer| {
                step(&mut writer.connection, cutoff, keep_bytes)
                    .map_err(|trouble| writer.refused(&trouble))
            })?;
            match step {
                Step::Removed(more) => {
                    pruned.prompts += more.prompts;
                    pruned.events += more.events;
                }
                Step::Done => break,
            }
        }
        while self.on_writer(|writer| {
            give_back(&writer.connection).map_err(|trouble| writer.refused(&trouble))
        })? {}
        let after = self.on_writer(|writer| {
            used(&writer.connection).map_err(|trouble| writer.refused(&trouble))
        })?;
        pruned.bytes = before.saturating_sub(after);
        Ok(pruned)
    }
}

/// Bytes of the pages that hold something.
fn used(connection: &Connection) -> Result<u64, Trouble> {
    let number = |pragma| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    let pages = number("page_count")? - number("freelist_count")?;
    Ok((pages * number("page_size")?).cast_unsigned())
}

/// Removes some of the oldest prompts that ended, and the events up to their time.
fn step(
    connection: &mut Connection,
    cutoff: Option<i64>,
    keep_bytes: Option<u64>,
) -> Result<Step, Trouble> {
    let excess = match keep_bytes {
        Some(most) => used(connection)?.saturating_sub(most),
        None => 0,
    };
    let is_large = excess > 0;
    // With too many bytes, age does not matter.
    let Some(cutoff) = (if is_large { Some(i64::MAX) } else { cutoff }) else {
        return Ok(Step::Done);
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS going (turn INTEGER PRIMARY KEY); DELETE FROM temp.going;",
    )?;
    // Of too many bytes so many prompts as surely have no more, so that none goes that could have stayed.
    let enough = if is_large {
        i64::try_from(excess).unwrap_or(i64::MAX)
    } else {
        i64::MAX
    };
    let prompts = transaction
        .prepare_cached(
            "INSERT INTO temp.going SELECT turn FROM (
               SELECT turn, sum(bytes) OVER (ORDER BY turn) - bytes AS before FROM (
                 SELECT e.turn, e.bytes + p.bytes + ?4 AS bytes FROM ends e JOIN prompts p USING (turn)
                 WHERE e.at < ?1 ORDER BY e.turn LIMIT ?2)) WHERE before < ?3",
        )?
        .execute([cutoff, CHUNK, enough, AROUND])?;
    let until: i64 = if is_large {
        transaction.query_row(
            "SELECT coalesce(max(at), 0) FROM ends JOIN temp.going USING (turn)",
            [],
            |row| row.get(0),
        )?
    } else {
        cutoff
    };
    let last: i64 =
        transaction.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| {
            row.get(0)
        })?;
    transaction.execute(
        "UPDATE numbers SET last = max(last, ?1), twin = ~max(last, ?1) WHERE name = 'event'",
        [last],
    )?;
    if prompts > 0 {
        let last: i64 =
            transaction.query_row("SELECT max(turn) FROM temp.going", [], |row| row.get(0))?;
        transaction.execute(
            "UPDATE numbers SET last = max(last, ?1), twin = ~max(last, ?1) WHERE name = 'turn'",
            [last],
        )?;
        transaction.execute(
            "DELETE FROM words WHERE rowid IN (SELECT turn FROM temp.going
               WHERE turn <= (SELECT last FROM numbers WHERE name = 'indexed'))",
            [],
        )?;
        for table in [
            "prompts",
            "prompt_texts",
            "reply_texts",
            "ends",
            "attempts",
            "settlements",
            "outputs",
            "events",
        ] {
            let sql = format!("DELETE FROM {table} WHERE turn IN (SELECT turn FROM temp.going)");
            transaction.prepare_cached(&sql)?.execute([])?;
        }
        // A session goes with the last of its prompts: one that is open goes on with it. The next cluster of its name
        // removes what was kept of its conversation.
        transaction.execute(
            "DELETE FROM sessions WHERE NOT EXISTS (
               SELECT 1 FROM prompts p WHERE p.session = sessions.session AND p.cluster = sessions.cluster)",
            [],
        )?;
    }
    #[allow(clippy::cast_precision_loss)]
    let until = until as f64 / 1e6;
    // Those of prompts go with them.
    let events = transaction
        .prepare_cached(
            "DELETE FROM events WHERE id IN (
               SELECT id FROM (
                 SELECT id, body FROM events WHERE turn IS NULL OR turn NOT IN (SELECT turn FROM prompts)
                 ORDER BY id LIMIT ?2) WHERE body ->> 'unix_s' < ?1)",
        )?
        .execute((until, 4 * CHUNK))?;
    transaction.commit()?;
    if prompts == 0 && events == 0 {
        return Ok(Step::Done);
    }
    Ok(Step::Removed(Pruned {
        prompts: prompts as u64,
        events: events as u64,
        bytes: 0,
    }))
}

/// Gives some of the free pages back; false if there is none left.
fn give_back(connection: &Connection) -> Result<bool, Trouble> {
    {
        // It frees a page with each step.
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
    }
    checkpoints::checkpoint(connection)?;
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok(free > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_nothing_older() {
        let opened = Opened::now();
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        let later = opened.1 + minute;
        assert_eq!(opened.time(opened.0 + minute, later), opened.0 + minute);
        assert_eq!(
            opened.time(opened.0 + day, later),
            opened.0 + minute,
            "ahead"
        );
        assert_eq!(opened.time(opened.0 - day, later), opened.0 - day, "back");
    }
}
