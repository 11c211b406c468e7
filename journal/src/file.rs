//! The file: whether it is ours to open, who owns it, and how SQLite is to treat it.
//!
//! Owns the lock, the permissions and the settings of connections. Must not know what the rows are for. Invariant: nothing
//! that is not a journal of a known format is written to, and nobody but its user may read it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use toolpool_cluster::planted;

use crate::error::{JournalError, Trouble};
use crate::schema;

/// How long a statement waits for a lock of SQLite's, which are held for moments only.
const BUSY: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 48;

/// The file's name with something behind it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What the system refused about a file.
pub(crate) fn refused(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.display().to_string();
    move |source| JournalError::Io {
        path,
        action,
        source,
    }
}

/// The one owner of a journal. The system takes the lock back when its process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Becomes the owner, or says who is.
    pub(crate) fn take(journal: &Path) -> Result<Self, JournalError> {
        let path = beside(journal, ".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(refused(&path, "open the lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Its owner may be about to write it.
                let _ = file.read_to_string(&mut pid);
                return Err(JournalError::InUse {
                    path: journal.display().to_string(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(refused(&path, "lock it")(error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            // A full disk is no reason to stop here: the number is for people.
            .or_else(|error| match error.kind() {
                io::ErrorKind::StorageFull => Ok(()),
                _ => Err(error),
            })
            .map_err(refused(&path, "write the lock"))?;
        Ok(Self { _file: file })
    }
}

/// Whether somebody owns a journal. Looks by asking for the lock, and so is for moments when there is a sign that an owner has
/// died: one that would come just then is refused.
pub(crate) fn is_owned(journal: &Path) -> bool {
    let lock = File::open(beside(journal, ".lock"));
    lock.is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// What the system calls a file, wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Whether the file was moved or removed, or another stands in its place. What cannot be looked at is taken to be there.
    pub(crate) fn has_left(self, path: &Path) -> bool {
        match Self::of(path) {
            Ok(found) => found != self,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Makes the folder, if need be, and gives the path that all owners of this journal agree on.
pub(crate) fn place(path: &Path) -> Result<PathBuf, JournalError> {
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    let name = path
        .file_name()
        .ok_or_else(|| refused(path, "open it")(io::ErrorKind::IsADirectory.into()))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(refused(folder, "make the folder of the journal"))?;
    let folder = fs::canonicalize(folder).map_err(refused(folder, "find the folder"))?;
    Ok(folder.join(name))
}

/// Refuses file systems on which two machines could write at once: the log of SQLite has an index in shared memory.
pub(crate) fn see_that_it_is_local(path: &Path) -> Result<(), JournalError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let found = rustix::fs::statfs(folder)
        .map_err(|error| refused(folder, "look at its disk")(error.into()))?;
    // The numbers are those of linux/magic.h.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
    let kind = match found.f_type as u32 {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x5346_414F => "AFS",
        0x00C3_6400 => "Ceph",
        _ => return Ok(()),
    };
    Err(JournalError::Network {
        path: path.display().to_string(),
        kind,
    })
}

/// What the first bytes of a file say, before anything of SQLite's has looked at it. False if there is nothing yet.
pub(crate) fn is_a_journal(path: &Path) -> Result<bool, JournalError> {
    let mut header = Vec::new();
    let foreign = |detail: &str| JournalError::Foreign {
        path: path.display().to_string(),
        detail: detail.to_owned(),
    };
    // Looked at by its name: to open a pipe would wait for its other end.
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(foreign("it is a folder")),
        Ok(found) if !found.is_file() => return Err(foreign("it is no regular file")),
        _ => {}
    }
    match File::open(path) {
        Ok(file) => file
            .take(100)
            .read_to_end(&mut header)
            .map_err(refused(path, "read it"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(refused(path, "open it")(error)),
    };
    if header.is_empty() {
        return match fs::metadata(beside(path, "-wal")) {
            // The first bytes of a log come after those of its file.
            Ok(log) if log.len() > 0 => {
                let lost = "it is empty or gone, and its log is there".to_owned();
                Err(Trouble::Damaged(lost).at(path, "read it"))
            }
            _ => Ok(false),
        };
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(foreign("it is no SQLite file"));
    }
    // Places in the header: https://www.sqlite.org/fileformat.html
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if number(68) != schema::APPLICATION_ID {
        return Err(foreign("it is another program's SQLite file"));
    }
    see_format(path, number(60))?;
    Ok(true)
}

pub(crate) fn see_format(path: &Path, format: u32) -> Result<(), JournalError> {
    if format <= schema::FORMAT {
        return Ok(());
    }
    Err(JournalError::Newer {
        path: path.display().to_string(),
        format,
        known: schema::FORMAT,
    })
}

/// Makes an empty file that only its user may read, or takes what others may do from one that is there.
pub(crate) fn make_private(path: &Path) -> Result<(), JournalError> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(refused(path, "open it"))?;
    drop(file);
    // What SQLite makes beside it gets the same permissions.
    for file in ["", "-wal", "-shm", ".lock"].map(|ending| beside(path, ending)) {
        match fs::metadata(&file) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&file, Permissions::from_mode(0o600))
                    .map_err(refused(&file, "keep others from reading it"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A connection that writes. The first one of a file makes it a journal.
pub(crate) fn writer(path: &Path) -> Result<Connection, JournalError> {
    let open = || -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        settings(&connection)?;
        // Closing must not write: after an error nothing may, and in good order it is done aloud.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    };
    open().map_err(|error| Trouble::from(error).at(path, "open it"))
}

/// A connection that reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |name: &Path, flags| -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(name, flags)?;
        settings(&connection)?;
        // SQLite looks at a file when something is asked, not before.
        connection.pragma_query_value(None, "user_version", |_| Ok(()))?;
        Ok(connection)
    };
    let opened = match (open(path, flags), at_rest(path)) {
        // Reading makes an index of the log, which a disk that is read-only and another user's folder refuse.
        (Err(error), Some(name)) if wants_to_write(&error) => {
            open(&name, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| Trouble::from(error).at(path, "read it"))
}

fn wants_to_write(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    let code = error.sqlite_error_code();
    code.is_some_and(|code| matches!(code, CannotOpen | ReadOnly))
}

/// The name under which SQLite reads a file and nothing beside it; None if there is a log, which belongs to the journal.
fn at_rest(path: &Path) -> Option<PathBuf> {
    if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let path = fs::canonicalize(path).ok()?;
    let mut name = String::from("file:");
    // Of what a name may have, these mean something: https://www.sqlite.org/uri.html
    for c in path.to_str()?.chars() {
        match c {
            '%' => name.push_str("%25"),
            '?' => name.push_str("%3f"),
            '#' => name.push_str("%23"),
            _ => name.push(c),
        }
    }
    name.push_str("?immutable=1");
    Some(name.into())
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise what looks for one turn by an index is planned anew for each one.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Writes whose the file is before anything else is in it: each later look at it wants to see that, also after a death
/// between any two writes. So it is one transaction, though of itself each of the two settings would be one.
fn sign(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; PRAGMA auto_vacuum = incremental; PRAGMA application_id = {}; COMMIT",
        schema::APPLICATION_ID
    ))
}

/// Settings that only who writes may make, and those that last in the file.
pub(crate) fn prepare(connection: &Connection) -> Result<(), Trouble> {
    // What the first bytes say is not asked: a death in the transaction that signs leaves them, and SQLite takes it back.
    let id: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if id != schema::APPLICATION_ID {
        sign(connection)?;
    }
    let mode = begin_log(connection)?;
    if mode != "wal" {
        return Err(Trouble::NoLog(mode));
    }
    let synchronous = if planted("sync_skipped") {
        "normal"
    } else {
        "full"
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(())
}

/// Gives the mode that the file is in then. That is answered before it is written: whether it could be is known only behind
/// the answer, and `query_row` would not look there.
fn begin_log(connection: &Connection) -> rusqlite::Result<String> {
    let mut pragma = connection.prepare("PRAGMA journal_mode = wal")?;
    let mut answers = pragma.query_map([], |row| row.get(0))?;
    let mode = answers.next().unwrap_or(Ok(String::new()))?;
    answers.try_for_each(|more| more.map(|_: String| ()))?;
    Ok(mode)
}

/// Makes the names of the file and its log durable. SQLite syncs the folder as well, and goes on if that fails.
pub(crate) fn sync_names(path: &Path) -> Result<(), JournalError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(refused(folder, "sync the folder of the journal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_have_a_log_is_refused() {
        let connection = Connection::open_in_memory().expect("memory");
        let refused = prepare(&connection).expect_err("there is no file for it");
        assert_eq!(
            refused.at(Path::new("a.db"), "make it ready").to_string(),
            "a.db: cannot make it ready: its log cannot be begun, SQLite keeps it in mode memory. Look at the disk, or name another file"
        );
    }

    #[test]
    fn whose_a_new_file_is_stands_in_its_first_transaction() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        make_private(&path).expect("it can be made");
        let connection = writer(&path).expect("it is new");
        sign(&connection).expect("it can be written");
        let header = fs::read(&path).expect("it is there");
        // The counter of transactions; https://www.sqlite.org/fileformat.html
        assert_eq!(header[24..28], [0, 0, 0, 1]);
        assert_eq!(header[68..72], schema::APPLICATION_ID.to_be_bytes());
        let vacuum: u32 = connection
            .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
            .expect("it says");
        assert_eq!(vacuum, 2, "incremental");
    }
}
