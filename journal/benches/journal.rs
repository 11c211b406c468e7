//! What durability costs: `cargo bench -p toolpool-journal --bench journal`.
//!
//! Prompts with a kibibyte each way, through their whole life (accepted and about to be sent, then ended), by 1, 8 and 64
//! callers, each of whom waits for every step; beside it the floor, the same bytes appended to a file and synced, with the
//! same callers and the same way of sharing a sync. Then journals of 10^4, 10^5 and 10^6 prompts: what a turn costs in them,
//! their size, and how long it takes to open them after a crash. `TOOLPOOL_JOURNAL_LARGEST` is another limit than 10^6.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, SystemTime};

use toolpool_cluster::{Accepted, Dispatching, Outcome, Prompt, Record, Reply, Store, TurnId};
use toolpool_journal::{History, Journal, Query};

const CALLERS: [usize; 3] = [1, 8, 64];
const FOR: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = text(1024);
    println!("prompts/s and the wait for a step, p50 and p99; medians of {ROUNDS} runs of {FOR:?}");
    for callers in CALLERS {
        let mut floors = Vec::new();
        let mut ours = Vec::new();
        for round in 0..ROUNDS {
            let path = folder.path().join(format!("floor-{callers}-{round}"));
            floors.push(drive(&mut Floor::open(&path, &text), callers, FOR));
            fs::remove_file(&path).expect("it is there");
            let path = folder.path().join(format!("journal-{callers}-{round}"));
            let mut books = Books::open(&path, &text);
            ours.push(drive(&mut books, callers, FOR));
            drop(books);
            fs::remove_file(&path).expect("it is there");
        }
        let (floor, ours) = (median(floors), median(ours));
        println!(
            "{callers:2} callers: floor {floor}; journal {ours} ({:.0} records/s); ratio {:.2}x",
            3.0 * ours.rate,
            floor.rate / ours.rate
        );
    }
    let largest = std::env::var("TOOLPOOL_JOURNAL_LARGEST");
    let largest = largest.ok().and_then(|largest| largest.parse().ok());
    sizes(folder.path(), &text, largest.unwrap_or(1_000_000));
}

/// One journal that grows, looked at on its way.
fn sizes(folder: &Path, text: &str, largest: u64) {
    let path = folder.join("large");
    let mut written = 0;
    for prompts in [10_000, 100_000, 1_000_000] {
        if prompts > largest {
            break;
        }
        let mut books = Books::open(&path, text);
        let begun = Instant::now();
        let before = written;
        while written < prompts {
            written += drive(&mut books, 64, Duration::from_secs(1)).prompts;
        }
        let rate = (written - before) as f64 / begun.elapsed().as_secs_f64();
        let turn = drive(&mut books, 64, FOR);
        written += turn.prompts;
        // What a dead owner leaves: open prompts, a log, no last word.
        for _ in 0..64 {
            books.step(0, 0);
        }
        books.journal.flush().expect("it is kept");
        let dead = folder.join("dead");
        let copied = |ending: &str| {
            let name = |path: &Path| format!("{}{ending}", path.display());
            fs::copy(name(&path), name(&dead)).expect("a copy")
        };
        let (log, file) = (copied("-wal"), copied(""));
        let begun = Instant::now();
        let journal = Journal::open(&dead).expect("it recovers");
        let recovery = begun.elapsed();
        let doubts = journal.recovered().indeterminate.len();
        drop(journal);
        let begun = Instant::now();
        drop(Journal::open(&dead).expect("it opens"));
        let opening = begun.elapsed();
        let history = History::open(&dead).expect("it can be read");
        let begun = Instant::now();
        let query = Query {
            limit: Some(20),
            ..Query::default()
        };
        assert_eq!(history.find(&query).expect("it can be read").len(), 20);
        let newest = begun.elapsed();
        drop(history);
        for ending in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{ending}", dead.display()));
        }
        println!(
            "{written} prompts: file {} MiB ({:.2}x the texts), log {} MiB; {rate:.0} prompts/s on the way, then {turn}; \
             opened after a crash in {recovery:.1?} ({doubts} in doubt), after a close in {opening:.1?}; newest 20 in {newest:.1?}",
            file >> 20,
            file as f64 / (2 * text.len() as u64 * written) as f64,
            log >> 20,
        );
        drop(books);
    }
}

/// Something that makes steps of prompts durable.
trait Kept {
    /// Puts the next step of a caller's prompt; the caller's number comes back when it is durable.
    fn step(&mut self, caller: usize, step: usize);
    fn said(&self) -> &Receiver<usize>;
}

#[derive(Clone, Copy)]
struct Figures {
    prompts: u64,
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} prompts/s, {:.2} and {:.2} ms",
            self.rate,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3
        )
    }
}

