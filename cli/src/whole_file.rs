//! Files that are there whole or not at all.
//!
//! Owns the way they are written: beside their place, then moved into it. Must not know what is in them. Invariant: a
//! reader, or a crash at any point, finds the old file or the new one.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::CliError;
use crate::exit::Exit;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// Whoever the umask and its folder let.
    Any,
    /// Its user alone.
    User,
}

/// Writes a file, or replaces the one that is there.
///
/// # Errors
/// If its folder is not there or cannot be written, or the disk is full. What was there before is still there.
fn write(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::Any => 0o666,
        Readers::User => 0o600,
    };
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A place for a file that a command is to write at its end, checked at its beginning.
pub(crate) fn check_place(path: &Path) -> Result<(), CliError> {
    let wrong = |why: &str| {
        Err(CliError::usage(
            "invalid",
            format!("cannot write {}: {why}", path.display()),
        ))
    };
    if path.is_dir() {
        return wrong("it is a folder");
    }
    if !folder_of(path).is_dir() {
        return wrong("its folder is not there");
    }
    Ok(())
}

/// As [`write()`], for what a command was asked to leave behind.
pub(crate) fn leave(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), CliError> {
    write(path, bytes, readers).map_err(|error| {
        CliError::new(
            Exit::TurnFailed,
            "output",
            format!("cannot write {}: {error}", path.display()),
        )
    })
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.json");
        for text in ["first, which is longer", "second"] {
            write(&path, text.as_bytes(), Readers::Any).expect("written");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("it").count(), 1);
    }

    #[test]
    fn a_place_without_a_folder_is_found_before_anything_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(check_place(&folder.path().join("x.xml")).is_ok());
        assert!(check_place(Path::new("x.xml")).is_ok());
        assert!(check_place(folder.path()).is_err());
        assert!(check_place(&folder.path().join("none/x.xml")).is_err());
        assert!(write(&folder.path().join("none/x.xml"), b"", Readers::Any).is_err());
    }
}
