//! A conversation pinned to an instance by a key.
//!
//! Owns the handle that callers hold. Must not know where the binding is kept. Invariant: the context of a session is
//! never lost silently: what happens when its instance loses it and cannot resume it is the caller's choice, and failing
//! is the default.

use crate::error::AskError;
use crate::manager::{ClusterManager, ReplyStream};
use crate::reply::Reply;
use crate::submission::Submission;

/// What becomes of a session whose instance has lost the conversation.
///
/// When its process ends, the next one goes on with the conversation where the tool can
/// ([`ToolProfile::resumes`](toolpool_pool_core::profile::ToolProfile::resumes)) and the instance shares its process with
/// no other. Only if it does not is the conversation lost. After a turn that ended in doubt, what the tool has kept may
/// hold that turn or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// The next prompt fails without being sent; the one after it begins anew.
    #[default]
    Fail,
    /// The next prompt begins a new conversation.
    Fresh,
}

impl OnLoss {
    /// All choices.
    pub const ALL: [Self; 2] = [Self::Fail, Self::Fresh];

    /// The choice's word in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Fresh => "fresh",
        }
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
