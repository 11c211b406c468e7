//! The life of one item: turns until one completes, is in doubt, or no try is left.
//!
//! Owns the retries. Must not know the other items. Invariant: an item is sent again only after a definite failure that
//! another try can change.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use toolpool::{
    AskError, ClusterManager, Failure, FailureClass, Outcome, Reply, Submission, SubmitError,
};

use super::earlier;
use super::items::Item;
use super::report::{BatchItem, ItemEnd, KeptReport};
use crate::documents::TurnReply;

/// Longest wait before another try, whatever the tool says.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How an item ended.
pub(super) struct Done {
    pub(super) report: BatchItem,
    /// The last reply, if there was a turn.
    pub(super) reply: Option<Reply>,
    /// No instance is left, so no other item can do better.
    pub(super) hopeless: bool,
}

/// How an item is to be run.
#[derive(Clone)]
pub(super) struct Wishes {
    /// The batch's name, if it is kept.
    pub(super) batch: Option<String>,
    pub(super) retries: u32,
    pub(super) land: bool,
    pub(super) name_file: bool,
    /// The role that it is for, if for one.
    pub(super) role: Option<String>,
}

pub(super) async fn run(
    cluster: ClusterManager,
    item: Item,
    wishes: Wishes,
    mut closing: watch::Receiver<bool>,
) -> Done {
    let started = Instant::now();
    let mut kept = Vec::new();
    let mut tries = 0;
    loop {
        tries += 1;
        let run = item.run + tries - 1;
        let answer = cluster.ask(submission(&item, run, &wishes)).await;
        let (reply, refusal) = match answer {
            Ok(reply) => (Some(reply), None),
            Err(AskError::Turn(reply)) => (Some(*reply), None),
            Err(refused) => (None, Some(refused)),
        };
        if let Some(reply) = &reply {
            kept.extend(KeptReport::of(reply));
            if tries <= wishes.retries
                && let Outcome::Failed(failure) = &reply.outcome
                && may_help(failure.class)
                && pause(failure, &mut closing).await
            {
                continue;
            }
        }
        let end = reply.as_ref().map_or(ItemEnd::NotStarted, ItemEnd::of);
        let report = BatchItem {
            item: item.name,
            end,
            ok: end == ItemEnd::Ok,
            // One that was refused was never sent.
            attempts: run - u32::from(reply.is_none()),
            from_earlier_run: false,
            total_s: started.elapsed().as_secs_f64(),
            refusal: refusal.as_ref().map(ToString::to_string),
            kept,
            reply: reply.as_ref().map(TurnReply::from),
        };
        let hopeless = match &reply {
            Some(reply) => matches!(
                &reply.outcome,
                Outcome::Failed(Failure {
                    class: FailureClass::Unroutable,
                    ..
                })
            ),
            // That is about this item alone: it was queued with other files than the tool of this run is given.
            None => !matches!(
                refusal,
                Some(AskError::Submit(SubmitError::KeyConflict { .. }))
            ),
        };
        return Done {
            report,
            reply,
            hopeless,
        };
    }
}

fn submission(item: &Item, run: u32, wishes: &Wishes) -> Submission {
    let mut submission = Submission::text(&item.prompt).fresh();
    if let Some(batch) = &wishes.batch {
        submission = submission
            .key(earlier::key(batch, &item.name, run))
            .label("batch", batch)
            .label("item", &item.name);
    }
    if item.is_file && wishes.name_file {
        submission = submission.file(&item.name);
    }
    if wishes.land {
        submission = submission.land(&item.name);
    }
    if let Some(role) = &wishes.role {
        submission = submission.role(role);
    }
    submission
}

/// Whether trying again can change anything.
fn may_help(class: FailureClass) -> bool {
    !matches!(
        class,
        FailureClass::Auth
            | FailureClass::BadRequest
            | FailureClass::ContextTooLarge
            | FailureClass::SessionLost
            | FailureClass::SessionUnavailable
            | FailureClass::Refused
            | FailureClass::Unroutable
    )
}

/// Waits as long as the tool asks for; false if nothing is to be started any more.
async fn pause(failure: &Failure, closing: &mut watch::Receiver<bool>) -> bool {
    let pause = failure.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
    tokio::select! {
        biased;
        // Whoever would say so has gone: that is as good.
        () = async { drop(closing.wait_for(|closing| *closing).await) } => false,
        () = tokio::time::sleep(pause) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        for (class, again) in [
            (FailureClass::RateLimit, true),
            (FailureClass::Overloaded, true),
            (FailureClass::Network, true),
            (FailureClass::EmptyAnswer, true),
            (FailureClass::Auth, false),
            (FailureClass::BadRequest, false),
            (FailureClass::ContextTooLarge, false),
            (FailureClass::Refused, false),
            (FailureClass::Unroutable, false),
        ] {
            assert_eq!(may_help(class), again, "{class:?}");
        }
    }
}
