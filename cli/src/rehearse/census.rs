//! What is left of a rehearsal.
//!
//! Owns a mark in the environment of everything that a stand-in starts, and the count of those that carry it. Must not ask
//! toolpool: what it believes is what is being checked.

use std::path::Path;

const NAME: &str = "TOOLPOOL_REHEARSAL";

pub(super) struct Mark(String);

impl Mark {
    /// A mark that no other rehearsal has: the folder's.
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.display().to_string())
    }

    /// The variable that carries it.
    pub(super) fn variable(&self) -> (String, String) {
        (NAME.to_owned(), self.0.clone())
    }

    /// How many living processes carry it.
    pub(super) fn processes(&self) -> usize {
        let mark = format!("{NAME}={}", self.0).into_bytes();
        let carries = |environment: Vec<u8>| {
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == mark)
        };
        std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| std::fs::read(entry.path().join("environ")).is_ok_and(carries))
            .count()
    }
}
