//! Prompts, and what became of them.
//!
//! Owns how they are found and put together from their rows. Must not know how they are shown. Invariant: a row whose seal
//! does not fit is an error, never an answer.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use toolpool_cluster::PromptKind;

use super::rows::{Attempt, PromptRow, Settlement, Shown, Text};
use super::{Query, State, event};
use crate::error::Trouble;
use crate::{record, seal, stamp, words};

/// Characters of a text in a listing.
const BEGINNING: usize = 200;

/// How a prompt stands, by its end `e`, what settled it `s`, and whether its last attempt `r` is under way.
pub(super) const STATE: &str =
    "coalesce(s.outcome, e.outcome, CASE WHEN r.turn IS NULL THEN 'queued' ELSE 'running' END)";

/// What [`STATE`] needs, to a prompt `p`.
pub(super) const JOINS: &str = "LEFT JOIN ends e ON e.turn = p.turn
     LEFT JOIN settlements s ON s.id = (SELECT max(id) FROM settlements WHERE turn = p.turn)
     LEFT JOIN attempts r ON e.turn IS NULL AND r.turn = p.turn AND r.handed_back = 0
       AND r.attempt = (SELECT max(attempt) FROM attempts WHERE turn = p.turn)";

/// The numbers of the prompts that were asked for, the newest first.
pub(super) fn turns(connection: &Connection, query: &Query) -> Result<Vec<i64>, Trouble> {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    let mut must = |condition: &str, value: Value| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    let text = |text: &String| Value::Text(text.clone());
    if let Some(tool) = &query.tool {
        must("coalesce(e.tool, r.tool, p.tool) = ?", text(tool));
    }
    if let Some(session) = &query.session {
        must("p.session = ?", text(session));
    }
    if let Some(batch) = &query.batch {
        must("p.batch = ?", text(batch));
    }
    if let Some(since) = query.since {
        must("p.at >= ?", Value::Integer(stamp::of_time(since)));
    }
    if let Some(until) = query.until {
        must("p.at < ?", Value::Integer(stamp::of_time(until)));
    }
    if let Some(state) = query.state {
        must(
            &format!("{STATE} = ?"),
            Value::Text(state.word().to_owned()),
        );
        // Where few prompts can be meant, only those are looked at.
        match state {
            State::Queued | State::Running => {
                conditions.push("p.turn IN (SELECT turn FROM open)".to_owned());
            }
            State::Completed => {}
            State::Failed | State::Cancelled | State::Expired | State::Indeterminate => {
                conditions.push(
                    "p.turn IN (SELECT turn FROM ends WHERE outcome <> 'completed')".to_owned(),
                );
            }
        }
    }
    let conditions = if conditions.is_empty() {
        "1".to_owned()
    } else {
        conditions.join(" AND ")
    };
    let limit = query.limit.unwrap_or(usize::MAX);
    let Some(sought) = &query.text else {
        let sql = format!(
            "SELECT p.turn FROM prompts p {JOINS} WHERE {conditions} ORDER BY p.turn DESC LIMIT ?"
        );
        values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let mut select = connection.prepare(&sql)?;
        let turns = select.query_map(params_from_iter(values), |row| row.get(0))?;
        return Ok(turns.collect::<Result<_, _>>()?);
    };
    let sql = format!("SELECT 1 FROM prompts p {JOINS} WHERE {conditions} AND p.turn = ?");
    let mut select = connection.prepare(&sql)?;
    let mut found = Vec::new();
    words::search(connection, sought, |turn| {
        let values = values.iter().cloned().chain([Value::Integer(turn)]);
        if found.len() < limit && select.exists(params_from_iter(values))? {
            found.push(turn);
        }
        Ok(found.len() >= limit)
    })?;
    Ok(found)
}

/// One prompt, with its texts or their beginnings; None if it is gone.
pub(super) fn row(
    connection: &Connection,
    turn: i64,
    in_full: bool,
) -> Result<Option<PromptRow>, Trouble> {
    let named = format!("t{turn}");
    let mut select = connection.prepare_cached(&format!(
        "SELECT {} FROM prompts WHERE turn = ?1",
        record::PROMPT
    ))?;
    let mut rows = select.query([turn])?;
    let Some(prompt) = rows.next()? else {
        return Ok(None);
    };
    seal::check(prompt, 0..record::PROMPT_COLUMNS, &named)?;
    let mut select =
        connection.prepare_cached(&format!("SELECT {} FROM ends WHERE turn = ?1", record::END))?;
    let mut ends = select.query([turn])?;
    let end = ends.next()?;
    if let Some(end) = end {
        seal::check(end, 0..record::END_COLUMNS, &format!("the end of {named}"))?;
    } else if !record::is_open(connection, record::turn(turn))? {
        return Err(Trouble::Damaged(format!(
            "{named} is not open and has no end"
        )));
    }
    let attempts = record::read_attempts(connection, record::turn(turn))?;
    let last = attempts.last().map(|(dispatching, _)| dispatching);
    let settled = settlements(connection, turn)?.pop();
    let recorded = match end {
        Some(end) => state(&end.get::<_, String>("outcome")?)?,
        None if attempts.last().is_some_and(|(_, back)| !back) => State::Running,
        None => State::Queued,
    };
    let labels: String = prompt.get("labels")?;
    let number = |name: &str| -> Result<Option<i64>, Trouble> {
        Ok(match end {
            Some(end) => end.get(name)?,
            None => None,
        })
    };
    let word = |name: &str| -> Result<Option<String>, Trouble> {
        Ok(match end {
            Some(end) => end.get(name)?,
            None => None,
        })
    };
    let told = |text: &std::sync::Arc<str>| text.to_string();
    Ok(Some(PromptRow {
        turn: record::turn(turn),
        state: settled.as_ref().map_or(recorded, |settled| settled.state),
        cause: word("cause")?,
        detail: word("detail")?,
        settled,
        cluster: prompt.get("cluster")?,
        accepted: stamp::time(prompt.get("at")?),
        ended: number("at")?.map(stamp::time),
        tool: word("tool")?
            .or(last.map(|last| told(&last.tool)))
            .or(prompt.get("tool")?),
        instance: word("instance")?.or(last.map(|last| told(&last.instance))),
        attempts: match end {
            Some(end) => end.get("attempts")?,
            None => last.map_or(0, |last| last.attempt),
        },
        queued: number("queued")?.map(stamp::duration),
        took: number("took")?.map(stamp::duration),
        session: prompt.get("session")?,
        batch: prompt.get("batch")?,
        item: prompt.get("item")?,
        key: prompt.get("key")?,
        labels: serde_json::from_str(&labels)
            .map_err(|_| Trouble::Damaged(format!("{named} has a strange list of labels")))?,
        prompt: text(connection, "prompt_texts", turn, prompt, in_full)?,
        reply: end
            .map(|end| text(connection, "reply_texts", turn, end, in_full))
            .transpose()?,
    }))
}

