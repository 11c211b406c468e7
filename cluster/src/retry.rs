//! When a prompt may be given to a tool again.
//!
//! Owns [`RetryPolicy`] with its words, and the judgment over an attempt that has ended. Must not know how a turn is run: it
//! is told how the attempt ended, and says what follows. Invariants: by default nothing that a tool may have read is ever
//! sent again; what its caller withdrew is not; and no more prompts are tried again at a time than the budget allows.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use toolpool_pool_core::outcome::{DoubtCause, FailureClass, Outcome};
use toolpool_pool_core::prompt::Prompt;

use crate::planted::planted;
use crate::reply::Reply;

/// So many prompts may be tried again in any case.
const FLOOR: usize = 3;

/// Of so many prompts under way, one may be one that is tried again.
const ONE_OF: usize = 5;

/// When a prompt that was given to a tool may be given to one again. A prompt of which nothing was read goes back to the
/// queue under every policy.
///
/// Each attempt has its number in the journal, and the event `TurnRetried` tells of each that is followed by another. A
/// [turn's time limit](crate::Submission::turn_timeout) is one for all attempts together. At most one of five prompts under
/// way is one that is tried again, or three in all, so that a trouble of many is not made worse: beyond that an attempt is
/// the last. The reply is that of the last attempt; whoever streams it sees the pieces of all.
///
/// Its words are those of its `Display` and of `FromStr`: `once`, `until_output`, `idempotent:3`, `reconcile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Never: what may have been read is not sent again.
    #[default]
    Once,
    /// If its process died before anything came from it in the turn, and the tool's profile says that it does nothing before
    /// its first output (`quiet_until_output`); at most three times.
    UntilOutput,
    /// After any failure and any doubt: to do it twice does no harm.
    Idempotent {
        /// How often in all, the first time included.
        attempts: u32,
    },
    /// After a doubtful end the cluster's [`Reconciler`] is asked: what was done is completed, what was not begun is tried
    /// again, at most three times.
    Reconcile,
}

/// Looks up what became of a prompt whose end is in doubt: in the tool's own records of the conversation, in the repository
/// that it was to change, in the service that it was to call.
///
/// ```
/// use toolpool_cluster::{Doubtful, Reconciled, Reconciler};
///
/// /// What is to be done is to write a file, so that it was done can be seen.
/// struct LookAtFile;
///
/// #[async_trait::async_trait]
/// impl Reconciler for LookAtFile {
///     async fn reconcile(&self, doubtful: &Doubtful) -> Reconciled {
///         match std::fs::read_to_string("report.md") {
///             Ok(report) if report.contains(&doubtful.reply.turn.to_string()) => Reconciled::Completed(report),
///             Ok(_) => Reconciled::Absent,
///             Err(_) => Reconciled::Unclear,
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Reconciler: Send + Sync {
    /// Says what became of it. The process that ran it is gone. A panic counts as [`Reconciled::Unclear`], and so does an
    /// answer that has not come when the cluster has stopped.
    async fn reconcile(&self, doubtful: &Doubtful) -> Reconciled;
}

/// A prompt whose end is in doubt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Doubtful {
    /// The prompt.
    pub prompt: Prompt,
    /// Its session.
    pub session: Option<String>,
    /// Which of its attempts, counted from 1.
    pub attempt: u32,
    /// What there is of a reply, with the doubt, the instance and its process.
    pub reply: Reply,
}

/// What became of a prompt whose end was in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// It was done. This is the reply.
    Completed(String),
    /// Nothing of it was done, and nothing will be.
    Absent,
    /// Nobody can say.
    Unclear,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) policy: RetryPolicy,
    /// Which one, counted from 1.
    pub(crate) number: u32,
    pub(crate) outcome: &'a Outcome,
    /// Its process died before anything came from it in the turn, and its tool does nothing before that.
    pub(crate) untouched: bool,
    /// Its caller does not want it any more, its time is up, or the cluster stops.
    pub(crate) is_last: bool,
    pub(crate) may_ask: bool,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the end.
    End,
    /// Another attempt, if the budget allows it.
    Again,
    /// Somebody knows more.
    Ask,
}

