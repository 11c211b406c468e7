//! When a prompt may be given to a tool again.
//!
//! Owns [`RetryPolicy`] and its words. Must not know how a turn is run. Invariant: by default nothing that a tool may have
//! read is ever sent again.

use std::fmt;
use std::str::FromStr;

/// When a prompt that was given to a tool may be given to one again. A prompt of which nothing was read goes back to the
/// queue under every policy.
///
/// Its words are those of its `Display` and of `FromStr`: `once`, `until_output`, `idempotent:3`, `reconcile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Never: what may have been read is not sent again.
    #[default]
    Once,
    /// If its process died before it had put anything out, and the tool's profile says that the tool does nothing before
    /// its first output.
    UntilOutput,
    /// After any failure and any doubt: to do it twice does no harm.
    Idempotent {
        /// How often in all, the first time included.
        attempts: u32,
    },
    /// After a doubtful end, if the cluster's reconciler says that nothing was done.
    Reconcile,
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
}
