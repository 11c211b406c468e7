//! N items at a time, until all are done or the user wants no more.
//!
//! Owns what runs and what is still to run. Must not know how an item is run. Invariant: every item comes out exactly
//! once, in the order of the input.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use toolpool::Reply;
use toolpool::worktree::Landed;

use super::earlier::Todo;
use super::item::{self, Done, Wishes};
use super::progress::Progress;
use super::report::{BatchItem, ItemEnd};
use crate::console::{Console, Format, Tone, print, print_answer, print_document, printable};
use crate::duration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running::Running;
use crate::settings::Settings;

/// What became of all items.
pub(super) struct Driven {
    pub(super) items: Vec<BatchItem>,
    pub(super) took: Duration,
    /// Whether the output could be written as it came.
    pub(super) written: Result<(), CliError>,
}

impl Driven {
    /// A batch of which nothing is left to run.
    pub(super) fn nothing(items: Vec<Todo>) -> Self {
        Self {
            items: items.into_iter().filter_map(|todo| todo.before).collect(),
            took: Duration::ZERO,
            written: Ok(()),
        }
    }
}

/// `drain_timeout` as the option of that name says.
pub(super) async fn all(
    running: &mut Running,
    settings: &Settings,
    items: Vec<Todo>,
    (wishes, drain_timeout): (Wishes, Duration),
    format: Format,
    interrupts: &mut Interrupts,
    console: Console,
) -> Driven {
    let started = Instant::now();
    let width = settings.asked_instances().len();
    let branch = settings
        .landing
        .as_ref()
        .map(|landing| landing.branch.as_str());
    let mut ends: Vec<Option<BatchItem>> = Vec::new();
    ends.resize_with(items.len(), || None);
    let mut progress = Progress::new(&items, console);
    let mut pending = missing_in_worktree(running, settings, &items, &mut ends).await;
    pending.reverse();
    for end in ends.iter().flatten() {
        progress.refused(end);
    }
    let (close, closing) = watch::channel(false);
    let mut active = JoinSet::new();
    let mut places: HashMap<Id, usize> = HashMap::new();
    let mut written = Ok(());
    loop {
        while active.len() < width
            && let Some(place) = pending.pop()
        {
            let item = items[place].item.clone();
            progress.started(&item.name);
            let task = active.spawn(item::run(
                running.cluster.clone(),
                item,
                wishes.clone(),
                closing.clone(),
            ));
            places.insert(task.id(), place);
        }
        tokio::select! {
            biased;
            count = interrupts.next() => {
                let left = std::mem::take(&mut pending).len();
                close.send_replace(true);
                let (what, within) = match (count, interrupts.exit()) {
                    (1, Some(Exit::Terminated)) => (
                        format!(
                            "finishing {} running items within {}, {left} are not started",
                            active.len(),
                            duration::show(drain_timeout)
                        ),
                        Some(drain_timeout),
                    ),
                    // A person is there, who can say when it takes too long.
                    (1, _) => (
                        format!(
                            "finishing {} running items, {left} are not started; Ctrl-C again to kill them",
                            active.len()
                        ),
                        Some(Duration::MAX),
                    ),
                    _ => (
                        format!(
                            "killing {} running items; Ctrl-C again to leave the rest to the keepers",
                            active.len()
                        ),
                        None,
                    ),
                };
                progress.say(Tone::Note, &what);
                match within {
                    Some(within) => running.wind_down(within),
                    None => running.kill(),
                }
            }
            Some((_, lines)) = running.event() => {
                for (tone, line) in lines {
                    progress.say(tone, &line);
                }
            }
            joined = active.join_next_with_id() => {
                let Some(joined) = joined else { break };
                let (task, done) = joined.expect("an item does not panic and is not aborted");
                if let Some(reply) = &done.reply {
                    for (tone, line) in running.sequel(reply).await {
                        progress.say(tone, &line);
                    }
                }
                if done.hopeless {
                    pending.clear();
                }
                progress.ended(&done, branch);
                if written.is_ok() {
                    written = progress.suspended(|| show(&done, format));
                    if written.is_err() {
                        // Nobody reads the output any more: what runs is finished, nothing more is started.
                        pending.clear();
                    }
                }
                let place = places.remove(&task).expect("every task has a place");
                ends[place] = Some(done.report);
            }
        }
    }
    progress.finish();
    let items = items
        .into_iter()
        .zip(ends)
        .map(|(todo, end)| match (todo.before, end) {
            // What did not come to run again stays as it was.
            (Some(before), None) => before,
            (Some(before), Some(end)) if end.end == ItemEnd::NotStarted => before,
            (_, Some(end)) => end,
            (None, None) => BatchItem::not_started(todo.item.name, None),
        })
        .collect();
    Driven {
        items,
        took: started.elapsed(),
        written,
    }
}

/// Sorts out the files that an instance would not find, because they are not committed. Gives the places of the others
/// that are to be run.
async fn missing_in_worktree(
    running: &Running,
    settings: &Settings,
    items: &[Todo],
    ends: &mut [Option<BatchItem>],
) -> Vec<usize> {
    let mut worktree = None;
    if settings.landing.is_some()
        && let Ok(status) = running.cluster.status().await
    {
        worktree = status
            .instances
            .iter()
            .find(|instance| instance.branch.is_some())
            .map(|instance| instance.cwd.clone());
    }
    let mut there = Vec::new();
    for (place, todo) in items.iter().enumerate().filter(|(_, todo)| todo.runs) {
        let item = &todo.item;
        match &worktree {
            Some(cwd) if item.is_file && !Path::new(cwd).join(&item.name).exists() => {
                let why = "it is not committed, so the instances do not have it; `git add` and commit it first";
                ends[place] = Some(BatchItem::not_started(
                    item.name.clone(),
                    Some(why.to_owned()),
                ));
            }
            _ => there.push(place),
        }
    }
    there
}

/// Answers are shown as they come, unless changes are the answer.
fn show(done: &Done, format: Format) -> Result<(), CliError> {
    match (format, &done.reply) {
        (Format::Jsonl, _) => print_document(&done.report),
        (Format::Text, Some(reply)) if answers(reply) => {
            print(format!("── {}\n", printable(&done.report.item)).as_bytes())?;
            print_answer(reply.text.as_bytes())?;
            match reply.text.ends_with('\n') {
                true => Ok(()),
                false => print(b"\n"),
            }
        }
        _ => Ok(()),
    }
}

fn answers(reply: &Reply) -> bool {
    !reply.text.is_empty() && matches!(reply.landed, None | Some(Ok(Landed::Nothing)))
}
