//! Batches, by the latest prompt for each of their items.
//!
//! Owns how prompts with the labels `batch` and `item` are put together. Must not know what a batch is for. Invariant: an item
//! counts once, by its latest prompt; a prompt without an item is one by itself.

use rusqlite::Connection;

use super::prompts::{self, JOINS, STATE};
use super::rows::{Batch, Item};
use crate::error::Trouble;
use crate::stamp;

pub(super) fn batches(connection: &Connection) -> Result<Vec<Batch>, Trouble> {
    let sql = format!(
        "WITH latest AS (
           SELECT batch, max(turn) AS turn FROM prompts WHERE batch IS NOT NULL
           GROUP BY batch, coalesce(item, turn)
         ), standing AS (
           SELECT latest.batch, {STATE} AS state FROM latest JOIN prompts p ON p.turn = latest.turn {JOINS}
         ), times AS (
           SELECT batch, min(at) AS first, max(at) AS last, max(turn) AS newest FROM prompts
           WHERE batch IS NOT NULL GROUP BY batch
         )
         SELECT batch, count(*), sum(state = 'queued'), sum(state = 'running'), sum(state = 'completed'),
           sum(state = 'failed'), sum(state = 'cancelled'), sum(state = 'expired'), sum(state = 'indeterminate'),
           first, last
         FROM standing JOIN times USING (batch) GROUP BY batch ORDER BY newest DESC"
    );
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let mut batches = Vec::new();
    while let Some(row) = rows.next()? {
        let count = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        batches.push(Batch {
            batch: row.get(0)?,
            items: count(1)?,
            queued: count(2)?,
            running: count(3)?,
            completed: count(4)?,
            failed: count(5)?,
            cancelled: count(6)?,
            expired: count(7)?,
            indeterminate: count(8)?,
            first: stamp::time(row.get(9)?),
            last: stamp::time(row.get(10)?),
        });
    }
    Ok(batches)
}

pub(super) fn batch(connection: &Connection, id: &str) -> Result<Vec<Item>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT coalesce(item, 't' || turn), count(*), max(turn) FROM prompts WHERE batch = ?1
         GROUP BY coalesce(item, turn) ORDER BY min(turn)",
    )?;
    let mut rows = select.query([id])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(latest) = prompts::row(connection, row.get(2)?, true)? else {
            continue;
        };
        items.push(Item {
            item: row.get(0)?,
            runs: row.get(1)?,
            latest,
        });
    }
    Ok(items)
}
