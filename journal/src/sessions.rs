//! Sessions as rows, and what was said in them.
//!
//! Owns the table of sessions. Must not know what a conversation is. Invariant: there is one row for a session that is not
//! over, and none for one that is.

use std::path::PathBuf;

use rusqlite::Connection;
use toolpool_cluster::{Conversing, Said, TurnId};

use crate::error::Trouble;
use crate::record::{self, number, turn};
use crate::{seal, stamp};

/// Writes which conversation a session is in, over what was known.
pub(crate) fn write(connection: &Connection, known: &Conversing) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        &[
            &&*known.cluster,
            &known.session,
            &&*known.instance,
            &&*known.tool,
            // A path that is no text is not found again, and that is told.
            &known.cwd.to_string_lossy(),
            &known.conversation,
            &known.folder.to_string_lossy(),
            &number(known.since),
            &number(known.last),
            &known.in_doubt,
            &stamp::of_time(known.at),
        ],
    )?;
    Ok(())
}

/// Forgets a session.
pub(crate) fn close(connection: &Connection, cluster: &str, session: &str) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM sessions WHERE cluster = ?1 AND session = ?2")?;
    delete.execute((cluster, session))?;
    Ok(())
}

/// The sessions of a cluster's name, those used last at the end.
pub(crate) fn read(connection: &Connection, cluster: &str) -> Result<Vec<Conversing>, Trouble> {
    // Whose it is says the row whose seal was checked.
    let mut known = read_all(connection, true)?;
    known.retain(|known| *known.cluster == *cluster);
    known.sort_by_key(|known| known.last);
    Ok(known)
}

/// Seals the rows of a format in which they had no seals.
pub(crate) fn seal_all(connection: &Connection) -> Result<(), Trouble> {
    for known in read_all(connection, false)? {
        write(connection, &known)?;
    }
    Ok(())
}

fn read_all(connection: &Connection, is_sealed: bool) -> Result<Vec<Conversing>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT cluster, session, instance, tool, cwd, conversation, folder, since, last, in_doubt, at, seal \
         FROM sessions",
    )?;
    let text = |row: &rusqlite::Row<'_>, column: &str| row.get::<_, String>(column);
    let mut rows = select.query([])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        if is_sealed {
            seal::check(row, 0..11, "a session")?;
        }
        known.push(Conversing {
            cluster: text(row, "cluster")?.into(),
            session: text(row, "session")?,
            instance: text(row, "instance")?.into(),
            tool: text(row, "tool")?.into(),
            cwd: PathBuf::from(text(row, "cwd")?),
            conversation: row.get("conversation")?,
            folder: PathBuf::from(text(row, "folder")?),
            since: turn(row.get("since")?),
            last: turn(row.get("last")?),
            in_doubt: row.get("in_doubt")?,
            at: stamp::time(row.get("at")?),
        });
    }
    Ok(known)
}

/// The newest turns of a session, from `since` on, that have `max_bytes` of text together, in their order. It ends before
/// a turn whose text was not kept.
pub(crate) fn said(
    connection: &Connection,
    cluster: &str,
    session: &str,
    since: TurnId,
    max_bytes: usize,
) -> Result<Vec<Said>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, p.kept AND e.kept FROM prompts p JOIN ends e USING (turn)
         WHERE p.session = ?1 AND turn >= ?2 ORDER BY turn DESC",
    )?;
    let mut rows = select.query((session, number(since)))?;
    let (mut newest, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (turn, is_kept): (_, bool) = (turn(row.get(0)?), row.get(1)?);
        let accepted = record::read_accepted(connection, turn)?;
        let Some((reply, _)) = record::read_ended(connection, turn)? else {
            continue;
        };
        // No tool has read what was handed back each time.
        let attempts = record::read_attempts(connection, turn)?;
        if *accepted.cluster != *cluster || record::in_doubt(&attempts).is_none() {
            continue;
        }
        if !is_kept {
            break;
        }
        bytes += accepted.prompt.text.len() + reply.text.len();
        newest.push(Said {
            turn,
            prompt: accepted.prompt.text,
            reply: reply.text,
            outcome: reply.outcome.word().to_owned(),
        });
        if bytes >= max_bytes {
            break;
        }
    }
    newest.reverse();
    Ok(newest)
}
