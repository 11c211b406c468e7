//! A journal of a million prompts.

mod life;
mod look;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use toolpool::journal::{History, Journal};
use toolpool::{Store as _, TurnId};

use self::life::Life;
use self::look::one;
use super::killed::lot;
use crate::case::{Case, Counted};
use crate::lab::{LONG, Lab};
use crate::own::mib;
use crate::volume::{Deed, STEP, Volume};

pub(super) const CASES: &[Case] = &[Case {
    number: 71,
    tier: 2,
    name: "a journal of a million prompts",
    injects: "1,000,000 prompts, or as many as `TOOLPOOL_PROMPTS` says; SIGKILL 20 times while it is filled, 10 times while it is closed, once with 64 prompts at tools, and 50 times while it is pruned",
    alone: true,
    run: |lab| Box::pin(async move { million(lab) }),
}];

/// Kills while it is filled, while it is closed, and while it is pruned.
const FILLING: u64 = 20;
const CLOSING: u64 = 10;
const PRUNING: u64 = 50;

/// Prompts that are at tools when the last one who fills it dies.
const RUNNING: u64 = 64;

/// Prompts that toolpool's own reader looks at in the end.
const CHECKED: u64 = 1000;

fn million(lab: &Lab) -> Result<Counted> {
    let prompts: u64 = match std::env::var("TOOLPOOL_PROMPTS") {
        Ok(prompts) => prompts.parse().context("TOOLPOOL_PROMPTS is no number")?,
        Err(_) => 1_000_000,
    };
    ensure!(
        prompts >= 50_000,
        "for so many kills {prompts} prompts are too few"
    );
    let mut books = Books::new(lab, prompts)?;
    let begun = Instant::now();
    books.fill(prompts)?;
    books.close(prompts / 200)?;
    let filled = begun.elapsed();
    let (recovery, opening) = books.recover()?;
    let full = books.size();
    let (kills, late) = books.prune(prompts / 200)?;
    let pruning = books.prune_at_once(prompts / 10)?;
    let small = books.size();
    let reused = books.use_again(prompts / 10, prompts / 500)?;
    books.check()?;
    Ok(Counted::new(format!(
        "after each of {} kills SQLite's own check finds nothing, it opens, and it adds up: each prompt is there with all that belongs to it or gone with all of it; 0 that were acknowledged are missing, 0 that are open or too new were removed; {RUNNING} of {RUNNING} that were at tools are in doubt; free pages are filled before the file grows",
        FILLING + CLOSING + PRUNING + 2
    ))
    .figure("prompts; the file with all of them", format!("{prompts}; {}", mib(full)))
    .figure("filled, killed and looked at, in", seconds(filled))
    .figure("opened after a kill; after a close", format!("{}; {}", seconds(recovery), seconds(opening)))
    .figure("pruned, killed 50 times and looked at, in; kills that came too late and do not count", format!("{}; {late}", seconds(kills)))
    .figure("a tenth pruned at once, in; the file then", format!("{}; {}", seconds(pruning), mib(small)))
    .figure("pages that were free and are used again", reused))
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn sleep(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}

/// The journal, and what must be in it.
struct Books {
    volume: Volume,
    marker: String,
    /// All up to this number are there, or were.
    last: u64,
    /// All up to this number are gone, but for those that never go.
    gone: u64,
    /// Prompts without an end, of which no tool was given any.
    queued: BTreeSet<u64>,
    /// Those that were at a tool when their owner died, which is just now.
    in_doubt: BTreeSet<u64>,
    /// Those that are at one, until somebody opens it.
    running: BTreeSet<u64>,
    looks: u32,
}

impl Books {
    fn new(lab: &Lab, prompts: u64) -> Result<Self> {
        let age = Duration::from_secs(2 * prompts);
        let since = SystemTime::now().checked_sub(age).context("so long ago")?;
        Ok(Self {
            volume: Volume {
                journal: lab.folder().join("journal.db"),
                since,
                queued_above: prompts / 10,
            },
            marker: lab.census().marker().to_owned(),
            last: 0,
            gone: 0,
            queued: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            running: BTreeSet::new(),
            looks: 0,
        })
    }

    fn path(&self) -> &Path {
        &self.volume.journal
    }

    fn begin(&self, deed: &Deed) -> Result<Life> {
        Life::begin(&self.volume, deed, &self.marker)
    }

    /// Fills it in lives that are killed while they do.
    fn fill(&mut self, prompts: u64) -> Result<()> {
        for life in 1..=FILLING {
            let until = prompts * life / FILLING;
            let steps = (until - self.last) / STEP;
            let mut writer = self.begin(&Deed::Fill(until))?;
            for _ in 0..=lot(&format!("step {life}"), steps.max(3) - 2) {
                writer.until("kept")?;
            }
            sleep(lot(&format!("moment {life}"), 10_000));
            writer.kill()?;
            self.look(&writer, &format!("kill {life} while it was filled"))?;
        }
        Ok(())
    }

    /// Lives that are killed while they close it, which brings in the log.
    fn close(&mut self, some: u64) -> Result<()> {
        let (mut length, mut done) = (None, 0);
        for round in 0..20 * CLOSING {
            if done == CLOSING {
                return Ok(());
            }
            let mut writer = self.begin(&Deed::Fill(self.last + some))?;
            writer.until("closing")?;
            let begun = Instant::now();
            match length {
                // As long as the first one takes, the others take, too.
                None => writer.until("closed")?,
                Some(length) => sleep(lot(&format!("closing {round}"), length)),
            }
            length.get_or_insert(u64::try_from(begun.elapsed().as_micros())?);
            writer.kill()?;
            done += u64::from(!writer.is_done);
            self.look(&writer, &format!("round {round} of closing"))?;
        }
        bail!("it closes too fast to be killed")
    }

    /// Dies with prompts at tools and the words of all that can be indexed in the index; says how long opening takes then, and
    /// after a close.
    fn recover(&mut self) -> Result<(Duration, Duration)> {
        // None of those behind it is one that stays queued.
        let until = (self.last / STEP + 1) * STEP;
        let mut writer = self.begin(&Deed::Leave(until, RUNNING))?;
        writer.until("left")?;
        let begun = Instant::now();
        while self.indexed()? < self.volume.queued_above {
            ensure!(begun.elapsed() < 2 * LONG, "words are not indexed");
            sleep(10_000);
        }
        writer.kill()?;
        self.look(&writer, "the kill with prompts at tools")?;
        let begun = Instant::now();
        let journal = Journal::open(self.path())?;
        let recovery = begun.elapsed();
        let recovered = journal.recovered();
        let found: Vec<u64> = recovered.indeterminate.iter().map(|turn| turn.0).collect();
        let running: Vec<u64> = self.running.iter().copied().collect();
        ensure!(
            found == running && found.len() as u64 == RUNNING,
            "{found:?} were found at tools, and {running:?} were"
        );
        ensure!(
            recovered.queued == self.queued.len() as u64 && !recovered.closed_in_order,
            "{recovered:?}"
        );
        ensure!(
            journal.queued("main")?.len() == self.queued.len(),
            "not all of them run again"
        );
        drop(journal);
        let begun = Instant::now();
        let journal = Journal::open(self.path())?;
        let opening = begun.elapsed();
        ensure!(journal.recovered().closed_in_order, "it was not closed");
        Ok((recovery, opening))
    }

    /// Lives that prune some more each, and are killed while they do; how long all of it takes, and how many kills came too
    /// late.
    fn prune(&mut self, some: u64) -> Result<(Duration, u64)> {
        let begun = Instant::now();
        let length = u64::try_from(self.prune_at_once(some)?.as_micros())?;
        let (mut done, mut late) = (0, 0);
        while done < PRUNING {
            ensure!(late < PRUNING, "it prunes too fast to be killed");
            let round = done + late;
            let mut pruner = self.begin(&Deed::Prune(self.gone + some))?;
            pruner.until("pruning")?;
            sleep(lot(&format!("pruning {round}"), length));
            pruner.kill()?;
            self.look_after_pruning(&pruner, some, &format!("round {round} of pruning"))?;
            if pruner.is_done {
                late += 1;
            } else {
                done += 1;
            }
        }
        Ok((begun.elapsed(), late))
    }

    /// Prunes some more and is not killed before that is done.
    fn prune_at_once(&mut self, some: u64) -> Result<Duration> {
        let mut pruner = self.begin(&Deed::Prune(self.gone + some))?;
        pruner.until("pruning")?;
        let begun = Instant::now();
        pruner.until("pruned")?;
        let took = begun.elapsed();
        pruner.kill()?;
        self.look_after_pruning(&pruner, some, "pruning at once")?;
        let free = self.pragma("freelist_count")?;
        ensure!(free == 0, "{free} free pages are not given back");
        Ok(took)
    }

    /// Kills who prunes when so many pages are free, and puts prompts into them; gives the number of pages.
    fn use_again(&mut self, some: u64, pages: u64) -> Result<u64> {
        let mut pruner = self.begin(&Deed::Prune(self.gone + some))?;
        pruner.until("pruning")?;
        let begun = Instant::now();
        while self.pragma("freelist_count")? < pages {
            ensure!(begun.elapsed() < LONG, "pruning frees no pages");
            sleep(1000);
        }
        pruner.kill()?;
        self.look_after_pruning(&pruner, some, "the kill with free pages")?;
        let (all, free) = (self.pragma("page_count")?, self.pragma("freelist_count")?);
        ensure!(free > 0, "no page is free");
        // Seven prompts take about a page, with all that belongs to them.
        let mut writer = self.begin(&Deed::Fill(self.last + 4 * free))?;
        writer.until("closed")?;
        writer.kill()?;
        self.look(&writer, "free pages were filled")?;
        let (all_then, free_then) = (self.pragma("page_count")?, self.pragma("freelist_count")?);
        ensure!(
            all_then <= all && free_then < free,
            "it had {all} pages, {free} of them free, and has {all_then}, {free_then} of them free"
        );
        Ok(free - free_then)
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.path()).map_or(0, |found| found.len())
    }

    /// It as it is at this moment, with SQLite alone.
    fn read(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(self.path(), flags)?;
        connection.busy_timeout(LONG)?;
        Ok(connection)
    }

    fn pragma(&self, name: &str) -> Result<u64> {
        let found: i64 = self
            .read()?
            .pragma_query_value(None, name, |row| row.get(0))?;
        Ok(found.cast_unsigned())
    }

    /// The last prompt whose words are in the index.
    fn indexed(&self) -> Result<u64> {
        let select = "SELECT last FROM numbers WHERE name = 'indexed'";
        Ok(one(&self.read()?, select)?)
    }

    /// Looks at some prompts with toolpool's own reader, which checks their seals and the sums of their texts.
    fn check(&self) -> Result<()> {
        let history = History::open(self.path())?;
        for sample in 0..CHECKED {
            let turn = self.gone + 1 + lot(&format!("checked {sample}"), self.last - self.gone);
            let shown = history.show(TurnId(turn))?;
            shown.with_context(|| format!("t{turn} is not there"))?;
        }
        Ok(())
    }

    fn look_after_pruning(&mut self, pruner: &Life, some: u64, when: &str) -> Result<()> {
        let before = self.gone;
        self.look(pruner, when)?;
        let gone = self.gone - before;
        ensure!(
            gone <= some,
            "{when}: {gone} are gone, and {some} were to go"
        );
        ensure!(
            gone == some || !pruner.is_done,
            "{when}: {gone} are gone, and it has said that {some} are"
        );
        Ok(())
    }
}
