//! Records as rows, and rows as records.
//!
//! Owns what of a record goes into which column, and back. Must not know when anything is written. Invariant: what is read
//! back is what was put, but for texts that were not kept, and times finer than a microsecond.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::{Value, json};
use toolpool_cluster::worktree::Landed;
use toolpool_cluster::{
    Accepted, Attribution, Dispatching, Doubt, Event, EventKind, Failure, FailureClass, Grade,
    Outcome, Prompt, PromptKind, Reply, TurnId, Usage,
};

use crate::error::Trouble;
use crate::journal::Bodies;
use crate::{seal, stamp};

/// The columns of a prompt, in the order of its seal.
pub(crate) const PROMPT: &str = "turn, cluster, at, key, kind, fresh, files, session, tool, role, target, batch, item, \
     labels, queue_timeout, turn_timeout, land, on_loss, retry, bytes, sha256, kept, seal";

/// How many columns a prompt has before its seal.
pub(crate) const PROMPT_COLUMNS: usize = 22;

/// The columns of an end, in the order of its seal.
pub(crate) const END: &str = "turn, at, outcome, cause, detail, retry_after, attempts, instance, tool, generation, queued, \
     took, first_output, grade, means, input_tokens, output_tokens, cost_usd, landed, lossy, bytes, sha256, kept, seal";

/// How many columns an end has before its seal.
pub(crate) const END_COLUMNS: usize = 23;

/// A number as SQLite has them: the same 64 bits.
pub(crate) fn number(turn: TurnId) -> i64 {
    turn.0.cast_signed()
}

pub(crate) fn turn(number: i64) -> TurnId {
    TurnId(number.cast_unsigned())
}

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
    let sql = concat_columns("SELECT ", PROMPT, " FROM prompts WHERE turn = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number(turn)])?;
    let Some(row) = rows.next()? else {
        return Err(Trouble::Damaged(format!("the prompt {turn} is missing")));
    };
    let what = format!("the prompt {turn}");
    seal::check(row, 0..PROMPT_COLUMNS, &what)?;
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
    let what = || format!("a text of {turn}");
    let sql = format!("SELECT text FROM {table} WHERE turn = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number(turn)])?;
    let Some(text) = rows.next()? else {
        return Err(Trouble::Damaged(format!("{} is missing", what())));
    };
    let text = text
        .get_ref(0)?
        .as_str()
        .map_err(|_| Trouble::Damaged(format!("{} is no text", what())))?;
    seal::check_text(
        text,
        row.get_ref("sha256")?.as_blob().unwrap_or_default(),
        &what(),
    )?;
    Ok(Some(text.to_owned()))
}

/// Writes that a prompt is about to be given to a tool.
pub(crate) fn write_dispatching(
    connection: &Connection,
    dispatching: &Dispatching,
) -> rusqlite::Result<()> {
    write_attempt(connection, dispatching, false)
}

fn write_attempt(
    connection: &Connection,
    dispatching: &Dispatching,
    handed_back: bool,
) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            &number(dispatching.turn),
            &dispatching.attempt,
            &&*dispatching.instance,
            &&*dispatching.tool,
            &dispatching.generation.cast_signed(),
            &stamp::of_time(dispatching.at),
            &handed_back,
        ],
    )?;
    Ok(())
}

/// Writes that nothing of an attempt was read.
pub(crate) fn write_handed_back(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> Result<(), Trouble> {
    let attempts = read_attempts(connection, turn)?;
    let found = attempts
        .into_iter()
        .find(|(dispatching, _)| dispatching.attempt == attempt);
    match found {
        Some((dispatching, _)) => Ok(write_attempt(connection, &dispatching, true)?),
        None => Ok(()),
    }
}

/// Each time that a prompt was given to a tool, and whether it was handed back, in order.
pub(crate) fn read_attempts(
    connection: &Connection,
    turn: TurnId,
) -> Result<Vec<(Dispatching, bool)>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, attempt, instance, tool, generation, at, handed_back, seal FROM attempts WHERE turn = ?1
         ORDER BY attempt",
    )?;
    let mut rows = select.query([number(turn)])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        seal::check(row, 0..7, &format!("an attempt of {turn}"))?;
        let dispatching = Dispatching {
            turn,
            attempt: row.get(1)?,
            instance: row.get::<_, String>(2)?.into(),
            tool: row.get::<_, String>(3)?.into(),
            generation: row.get::<_, i64>(4)?.cast_unsigned(),
            at: stamp::time(row.get(5)?),
        };
        attempts.push((dispatching, row.get(6)?));
    }
    Ok(attempts)
}

