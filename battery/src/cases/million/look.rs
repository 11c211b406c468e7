//! A look at the journal with SQLite alone: what must be there, and what is.
//!
//! Owns the sums. Must not know who was killed, but for what that one had said. Invariant: all of a look is from one point of
//! time.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;

use super::life::Life;
use super::{Books, lot};
use crate::volume::Volume;

/// Prompts whose texts are compared at each look.
const SAMPLES: u64 = 20;

/// Every so many looks it is looked at as a whole, with all indexes: the others leave those out.
const WHOLE: u32 = 20;

impl Books {
    /// Looks at it after a kill, and learns what the killed one has done.
    pub(super) fn look(&mut self, life: &Life, when: &str) -> Result<()> {
        self.looks += 1;
        self.look_now(life).with_context(|| format!("after {when}"))
    }

    fn look_now(&mut self, life: &Life) -> Result<()> {
        let connection = self.read()?;
        // All of it as it is at one point of time.
        let books = connection.unchecked_transaction()?;
        let check = if self.looks % WHOLE == 1 {
            "integrity_check"
        } else {
            "quick_check"
        };
        let found: String = books.pragma_query_value(None, check, |row| row.get(0))?;
        ensure!(found == "ok", "{check}: {found}");
        let last = one(&books, "SELECT max(turn) FROM prompts")?;
        ensure!(
            last >= self.last.max(life.kept),
            "{} were acknowledged, and the last one is {last}",
            life.kept
        );
        let gone = one(
            &books,
            "SELECT coalesce((SELECT min(turn) FROM ends WHERE outcome = 'completed'), 1) - 1",
        )?;
        ensure!(gone >= self.gone, "what was gone is there again");
        let open = all(&books, "SELECT turn FROM open")?;
        let in_doubt = all(&books, "SELECT turn FROM ends WHERE outcome <> 'completed'")?;
        let running = all(&books, "SELECT turn FROM open JOIN attempts USING (turn)")?;
        // What was at a tool when somebody died is in doubt once somebody has opened it again.
        let doubtful: BTreeSet<u64> = self.in_doubt.union(&self.running).copied().collect();
        ensure!(
            in_doubt == doubtful,
            "{in_doubt:?} are in doubt, and {doubtful:?} should be"
        );
        let mut queued = self.queued.clone();
        queued.extend((self.last + 1..=last).filter(|turn| self.volume.is_queued(*turn)));
        // Whoever is killed may have put half of the last one.
        let halves: Vec<u64> = open
            .iter()
            .filter(|turn| !queued.contains(*turn))
            .copied()
            .collect();
        let is_left = |turn: &u64| *turn > life.left_above || *turn == last && last > life.kept;
        ensure!(halves.iter().all(is_left), "{halves:?} have no end");
        ensure!(
            open.is_superset(&queued),
            "prompts that are queued are missing"
        );
        ensure!(
            running.iter().all(|turn| halves.contains(turn)),
            "{running:?} are at tools"
        );
        queued.extend(halves.iter().filter(|turn| !running.contains(*turn)));
        self.adds_up(&books, gone, last, &open, &in_doubt)?;
        for sample in 0..SAMPLES {
            self.is_right(
                &books,
                gone + 1 + lot(&format!("sample {} {sample}", self.looks), last - gone),
                &open,
                &in_doubt,
            )?;
        }
        drop(books);
        (self.last, self.gone) = (last, gone);
        (self.queued, self.running, self.in_doubt) = (queued, running, in_doubt);
        Ok(())
    }

    /// Each table has the rows of exactly the prompts that are there: those that never go, and all from one number to another.
    fn adds_up(
        &self,
        books: &Connection,
        gone: u64,
        last: u64,
        open: &BTreeSet<u64>,
        in_doubt: &BTreeSet<u64>,
    ) -> Result<()> {
        let below = |turns: &BTreeSet<u64>| turns.range(..=gone).count() as u64;
        let untouched = open
            .difference(&all(
                books,
                "SELECT turn FROM open JOIN attempts USING (turn)",
            )?)
            .count() as u64;
        let ended = below(in_doubt);
        let there = last - gone + below(open) + ended;
        let indexed = one(books, "SELECT last FROM numbers WHERE name = 'indexed'")?;
        let with_words =
            indexed.saturating_sub(gone) + in_doubt.range(..=gone.min(indexed)).count() as u64;
        let never_at_a_tool = untouched;
        for (table, rows, old) in [
            ("prompts", there, below(open) + ended),
            ("prompt_texts", there, below(open) + ended),
            ("ends", there - open.len() as u64, ended),
            ("reply_texts", there - open.len() as u64, ended),
            ("attempts", there - never_at_a_tool, ended),
        ] {
            let found = one(books, &format!("SELECT count(*) FROM {table}"))?;
            let found_old = one(
                books,
                &format!("SELECT count(*) FROM {table} WHERE turn <= {gone}"),
            )?;
            ensure!(
                (found, found_old) == (rows, old),
                "{table} has {found} rows, {found_old} of them up to t{gone}, and {rows} and {old} are right"
            );
        }
        let found = one(books, "SELECT count(*) FROM words_docsize")?;
        ensure!(
            found == with_words,
            "the words of {found} prompts are in the index, and of {with_words} is right"
        );
        let both = one(books, "SELECT count(*) FROM open JOIN ends USING (turn)")?;
        ensure!(both == 0, "{both} prompts are open and have ended");
        Ok(())
    }

    /// A prompt that is there is what it was.
    fn is_right(
        &self,
        books: &Connection,
        turn: u64,
        open: &BTreeSet<u64>,
        in_doubt: &BTreeSet<u64>,
    ) -> Result<()> {
        let (state, prompt, reply): (String, String, Option<String>) = books.query_row(
            "SELECT state, prompt, reply FROM history WHERE turn = ?1",
            [turn.cast_signed()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let is_right = prompt == Volume::prompt(turn)
            && match state.as_str() {
                "completed" => reply == Some(Volume::reply(turn)),
                "indeterminate" => in_doubt.contains(&turn),
                _ => open.contains(&turn),
            };
        ensure!(is_right, "t{turn} is {state}: {prompt:?}, {reply:?}");
        Ok(())
    }
}

/// A number.
pub(super) fn one(books: &Connection, select: &str) -> rusqlite::Result<u64> {
    let found: i64 = books.query_row(select, [], |row| row.get(0))?;
    Ok(found.cast_unsigned())
}

/// Some numbers.
fn all(books: &Connection, select: &str) -> rusqlite::Result<BTreeSet<u64>> {
    let mut select = books.prepare(select)?;
    let found = select.query_map([], |row| row.get::<_, i64>(0))?;
    found.map(|turn| Ok(turn?.cast_unsigned())).collect()
}
