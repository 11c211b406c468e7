//! What earlier runs of a batch have left, and what is to be done about it.
//!
//! Owns the decision for each item. Must not know how items are run or shown. Invariants: what completed is not run again
//! unless that is asked for; what is in doubt is never run again by itself.

use std::collections::HashMap;

use toolpool::journal::{Journal, Query};
use toolpool::{FailureClass, Known, Outcome, Reply, Store as _};

use super::items::Item;
use super::report::{BatchItem, ItemEnd};
use crate::error::CliError;
use crate::journal::failed;

/// Items to run again although they have their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rerun {
    /// Those that failed, were cancelled after they had begun, or whose changes did not land
    Failed,
    /// Those in doubt; look at what they have done first
    Indeterminate,
    /// All, also those that are ok
    All,
}

/// The key of an item's prompt, which nothing else ever has.
pub(super) fn key(batch: &str, item: &str, run: u32) -> String {
    format!("{batch}/{item}#{run}")
}

/// An item, and what is to be done about it.
pub(super) struct Todo {
    /// With the number of its next prompt.
    pub(super) item: Item,
    /// Its end in earlier runs.
    pub(super) before: Option<BatchItem>,
    /// Whether it is run.
    pub(super) runs: bool,
}

impl Todo {
    /// An item of which nothing is known.
    pub(super) fn new(item: Item) -> Self {
        Self {
            item,
            before: None,
            runs: true,
        }
    }
}

/// Finds out what is left of a batch.
pub(super) fn look(
    journal: &Journal,
    batch: &str,
    items: Vec<Item>,
    rerun: &[Rerun],
) -> Result<Vec<Todo>, CliError> {
    let newest = newest(journal, batch)?;
    let look = |mut item: Item| {
        let known = match newest.get(&item.name) {
            Some(run) => {
                item.run = *run;
                journal
                    .find(&key(batch, &item.name, *run))
                    .map_err(failed)?
            }
            None => None,
        };
        let (before, runs) = match known {
            // With its key a queued prompt is run under its old number.
            None | Some(Known::Queued(_) | Known::Running(_)) => (None, true),
            Some(Known::Ended(_, reply)) => {
                let before = BatchItem::from_earlier_run(&item.name, item.run, &reply);
                item.run += 1;
                (Some(before), runs_again(&reply, rerun))
            }
        };
        Ok(Todo { item, before, runs })
    };
    items.into_iter().map(look).collect()
}

/// The number of each item's newest prompt. The older ones may be gone from the journal.
fn newest(journal: &Journal, batch: &str) -> Result<HashMap<String, u32>, CliError> {
    let query = Query {
        batch: Some(batch.to_owned()),
        ..Query::default()
    };
    let mut newest: HashMap<String, u32> = HashMap::new();
    for row in journal.history()?.find(&query)? {
        let run = row.key.as_deref().and_then(|key| key.rsplit_once('#'));
        let run = run.and_then(|(_, run)| run.parse().ok());
        if let (Some(item), Some(run)) = (row.item, run) {
            let known = newest.entry(item).or_insert(run);
            *known = run.max(*known);
        }
    }
    Ok(newest)
}

/// Whether an item is run again that has this end.
fn runs_again(reply: &Reply, rerun: &[Rerun]) -> bool {
    let wanted = |of: Rerun| rerun.iter().any(|rerun| [of, Rerun::All].contains(rerun));
    match ItemEnd::of(reply) {
        _ if never_ran(reply) => true,
        ItemEnd::Ok => rerun.contains(&Rerun::All),
        ItemEnd::Indeterminate => wanted(Rerun::Indeterminate),
        _ => wanted(Rerun::Failed),
    }
}

