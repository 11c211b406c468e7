//! What earlier runs of a batch have left, and what is to be done about it.
//!
//! Owns the decision for each item. Must not know how items are run or shown. Invariants: what completed is not run again
//! unless that is asked for; what is in doubt is never run again by itself.

use toolpool::{FailureClass, Known, Outcome, Reply, Store, StoreError};

use super::items::Item;
use super::report::{BatchItem, ItemEnd};

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

/// What the journal knows of an item: its latest prompt.
enum Latest {
    Open { run: u32 },
    Ended { run: u32, reply: Box<Reply> },
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
    store: &dyn Store,
    batch: &str,
    items: Vec<Item>,
    rerun: &[Rerun],
) -> Result<Vec<Todo>, StoreError> {
    let look = |mut item: Item| {
        let (before, runs) = match latest(store, batch, &item.name)? {
            None => (None, true),
            // With its key the prompt is run under its old number.
            Some(Latest::Open { run }) => {
                item.run = run;
                (None, true)
            }
            Some(Latest::Ended { run, reply }) => {
                item.run = run + 1;
                let before = BatchItem::from_earlier_run(&item.name, run, &reply);
                (Some(before), runs_again(&reply, rerun))
            }
        };
        Ok(Todo { item, before, runs })
    };
    items.into_iter().map(look).collect()
}

fn latest(store: &dyn Store, batch: &str, item: &str) -> Result<Option<Latest>, StoreError> {
    let mut latest = None;
    for run in 1.. {
        latest = match store.find(&key(batch, item, run))? {
            None => break,
            Some(Known::Ended(_, reply)) => Some(Latest::Ended { run, reply }),
            Some(Known::Queued(_) | Known::Running(_)) => Some(Latest::Open { run }),
        };
    }
    Ok(latest)
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
    use std::collections::HashMap;
    use std::time::{Duration, SystemTime};

    use toolpool::worktree::Landed;
    use toolpool::{
        Accepted, Done, Doubt, DoubtCause, Failure, OnLoss, Prompt, Record, RetryPolicy, TurnId,
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

    struct Books(HashMap<String, Known>);

    impl Store for Books {
        fn next_turn(&self) -> TurnId {
            TurnId(1)
        }
        fn put(&self, _: Record, _: Option<Done>) {}
        fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
            Ok(self.0.get(key).cloned())
        }
        fn queued(&self, _: &str) -> Result<Vec<Accepted>, StoreError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn the_latest_prompt_of_an_item_counts() {
        let accepted = || {
            Box::new(Accepted {
                turn: TurnId(7),
                cluster: "main".into(),
                at: SystemTime::UNIX_EPOCH,
                key: None,
                prompt: Prompt::text("x"),
                session: None,
                tool: None,
                role: None,
                target: None,
                labels: Vec::new(),
                queue_timeout: None,
                turn_timeout: None,
                land: None,
                on_loss: OnLoss::Fail,
                retry: RetryPolicy::default(),
                attempts: 0,
            })
        };
        let ended = |outcome| Known::Ended(accepted(), Box::new(reply(outcome, true)));
        let books = Books(HashMap::from([
            (key("b1", "twice", 1), ended(in_doubt())),
            (key("b1", "twice", 2), ended(Outcome::Completed)),
            (key("b1", "queued", 1), ended(failed(FailureClass::Network))),
            (key("b1", "queued", 2), Known::Queued(accepted())),
            (key("b2", "new", 1), ended(Outcome::Completed)),
        ]));
        let item = |name: &str| Item {
            name: name.to_owned(),
            prompt: String::new(),
            is_file: false,
            run: 1,
        };
        let items = vec![item("twice"), item("queued"), item("new")];
        let todo = look(&books, "b1", items, &[]).expect("it can be read");
        let found: Vec<_> = todo.iter().map(|todo| (todo.runs, todo.item.run)).collect();
        // A queued one runs under its own number, whatever came before it.
        assert_eq!(found, [(false, 3), (true, 2), (true, 1)]);
        let before = todo[0].before.as_ref().expect("an end");
        assert_eq!((before.end, before.attempts), (ItemEnd::Ok, 2));
    }
}