/// Writes the one end of a prompt.
pub(crate) fn write_ended(
    connection: &Connection,
    reply: &Reply,
    attempts: u32,
    at: i64,
    bodies: Bodies,
) -> rusqlite::Result<()> {
    let (cause, detail, retry_after) = match &reply.outcome {
        Outcome::Failed(failure) => (
            Some(failure.class.word()),
            Some(failure.message.as_str()),
            failure.retry_after,
        ),
        Outcome::Indeterminate(doubt) => {
            (Some(doubt.cause.word()), Some(doubt.detail.as_str()), None)
        }
        Outcome::Completed | Outcome::Cancelled | Outcome::Expired => (None, None, None),
    };
    let usage = reply.usage.unwrap_or_default();
    let landed = reply.landed.as_ref().map(landed_json);
    let sql = concat!(
        "INSERT INTO ends VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ",
        "?20, ?21, ?22, ?23, ?24)"
    );
    seal::write(
        connection,
        sql,
        &[
            &number(reply.turn),
            &at,
            &reply.outcome.word(),
            &cause,
            &detail,
            &retry_after.map(stamp::of_duration),
            &attempts,
            &reply.instance.as_deref(),
            &reply.tool.as_deref(),
            &reply.generation.cast_signed(),
            &stamp::of_duration(reply.queued),
            &stamp::of_duration(reply.took),
            &reply.first_output.map(stamp::of_duration),
            &reply.attribution.map(|by| grade_word(by.grade)),
            &reply.attribution.map(|by| by.by),
            &usage.input_tokens.map(u64::cast_signed),
            &usage.output_tokens.map(u64::cast_signed),
            &usage.cost_usd,
            &landed,
            &reply.lossy,
            &(reply.text.len() as i64),
            &seal::sha256(reply.text.as_bytes()),
            &(bodies == Bodies::Keep),
        ],
    )?;
    if bodies == Bodies::Keep {
        let mut insert = connection.prepare_cached("INSERT INTO reply_texts VALUES (?1, ?2)")?;
        insert.execute((number(reply.turn), &reply.text))?;
    }
    Ok(())
}

