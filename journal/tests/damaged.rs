//! A file that is not as it was written is read up to the damage in its log, and refused or reported anywhere else.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;

use std::fs;
use std::path::{Path, PathBuf};

use books::{accept, accepted, answer, keyed, memory, place};
use rusqlite::Connection;
use toolpool_cluster::{Accepted, Record, Store, TurnId};
use toolpool_journal::{History, Journal, JournalError, Query};

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

/// Numbers that look random and are the same in each run.
fn draws(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % below
    }
}

/// How many bits to flip: `TOOLPOOL_FLIPS`, for a longer look.
fn flips(usual: usize) -> usize {
    let wanted = std::env::var("TOOLPOOL_FLIPS");
    wanted
        .ok()
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or(usual)
}

/// All that a journal tells, as text; an error if any of it is not as it was written.
fn told(path: &Path) -> Result<Vec<String>, JournalError> {
    let history = History::open(path)?;
    let mut lines = Vec::new();
    history.export(&Query::default(), &mut lines)?;
    let text = String::from_utf8(lines).expect("a text");
    Ok(text.lines().map(str::to_owned).collect())
}

/// A main file, and a log with twelve records after it, each with a commit of its own.
struct Cut {
    _folder: tempfile::TempDir,
    path: PathBuf,
    log: Vec<u8>,
    /// What is told with each of the records: none of them, the first, the first two and so on.
    prefixes: Vec<Vec<String>>,
    /// Where in the log each record ends.
    ends: Vec<usize>,
}

fn cut() -> Cut {
    let (folder, path) = memory();
    let journal = Journal::open(&path).expect("a new one");
    answer(&journal, accepted(1, "before"), "r");
    // It stays open, and so keeps words out of the index, which has commits of its own when the journal is idle.
    books::accept(&journal, accepted(2, "open"));
    drop(journal);
    let main = fs::read(&path).expect("it can be read");

    let journal = Journal::open(&path).expect("it is there");
    // Somebody reads all the while, so the log is not begun anew.
    let reader = Connection::open(&path).expect("it opens");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM prompts;")
        .expect("it can be read");
    let (mut prefixes, mut ends) = (Vec::new(), Vec::new());
    let copy = folder.path().join("copy.db");
    for turn in 3..=6 {
        for record in [
            Record::Accepted(Box::new(accepted(turn, &format!("prompt {turn}")))),
            Record::Dispatching(books::dispatching(turn, 1)),
            books::ended(books::reply(turn, &format!("reply {turn}"))),
        ] {
            books::keep(&journal, record).expect("it is kept");
            let log = fs::read(beside(&path, "-wal")).expect("it can be read");
            fs::write(&copy, &main).expect("space");
            fs::write(beside(&copy, "-wal"), &log).expect("space");
            prefixes.push(told(&copy).expect("it is whole"));
            ends.push(log.len());
        }
    }
    let log = fs::read(beside(&path, "-wal")).expect("it can be read");
    // With this main file the log says all; whatever was brought in elsewhere meanwhile does not matter.
    fs::write(&copy, &main).expect("space");
    Cut {
        _folder: folder,
        path: copy,
        log,
        prefixes,
        ends,
    }
}

impl Cut {
    /// What is told with this log: how many of the records.
    fn records(&self, log: &[u8], what: &str) -> usize {
        let _ = fs::remove_file(beside(&self.path, "-shm"));
        fs::write(beside(&self.path, "-wal"), log).expect("space");
        let lines = told(&self.path).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = self.prefixes.iter().rposition(|prefix| *prefix == lines);
        found.map_or(0, |last| last + 1)
    }
}

#[test]
fn a_log_that_is_cut_anywhere_tells_exactly_what_comes_before_the_cut() {
    let cut = cut();
    let start = cut.ends[cut.ends.len() - 4];
    // Each byte of the headers of pages, and every 487th of the pages.
    for end in start..=cut.log.len() {
        if (end - 32) % 4120 > 24 && end % 487 != 0 && end != cut.log.len() {
            continue;
        }
        let expected = cut.ends.iter().filter(|whole| **whole <= end).count();
        let records = cut.records(&cut.log[..end], &format!("cut at {end}"));
        assert_eq!(records, expected, "cut at {end}");
    }
}

