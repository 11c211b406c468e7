//! The private folder of a process.
//!
//! Owns its making, its end, and whether it outlives this program. Must not know what is in it. Invariants: a folder that
//! nobody has asked to keep ends with its last owner; one that is kept is never another live process's too, since the
//! keeper of each holds the lock on it.

use std::fs::{DirBuilder, File, Permissions, remove_dir_all};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How the names of private folders begin.
pub(crate) const PREFIX: &str = "toolpool-";

/// The file that tells a keeper to leave its folder when this program has died.
const KEPT: &str = ".toolpool-kept";

/// A private folder; removed with its last owner unless it is kept.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    kept: AtomicBool,
}

impl Folder {
    /// Makes one for a process of the tool: in the folder for temporary files, or in `root`, where it can be kept.
    pub(crate) fn make(tool: &str, root: Option<&Path>) -> io::Result<Self> {
        let prefix = format!("{PREFIX}{tool}-");
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o700));
        let made = match root {
            Some(root) => {
                // Those above it too: in a folder of everybody's, others could put another one in its place.
                DirBuilder::new().recursive(true).mode(0o700).create(root)?;
                std::fs::set_permissions(root, Permissions::from_mode(0o700))?;
                builder.tempdir_in(root)?
            }
            None => builder.tempdir()?,
        };
        Ok(Self::at(made.keep()))
    }

    fn at(path: PathBuf) -> Self {
        Self {
            path,
            kept: AtomicBool::new(false),
        }
    }

    /// One that an earlier program has kept.
    pub(crate) fn found(path: PathBuf) -> io::Result<Self> {
        if !is_free(&path)? {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "a process still works in it",
            ));
        }
        let folder = Self::at(path);
        folder.kept.store(true, Ordering::Relaxed);
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it stays, whoever dies.
    pub(crate) fn keep(&self) -> io::Result<()> {
        if !self.kept.load(Ordering::Relaxed) {
            File::create(self.path.join(KEPT))?;
            self.kept.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept() {
            // What cannot be removed stays, as it would without us.
            remove_dir_all(&self.path).ok();
        }
    }
}

/// Whether a folder is to stay when the program that made it has died; asked by the keeper.
pub(crate) fn is_marked(folder: &Path) -> bool {
    folder.join(KEPT).exists()
}

/// Takes the lock that says that a process works in the folder; for the keeper, which holds it until everything is gone.
pub(crate) fn occupy(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    folder.try_lock().ok()?;
    Some(folder)
}

/// Whether no process works in a folder: every keeper that had it has ended.
///
/// # Errors
/// If it cannot be looked at; it may not be there.
pub fn is_free(folder: &Path) -> io::Result<bool> {
    let folder = File::open(folder)?;
    match folder.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_ends_with_its_owner_unless_it_was_kept() {
        let root = tempfile::tempdir().expect("a folder");
        let above = root.path().join("sessions");
        let root = above.join("main");
        let make = || Folder::make("codex", Some(&root)).expect("it is ours");
        let (plain, kept) = (make(), make());
        kept.keep().expect("it is ours");
        let (plain_at, kept_at) = (plain.path().to_owned(), kept.path().to_owned());
        assert!(!is_marked(&plain_at) && is_marked(&kept_at));
        drop((plain, kept));
        assert!(!plain_at.exists() && kept_at.exists());
        drop(Folder::found(kept_at.clone()).expect("it is there"));
        assert!(kept_at.exists(), "whoever finds it does not end it");
        for folder in [above, root] {
            let mode = std::fs::metadata(folder)
                .expect("it is there")
                .permissions();
            assert_eq!(mode.mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_is_found_only_when_its_process_is_gone() {
        let root = tempfile::tempdir().expect("a folder");
        let works = occupy(root.path()).expect("it is free");
        assert!(!is_free(root.path()).expect("it is there"));
        let found = Folder::found(root.path().to_owned()).expect_err("it is taken");
        assert_eq!(found.kind(), io::ErrorKind::ResourceBusy);
        drop(works);
        assert!(is_free(root.path()).expect("it is there"));
        is_free(&root.path().join("none")).expect_err("it is not there");
    }
}
