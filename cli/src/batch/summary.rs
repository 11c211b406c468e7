//! A batch's report for people.
//!
//! Owns the table and the lists under it. Must not know how to print. Invariant: everything that needs a look is at the
//! end, each with the command that shows it.

use std::time::Duration;

use super::Kept;
use super::report::{BatchItem, BatchPlan, BatchReport, BatchSummary, ItemEnd};
use crate::console::shortened;
use crate::documents::LandedReport;
use crate::table::Table;
use crate::{duration, story};

/// Files of a commit that are named.
const FILES: usize = 3;

pub(super) fn text(report: &BatchReport, kept: Option<&Kept>) -> String {
    let mut table = Table::new(&["ITEM", "OUTCOME", "INSTANCE", "TIME", "RESULT"]);
    for item in &report.items {
        let reply = item.reply.as_ref();
        table.row([
            shortened(&item.item, 60),
            outcome(item),
            reply
                .and_then(|reply| reply.instance.clone())
                .unwrap_or_else(|| "-".to_owned()),
            reply.map_or_else(
                || "-".to_owned(),
                |reply| duration::show(Duration::from_secs_f64(reply.took_s)),
            ),
            result(item),
        ]);
    }
    let mut text = table.text();
    let summary = &report.summary;
    text.push_str(&format!(
        "\n{} items: {}{} · {}\n",
        summary.total,
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
            shortened(name, 60),
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
            shortened(&item.item, 60),
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
    let text = match item.reply.as_ref() {
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
    };
    shortened(&text, 80)
}

pub(super) fn plan(plan: &BatchPlan) -> String {
    let mut table = Table::new(&["ITEM", "PROMPT"]);
    for item in &plan.items {
        table.row([shortened(&item.item, 60), shortened(&item.prompt, 80)]);
    }
    let place = plan.lands_on.as_ref().map_or_else(String::new, |branch| {
        format!("; changes would land on {branch}")
    });
    let instances = match plan.instances {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    };
    let known = match plan.known {
        0 => String::new(),
        known => format!("; {known} more have their end and would not be run"),
    };
    format!(
        "{}\n{} items, {instances} of {}{place}{known}\n",
        table.text(),
        plan.items.len(),
        plan.tool
    )
}
