//! The books of a rehearsal.
//!
//! Owns their two forms. Must not know how it was played. Invariant: fields are only ever added.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::{Books, Outcome, Reply};

use super::acts::Act;
use crate::console::Document;
use crate::documents::BooksReport;
use crate::duration;
use crate::table::Table;

/// What came of a rehearsal.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RehearsalReport {
    pub(crate) instances: usize,
    /// The faults of the story, in order; empty with rules of one's own.
    acts: Vec<ActReport>,
    /// Processes that were started for others that had ended.
    restarts: u64,
    took_s: f64,
    /// The account of all prompts.
    books: BooksReport,
    /// Living processes that a stand-in started, found by a mark in their environment.
    pub(crate) processes_left: usize,
}

impl Document for RehearsalReport {
    const KIND: &'static str = "rehearsal";
}

/// One fault and what came of it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ActReport {
    fault: String,
    /// What the stand-in was told to do.
    rules: Vec<String>,
    instance: String,
    /// The ends of the prompts that brought it about, each once: outcome and cause.
    ends: Vec<String>,
    /// From the first of these prompts until the instance was ready again.
    recovered_s: f64,
    /// Whether the next prompt to the same instance completed.
    next_completed: bool,
    #[serde(skip)]
    as_written: bool,
}

impl ActReport {
    pub(super) fn new(
        act: &Act,
        instance: String,
        replies: &[Reply],
        recovered: Duration,
        next_completed: bool,
    ) -> Self {
        let mut ends: Vec<String> = replies.iter().map(|reply| end(&reply.outcome)).collect();
        ends.dedup();
        let expected = |reply: &Reply| matches!(&reply.outcome, Outcome::Indeterminate(doubt) if doubt.cause == act.cause);
        Self {
            fault: act.name.to_owned(),
            rules: act.rules(),
            instance,
            ends,
            recovered_s: recovered.as_secs_f64(),
            next_completed,
            as_written: next_completed
                && replies.len() == act.times
                && replies.iter().all(expected),
        }
    }
}

fn end(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Indeterminate(doubt) => format!("{} ({})", outcome.word(), doubt.cause.word()),
        Outcome::Failed(failure) => format!("{} ({})", outcome.word(), failure.class.word()),
        _ => outcome.word().to_owned(),
    }
}

impl RehearsalReport {
    pub(super) fn new(
        instances: usize,
        acts: Vec<ActReport>,
        restarts: u64,
        took: Duration,
        books: &Books,
        processes_left: usize,
    ) -> Self {
        Self {
            instances,
            acts,
            restarts,
            took_s: took.as_secs_f64(),
            books: BooksReport::from(books),
            processes_left,
        }
    }

    /// Whether an act came out as it is written.
    pub(super) fn shows(&self, act: &Act) -> bool {
        let mut played = self.acts.iter();
        played.any(|played| played.fault == act.name && played.as_written)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("\n");
        if !self.acts.is_empty() {
            let mut table =
                Table::new(&["FAULT", "ITS PROMPT ENDED", "READY AGAIN", "NEXT PROMPT"]);
            for act in &self.acts {
                table.row([
                    act.fault.clone(),
                    act.ends.join(", "),
                    duration::show(Duration::from_secs_f64(act.recovered_s)),
                    if act.next_completed {
                        "completed"
                    } else {
                        "not completed"
                    }
                    .to_owned(),
                ]);
            }
            text.push_str(&table.text());
            text.push('\n');
        }
        let BooksReport {
            accepted,
            completed,
            failed,
            cancelled,
            expired,
            indeterminate,
            ..
        } = &self.books;
        text.push_str(&format!(
            "books           {accepted} accepted = {completed} completed + {failed} failed + {cancelled} cancelled \
             + {expired} expired + {indeterminate} indeterminate\n\
             restarts        {}\n\
             processes left  {}\n\
             took            {}\n\
             next            toolpool rehearse --do 'on turn 3 exit 1'     toolpool rehearse --rules\n",
            self.restarts,
            self.processes_left,
            duration::show(Duration::from_secs_f64(self.took_s)),
        ));
        text
    }
}
