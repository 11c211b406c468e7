//! A batch's report for people.
//!
//! Owns the table and the lists under it. Must not know how to print. Invariant: everything that needs a look is at the
//! end, each with the command that shows it.

use std::time::Duration;

use super::Kept;
use super::report::{BatchItem, BatchPlan, BatchReport, BatchSummary, ItemEnd};
use crate::console::{counted, shortened};
use crate::documents::LandedReport;
use crate::table::Table;
use crate::{duration, story};

/// Files of a commit that are named.
const FILES: usize = 3;

/// Characters of an item's name.
const NAME: usize = 60;

/// Characters of what came of an item, where there is room.
const RESULT: usize = 80;

/// Characters of a name and of a result that are shown on the narrowest terminal.
const LEAST: usize = 20;

/// `columns` of the terminal, if it goes to one.
pub(super) fn text(report: &BatchReport, kept: Option<&Kept>, columns: Option<usize>) -> String {
    let mut table = Table::new(&["ITEM", "OUTCOME", "INSTANCE", "TIME", "RESULT"]);
    // The three columns in between, and the mark of a cut.
    let room = columns.map_or(NAME + RESULT, |columns| columns.saturating_sub(42));
    let longest = report.items.iter().map(|item| item.item.chars().count());
    let widest = NAME.min((room / 2).max(LEAST));
    let name = longest.max().unwrap_or_default().min(widest);
    let result_room = (room - name.min(room)).clamp(LEAST, RESULT);
    for item in &report.items {
        let reply = item.reply.as_ref();
        table.row([
            shortened(&item.item, name),
            outcome(item),
            reply
                .and_then(|reply| reply.instance.clone())
                .unwrap_or_else(|| "-".to_owned()),
            reply.map_or_else(
                || "-".to_owned(),
                |reply| duration::show(Duration::from_secs_f64(reply.took_s)),
            ),
            shortened(&result(item), result_room),
        ]);
    }
    let mut text = table.text();
    let summary = &report.summary;
    text.push_str(&format!(
        "\n{}: {}{} · {}\n",
        counted(summary.total, "item"),
        counts(summary),
        earlier(summary),
        duration::show(Duration::from_secs_f64(summary.took_s))
    ));
    let works = report
        .items
        .iter()
        .flat_map(|item| item.kept.iter().map(|kept| (item.item.as_str(), kept)))
        .chain(summary.kept.iter().map(|kept| (kept.branch.as_str(), kept)));
    for (name, work) in works {
        text.push_str(&format!(
            "\n{}: {}\n  {}\n",
            shortened(name, NAME),
            work.reason,
            work.show
        ));
    }
    if let Some(kept) = kept {
        text.push_str(&next(report, kept));
    }
    text
}

/// What a batch that is kept can do about what is not ok.
fn next(report: &BatchReport, kept: &Kept) -> String {
    let (summary, mut text) = (&report.summary, String::new());
    let journal = kept.option();
    let in_doubt = |item: &&BatchItem| item.end == ItemEnd::Indeterminate;
    for item in report.items.iter().filter(in_doubt) {
        let Some(reply) = &item.reply else { continue };
        text.push_str(&format!(
            "\n{}: t{} is in doubt ({}): it may have run, so it is not run again by itself\n  toolpool history show t{}{journal}\n",
            shortened(&item.item, NAME),
            reply.turn,
            reply.cause.unwrap_or_default(),
            reply.turn,
        ));
    }
    let unfinished = summary.cancelled + summary.expired + summary.not_started > 0;
    let resume = format!("toolpool batch --resume {}", kept.batch);
    let steps = [
        (unfinished, resume.clone()),
        (
            summary.failed + summary.not_landed > 0,
            format!("{resume} --rerun failed"),
        ),
        (
            summary.indeterminate > 0,
            format!("{resume} --rerun indeterminate"),
        ),
        (
            summary.indeterminate > 0,
            format!("toolpool resolve TURN --as completed|failed|cancelled{journal}"),
        ),
    ];
    let steps: Vec<String> = steps
        .into_iter()
        .filter_map(|(fits, step)| fits.then_some(step))
        .collect();
    if !steps.is_empty() {
        text.push_str(&format!("\nnext: {}\n", steps.join("\n      ")));
    }
    text
}

/// `3 ok, 1 in doubt, 8 not started`
pub(super) fn counts(summary: &BatchSummary) -> String {
    let counts = [
        (summary.ok, ItemEnd::Ok),
        (summary.not_landed, ItemEnd::NotLanded),
        (summary.failed, ItemEnd::Failed),
        (summary.indeterminate, ItemEnd::Indeterminate),
        (summary.cancelled, ItemEnd::Cancelled),
        (summary.expired, ItemEnd::Expired),
        (summary.not_started, ItemEnd::NotStarted),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, end)| format!("{count} {}", end.words()))
        .collect();
    counts.join(", ")
}

/// ` (2 of them in earlier runs)`
fn earlier(summary: &BatchSummary) -> String {
    match summary.from_earlier_runs {
        0 => String::new(),
        count if count == summary.total => " (all of them in earlier runs)".to_owned(),
        count => format!(" ({count} of them in earlier runs)"),
    }
}

fn outcome(item: &BatchItem) -> String {
    match &item.reply {
        None => item.end.words().to_owned(),
        Some(_) if item.end == ItemEnd::NotLanded => item.end.words().to_owned(),
        Some(reply) if item.attempts > 1 => format!("{} ({} tries)", reply.outcome, item.attempts),
        Some(reply) => reply.outcome.to_owned(),
    }
}

fn result(item: &BatchItem) -> String {
    match item.reply.as_ref() {
        None => item.refusal.clone().unwrap_or_default(),
        Some(reply) => match (&reply.message, &reply.landed) {
            (Some(message), _) => message.clone(),
            (None, Some(LandedReport::Commit { commit, files })) => {
                let mut named = files
                    .iter()
                    .take(FILES)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ");
                if files.len() > FILES {
                    named.push_str(&format!(", {} more", files.len() - FILES));
                }
                format!("{} {named}", story::short(commit))
            }
            (None, Some(LandedReport::Nothing)) => "no change".to_owned(),
            (
                None,
                Some(LandedReport::Conflict { branch, .. } | LandedReport::Blocked { branch, .. }),
            ) => {
                format!("kept on {branch}")
            }
            (None, Some(LandedReport::Error { reason })) => reason.clone(),
            (None, None) => String::new(),
        },
    }
}

pub(super) fn plan(plan: &BatchPlan) -> String {
    if plan.items.is_empty() {
        let known = counted(plan.known, "item");
        return format!("nothing would be run: the journal has the end of {known}\n");
    }
    let mut table = Table::new(&["ITEM", "PROMPT"]);
    for item in &plan.items {
        table.row([shortened(&item.item, NAME), shortened(&item.prompt, 80)]);
    }
    let place = plan.lands_on.as_ref().map_or_else(String::new, |branch| {
        format!("; changes would land on {branch}")
    });
    let instances = counted(plan.instances, "instance");
    let known = match plan.known {
        0 => String::new(),
        known => format!("; {known} more have their end and would not be run"),
    };
    format!(
        "{}\n{}, {instances} of {}{place}{known}\n",
        table.text(),
        counted(plan.items.len(), "item"),
        plan.tool
    )
}
