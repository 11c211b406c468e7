//! What earlier runs of a batch have left, and what is to be done about it.
//!
//! Owns the decision for each item. Must not know how items are run or shown. Invariants: what completed is not run again
//! unless that is asked for; what is in doubt is never run again by itself.

use std::collections::HashMap;

use toolpool::{FailureClass, Known, Outcome, Reply};

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

impl Latest {
    fn run(&self) -> u32 {
        match self {
            Self::Open { run } | Self::Ended { run, .. } => *run,
        }
    }
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

/// Finds out what is left of a batch, of whose prompts this is known.
pub(super) fn look(known: Vec<Known>, batch: &str, items: Vec<Item>, rerun: &[Rerun]) -> Vec<Todo> {
    let mut latest = latest(known, batch);
    let look = |mut item: Item| {
        let (before, runs) = match latest.remove(&item.name) {
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
        Todo { item, before, runs }
    };
    items.into_iter().map(look).collect()
}

/// By the names of the items.
fn latest(known: Vec<Known>, batch: &str) -> HashMap<String, Latest> {
    let mut latest: HashMap<String, Latest> = HashMap::new();
    for known in known {
        // Others may have put the label on their prompts, but never the key.
        let Some((item, run)) = item_and_run(&known, batch) else {
            continue;
        };
        if latest.get(&item).is_some_and(|before| before.run() > run) {
            continue;
        }
        let found = match known {
            Known::Ended(_, reply) => Latest::Ended { run, reply },
            Known::Queued(_) | Known::Running(_) => Latest::Open { run },
        };
        latest.insert(item, found);
    }
    latest
}

fn item_and_run(known: &Known, batch: &str) -> Option<(String, u32)> {
    let rest = known.accepted().key.as_ref()?.strip_prefix(batch)?;
    let (item, run) = rest.strip_prefix('/')?.rsplit_once('#')?;
    Some((item.to_owned(), run.parse().ok()?))
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
    use std::time::{Duration, SystemTime};

    use toolpool::worktree::Landed;
    use toolpool::{Accepted, Doubt, DoubtCause, Failure, Prompt, TurnId};

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

    #[test]
    fn the_latest_prompt_of_an_item_counts() {
        let accepted = |key: String| {
            let prompt =
                Accepted::new(TurnId(7), "main", SystemTime::UNIX_EPOCH, Prompt::text("x"));
            Box::new(Accepted {
                key: Some(key),
                ..prompt
            })
        };
        let ended = |key, outcome| Known::Ended(accepted(key), Box::new(reply(outcome, true)));
        let known = vec![
            ended(key("b1", "twice", 2), Outcome::Completed),
            ended(key("b1", "twice", 1), in_doubt()),
            ended(key("b1", "queued", 1), failed(FailureClass::Network)),
            Known::Queued(accepted(key("b1", "queued", 2))),
            ended(key("b1", "a#1/b", 1), Outcome::Completed),
            // The earlier ones were pruned.
            ended(key("b1", "old", 4), Outcome::Completed),
            // Labels are anybody's, keys are not.
            ended("mine".to_owned(), Outcome::Completed),
            ended(key("b2", "new", 1), Outcome::Completed),
        ];
        let item = |name: &str| Item {
            name: name.to_owned(),
            prompt: String::new(),
            is_file: false,
            run: 1,
        };
        let items = ["twice", "queued", "a#1/b", "new", "old"].map(item);
        let todo = look(known, "b1", items.into(), &[]);
        let found: Vec<_> = todo.iter().map(|todo| (todo.runs, todo.item.run)).collect();
        // A queued one runs under its own number, whatever came before it.
        let expected = [(false, 3), (true, 2), (false, 2), (true, 1), (false, 5)];
        assert_eq!(found, expected);
        let before = todo[0].before.as_ref().expect("an end");
        assert_eq!((before.end, before.attempts), (ItemEnd::Ok, 2));
    }
}