#[test]
fn a_log_with_a_tail_of_zeros_or_a_flipped_bit_in_its_last_page_tells_what_comes_before_it() {
    let cut = cut();
    let mut draw = draws(7);
    let fourth = cut.ends[cut.ends.len() - 4];
    // The last page, with its header.
    let last = cut.log.len() - 4120;
    for _ in 0..flips(50) {
        let mut log = cut.log.clone();
        let at = if draw(2) == 0 {
            let at = fourth + draw(log.len() - fourth);
            log[at..].fill(0);
            at
        } else {
            // With no commit behind it, it may be torn in what was never synced.
            let at = last + draw(log.len() - last);
            log[at] ^= 1 << draw(8);
            at
        };
        let records = cut.records(&log, &format!("damaged at {at}"));
        let whole = cut.ends.iter().filter(|whole| **whole <= at).count();
        assert_eq!(records, whole, "damaged at {at}");
    }
}

#[test]
fn a_log_that_is_damaged_before_its_end_is_refused_and_nothing_is_written() {
    let cut = cut();
    let mut draw = draws(13);
    let behind = cut.ends[cut.ends.len() - 4];
    for flip in 0..flips(64) {
        let at = if flip < 32 { flip } else { draw(behind) };
        let mut log = cut.log.clone();
        log[at] ^= 1 << draw(8);
        let _ = fs::remove_file(beside(&cut.path, "-shm"));
        fs::write(beside(&cut.path, "-wal"), &log).expect("space");
        for error in [
            told(&cut.path).expect_err("it is damaged"),
            Journal::open(&cut.path)
                .map(drop)
                .expect_err("it is damaged"),
        ] {
            let text = error.to_string();
            assert!(text.contains("damaged"), "bit at {at}: {text}");
            assert!(text.contains(".recover"), "bit at {at}: {text}");
        }
        let left = fs::read(beside(&cut.path, "-wal")).expect("it can be read");
        assert!(left == log, "bit at {at}: it was written to");
    }
}

#[test]
fn a_flipped_bit_in_the_main_file_is_found_or_changes_nothing() {
    let (folder, path) = memory();
    let journal = Journal::open(&path).expect("a new one");
    for turn in 1..=40 {
        let prompt = keyed(
            turn,
            &format!("prompt {turn}").repeat(9),
            &format!("k{turn}"),
        );
        answer(&journal, prompt, "reply");
    }
    accept(&journal, accepted(41, "queued"));
    let queued = journal.queued("main").expect("it can be read");
    drop(journal);
    let whole = fs::read(&path).expect("it can be read");
    let lines = told(&path).expect("it is whole");
    let copy = folder.path().join("copy.db");
    let mut draw = draws(11);
    let (mut refused, mut reported, mut harmless) = (0, 0, 0);
    for _ in 0..flips(100) {
        let at = draw(whole.len());
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << draw(8);
        for ending in ["-wal", "-shm"] {
            let _ = fs::remove_file(beside(&copy, ending));
        }
        fs::write(&copy, &bytes).expect("space");
        let journal = match Journal::open(&copy) {
            Ok(journal) => journal,
            Err(JournalError::InUse { .. } | JournalError::Io { .. }) => panic!("bit at {at}"),
            Err(_) => {
                refused += 1;
                continue;
            }
        };
        let queue = journal.queued("main");
        assert!(
            queue.is_err() || queue == Ok(queued.clone()),
            "bit at {at} changed what is queued"
        );
        match told(&copy) {
            Ok(told) => {
                assert!(told == lines, "bit at {at} changed what is told");
                harmless += 1;
            }
            Err(_) => reported += 1,
        }
    }
    let counts = format!("{refused} refused, {reported} reported, {harmless} harmless");
    assert!(refused + reported > 0 && harmless > 0, "{counts}");
}