fn state(word: &str) -> Result<State, Trouble> {
    word.parse().map_err(Trouble::Damaged)
}

fn text(
    connection: &Connection,
    table: &'static str,
    turn: i64,
    row: &Row<'_>,
    in_full: bool,
) -> Result<Text, Trouble> {
    let bytes: i64 = row.get("bytes")?;
    let hash: Vec<u8> = row.get("sha256")?;
    // SQLite reads all of a text for its beginning, too.
    let mut text = record::text_of(connection, table, record::turn(turn), row)?;
    if let Some(text) = text.as_mut().filter(|_| !in_full) {
        let end = text.char_indices().nth(BEGINNING);
        text.truncate(end.map_or(text.len(), |(end, _)| end));
    }
    Ok(Text {
        cut: text
            .as_ref()
            .is_some_and(|text| (text.len() as u64) < bytes.cast_unsigned()),
        text,
        bytes: bytes.cast_unsigned(),
        sha256: seal::hex(&hash),
    })
}

/// What settled a prompt, in order.
fn settlements(connection: &Connection, turn: i64) -> Result<Vec<Settlement>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, at, outcome, who, note, seal FROM settlements WHERE turn = ?1 ORDER BY id",
    )?;
    let mut rows = select.query([turn])?;
    let mut settlements: Vec<Settlement> = Vec::new();
    while let Some(row) = rows.next()? {
        seal::check(row, 0..5, &format!("what settled t{turn}"))?;
        settlements.push(Settlement {
            state: state(&row.get::<_, String>(2)?)?,
            was: settlements
                .last()
                .map_or(State::Indeterminate, |before| before.state),
            by: row.get(3)?,
            note: row.get(4)?,
            at: stamp::time(row.get(1)?),
        });
    }
    Ok(settlements)
}

/// All that is known of one prompt.
pub(super) fn show(connection: &Connection, turn: i64) -> Result<Option<Shown>, Trouble> {
    let Some(prompt) = row(connection, turn, true)? else {
        return Ok(None);
    };
    let accepted = record::read_accepted(connection, record::turn(turn))?;
    let end = record::read_ended(connection, record::turn(turn))?.map(|(reply, _)| reply);
    let usage = end.as_ref().and_then(|end| end.usage).unwrap_or_default();
    let mut select =
        connection.prepare_cached("SELECT grade, means, landed FROM ends WHERE turn = ?1")?;
    let told = select
        .query_row([turn], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (grade, means, landed): (Option<String>, Option<String>, Option<String>) =
        told.unwrap_or_default();
    let mut select = connection.prepare_cached(
        "SELECT id, instance, turn, body, seal FROM events WHERE turn = ?1 ORDER BY id",
    )?;
    let mut rows = select.query([turn])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row)?);
    }
    Ok(Some(Shown {
        prompt,
        kind: match accepted.prompt.kind {
            PromptKind::Text => "text".to_owned(),
            PromptKind::Command => "command".to_owned(),
        },
        fresh: accepted.prompt.fresh,
        files: accepted
            .prompt
            .files
            .iter()
            .map(|file| file.to_string_lossy().into_owned())
            .collect(),
        attribution: grade.zip(means),
        lossy: end.is_some_and(|end| end.lossy),
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost_usd: usage.cost_usd,
        landed: landed.and_then(|landed| serde_json::from_str(&landed).ok()),
        tries: tries(connection, turn)?,
        settlements: settlements(connection, turn)?,
        events,
    }))
}

fn tries(connection: &Connection, turn: i64) -> Result<Vec<Attempt>, Trouble> {
    let attempts = record::read_attempts(connection, record::turn(turn))?;
    attempts
        .into_iter()
        .map(|(dispatching, handed_back)| {
            let output = record::read_output(connection, dispatching.turn, dispatching.attempt)?;
            let output = (!output.is_empty()).then(|| Text {
                bytes: output.len() as u64,
                sha256: seal::hex(&seal::sha256(&output)),
                text: Some(String::from_utf8_lossy(&output).into_owned()),
                cut: false,
            });
            Ok(Attempt {
                attempt: dispatching.attempt,
                instance: dispatching.instance.to_string(),
                tool: dispatching.tool.to_string(),
                generation: dispatching.generation,
                at: dispatching.at,
                handed_back,
                output,
            })
        })
        .collect()
}
