//! A conversation pinned to an instance by a key.
//!
//! Owns the handle that callers hold. Must not know where the binding is kept. Invariant: the context of a session is
//! never lost silently: what happens when its instance loses it and cannot resume it is the caller's choice, and failing
//! is the default.

use std::fmt;
use std::str::FromStr;

use crate::error::AskError;
use crate::manager::{ClusterManager, ReplyStream};
use crate::reply::Reply;
use crate::submission::Submission;

/// What becomes of a session whose instance has lost the conversation.
///
/// When its process ends, the next one goes on with the conversation where the tool can
/// ([`ToolProfile::resumes`](toolpool_pool_core::profile::ToolProfile::resumes)) and the instance shares its process with
/// no other. With a journal that holds for the next life of the cluster too: a session is known again, and its first
/// prompt gives an instance a new process that goes on with it. Only if it does not is the conversation lost. After a turn that ended in doubt, what the tool has kept may
/// hold that turn or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// The next prompt fails without being sent, and so does what is queued behind it; the one after them begins anew.
    #[default]
    Fail,
    /// The next prompt begins a new conversation. The event [`ContextLost`](crate::EventKind::ContextLost) tells.
    Fresh,
    /// The next prompt begins a new conversation, and what was said before stands before it in the same message, as a
    /// record that is not to be acted on again: the newest turns that fit. Only for a cluster with a journal that keeps
    /// texts, for tools that take any text as a message to a model, and for prompts that are texts; elsewhere, and if not
    /// even the last turn fits, it is [`Fail`](Self::Fail). The event
    /// [`ContextReplayed`](crate::EventKind::ContextReplayed) tells.
    Replay {
        /// How long the record may be.
        max_bytes: usize,
    },
}

impl OnLoss {
    /// As much of a record as most models read without a thought: 64 KiB.
    pub const REPLAY_BYTES: usize = 64 << 10;
}

impl fmt::Display for OnLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Fresh => f.write_str("fresh"),
            Self::Replay { max_bytes } => write!(f, "replay:{max_bytes}"),
        }
    }
}

/// A text that is no [`OnLoss`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no choice for a lost session; write fail, fresh, replay or replay:N (N bytes at most)"
)]
pub struct NoOnLoss(String);

impl FromStr for OnLoss {
    type Err = NoOnLoss;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let choice = match text.split_once(':') {
            None if text == "fail" => Some(Self::Fail),
            None if text == "fresh" => Some(Self::Fresh),
            None if text == "replay" => Some(Self::Replay {
                max_bytes: Self::REPLAY_BYTES,
            }),
            Some(("replay", bytes)) => bytes
                .parse()
                .ok()
                .map(|max_bytes| Self::Replay { max_bytes }),
            _ => None,
        };
        choice.ok_or_else(|| NoOnLoss(text.to_owned()))
    }
}

/// A conversation. Cheap to clone; prompts of all clones share it.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) manager: ClusterManager,
    pub(crate) key: String,
    pub(crate) on_loss: OnLoss,
}

impl Session {
    /// Chooses what happens when the instance loses the conversation.
    #[must_use]
    pub fn on_loss(mut self, on_loss: OnLoss) -> Self {
        self.on_loss = on_loss;
        self
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Sends a prompt of this conversation and waits for the whole reply.
    ///
    /// # Errors
    /// As [`ClusterManager::ask`]; a lost conversation is a failed turn of class `session_lost`.
    pub async fn ask(&self, submission: impl Into<Submission>) -> Result<Reply, AskError> {
        self.manager.ask(self.bind(submission.into())).await
    }

    /// Sends a prompt of this conversation and gives its reply as it comes.
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn stream(&self, submission: impl Into<Submission>) -> Result<ReplyStream, AskError> {
        self.manager.stream(self.bind(submission.into())).await
    }

    /// Ends the conversation: the key is free and its instance no longer bound to it.
    pub async fn close(self) {
        self.manager.forget_session(self.key).await;
    }

    fn bind(&self, mut submission: Submission) -> Submission {
        submission.session = Some(self.key.clone());
        submission.on_loss = self.on_loss;
        submission
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_back_from_its_words_and_nothing_else_is_one() {
        for choice in [OnLoss::Fail, OnLoss::Fresh, OnLoss::Replay { max_bytes: 7 }] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let short = OnLoss::Replay {
            max_bytes: OnLoss::REPLAY_BYTES,
        };
        assert_eq!("replay".parse(), Ok(short));
        for text in ["", "Fail", "replay:", "replay:-1", "fresh:1", "replay:1k"] {
            assert!(text.parse::<OnLoss>().is_err(), "{text}");
        }
    }
}