#[test]
fn a_damaged_page_is_refused_on_opening_with_a_way_out_and_nothing_is_written() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for turn in 1..=40 {
        answer(&journal, accepted(turn, &"text ".repeat(500)), "reply");
    }
    drop(journal);
    let mut bytes = fs::read(&path).expect("it can be read");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(&path, &bytes).expect("space");
    let error = Journal::open(&path).expect_err("it is damaged");
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(".recover"), "{error}");
    assert!(
        fs::read(&path).expect("it can be read") == bytes,
        "it was written to"
    );
}

fn to_text<T>(result: Result<T, impl std::fmt::Display>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_was_changed_in_a_row_or_a_text_is_told_by_nobody() {
    for (change, asked) in [
        (
            "UPDATE prompt_texts SET text = 'other' WHERE turn = 1",
            "find",
        ),
        ("UPDATE reply_texts SET text = 'other'", "find"),
        ("DELETE FROM reply_texts", "find"),
        (
            "UPDATE prompt_texts SET text = 'other' WHERE turn = 1",
            "said",
        ),
        ("UPDATE reply_texts SET text = 'other'", "said"),
        ("UPDATE ends SET outcome = 'failed', cause = 'auth'", "said"),
        ("UPDATE ends SET attempts = 0", "said"),
        ("UPDATE prompts SET cluster = 'other'", "said"),
        ("UPDATE prompts SET cluster = 'other'", "queued"),
        ("UPDATE prompt_texts SET text = 'other'", "queued"),
        ("UPDATE prompts SET kept = 0 WHERE turn = 2", "opened"),
        (
            "UPDATE attempts SET handed_back = 1 WHERE turn = 3",
            "opened",
        ),
    ] {
        let (_folder, path) = memory();
        let journal = Journal::open(&path).expect("a new one");
        let of_a_session = |turn| Accepted {
            session: Some("s".to_owned()),
            ..accepted(turn, "a text")
        };
        answer(&journal, of_a_session(1), "reply");
        accept(&journal, of_a_session(2));
        accept(&journal, accepted(3, "with a tool"));
        books::dispatch(&journal, 3);
        // Behind the back of its owner, who has looked at the file.
        let changed = Connection::open(&path).expect("it opens");
        changed.execute_batch(change).expect("it is changed");
        drop(changed);
        let history = journal.history().expect("it opens");
        let said = match asked {
            "find" => to_text(history.find(&Query::default())),
            "said" => to_text(journal.said("main", "s", TurnId(1), 1000)),
            "queued" => to_text(journal.queued("main")),
            _ => {
                drop((history, journal));
                to_text(Journal::open(&path))
            }
        };
        let error = said.expect_err(change);
        assert!(error.contains("damaged"), "{change}: {error}");
    }
}

#[test]
fn a_later_format_is_refused_and_left_byte_for_byte() {
    let (_folder, path) = place();
    drop(Journal::open(&path).expect("a new one"));
    let later = Connection::open(&path).expect("it opens");
    later
        .pragma_update(None, "user_version", 99)
        .expect("it is written");
    drop(later);
    let bytes = fs::read(&path).expect("it can be read");
    for error in [
        Journal::open(&path).expect_err("it is later"),
        History::open(&path).expect_err("it is later"),
    ] {
        assert!(
            matches!(error, JournalError::Newer { format: 99, .. }),
            "{error}"
        );
    }
    assert!(
        fs::read(&path).expect("it can be read") == bytes,
        "it was written to"
    );
    assert!(!beside(&path, "-wal").exists());
}

#[test]
fn files_of_others_are_refused_and_left_byte_for_byte() {
    let (folder, path) = place();
    let write_sqlite = || {
        let other = Connection::open(&path).expect("it opens");
        other
            .execute_batch("CREATE TABLE t (a)")
            .expect("it is written");
    };
    let write_text = || fs::write(&path, "my only copy of a text").expect("space");
    for write in [&write_sqlite as &dyn Fn(), &write_text] {
        let _ = fs::remove_file(&path);
        write();
        let bytes = fs::read(&path).expect("it can be read");
        let error = Journal::open(&path).expect_err("it is another's");
        assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
        assert!(
            fs::read(&path).expect("it can be read") == bytes,
            "it was written to"
        );
        let beside = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(beside, 1, "nothing is made beside it");
    }
    fs::remove_file(&path).expect("it is there");
    fs::create_dir(&path).expect("space");
    let error = Journal::open(&path).expect_err("it is a folder");
    assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
}

#[test]
fn the_format_before_is_read_and_brought_up_to_date() {
    let (_folder, path) = place();
    let old = Connection::open(&path).expect("it opens");
    old.execute_batch(include_str!("../src/schema/1.sql"))
        .expect("it is written");
    old.pragma_update(None, "user_version", 1)
        .expect("it is written");
    old.pragma_update(None, "application_id", 0x7470_6a6c)
        .expect("it is written");
    old.execute_batch(
        "INSERT INTO sessions VALUES ('main', 's', 'main/1', 'bash', '/srv', NULL, '/tmp/x', 1, 1, 0, 5);
         INSERT INTO openings VALUES (1, 5, 7, '0.1.0', 1, 1);",
    )
    .expect("it is written");
    drop(old);
    let history = History::open(&path).expect("it can be read as it is");
    assert_eq!(history.lives(None).expect("it can be read"), []);
    let words = Query {
        text: Some("words".to_owned()),
        ..Query::default()
    };
    assert_eq!(history.find(&words).expect("it can be searched"), []);
    drop(history);
    let journal = Journal::open(&path).expect("it can be brought up to date");
    let sessions = journal.sessions("main").expect("they have seals");
    assert_eq!(sessions[0].session, "s");
    answer(&journal, accepted(1, "words to find"), "r");
    let history = journal.history().expect("it can be read");
    assert_eq!(history.find(&words).expect("it can be searched").len(), 1);
    assert_eq!(history.lives(None).expect("owners have seals"), []);
}

/// As SQLite leaves it when it dies in its first transaction: https://www.sqlite.org/fileformat.html
#[test]
fn a_death_while_a_file_is_being_made_a_journal_leaves_one_that_is_made_again() {
    let (_folder, path) = place();
    drop(Journal::open(&path).expect("a new one"));
    let page = fs::read(&path).expect("it can be read");
    fs::write(&path, &page[..4096]).expect("space");
    let mut undo = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    // No pages, some number, an empty file before, and the sizes of sectors and pages.
    for number in [0_u32, 7, 0, 512, 4096] {
        undo.extend(number.to_be_bytes());
    }
    undo.resize(512, 0);
    fs::write(beside(&path, "-journal"), undo).expect("space");
    for turn in 1..=2 {
        let journal = Journal::open(&path).expect("it is nobody else's");
        accept(&journal, accepted(turn, "kept"));
    }
    let history = History::open(&path).expect("it is a journal");
    assert_eq!(history.find(&Query::default()).expect("it reads").len(), 2);
}

#[test]
fn numbers_that_sqlite_keeps_in_its_own_way_are_no_damage() {
    let (_folder, path) = place();
    let journal = Journal::open(&path).expect("a new one");
    for (turn, cost) in [-0.0, f64::NAN, f64::INFINITY, 1.0].into_iter().enumerate() {
        let turn = turn as u64 + 1;
        accept(&journal, accepted(turn, "p"));
        let mut reply = books::reply(turn, "r");
        reply.usage.as_mut().expect("it has one").cost_usd = Some(cost);
        books::keep(&journal, books::ended(reply)).expect("it is kept");
    }
    drop(journal);
    History::open(&path)
        .and_then(|history| history.check())
        .expect("nothing is wrong with it");
}
