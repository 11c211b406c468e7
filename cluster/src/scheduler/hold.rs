//! A group that is given no prompts for now, because of what its tool has said.
//!
//! Owns what of a turn's end closes its group, and when that is over. Must not know queues or instances. Invariant: one
//! end more makes a closed time longer, never shorter.

use std::time::Instant;

use toolpool_pool_core::outcome::{FailureClass, Outcome};

use crate::instance::after;

/// After so many turns in a row whose login was refused, no more prompts are spent on it. One alone may have its own
/// cause, such as a model that this login may not use.
const REFUSALS: u32 = 2;

/// Why a group gets no prompts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closed {
    /// Until when, if the tool said so. Otherwise its login is refused, and each instance waits for a new process:
    /// tools read their login when they start.
    pub(crate) until: Option<Instant>,
    pub(crate) since: Instant,
    /// In the tool's words.
    pub(crate) reason: String,
}

#[derive(Debug, Default)]
pub(super) struct Hold {
    refusals: u32,
    pub(super) closed: Option<Closed>,
}

impl Hold {
    /// A turn has ended; true if it closes the group, or closes it for another reason.
    pub(super) fn on_end(&mut self, now: Instant, outcome: &Outcome) -> bool {
        let failure = match outcome {
            Outcome::Failed(failure) => failure,
            Outcome::Completed => {
                self.refusals = 0;
                return false;
            }
            _ => return false,
        };
        let until = match failure.retry_after {
            Some(wait) if !wait.is_zero() => Some(after(now, wait)),
            _ if failure.class == FailureClass::Auth => {
                self.refusals += 1;
                if self.refusals < REFUSALS {
                    return false;
                }
                None
            }
            _ => return false,
        };
        if let Some(closed) = &mut self.closed
            && closed.until.is_some() == until.is_some()
        {
            closed.until = closed.until.max(until);
            return false;
        }
        self.closed = Some(Closed {
            until,
            since: now,
            reason: failure.message.clone(),
        });
        true
    }

    /// Until when it is closed, if that is known.
    pub(super) fn until(&self) -> Option<Instant> {
        self.closed.as_ref()?.until
    }

    /// It waits for new processes.
    pub(super) fn is_refused(&self) -> bool {
        self.closed
            .as_ref()
            .is_some_and(|closed| closed.until.is_none())
    }

    /// It is over.
    pub(super) fn open(&mut self) -> Option<Closed> {
        self.refusals = 0;
        self.closed.take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use toolpool_pool_core::outcome::Failure;

    use super::*;

    fn failed(class: FailureClass, retry_after: Option<u64>) -> Outcome {
        Outcome::Failed(Failure {
            class,
            message: "no".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    #[test]
    fn a_limit_closes_until_the_tool_said_and_two_refused_logins_in_a_row_until_somebody_helps() {
        use FailureClass::{Auth, Overloaded, RateLimit};
        let limited = |seconds| failed(RateLimit, Some(seconds));
        let refused = || failed(Auth, None);
        for (ends, closed) in [
            (vec![limited(30)], Some(Some(30))),
            (vec![limited(30), limited(10)], Some(Some(30))),
            (vec![limited(30), limited(40)], Some(Some(40))),
            (vec![failed(Overloaded, Some(5))], Some(Some(5))),
            (vec![limited(0)], None),
            (vec![failed(RateLimit, None)], None),
            (vec![refused()], None),
            (vec![refused(), Outcome::Completed, refused()], None),
            (vec![refused(), Outcome::Cancelled, refused()], Some(None)),
            (vec![refused(), refused(), limited(7)], Some(Some(7))),
            (vec![Outcome::Completed], None),
        ] {
            let now = Instant::now();
            let mut hold = Hold::default();
            for end in &ends {
                hold.on_end(now, end);
            }
            let until = hold.closed.as_ref().map(|closed| {
                let until = closed.until?;
                Some((until - now).as_secs())
            });
            assert_eq!(until, closed, "{ends:?}");
        }
    }
}
