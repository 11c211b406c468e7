//! The words of prompts and replies, to be searched.
//!
//! Owns the index of words, which follows behind the commits, and what a search means. Must not know what else is asked.
//! Invariant: a turn is in the index, or its number is above the last one indexed, and then it is searched by itself; both
//! find the same.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::error::Trouble;

/// Turns that are indexed in one transaction, which has to be short: a commit may be waiting for it.
const CHUNK: i64 = 128;

/// Bytes after which a chunk ends sooner.
const MUCH: usize = 256 << 10;

/// Turns that are searched at a time without the index.
const TAIL: i64 = 500;

/// The last turn that is in the index; None in a file of the format before there was one.
fn indexed(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT last FROM numbers WHERE name = 'indexed'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Indexes some of the turns that have ended, in their order; false if none is left.
pub(crate) fn follow(connection: &mut Connection) -> Result<bool, Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let last = indexed(&transaction)?.unwrap_or_default();
    let mut found = 0;
    let mut newest = last;
    {
        let mut select = transaction.prepare_cached(
            "SELECT p.turn, pt.text, rt.text FROM prompts p
             LEFT JOIN prompt_texts pt ON pt.turn = p.turn LEFT JOIN reply_texts rt ON rt.turn = p.turn
             WHERE p.turn > ?1 AND p.turn < coalesce((SELECT min(turn) FROM open), 9223372036854775807)
             ORDER BY p.turn LIMIT ?2",
        )?;
        let mut insert = transaction
            .prepare_cached("INSERT INTO words (rowid, prompt, reply) VALUES (?1, ?2, ?3)")?;
        let mut rows = select.query([last, CHUNK])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            newest = row.get(0)?;
            found += 1;
            let (prompt, reply) = (row.get_ref(1)?, row.get_ref(2)?);
            let text = |value: rusqlite::types::ValueRef<'_>| {
                value
                    .as_str_or_null()
                    .ok()
                    .flatten()
                    .unwrap_or_default()
                    .len()
            };
            let much = text(prompt) + text(reply);
            if much > 0 {
                use rusqlite::types::ToSqlOutput::Borrowed;
                insert.execute((newest, Borrowed(prompt), Borrowed(reply)))?;
            }
            bytes += much;
            if bytes >= MUCH {
                break;
            }
        }
    }
    if found == 0 {
        return Ok(false);
    }
    transaction
        .prepare_cached("UPDATE numbers SET last = ?1, twin = ~?1 WHERE name = 'indexed'")?
        .execute([newest])?;
    transaction.commit()?;
    Ok(true)
}

/// The turns, the newest first, in which all of these words are; `enough` is told each and ends the search.
pub(crate) fn search(
    connection: &Connection,
    words: &str,
    mut enough: impl FnMut(i64) -> Result<bool, Trouble>,
) -> Result<(), Trouble> {
    let Some(sought) = expression(words) else {
        return Ok(());
    };
    let indexed = indexed(connection)?;
    connection.execute_batch(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.tail USING fts5 (
           prompt, reply, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
         )",
    )?;
    let mut below = i64::MAX;
    loop {
        connection.execute("DELETE FROM temp.tail", [])?;
        let filled = connection
            .prepare_cached(
                "INSERT INTO temp.tail (rowid, prompt, reply)
                 SELECT p.turn, pt.text, rt.text FROM prompts p
                 LEFT JOIN prompt_texts pt ON pt.turn = p.turn LEFT JOIN reply_texts rt ON rt.turn = p.turn
                 WHERE p.turn > ?1 AND p.turn < ?2 ORDER BY p.turn DESC LIMIT ?3",
            )?
            .execute((indexed.unwrap_or_default(), below, TAIL))?;
        if filled == 0 {
            break;
        }
        let mut select = connection.prepare_cached(
            "SELECT rowid FROM temp.tail WHERE tail MATCH ?1 ORDER BY rowid DESC",
        )?;
        let mut rows = select.query([&sought])?;
        while let Some(row) = rows.next()? {
            if enough(row.get(0)?)? {
                return Ok(());
            }
        }
        below = connection.query_row("SELECT min(rowid) FROM temp.tail", [], |row| row.get(0))?;
    }
    if indexed.is_none() {
        return Ok(());
    }
    let mut select = connection
        .prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1 ORDER BY rowid DESC")?;
    let mut rows = select.query([&sought])?;
    while let Some(row) = rows.next()? {
        if enough(row.get(0)?)? {
            return Ok(());
        }
    }
    Ok(())
}

/// What somebody typed as an expression of FTS5: words that must all be there, `"words in quotes"` beside each other, `word*`
/// as the beginning of one. Nothing that is typed is an error; None if there is no word.
fn expression(typed: &str) -> Option<String> {
    let mut terms = Vec::new();
    for (index, part) in typed.split('"').enumerate() {
        if index % 2 == 1 {
            terms.push((part, false));
            continue;
        }
        for word in part.split_whitespace() {
            let stem = word.trim_end_matches('*');
            terms.push((stem, stem.len() < word.len()));
        }
    }
    let terms: Vec<_> = terms
        .into_iter()
        .filter(|(term, _)| term.chars().any(char::is_alphanumeric))
        .map(|(term, begins)| format!("\"{term}\"{}", if begins { "*" } else { "" }))
        .collect();
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_words() {
        for (typed, sought) in [
            ("", None),
            ("  \" \" *", None),
            ("fix foo-bar", Some(r#""fix" AND "foo-bar""#)),
            ("\"null pointer\" in", Some(r#""null pointer" AND "in""#)),
            ("NOT a:b* OR (", Some(r#""NOT" AND "a:b"* AND "OR""#)),
            ("an open \"quote", Some(r#""an" AND "open" AND "quote""#)),
        ] {
            assert_eq!(expression(typed).as_deref(), sought, "{typed}");
        }
    }
}
