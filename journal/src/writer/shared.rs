//! What the handles of a journal share with its writer.
//!
//! Owns how far the numbers have come, and why nothing can be kept any more. Must not know what is written. Invariant: the
//! first failure is the journal's last word.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use toolpool_cluster::{Record, StoreError};

use super::queue::Queue;
use crate::error::Trouble;

pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) queue: Queue,
    /// The highest number of a turn.
    pub(crate) highest: AtomicU64,
    failed: OnceLock<StoreError>,
}

impl Shared {
    pub(crate) fn new(path: PathBuf, highest: u64) -> Self {
        Self {
            path,
            queue: Queue::default(),
            highest: AtomicU64::new(highest),
            failed: OnceLock::new(),
        }
    }

    /// Why nothing can be kept any more; None while it can.
    pub(crate) fn failed(&self) -> Option<&StoreError> {
        self.failed.get()
    }

    /// Ends the journal's life; the first reason counts.
    pub(crate) fn fail(&self, trouble: &Trouble) -> StoreError {
        self.fail_for(trouble.to_string())
    }

    pub(crate) fn fail_for(&self, detail: String) -> StoreError {
        let error = StoreError::Failed {
            path: self.path.display().to_string(),
            detail,
        };
        self.failed.get_or_init(|| error).clone()
    }

    pub(super) fn full(&self, detail: &str) -> StoreError {
        StoreError::Full {
            path: self.path.display().to_string(),
            detail: detail.to_owned(),
        }
    }

    /// Takes notice of a record that is being put.
    pub(crate) fn note(&self, record: &Record) {
        if let Record::Accepted(accepted) = record {
            self.highest.fetch_max(accepted.turn.0, Ordering::Relaxed);
        }
    }
}
