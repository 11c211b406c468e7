//! Prompts and ends for the tests of the file, and what it says after each.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use toolpool_cluster::{
    Accepted, Attribution, Dispatching, Event, EventKind, Grade, Outcome, PermissionId, Prompt,
    Record, Reply, Store, StoreError, TurnId, Usage,
};
use toolpool_journal::Journal;

/// A folder with a place for a journal.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("books.db");
    (folder, path)
}

/// A folder in memory, where there is one: for tests that open files often, and not for what a disk does.
pub(crate) fn memory() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a folder");
    let path = folder.path().join("books.db");
    (folder, path)
}

/// A time that a file keeps exactly.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

pub(crate) fn accepted(turn: u64, text: &str) -> Accepted {
    Accepted::new(TurnId(turn), "main", at(turn), Prompt::text(text))
}

pub(crate) fn keyed(turn: u64, text: &str, key: &str) -> Accepted {
    Accepted {
        key: Some(key.to_owned()),
        ..accepted(turn, text)
    }
}

pub(crate) fn dispatching(turn: u64, attempt: u32) -> Dispatching {
    Dispatching {
        turn: TurnId(turn),
        attempt,
        instance: "main/1".into(),
        tool: "bash".into(),
        generation: 3,
        at: at(turn),
    }
}

pub(crate) fn reply(turn: u64, text: &str) -> Reply {
    Reply {
        turn: TurnId(turn),
        text: text.to_owned(),
        lossy: false,
        outcome: Outcome::Completed,
        attribution: Some(Attribution {
            grade: Grade::C,
            by: "sentinel",
        }),
        instance: Some("main/1".into()),
        tool: Some("bash".into()),
        generation: 3,
        queued: Duration::from_millis(5),
        took: Duration::from_millis(1500),
        first_output: Some(Duration::from_millis(20)),
        usage: Some(Usage {
            input_tokens: Some(10),
            output_tokens: None,
            cost_usd: Some(0.25),
        }),
        landed: None,
    }
}

pub(crate) fn ended(reply: Reply) -> Record {
    Record::Ended {
        at: at(reply.turn.0) + Duration::from_secs(2),
        reply: Box::new(reply),
        attempts: 1,
    }
}

/// The answer to a tool's question.
pub(crate) fn allowed(turn: u64) -> Record {
    let kind = EventKind::PermissionAnswered {
        permission: PermissionId(turn),
        turn: TurnId(turn),
        instance: "main/1".into(),
        act: "execute",
        allowed: true,
        by: "policy",
    };
    Record::Event(Event {
        seq: turn,
        at: at(turn),
        kind,
    })
}

pub(crate) fn piece(turn: u64, attempt: u32, bytes: &[u8]) -> Record {
    Record::Output {
        turn: TurnId(turn),
        attempt,
        bytes: bytes.to_vec(),
    }
}

/// What is said of a record that somebody waits for.
pub(crate) type Said = Receiver<Result<(), StoreError>>;

/// Puts a record without waiting.
pub(crate) fn put(journal: &Journal, record: Record) -> Said {
    let (done, said) = mpsc::channel();
    let done = move |result| {
        let _ = done.send(result);
    };
    journal.put(record, Some(Box::new(done)));
    said
}

/// Puts a record and waits for what is said.
pub(crate) fn keep(journal: &Journal, record: Record) -> Result<(), StoreError> {
    put(journal, record).recv().expect("an answer")
}

/// A prompt that is accepted and durable.
pub(crate) fn accept(journal: &Journal, accepted: Accepted) {
    keep(journal, Record::Accepted(Box::new(accepted))).expect("it is kept");
}

/// A prompt that a tool is about to get.
pub(crate) fn dispatch(journal: &Journal, turn: u64) {
    keep(journal, Record::Dispatching(dispatching(turn, 1))).expect("it is kept");
}

/// A prompt with its whole life.
pub(crate) fn answer(journal: &Journal, prompt: Accepted, text: &str) {
    let turn = prompt.turn.0;
    accept(journal, prompt);
    dispatch(journal, turn);
    keep(journal, ended(reply(turn, text))).expect("it is kept");
}
