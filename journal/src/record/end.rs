//! The one end of a prompt as a row, and what settled it.
//!
//! Owns their columns. Must not know attempts. Invariant: an end is read back as it was told.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, Row};
use serde_json::{Value, json};
use toolpool_cluster::worktree::Landed;
use toolpool_cluster::{
    Attribution, Doubt, Failure, FailureClass, Grade, Outcome, Reply, TurnId, Usage,
};

use super::{not_kept, number, text_of};
use crate::error::Trouble;
use crate::journal::Bodies;
use crate::{seal, stamp};

/// The columns of an end, in the order of its seal.
pub(crate) const END: &str = "turn, at, outcome, cause, detail, retry_after, attempts, instance, tool, generation, queued, \
     took, first_output, grade, means, input_tokens, output_tokens, cost_usd, landed, lossy, bytes, sha256, kept, seal";

/// How many columns an end has before its seal.
pub(crate) const END_COLUMNS: usize = 23;

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
    let sql = format!("SELECT {END} FROM ends WHERE turn = ?1");
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
