//! REMEMBERS: every prompt and its one end, in one SQLite file.
//!
//! Owns the file, its schema, its one writer and its readers. Must not know how prompts are run: of a cluster it knows the
//! records that it is given. Invariant: what a caller was told is in the file.
//!
//! [`Journal`] is the store of a cluster; [`History`] reads what is there, also while a journal writes.

mod error;
mod file;
mod history;
mod integrity;
mod journal;
mod log;
mod openings;
mod planted;
mod record;
mod recovery;
mod retention;
mod schema;
mod seal;
mod sessions;
mod settle;
mod stamp;
mod words;
mod writer;

pub use error::JournalError;
pub use history::{
    Attempt, Batch, EventRow, History, Item, Life, PromptRow, Query, Settlement, Shown, State,
    Table, Text,
};
pub use journal::{Bodies, Journal, Options};
pub use recovery::Recovered;
pub use retention::{Pruned, Retention};
pub use settle::Settle;