/// How often in all, where the policy does not say it.
const ATTEMPTS: u32 = 3;

impl Attempt<'_> {
    pub(crate) fn judge(&self) -> Verdict {
        if self.is_last {
            return Verdict::End;
        }
        let (doubt, failed) = match self.outcome {
            // Whoever stopped the turn does not want it.
            Outcome::Indeterminate(doubt) => match doubt.cause {
                DoubtCause::CancelUnconfirmed | DoubtCause::JournalFailed => return Verdict::End,
                cause => (Some(cause), false),
            },
            // The same prompt would be refused again.
            Outcome::Failed(failure) => (None, failure.class != FailureClass::Refused),
            Outcome::Completed | Outcome::Cancelled | Outcome::Expired => return Verdict::End,
        };
        let untouched = self.untouched || planted("retried_after_output");
        match self.policy {
            RetryPolicy::Once if planted("retried_once") => Verdict::Again,
            RetryPolicy::Once => Verdict::End,
            RetryPolicy::UntilOutput
                if untouched && doubt == Some(DoubtCause::Crashed) && self.number < ATTEMPTS =>
            {
                Verdict::Again
            }
            RetryPolicy::Idempotent { attempts }
                if self.number < attempts && (failed || doubt.is_some()) =>
            {
                Verdict::Again
            }
            RetryPolicy::Reconcile if doubt.is_some() && self.may_ask => Verdict::Ask,
            _ => Verdict::End,
        }
    }
}

/// What a reconciler's answer means for an attempt.
pub(crate) fn follows(answer: &Reconciled, attempt: u32) -> Verdict {
    match answer {
        Reconciled::Absent if attempt < ATTEMPTS => Verdict::Again,
        _ => Verdict::End,
    }
}

/// The prompts that are being tried again: queued for it, or running.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    open: usize,
}

impl Budget {
    /// Takes a place for one more, if `under_way` prompts that are queued or run allow it.
    pub(crate) fn take(&mut self, under_way: usize) -> bool {
        let is_free = self.open < FLOOR.max(under_way / ONE_OF) || planted("retries_unlimited");
        self.open += usize::from(is_free);
        is_free
    }

    /// One of them has its end.
    pub(crate) fn give_back(&mut self) {
        self.open -= 1;
    }
}
impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::UntilOutput => f.write_str("until_output"),
            Self::Idempotent { attempts } => write!(f, "idempotent:{attempts}"),
            Self::Reconcile => f.write_str("reconcile"),
        }
    }
}

/// A text that is no [`RetryPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no retry policy; write once, until_output, idempotent:N (N attempts in all) or reconcile"
)]
pub struct NoRetryPolicy(String);

impl FromStr for RetryPolicy {
    type Err = NoRetryPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "once" => Ok(Self::Once),
            None if text == "until_output" => Ok(Self::UntilOutput),
            None if text == "reconcile" => Ok(Self::Reconcile),
            Some(("idempotent", attempts)) => match attempts.parse() {
                Ok(attempts) if attempts > 0 => Ok(Self::Idempotent { attempts }),
                _ => Err(NoRetryPolicy(text.to_owned())),
            },
            _ => Err(NoRetryPolicy(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use toolpool_pool_core::outcome::{Doubt, Failure};

    use super::*;

    #[test]
    fn a_policy_reads_back_from_its_words_and_nothing_else_is_one() {
        for policy in [
            RetryPolicy::Once,
            RetryPolicy::UntilOutput,
            RetryPolicy::Idempotent { attempts: 3 },
            RetryPolicy::Reconcile,
        ] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for text in [
            "",
            "Once",
            "idempotent",
            "idempotent:0",
            "idempotent:-1",
            "once:1",
        ] {
            assert!(text.parse::<RetryPolicy>().is_err(), "{text}");
        }
    }

    fn doubt(cause: DoubtCause) -> Outcome {
        Outcome::Indeterminate(Doubt {
            cause,
            detail: String::new(),
        })
    }

    fn failure(class: FailureClass) -> Outcome {
        Outcome::Failed(Failure {
            class,
            message: String::new(),
            retry_after: None,
        })
    }

    fn attempt<'a>(policy: RetryPolicy, outcome: &'a Outcome) -> Attempt<'a> {
        Attempt {
            policy,
            number: 1,
            outcome,
            untouched: true,
            is_last: false,
            may_ask: true,
        }
    }

