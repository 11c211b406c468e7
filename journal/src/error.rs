//! Why a journal cannot be opened, read or changed.
//!
//! Owns the errors of what people do with a journal; what a cluster hears of a record is a
//! [`StoreError`](toolpool_cluster::StoreError). Must not know SQL. Invariant: each tells the file, what happened and what
//! to do next.

use std::io;
use std::path::Path;

use toolpool_cluster::{StoreError, TurnId};

use crate::history::State;

/// Why something about a journal did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process owns it.
    #[error(
        "{path}: {} is writing this journal. Wait for it to end, stop it, or use another file", owner(*pid)
    )]
    InUse {
        /// The file.
        path: String,
        /// The process, if it could be learned.
        pid: Option<u32>,
    },
    /// There is none.
    #[error("{path}: there is no journal yet; the first prompt that is kept makes one")]
    Missing {
        /// The file.
        path: String,
    },
    /// It was written by a later version. It was not touched.
    #[error(
        "{path}: its format is {format}, and this version knows formats up to {known}. Nothing was changed; use the \
         version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        format: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// It is something else. It was not touched.
    #[error(
        "{path}: this is no journal of toolpool ({detail}). Nothing was changed; name another file"
    )]
    Foreign {
        /// The file.
        path: String,
        /// What it seems to be.
        detail: String,
    },
    /// What it holds is not what was written.
    #[error(
        "{path}: the journal is damaged: {detail}. Nothing is written to it. Keep a copy, look at the disk, and bring back \
         a backup, or save what can be read: `sqlite3 {path} .recover | sqlite3 NEW`, and use NEW in its place"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was found.
        detail: String,
    },
    /// It lies where two machines may reach it.
    #[error(
        "{path}: a journal needs a local disk, and this is on {kind}. Name a file elsewhere with `--journal`"
    )]
    Network {
        /// The file.
        path: String,
        /// What kind of file system.
        kind: &'static str,
    },
    /// There is no such prompt.
    #[error("{path}: it has no prompt {turn}; `toolpool history` lists those that it has")]
    Unknown {
        /// The file.
        path: String,
        /// The number that was given.
        turn: TurnId,
    },
    /// Only a doubt can be settled, and only as completed, failed or cancelled.
    #[error(
        "{turn} is {state}: only an indeterminate prompt can be settled, as completed, failed or cancelled"
    )]
    NotInDoubt {
        /// The prompt.
        turn: TurnId,
        /// How it stands, or as what it was to be settled.
        state: State,
    },
    /// A statement or a search is not what this journal can answer.
    #[error("{detail}")]
    Sql {
        /// What SQLite says of it, and what to do.
        detail: String,
    },
    /// The system refused something.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused something.
    #[error("{path}: cannot {action}: {detail}")]
    Sqlite {
        /// The file.
        path: String,
        /// What was tried.
        action: &'static str,
        /// What SQLite said.
        detail: String,
    },
    /// The writer of the journal has failed, or has no space.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn owner(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// `SQLITE_IOERR_SHMSIZE` of sqlite3.h.
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// What SQLite or a seal says, before it is known to which file it belongs.
#[derive(Debug)]
pub(crate) enum Trouble {
    Sqlite(rusqlite::Error),
    Damaged(String),
    /// It is kept without a log, in this mode; SQLite tells that as an answer and not why.
    NoLog(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(error) if is_damage(error) => {
                write!(f, "the journal is damaged: {error}")
            }
            Self::Sqlite(error) => {
                error.fmt(f)?;
                match refused_call(error) {
                    Some(call) => write!(f, " ({call})"),
                    None => Ok(()),
                }
            }
            Self::Damaged(detail) => write!(f, "the journal is damaged: {detail}"),
            Self::NoLog(mode) => {
                write!(f, "its log cannot be begun, SQLite keeps it in mode {mode}")
            }
        }
    }
}

impl Trouble {
    pub(crate) fn is_full(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        // The index of the log is a file too, and has an error of its own when it finds no space.
        error.sqlite_error().is_some_and(|error| {
            error.code == rusqlite::ErrorCode::DiskFull || error.extended_code == IOERR_SHMSIZE
        })
    }

    /// The same, for whoever opens or reads the journal.
    pub(crate) fn at(self, path: &Path, action: &'static str) -> JournalError {
        let path = path.display().to_string();
        match self {
            Self::Damaged(detail) => JournalError::Damaged { path, detail },
            Self::Sqlite(ref error) if is_damage(error) => JournalError::Damaged {
                path,
                detail: error.to_string(),
            },
            Self::Sqlite(_) | Self::NoLog(_) => {
                let is_plain =
                    matches!(&self, Self::Sqlite(error) if refused_call(error).is_none());
                let next = match is_plain {
                    false => ". Look at the disk, or name another file",
                    true => "",
                };
                JournalError::Sqlite {
                    path,
                    action,
                    detail: format!("{self}{next}"),
                }
            }
        }
    }
}

/// What the system refused; SQLite itself says of all of it that it is an error of the disk. The numbers are those of sqlite3.h.
fn refused_call(error: &rusqlite::Error) -> Option<&'static str> {
    let error = error.sqlite_error()?;
    if error.code != rusqlite::ErrorCode::SystemIoFailure {
        return None;
    }
    Some(match error.extended_code >> 8 {
        1 | 2 => "it cannot be read",
        3 | 6 => "it cannot be written",
        4 | 5 => "it cannot be synced",
        _ => "the system refuses something",
    })
}

/// What our own statements hear only of a file that is not as it was written: SQLite says so itself, or a table, a column
/// or a value is not there as they know it.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode};
    match error {
        Error::SqliteFailure(error, _) => matches!(
            error.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        Error::SqlInputError { .. }
        | Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::QueryReturnedNoRows => true,
        _ => false,
    }
}
