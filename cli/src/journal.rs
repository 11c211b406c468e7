//! The journals of this user.
//!
//! Owns finding, opening and their errors in the user's words. Must not know what is asked of them.

use std::path::{Path, PathBuf};

use toolpool::journal::{History, Journal, JournalError};
use toolpool::{StoreError, TurnId};

use crate::error::CliError;
use crate::exit::Exit;
use crate::kept;

/// The journal of that name, or else that of a working folder.
pub(crate) fn path(named: Option<&Path>, cwd: &Path) -> Result<PathBuf, CliError> {
    match named {
        Some(path) => Ok(std::path::absolute(path)?),
        None => kept::journal_of(cwd),
    }
}

/// Opens a journal to write, making it if there is none.
pub(crate) fn open(path: &Path) -> Result<Journal, CliError> {
    if let Some(folder) = path.parent() {
        kept::make_folder(folder)?;
    }
    Journal::open(path).map_err(CliError::from)
}

/// A journal that cannot be read any more.
pub(crate) fn failed(error: StoreError) -> CliError {
    CliError::usage("journal", error.to_string())
}

/// A turn that is not in the journal.
pub(crate) fn no_turn(turn: TurnId) -> CliError {
    CliError::usage("unknown_turn", format!("this journal has no turn {turn}"))
        .hint("each working folder has a journal; `--cwd DIR` or `--journal FILE` chooses another")
        .next("toolpool history")
}

/// The options by which commands find a journal.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct JournalArgs {
    /// The journal's file [default: that of the working folder]
    #[arg(long, value_name = "FILE", global = true)]
    journal: Option<PathBuf>,
    /// The journal of this folder
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true,
        conflicts_with = "journal",
        global = true
    )]
    cwd: PathBuf,
}

impl JournalArgs {
    pub(crate) fn path(&self) -> Result<PathBuf, CliError> {
        let cwd = self.cwd.canonicalize().map_err(|error| {
            CliError::usage(
                "invalid",
                format!("the folder {}: {error}", self.cwd.display()),
            )
        })?;
        path(self.journal.as_deref(), &cwd)
    }

    /// Opens it to read, also while a command writes it.
    pub(crate) fn history(&self) -> Result<History, CliError> {
        Ok(History::open(self.path()?)?)
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let message = error.to_string();
        match error {
            JournalError::InUse { .. } => Self::new(Exit::TryLater, "journal_in_use", message)
                .retryable()
                .hint("`--journal FILE` keeps another journal, `batch --no-journal` keeps none"),
            JournalError::Missing { .. } => Self::usage("no_journal", message).hint(
                "each working folder has its own; `--cwd DIR` or `--journal FILE` chooses another",
            ),
            JournalError::Newer { .. } | JournalError::Foreign { .. } => {
                Self::usage("bad_journal", message)
            }
            JournalError::Unknown { turn, .. } => no_turn(turn),
            JournalError::NotInDoubt { .. } => Self::usage("not_in_doubt", message),
            JournalError::Sql { .. } => Self::usage("bad_query", message),
            _ => Self::usage("journal", message)
                .hint("`--journal FILE` keeps or reads another journal"),
        }
    }
}

/// Reads `t17` or `17`.
pub(crate) fn turn(text: &str) -> Result<TurnId, String> {
    let digits = text.strip_prefix('t').unwrap_or(text);
    match digits.parse() {
        Ok(number) => Ok(TurnId(number)),
        Err(_) => Err("write a turn such as t17, as `toolpool history` lists them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_written_with_its_letter_or_without() {
        assert_eq!(turn("t17"), Ok(TurnId(17)));
        assert_eq!(turn("17"), Ok(TurnId(17)));
        for wrong in ["", "t", "x17", "t-1", "tt1", "1.5"] {
            assert!(turn(wrong).is_err(), "{wrong}");
        }
    }
}
