//! `toolpool history prune`.
//!
//! Owns what may go. Must not know how it goes. Invariant: a prompt without its end stays, however old it is.

use std::time::Duration;

use indicatif::DecimalBytes;
use schemars::JsonSchema;
use serde::Serialize;
use toolpool::journal::Retention;

use crate::console::{Document, Format, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::journal::{JournalArgs, open};
use crate::{batch, when};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["older_than", "keep"]))]
pub(super) struct PruneArgs {
    /// Take away what ended longer ago than this, such as 30d
    #[arg(long, value_name = "AGE", value_parser = when::age)]
    older_than: Option<Duration>,
    /// Take the oldest away until the journal is no larger than this, such as 500MB or 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    keep: Option<u64>,
}

/// What was taken away.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Pruned {
    /// Prompts that are gone.
    prompts: u64,
    /// Events that are gone.
    events: u64,
    /// By how many bytes the journal holds less.
    bytes: u64,
}

impl Document for Pruned {
    const KIND: &'static str = "history.pruned";
}

pub(super) fn run(
    args: &PruneArgs,
    journal: &JournalArgs,
    output: Format,
) -> Result<Exit, CliError> {
    let path = journal.path()?;
    // Opening makes a journal where there is none, which is not what was asked for.
    let history = journal.history()?;
    let retention = Retention {
        older_than: args.older_than,
        keep_bytes: args.keep,
    };
    let pruned = open(&path)?.prune(&retention)?;
    let left: Vec<String> = history
        .batches()?
        .into_iter()
        .map(|batch| batch.batch)
        .collect();
    batch::forget(&path, &left)?;
    let pruned = Pruned {
        prompts: pruned.prompts,
        events: pruned.events,
        bytes: pruned.bytes,
    };
    match output {
        Format::Text => print(
            format!(
                "{} prompts and {} events are gone; the journal holds {} less\n",
                pruned.prompts,
                pruned.events,
                DecimalBytes(pruned.bytes)
            )
            .as_bytes(),
        )?,
        Format::Json | Format::Jsonl => print_document(&pruned)?,
    }
    Ok(Exit::Done)
}

fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write a size such as 500MB, 64MiB or 2GB".to_owned();
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let found = units
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (count, bytes): (&str, u64) = found.ok_or_else(wrong)?;
    let count: u64 = count.trim().parse().map_err(|_| wrong())?;
    count.checked_mul(bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_has_a_unit() {
        for (text, bytes) in [
            ("500MB", 500_000_000),
            ("64MiB", 64 << 20),
            ("2 GB", 2_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "5", "MB", "-1MB", "1.5MB", "99999999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
