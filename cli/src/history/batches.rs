//! `toolpool history batches`.
//!
//! Owns the list, and finding a batch by the beginning of its name. Must not know how a batch is run.

use toolpool::journal::{Batch, History, State};

use super::documents::{BatchDocument, BatchList};
use crate::console::{Format, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::journal::JournalArgs;
use crate::table::Table;
use crate::when;

pub(super) fn run(journal: &JournalArgs, output: Format) -> Result<Exit, CliError> {
    let history = journal.history()?;
    let batches = history.batches()?;
    let items: Vec<BatchDocument> = batches.iter().map(BatchDocument::from).collect();
    match output {
        Format::Text if batches.is_empty() => super::nothing("there is no batch in this journal"),
        Format::Text => {
            print(text(&batches).as_bytes())?;
            let running = batches.iter().filter(|batch| batch.running > 0);
            super::tell_what_is_left(&history, running.map(|_| State::Running));
        }
        Format::Json => print_document(&BatchList { items })?,
        Format::Jsonl => items.iter().try_for_each(print_document)?,
    }
    Ok(Exit::Done)
}

fn text(batches: &[Batch]) -> String {
    let mut table = Table::new(&["BATCH", "BEGAN", "ITEMS", "ITS ITEMS"]);
    for batch in batches {
        let counts = [
            (batch.completed, "completed"),
            (batch.failed, "failed"),
            (batch.indeterminate, "in doubt"),
            (batch.cancelled, "cancelled"),
            (batch.expired, "expired"),
            (batch.queued, "queued"),
            (batch.running, "running"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        table.row([
            batch.batch.clone(),
            when::show(batch.first),
            batch.items.to_string(),
            counts.join(", "),
        ]);
    }
    table.text()
}

/// The name of the batch that begins so.
pub(super) fn named(history: &History, begin: &str) -> Result<String, CliError> {
    let known: Vec<String> = history
        .batches()?
        .into_iter()
        .map(|batch| batch.batch)
        .collect();
    let found: Vec<&String> = known
        .iter()
        .filter(|name| name.starts_with(begin))
        .collect();
    match found[..] {
        // A variable of a script that is not set names no batch.
        _ if begin.is_empty() => Err(CliError::usage(
            "unknown_batch",
            "an empty text is no beginning of a batch's name",
        )
        .next("toolpool history batches")),
        [name] => Ok(name.clone()),
        _ if known.iter().any(|name| name == begin) => Ok(begin.to_owned()),
        [] => Err(CliError::usage(
            "unknown_batch",
            format!("no batch of this journal begins with {begin:?}"),
        )
        .next("toolpool history batches")),
        _ => Err(CliError::usage(
            "ambiguous_batch",
            format!(
                "{} batches begin with {begin:?}; write more of the name",
                found.len()
            ),
        )
        .next("toolpool history batches")),
    }
}
