//! Where what is kept from run to run lies.
//!
//! Owns the paths below `$XDG_STATE_HOME/toolpool`. Must not know what is in the files. Invariant: a folder's journal has
//! the same path whoever asks and from wherever.

use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::CliError;

/// Characters of a folder's name in the name of its journal.
const NAME: usize = 40;

/// The journal of a working folder, given without links.
pub(crate) fn journal_of(cwd: &Path) -> Result<PathBuf, CliError> {
    let name: String = cwd
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .take(NAME)
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .collect();
    let hash = fingerprint([cwd.as_os_str().as_bytes()]);
    Ok(state()?.join("journals").join(format!("{name}-{hash}.db")))
}

/// The folder with what it takes to go on with each batch.
pub(crate) fn batches() -> Result<PathBuf, CliError> {
    Ok(state()?.join("batches"))
}

/// `$XDG_STATE_HOME/toolpool`, or its place below the home folder.
fn state() -> Result<PathBuf, CliError> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    match state {
        Some(state) => Ok(state.join("toolpool")),
        None => Err(CliError::usage(
            "no_state_folder",
            "neither XDG_STATE_HOME nor HOME is set, so there is no place for journals and batches",
        )
        .hint("set one of them; `batch --no-journal` does without, and other commands with `--journal FILE`")),
    }
}

/// Makes a folder that is there for the user alone, and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), CliError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| {
            CliError::usage(
                "no_state_folder",
                format!("cannot make the folder {}: {error}", folder.display()),
            )
            .hint("set XDG_STATE_HOME to a folder that can be written; `batch --no-journal` does without")
        })
}

/// Eight digits that differ where the parts do.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that moving a border between two parts makes another hash.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digits = hash.finalize();
    digits[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_tells_where_one_part_ends() {
        let of = |parts: &[&str]| fingerprint(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_eq!(of(&["a", "b"]).len(), 8);
        for other in [&["ab"][..], &["", "ab"], &["b", "a"], &["a", "b", ""]] {
            assert_ne!(of(&["a", "b"]), of(other), "{other:?}");
        }
    }
}
