//! A prompt as a row.
//!
//! Owns its columns. Must not know what becomes of it. Invariant: what is read back is what was accepted.

use std::path::PathBuf;

use rusqlite::{Connection, Row};
use serde_json::{Value, json};
use toolpool_cluster::{Accepted, Prompt, PromptKind, TurnId};

use super::{not_kept, number, read_attempts, text_of};
use crate::error::Trouble;
use crate::journal::Bodies;
use crate::{seal, stamp};

/// The columns of a prompt, in the order of its seal.
pub(crate) const PROMPT: &str = "turn, cluster, at, key, kind, fresh, files, session, tool, role, target, batch, item, \
     labels, queue_timeout, turn_timeout, land, on_loss, retry, bytes, sha256, kept, seal";

/// How many columns a prompt has before its seal.
pub(crate) const PROMPT_COLUMNS: usize = 22;

/// Writes a prompt. Fails if there is one of that number.
pub(crate) fn write_accepted(
    connection: &Connection,
    accepted: &Accepted,
    bodies: Bodies,
) -> rusqlite::Result<()> {
    let prompt = &accepted.prompt;
    let label = |name: &str| {
        let found = accepted.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    };
    let kind = match prompt.kind {
        PromptKind::Text => "text",
        PromptKind::Command => "command",
    };
    let sql = concat!(
        "INSERT INTO prompts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ",
        "?19, ?20, ?21, ?22, ?23)"
    );
    seal::write(
        connection,
        sql,
        &[
            &number(accepted.turn),
            &&*accepted.cluster,
            &stamp::of_time(accepted.at),
            &accepted.key,
            &kind,
            &prompt.fresh,
            &files_json(&prompt.files),
            &accepted.session,
            &accepted.tool,
            &accepted.role,
            &accepted.target.map(|index| index as i64),
            &label("batch"),
            &label("item"),
            &labels_json(&accepted.labels),
            &accepted.queue_timeout.map(stamp::of_duration),
            &accepted.turn_timeout.map(stamp::of_duration),
            &accepted.land,
            &accepted.on_loss.to_string(),
            &accepted.retry.to_string(),
            &(prompt.text.len() as i64),
            &seal::sha256(prompt.text.as_bytes()),
            &(bodies == Bodies::Keep),
        ],
    )?;
    if bodies == Bodies::Keep {
        let mut insert = connection.prepare_cached("INSERT INTO prompt_texts VALUES (?1, ?2)")?;
        insert.execute((number(accepted.turn), &prompt.text))?;
    }
    let mut insert = connection.prepare_cached("INSERT INTO open VALUES (?1)")?;
    insert.execute([number(accepted.turn)])?;
    Ok(())
}

/// The prompt of that number, whatever became of it.
pub(crate) fn read_accepted(connection: &Connection, turn: TurnId) -> Result<Accepted, Trouble> {
    with_prompt(connection, turn, |row| accepted_of(connection, turn, row))
}

/// Reads from the row of a prompt, with its seal checked.
fn with_prompt<T>(
    connection: &Connection,
    turn: TurnId,
    read: impl FnOnce(&Row<'_>) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let sql = format!("SELECT {PROMPT} FROM prompts WHERE turn = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number(turn)])?;
    let Some(row) = rows.next()? else {
        return Err(Trouble::Damaged(format!("the prompt {turn} is missing")));
    };
    seal::check(row, 0..PROMPT_COLUMNS, &format!("the prompt {turn}"))?;
    read(row)
}

fn accepted_of(connection: &Connection, turn: TurnId, row: &Row<'_>) -> Result<Accepted, Trouble> {
    let hash: Vec<u8> = row.get("sha256")?;
    let text = text_of(connection, "prompt_texts", turn, row)?;
    let kind: String = row.get("kind")?;
    let files: String = row.get("files")?;
    let labels: String = row.get("labels")?;
    let (on_loss, retry): (String, String) = (row.get("on_loss")?, row.get("retry")?);
    let strange = |what: &str| Trouble::Damaged(format!("the prompt {turn} has a strange {what}"));
    Ok(Accepted {
        turn,
        cluster: row.get::<_, String>("cluster")?.into(),
        at: stamp::time(row.get("at")?),
        key: row.get("key")?,
        prompt: Prompt {
            text: text.unwrap_or_else(|| not_kept(&hash)),
            kind: if kind == "command" {
                PromptKind::Command
            } else {
                PromptKind::Text
            },
            fresh: row.get("fresh")?,
            files: files_of(&files).ok_or_else(|| strange("list of files"))?,
        },
        session: row.get("session")?,
        tool: row.get("tool")?,
        role: row.get("role")?,
        target: row
            .get::<_, Option<i64>>("target")?
            .map(|index| usize::try_from(index).unwrap_or(usize::MAX)),
        labels: serde_json::from_str(&labels).map_err(|_| strange("list of labels"))?,
        queue_timeout: row
            .get::<_, Option<i64>>("queue_timeout")?
            .map(stamp::duration),
        turn_timeout: row
            .get::<_, Option<i64>>("turn_timeout")?
            .map(stamp::duration),
        land: row.get("land")?,
        on_loss: on_loss
            .parse()
            .map_err(|_| strange("word for its session's loss"))?,
        retry: retry.parse().map_err(|_| strange("retry policy"))?,
        attempts: read_attempts(connection, turn)?
            .last()
            .map_or(0, |(dispatching, _)| dispatching.attempt),
    })
}

/// Whether the text of a prompt was kept.
pub(crate) fn read_is_kept(connection: &Connection, turn: TurnId) -> Result<bool, Trouble> {
    with_prompt(connection, turn, |row| Ok(row.get("kept")?))
}

/// Labels as pairs: a name may come twice, and order is the caller's.
fn labels_json(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        "[]".to_owned()
    } else {
        json!(labels).to_string()
    }
}

/// Paths as texts; one that is no text as its bytes.
fn files_json(files: &[PathBuf]) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    if files.is_empty() {
        return "[]".to_owned();
    }
    let files = files.iter().map(|path| match path.to_str() {
        Some(text) => json!(text),
        None => json!(path.as_os_str().as_bytes()),
    });
    Value::Array(files.collect()).to_string()
}

fn files_of(json: &str) -> Option<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStringExt as _;
    let files: Vec<Value> = serde_json::from_str(json).ok()?;
    files
        .into_iter()
        .map(|file| match file {
            Value::String(text) => Some(PathBuf::from(text)),
            bytes => {
                let bytes: Vec<u8> = serde_json::from_value(bytes).ok()?;
                Some(std::ffi::OsString::from_vec(bytes).into())
            }
        })
        .collect()
}