/// Prompts by so many callers, each of two steps that are waited for.
fn drive(kept: &mut dyn Kept, callers: usize, length: Duration) -> Figures {
    let begun = Instant::now();
    let mut steps = vec![0_usize; callers];
    let mut since = vec![begun; callers];
    let mut waits = Vec::new();
    let mut prompts = 0;
    for caller in 0..callers {
        kept.step(caller, 0);
    }
    let mut under_way = callers;
    while under_way > 0 {
        let caller = kept.said().recv().expect("an answer");
        waits.push(since[caller].elapsed());
        steps[caller] += 1;
        if steps[caller].is_multiple_of(2) {
            prompts += 1;
            if begun.elapsed() > length {
                under_way -= 1;
                continue;
            }
        }
        since[caller] = Instant::now();
        kept.step(caller, steps[caller] % 2);
    }
    let rate = prompts as f64 / begun.elapsed().as_secs_f64();
    waits.sort();
    Figures {
        prompts,
        rate,
        p50: waits[waits.len() / 2],
        p99: waits[waits.len() * 99 / 100],
    }
}

fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    figures[figures.len() / 2]
}

fn text(bytes: usize) -> String {
    let words = "the parser of this file loses the last line when it has no end ".split(' ');
    let mut text = words.cycle().take(bytes).collect::<Vec<_>>().join(" ");
    text.truncate(bytes);
    text
}

struct Books {
    journal: Journal,
    next: u64,
    turns: Vec<u64>,
    text: String,
    said: (Sender<usize>, Receiver<usize>),
}

impl Books {
    fn open(path: &Path, text: &str) -> Self {
        let journal = Journal::open(path).expect("it opens");
        Self {
            next: journal.next_turn().0,
            journal,
            turns: vec![0; 64],
            text: text.to_owned(),
            said: mpsc::channel(),
        }
    }
}

impl Kept for Books {
    fn step(&mut self, caller: usize, step: usize) {
        let said = self.said.0.clone();
        let done = Box::new(move |result: Result<(), _>| {
            result.expect("it is kept");
            let _ = said.send(caller);
        });
        let at = SystemTime::now();
        if step == 0 {
            self.turns[caller] = self.next;
            self.next += 1;
        }
        let turn = TurnId(self.turns[caller]);
        if step == 0 {
            let accepted = Accepted {
                key: Some(format!(
                    "key-{:016x}",
                    turn.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                )),
                ..Accepted::new(turn, "main", at, Prompt::text(self.text.clone()))
            };
            self.journal.put(Record::Accepted(Box::new(accepted)), None);
            let dispatching = Dispatching {
                turn,
                attempt: 1,
                instance: "main/1".into(),
                tool: "bash".into(),
                generation: 1,
                at,
            };
            self.journal
                .put(Record::Dispatching(dispatching), Some(done));
        } else {
            let reply = Reply {
                turn,
                text: self.text.clone(),
                lossy: false,
                outcome: Outcome::Completed,
                attribution: None,
                instance: Some("main/1".into()),
                tool: Some("bash".into()),
                generation: 1,
                queued: Duration::from_millis(1),
                took: Duration::from_millis(1),
                first_output: Some(Duration::from_millis(1)),
                usage: None,
                landed: None,
            };
            let ended = Record::Ended {
                reply: Box::new(reply),
                attempts: 1,
                at,
            };
            self.journal.put(ended, Some(done));
        }
    }

    fn said(&self) -> &Receiver<usize> {
        &self.said.1
    }
}

/// A file that is appended to and synced, once for all who wait.
struct Floor {
    queue: Sender<(Vec<u8>, usize)>,
    text: String,
    said: Receiver<usize>,
}

impl Floor {
    fn open(path: &Path, text: &str) -> Self {
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("a file");
        let (queue, queued) = mpsc::channel::<(Vec<u8>, usize)>();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((mut bytes, caller)) = queued.recv() {
                let mut callers = vec![caller];
                for (more, caller) in queued.try_iter() {
                    bytes.extend(more);
                    callers.push(caller);
                }
                file.write_all(&bytes).expect("space");
                file.sync_data().expect("a disk");
                for caller in callers {
                    let _ = say.send(caller);
                }
            }
        });
        Self {
            queue,
            text: text.to_owned(),
            said,
        }
    }
}

impl Kept for Floor {
    fn step(&mut self, caller: usize, _: usize) {
        // A header as small as one can be.
        let mut bytes = vec![0; 32];
        bytes.extend_from_slice(self.text.as_bytes());
        self.queue.send((bytes, caller)).expect("its thread lives");
    }

    fn said(&self) -> &Receiver<usize> {
        &self.said
    }
}
