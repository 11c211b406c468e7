//! What a batch looks like while it runs: a bar on a terminal, a line for each item elsewhere.
//!
//! Owns the bar. Must not know how items are run. Invariant: what is told is the same in both forms.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use toolpool::Outcome;

use super::earlier::Todo;
use super::item::Done;
use super::report::BatchItem;
use crate::console::{Console, Tone, shortened};
use crate::{duration, story};

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    console: Console,
    total: usize,
    done: usize,
    /// Of these, how many are not ok.
    bad: usize,
    running: Vec<String>,
}

impl Progress {
    /// Items whose end is known already are counted, and do not make the others look quick.
    pub(super) fn new(items: &[Todo], console: Console) -> Self {
        let total = items.len();
        let known = items.iter().filter(|todo| !todo.runs);
        let known: Vec<&BatchItem> = known.filter_map(|todo| todo.before.as_ref()).collect();
        let done = known.len();
        let bar = console.is_live().then(|| {
            let bar = ProgressBar::new(total as u64).with_position(done as u64);
            bar.reset_eta();
            let style = ProgressStyle::with_template(
                "{bar:24} {pos}/{len}{prefix}  {elapsed}{left}  {wide_msg}",
            )
            .expect("the template is right, as the tests see")
            // Nobody knows how long items take before one of them has ended.
            .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
                if state.pos() > done as u64 {
                    write!(out, ", {:#} to go", HumanDuration(state.eta())).ok();
                }
            });
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        // One that will not draw, on a terminal of a kind that it does not know, would keep every line to itself.
        let bar = bar.filter(|bar| !bar.is_hidden());
        Self {
            bar,
            console,
            total,
            done,
            bad: known.iter().filter(|end| !end.ok).count(),
            running: Vec::new(),
        }
    }

    pub(super) fn say(&self, tone: Tone, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(self.console.paint(tone, text)),
            None => self.console.tell(tone, text),
        }
    }

    /// Takes the bar away while something else writes to the terminal.
    pub(super) fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(super) fn started(&mut self, item: &str) {
        self.running.push(item.to_owned());
        self.show_running();
    }

    /// An item that cannot be started.
    pub(super) fn refused(&mut self, end: &BatchItem) {
        let why = end.refusal.as_deref().unwrap_or_default();
        self.count(Tone::Bad, &format!("{}: {why}", shortened(&end.item, 60)));
    }

    pub(super) fn ended(&mut self, done: &Done, branch: Option<&str>) {
        if let Some(at) = self
            .running
            .iter()
            .position(|item| *item == done.report.item)
        {
            self.running.remove(at);
        }
        let name = shortened(&done.report.item, 60);
        let (tone, what) = told(done, branch);
        self.count(tone, &format!("{name}: {what}"));
        self.show_running();
    }

    fn count(&mut self, tone: Tone, text: &str) {
        self.done += 1;
        self.bad += usize::from(tone == Tone::Bad);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            if self.bad > 0 {
                bar.set_prefix(format!(" · {} not ok", self.bad));
            }
        }
        self.say(tone, &format!("{}/{} {text}", self.done, self.total));
    }

    fn show_running(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(shortened(&self.running.join(", "), 200));
        }
    }

    pub(super) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line about the end of an item.
fn told(done: &Done, branch: Option<&str>) -> (Tone, String) {
    let Some(reply) = &done.reply else {
        return (Tone::Bad, done.report.refusal.clone().unwrap_or_default());
    };
    let place = reply
        .instance
        .as_ref()
        .map_or_else(String::new, |instance| format!(" · {instance}"));
    let facts = format!("{place} · {}", duration::show(reply.took));
    let landed = reply
        .landed
        .as_ref()
        .zip(branch)
        .and_then(|(landed, branch)| story::landed(landed, branch));
    match (&reply.outcome, landed) {
        (Outcome::Completed, Some((tone, line))) => (tone, format!("{line}{facts}")),
        (Outcome::Completed, None) if branch.is_some() => {
            (Tone::Good, format!("nothing to change{facts}"))
        }
        (Outcome::Completed, None) => (Tone::Good, format!("completed{facts}")),
        (Outcome::Failed(failure), _) => (
            Tone::Bad,
            format!(
                "failed ({}): {}{facts}",
                failure.class.word(),
                failure.message
            ),
        ),
        (Outcome::Indeterminate(doubt), _) => (
            Tone::Bad,
            format!("in doubt ({}): {}{facts}", doubt.cause.word(), doubt.detail),
        ),
        (other, _) => (Tone::Bad, format!("{}{facts}", other.word())),
    }
}