/// The end of that prompt as it was recorded; None if it has none.
pub(crate) fn read_ended(
    connection: &Connection,
    turn: TurnId,
) -> Result<Option<(Reply, u32)>, Trouble> {
    let sql = concat_columns("SELECT ", END, " FROM ends WHERE turn = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([number(turn)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    seal::check(row, 0..END_COLUMNS, &format!("the end of {turn}"))?;
    let hash: Vec<u8> = row.get("sha256")?;
    let text = text_of(connection, "reply_texts", turn, row)?;
    let usage = Usage {
        input_tokens: row
            .get::<_, Option<i64>>("input_tokens")?
            .map(i64::cast_unsigned),
        output_tokens: row
            .get::<_, Option<i64>>("output_tokens")?
            .map(i64::cast_unsigned),
        cost_usd: row.get("cost_usd")?,
    };
    let landed: Option<String> = row.get("landed")?;
    let reply = Reply {
        turn,
        text: text.unwrap_or_else(|| not_kept(&hash)),
        lossy: row.get("lossy")?,
        outcome: outcome_of(row)?,
        attribution: attribution_of(row)?,
        instance: row.get::<_, Option<String>>("instance")?.map(Arc::from),
        tool: row.get::<_, Option<String>>("tool")?.map(Arc::from),
        generation: row.get::<_, i64>("generation")?.cast_unsigned(),
        queued: stamp::duration(row.get("queued")?),
        took: stamp::duration(row.get("took")?),
        first_output: row
            .get::<_, Option<i64>>("first_output")?
            .map(stamp::duration),
        usage: (usage != Usage::default()).then_some(usage),
        landed: landed.as_deref().and_then(landed_of),
    };
    Ok(Some((reply, row.get("attempts")?)))
}

fn outcome_of(row: &Row<'_>) -> Result<Outcome, Trouble> {
    let outcome: String = row.get("outcome")?;
    let cause: Option<String> = row.get("cause")?;
    let detail: Option<String> = row.get("detail")?;
    let detail = detail.unwrap_or_default();
    let strange = || {
        Trouble::Damaged(format!(
            "an end is `{outcome}` for `{cause:?}`, which this version does not know"
        ))
    };
    // The words are those of the types' own JSON.
    let word = Value::from(cause.clone().unwrap_or_default());
    Ok(match outcome.as_str() {
        "completed" => Outcome::Completed,
        "cancelled" => Outcome::Cancelled,
        "expired" => Outcome::Expired,
        "failed" => Outcome::Failed(Failure {
            class: serde_json::from_value(word).map_err(|_| strange())?,
            message: detail,
            retry_after: row
                .get::<_, Option<i64>>("retry_after")?
                .map(stamp::duration),
        }),
        "indeterminate" => Outcome::Indeterminate(Doubt {
            cause: serde_json::from_value(word).map_err(|_| strange())?,
            detail,
        }),
        _ => return Err(strange()),
    })
}

/// What a doubt counts as after it was settled; None if it was not.
pub(crate) fn read_settled(
    connection: &Connection,
    turn: TurnId,
) -> Result<Option<Outcome>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, at, outcome, who, note, seal FROM settlements WHERE turn = ?1 ORDER BY id DESC LIMIT 1",
    )?;
    let mut rows = select.query([number(turn)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    seal::check(row, 0..5, &format!("what settled {turn}"))?;
    let (outcome, who): (String, String) = (row.get(2)?, row.get(3)?);
    let note: Option<String> = row.get(4)?;
    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
    Ok(Some(match outcome.as_str() {
        "completed" => Outcome::Completed,
        "cancelled" => Outcome::Cancelled,
        _ => Outcome::Failed(Failure {
            class: FailureClass::Unknown,
            message: format!("settled as failed by {who}{note}"),
            retry_after: None,
        }),
    }))
}

fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::A => "A",
        Grade::B => "B",
        Grade::C => "C",
        Grade::D => "D",
    }
}

fn attribution_of(row: &Row<'_>) -> Result<Option<Attribution>, Trouble> {
    /// The means of the protocols that come with toolpool.
    const MEANS: [&str; 8] = [
        "end pattern",
        "exit",
        "prompt and quiet",
        "request id",
        "result",
        "sentinel",
        "session state",
        "turn id",
    ];
    let (grade, means): (Option<String>, Option<String>) = (row.get("grade")?, row.get("means")?);
    let grade = match grade.as_deref() {
        Some("A") => Grade::A,
        Some("B") => Grade::B,
        Some("C") => Grade::C,
        Some(_) => Grade::D,
        None => return Ok(None),
    };
    let by = MEANS
        .into_iter()
        .find(|known| Some(*known) == means.as_deref())
        .unwrap_or("as the journal has it");
    Ok(Some(Attribution { grade, by }))
}

/// What an event tells of: the life of an instance or (empty) of its cluster, and a turn.
pub(crate) fn subject(event: &Event) -> (Option<&str>, Option<TurnId>) {
    match &event.kind {
        EventKind::ClusterStarted { .. } | EventKind::ClusterStopped => (Some(""), None),
        EventKind::InstanceSpawned { instance, .. }
        | EventKind::InstanceChanged { instance, .. }
        | EventKind::InstanceExited { instance, .. } => (Some(instance), None),
        EventKind::TurnRetrying { turn, .. }
        | EventKind::TurnElsewhere { turn, .. }
        | EventKind::PermissionAsked { turn, .. }
        | EventKind::PermissionAnswered { turn, .. }
        | EventKind::PermissionWithdrawn { turn, .. }
        | EventKind::TurnHandedBack { turn, .. } => (None, Some(*turn)),
        _ => (None, None),
    }
}

/// Writes an event as it is told.
pub(crate) fn write_event(connection: &Connection, id: i64, event: &Event) -> rusqlite::Result<()> {
    let body = serde_json::to_string(event).expect("an event's maps have texts as keys");
    let (instance, turn) = subject(event);
    seal::write(
        connection,
        "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)",
        &[&id, &instance, &turn.map(number), &body],
    )?;
    Ok(())
}

