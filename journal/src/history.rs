//! What the journal tells people.
mod query;
mod rows;

pub use query::{Query, State};
pub use rows::{Attempt, Batch, EventRow, Item, Life, PromptRow, Settlement, Shown, Table, Text};
