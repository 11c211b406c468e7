//! Files that are there whole or not at all.
//!
//! Owns the way they are written: beside their place, then moved into it. Must not know what is in them. Invariants: a
//! reader, or a crash at any point, finds the old file or the new one; what is no regular file, such as a pipe or a device,
//! is written to and never replaced.

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
    if is_stream(path) {
        return std::fs::OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(bytes);
    }
    // A link stays one.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
    if is_stream(path) {
        return Ok(());
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return wrong("its folder is not there");
    }
    // What cannot be written at the end is better known before hours of work.
    match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => wrong(&error.to_string()),
    }
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

/// Whether something is there that is neither a regular file nor a folder: `/dev/stdout`, a pipe of the shell.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

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
    fn a_link_stays_a_link_and_a_pipe_is_written_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        write(&link, b"new", Readers::Any).expect("written");
        assert_eq!(std::fs::read(&file).expect("a file"), b"new");
        assert!(link.is_symlink());

        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let pipe = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        check_place(&pipe).expect("it can be written");
        write(&pipe, b"piped", Readers::Any).expect("written");
        drop(writer);
        let mut piped = String::new();
        reader.read_to_string(&mut piped).expect("text");
        assert_eq!(piped, "piped");
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
