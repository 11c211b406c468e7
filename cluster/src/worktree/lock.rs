//! Owns lock files: what keeps two operations apart, in one process or in two.
//!
//! Must not know what is locked. Invariant: a lock ends with its value or with its process, never later, so a crash
//! leaves nothing to clean up. The kernel ties the lock to the open file, and every holder opens its own, so the same
//! file keeps apart two tasks of one process just as well as two processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::WorktreeError;

/// A held lock.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Waits until the lock is free, and takes it. Blocks the thread.
    pub(super) fn take(path: &Path) -> Result<Self, WorktreeError> {
        let file = open(path)?;
        file.lock()
            .map_err(|source| WorktreeError::io("lock", path, source))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>, WorktreeError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(WorktreeError::io("lock", path, source)),
        }
    }

    /// Removes the file of this lock. Only where nobody can be opening it at the same time.
    pub(super) fn remove_file(&self) -> Result<(), WorktreeError> {
        std::fs::remove_file(&self.path)
            .map_err(|source| WorktreeError::io("remove", &self.path, source))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing alone would not do: a child that is between fork and exec has the same open file for a moment.
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> Result<File, WorktreeError> {
    let options = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    options.map_err(|source| WorktreeError::io("open", path, source))
}
