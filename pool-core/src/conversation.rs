//! What a process that has ended leaves for the next one: its conversation, in its private folder.
//!
//! Owns the folder while no process and no keeper has it. Must not know what is in it. Invariant: such a folder ends with
//! its last owner. If that is killed, the kernel gives up the lock on the folder's claim, and the next program that starts
//! a tool removes the folder.

use std::fs::{File, read_dir, remove_dir_all, remove_file, rename};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use rustix::process::geteuid;

use crate::folder::{Folder, PREFIX};

/// The file whose lock says that somebody waits to go on with what is in its folder.
const CLAIM: &str = ".toolpool-left";

/// A conversation that a process has left behind, with the private folder that the tool keeps it in. The folder is
/// removed with the last clone, unless it is [kept](crate::Connection::keep_folder).
#[derive(Clone, Debug)]
pub struct Conversation {
    pub(crate) name: String,
    pub(crate) state: Arc<Folder>,
    _claim: Arc<Option<Claim>>,
}

impl Conversation {
    /// One that an earlier program has left, in a folder that it has kept: by the tool's own name for it.
    ///
    /// # Errors
    /// If the folder is not there, or a process still works in it ([`io::ErrorKind::ResourceBusy`]): then it may be free in
    /// a moment, since a keeper ends everything when its program has died.
    pub fn found(name: impl Into<String>, folder: impl Into<PathBuf>) -> io::Result<Self> {
        let state = Folder::found(folder.into())?;
        Ok(Self::new(name.into(), Arc::new(state)))
    }

    pub(crate) fn new(name: String, state: Arc<Folder>) -> Self {
        // One that is kept needs no claim. Where nothing can be locked, a killed program leaves the folder, as it leaves
        // other files there.
        let claim = (!state.is_kept())
            .then(|| Claim::new(state.path()).ok())
            .flatten();
        Self {
            name,
            state,
            _claim: Arc::new(claim),
        }
    }
}

#[derive(Debug)]
struct Claim {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Claim {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(CLAIM);
        let new = path.with_extension("new");
        let file = File::create(&new)?;
        file.try_lock()?;
        // Nobody ever sees it without its lock.
        rename(&new, &path)?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the lock goes: the folder is a live process's now, unless it is gone already.
        remove_file(&self.path).ok();
    }
}

/// Removes what killed programs have left, once in this program's life. Blocks for as long as it takes to list the folder
/// for temporary files.
pub(crate) fn remove_ownerless_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| remove_ownerless(&std::env::temp_dir()));
}

fn remove_ownerless(root: &Path) {
    // What cannot be listed or removed stays, as it would without us.
    let Ok(entries) = read_dir(root) else { return };
    for entry in entries.flatten() {
        let is_private = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_ours = || {
            let found = entry.path().symlink_metadata();
            found.is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
        };
        if is_private && is_ours() {
            remove_if_ownerless(&entry.path()).ok();
        }
    }
}

fn remove_if_ownerless(folder: &Path) -> io::Result<()> {
    let path = folder.join(CLAIM);
    let claim = File::open(&path)?;
    claim.try_lock()?;
    // Its owner may have taken the claim away in the meantime, because the folder has a process again.
    path.symlink_metadata()?;
    remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(root: &Path, tool: &str) -> Arc<Folder> {
        Arc::new(Folder::make(tool, Some(root)).expect("a folder"))
    }

    #[test]
    fn only_a_folder_whose_owner_was_killed_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        let waits = private(root, "codex");
        let left = Conversation::new("a".to_owned(), Arc::clone(&waits));
        let works = private(root, "codex");
        drop(Conversation::new("b".to_owned(), Arc::clone(&works)));
        let others = root.join("elsewhere-1");
        std::fs::create_dir(&others).expect("it is ours");
        File::create(others.join(CLAIM)).expect("it is ours");
        // The kernel has given up the lock of its owner.
        let killed = private(root, "codex");
        File::create(killed.path().join(CLAIM)).expect("it is ours");
        remove_ownerless(root);
        assert!(waits.path().exists(), "somebody is to go on with it");
        assert!(works.path().exists(), "a process has it");
        assert!(others.exists(), "it is none of ours");
        assert!(!killed.path().exists(), "nobody wants it");
        let path = waits.path().to_owned();
        drop((left, waits));
        assert!(!path.exists(), "with its last owner");
    }
}