/// Whether no tool was ever given it, and the reason may have passed.
fn never_ran(reply: &Reply) -> bool {
    reply.instance.is_none()
        && match &reply.outcome {
            Outcome::Cancelled | Outcome::Expired => true,
            Outcome::Failed(failure) => matches!(
                failure.class,
                FailureClass::Unroutable | FailureClass::SessionUnavailable
            ),
            Outcome::Completed | Outcome::Indeterminate(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, SystemTime};

    use toolpool::journal::Retention;
    use toolpool::worktree::Landed;
    use toolpool::{
        Accepted, Doubt, DoubtCause, Failure, OnLoss, Prompt, Record, RetryPolicy, TurnId,
    };

    use super::*;

    fn reply(outcome: Outcome, ran: bool) -> Reply {
        Reply {
            turn: TurnId(7),
            text: String::new(),
            lossy: false,
            outcome,
            attribution: None,
            instance: ran.then(|| "main/1".into()),
            tool: None,
            generation: 0,
            queued: Duration::ZERO,
            took: Duration::ZERO,
            first_output: None,
            usage: None,
            landed: None,
        }
    }

    fn failed(class: FailureClass) -> Outcome {
        Outcome::Failed(Failure {
            class,
            message: String::new(),
            retry_after: None,
        })
    }

    fn in_doubt() -> Outcome {
        Outcome::Indeterminate(Doubt {
            cause: DoubtCause::Crashed,
            detail: String::new(),
        })
    }

    #[test]
    fn what_may_have_run_is_run_again_only_if_that_is_asked_for() {
        use Rerun::{All, Failed, Indeterminate};
        let kept_on_a_branch = Reply {
            landed: Some(Ok(Landed::Blocked {
                branch: String::new(),
                reason: String::new(),
                show: String::new(),
            })),
            ..reply(Outcome::Completed, true)
        };
        for (reply, with) in [
            (reply(Outcome::Completed, true), &[All][..]),
            (kept_on_a_branch, &[Failed, All]),
            (reply(failed(FailureClass::Unknown), true), &[Failed, All]),
            (reply(failed(FailureClass::Refused), false), &[Failed, All]),
            (reply(Outcome::Cancelled, true), &[Failed, All]),
            (reply(in_doubt(), true), &[Indeterminate, All]),
            // Not even its instance is known; it is no less in doubt.
            (reply(in_doubt(), false), &[Indeterminate, All]),
        ] {
            assert!(!runs_again(&reply, &[]), "{reply:?}");
            for rerun in [Failed, Indeterminate, All] {
                let runs = with.contains(&rerun);
                assert_eq!(runs_again(&reply, &[rerun]), runs, "{reply:?} {rerun:?}");
            }
        }
    }

    #[test]
    fn what_no_tool_was_given_is_run_in_any_case() {
        for outcome in [
            Outcome::Cancelled,
            Outcome::Expired,
            failed(FailureClass::Unroutable),
        ] {
            assert!(runs_again(&reply(outcome, false), &[]));
        }
    }

    /// A prompt of an item that was accepted in the year 1970, and its end if it has one.
    fn put(journal: &Journal, item: &str, run: u32, end: Option<(Outcome, SystemTime)>) {
        let turn = journal.next_turn();
        let accepted = Accepted {
            turn,
            cluster: "main".into(),
            at: SystemTime::UNIX_EPOCH,
            key: Some(key("b1", item, run)),
            prompt: Prompt::text("x"),
            session: None,
            tool: None,
            role: None,
            target: None,
            labels: vec![
                ("batch".to_owned(), "b1".to_owned()),
                ("item".to_owned(), item.to_owned()),
            ],
            queue_timeout: None,
            turn_timeout: None,
            land: None,
            on_loss: OnLoss::Fail,
            retry: RetryPolicy::default(),
            attempts: 0,
        };
        let (done, written) = mpsc::channel();
        let say = move |result| drop(done.send(result));
        match end {
            None => journal.put(Record::Accepted(Box::new(accepted)), Some(Box::new(say))),
            Some((outcome, at)) => {
                journal.put(Record::Accepted(Box::new(accepted)), None);
                let reply = Box::new(Reply {
                    turn,
                    ..reply(outcome, true)
                });
                let ended = Record::Ended {
                    reply,
                    attempts: 1,
                    at,
                };
                journal.put(ended, Some(Box::new(say)));
            }
        }
        written.recv().expect("an answer").expect("it is kept");
    }

    #[test]
    fn the_latest_prompt_of_an_item_counts_also_when_the_earlier_ones_were_pruned() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path().join("books.db")).expect("a new one");
        let old = SystemTime::UNIX_EPOCH;
        let now = SystemTime::now();
        put(&journal, "twice", 1, Some((in_doubt(), old)));
        let failed = failed(FailureClass::Network);
        put(&journal, "queued", 1, Some((failed, old)));
        put(&journal, "twice", 2, Some((Outcome::Completed, now)));
        put(&journal, "queued", 2, None);
        let item = |name: &str| Item {
            name: name.to_owned(),
            prompt: String::new(),
            is_file: false,
            run: 1,
        };
        let items = ["twice", "queued", "new"].map(item).to_vec();
        for pruned in [false, true] {
            if pruned {
                let day = Some(Duration::from_secs(86_400));
                let retention = Retention {
                    older_than: day,
                    ..Retention::default()
                };
                let pruned = journal.prune(&retention).expect("it can be written");
                assert_eq!(pruned.prompts, 2);
            }
            let todo = look(&journal, "b1", items.clone(), &[]);
            let todo = todo.unwrap_or_else(|error| panic!("{}", error.text()));
            let found: Vec<_> = todo.iter().map(|todo| (todo.runs, todo.item.run)).collect();
            // A queued one runs under its own number, whatever came before it.
            assert_eq!(found, [(false, 3), (true, 2), (true, 1)]);
            let before = todo[0].before.as_ref().expect("an end");
            assert_eq!((before.end, before.attempts), (ItemEnd::Ok, 2));
        }
    }
}