    #[test]
    fn a_policy_says_after_which_ends_a_prompt_is_tried_again() {
        use Verdict::{Again, Ask, End};
        let policies = [
            RetryPolicy::Once,
            RetryPolicy::UntilOutput,
            RetryPolicy::Idempotent { attempts: 2 },
            RetryPolicy::Reconcile,
        ];
        let ends = [
            (Outcome::Completed, [End, End, End, End]),
            (Outcome::Cancelled, [End, End, End, End]),
            (Outcome::Expired, [End, End, End, End]),
            (failure(FailureClass::Overloaded), [End, End, Again, End]),
            (failure(FailureClass::Refused), [End, End, End, End]),
            (doubt(DoubtCause::Crashed), [End, Again, Again, Ask]),
            (doubt(DoubtCause::TimedOut), [End, End, Again, Ask]),
            (doubt(DoubtCause::Stopped), [End, End, Again, Ask]),
            (doubt(DoubtCause::CancelUnconfirmed), [End, End, End, End]),
            (doubt(DoubtCause::JournalFailed), [End, End, End, End]),
        ];
        for (outcome, verdicts) in &ends {
            for (policy, verdict) in policies.into_iter().zip(verdicts) {
                let attempt = attempt(policy, outcome);
                assert_eq!(attempt.judge(), *verdict, "{policy} after {outcome:?}");
                let last = Attempt {
                    is_last: true,
                    ..attempt
                };
                assert_eq!(last.judge(), End, "{policy}, not wanted any more");
            }
        }
    }

    #[test]
    fn until_output_ends_when_anything_may_have_been_done_and_after_three_attempts() {
        let crashed = doubt(DoubtCause::Crashed);
        let first = attempt(RetryPolicy::UntilOutput, &crashed);
        let cases = [
            (first, Verdict::Again),
            (
                Attempt {
                    untouched: false,
                    ..first
                },
                Verdict::End,
            ),
            (Attempt { number: 2, ..first }, Verdict::Again),
            (Attempt { number: 3, ..first }, Verdict::End),
        ];
        for (attempt, verdict) in cases {
            assert_eq!(attempt.judge(), verdict, "{attempt:?}");
        }
    }

    #[test]
    fn idempotent_ends_with_its_last_attempt_and_a_reconciler_is_asked_only_if_there_is_one() {
        let crashed = doubt(DoubtCause::Crashed);
        let three = RetryPolicy::Idempotent { attempts: 3 };
        for (number, verdict) in [(1, Verdict::Again), (2, Verdict::Again), (3, Verdict::End)] {
            let attempt = Attempt {
                number,
                ..attempt(three, &crashed)
            };
            assert_eq!(attempt.judge(), verdict, "{number}");
        }
        let nobody = Attempt {
            may_ask: false,
            ..attempt(RetryPolicy::Reconcile, &crashed)
        };
        assert_eq!(nobody.judge(), Verdict::End);
        assert_eq!(follows(&Reconciled::Absent, 1), Verdict::Again);
        assert_eq!(follows(&Reconciled::Absent, 3), Verdict::End);
        assert_eq!(follows(&Reconciled::Unclear, 1), Verdict::End);
        assert_eq!(
            follows(&Reconciled::Completed(String::new()), 1),
            Verdict::End
        );
    }

    #[test]
    fn one_of_five_may_be_a_retry_and_three_in_any_case() {
        for (under_way, allowed) in [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (100, 20)] {
            let mut budget = Budget::default();
            let taken = (0..200).filter(|_| budget.take(under_way)).count();
            assert_eq!(taken, allowed, "{under_way}");
            budget.give_back();
            assert!(budget.take(under_way) && !budget.take(under_way));
        }
    }
}