/// A piece of the reply of a prompt that is open.
pub(crate) fn write_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    seal::write(
        connection,
        "INSERT INTO outputs (turn, attempt, bytes, seal)
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM open WHERE turn = ?1)",
        &[&number(turn), &attempt, &bytes],
    )?;
    Ok(())
}

/// What came of one attempt, as far as it is apart from the reply.
pub(crate) fn read_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> Result<Vec<u8>, Trouble> {
    let mut select = connection.prepare_cached(
        "SELECT turn, attempt, bytes, seal FROM outputs WHERE turn = ?1 AND attempt = ?2 ORDER BY id",
    )?;
    let mut rows = select.query((number(turn), attempt))?;
    let mut output = Vec::new();
    while let Some(row) = rows.next()? {
        seal::check(row, 0..3, &format!("a piece of the reply of {turn}"))?;
        let piece = row.get_ref(2)?.as_blob();
        output.extend_from_slice(piece.map_err(rusqlite::Error::from)?);
    }
    Ok(output)
}

/// Removes the pieces of an attempt whose end has the whole reply.
pub(crate) fn forget_output(
    connection: &Connection,
    turn: TurnId,
    attempt: u32,
) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM outputs WHERE turn = ?1 AND attempt = ?2")?;
    delete.execute((number(turn), attempt))?;
    Ok(())
}

/// Takes a prompt out of the open ones; false if it was none.
pub(crate) fn close(connection: &Connection, turn: TurnId) -> rusqlite::Result<bool> {
    let mut delete = connection.prepare_cached("DELETE FROM open WHERE turn = ?1")?;
    Ok(delete.execute([number(turn)])? > 0)
}

pub(crate) fn is_open(connection: &Connection, turn: TurnId) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT 1 FROM open WHERE turn = ?1")?;
    let found = select.query_row([number(turn)], |_| Ok(())).optional()?;
    Ok(found.is_some())
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

fn landed_json(landed: &Result<Landed, String>) -> String {
    let json = match landed {
        Err(error) => json!({"landed": "failed", "error": error}),
        Ok(Landed::Nothing) => json!({"landed": "nothing"}),
        Ok(Landed::Commit { commit, files }) => {
            json!({"landed": "commit", "commit": commit, "files": shown(files)})
        }
        Ok(Landed::Conflict {
            branch,
            files,
            show,
        }) => {
            json!({"landed": "conflict", "branch": branch, "files": shown(files), "show": show})
        }
        Ok(Landed::Blocked {
            branch,
            reason,
            show,
        }) => json!({"landed": "blocked", "branch": branch, "reason": reason, "show": show}),
    };
    json.to_string()
}

fn shown(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect()
}

fn landed_of(json: &str) -> Option<Result<Landed, String>> {
    let value: Value = serde_json::from_str(json).ok()?;
    let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let files = || -> Option<Vec<PathBuf>> {
        let files = value.get("files")?.as_array()?;
        let files = files.iter().filter_map(|file| file.as_str());
        Some(files.map(PathBuf::from).collect())
    };
    Some(match text("landed")?.as_str() {
        "nothing" => Ok(Landed::Nothing),
        "commit" => Ok(Landed::Commit {
            commit: text("commit")?,
            files: files()?,
        }),
        "conflict" => Ok(Landed::Conflict {
            branch: text("branch")?,
            files: files()?,
            show: text("show")?,
        }),
        "blocked" => Ok(Landed::Blocked {
            branch: text("branch")?,
            reason: text("reason")?,
            show: text("show")?,
        }),
        _ => Err(text("error")?),
    })
}

fn concat_columns(before: &str, columns: &str, after: &str) -> String {
    [before, columns, after].concat()
}

/// Whether the text of a prompt was kept.
pub(crate) fn read_is_kept(connection: &Connection, turn: TurnId) -> Result<bool, Trouble> {
    let mut select = connection.prepare_cached("SELECT kept FROM prompts WHERE turn = ?1")?;
    let kept = select
        .query_row([number(turn)], |row| row.get(0))
        .optional()?;
    kept.ok_or_else(|| Trouble::Damaged(format!("the prompt {turn} is missing")))
}
