//! Space that is there when there is none.
//!
//! Owns the file that is given up when the disk is full. Must not know what the space is for. Invariant: while it stands,
//! that much can be written beside it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::file::beside;

/// Ends of some hundred prompts, each with a commit of its own.
pub(crate) const RESERVE: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    pub(crate) fn beside(journal: &Path) -> Self {
        Self(beside(journal, ".reserve"))
    }

    /// Sets the space aside. What stands already is kept.
    pub(crate) fn set_aside(&self) -> io::Result<()> {
        if fs::metadata(&self.0).is_ok_and(|found| found.len() == RESERVE) {
            return Ok(());
        }
        let result = self.allocate();
        if result.is_err() {
            self.give_up();
        }
        result
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.0)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE) {
            // Not every file system can set space aside by name.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = [0; 1 << 16];
                for _ in 0..RESERVE / zeros.len() as u64 {
                    file.write_all(&zeros)?;
                }
                file.sync_all()
            }
            result => Ok(result?),
        }
    }

    /// Frees the space.
    pub(crate) fn give_up(&self) {
        // If that fails there is no space, which the next write finds out.
        let _ = fs::remove_file(&self.0);
    }
}
