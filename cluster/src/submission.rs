//! A prompt with the caller's wishes for its turn.
//!
//! Owns [`Submission`]. Must not know queues. Invariant: a wish that is not set means the cluster's own default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toolpool_pool_core::prompt::Prompt;

use crate::fit::Asked;
use crate::retry::RetryPolicy;
use crate::session::OnLoss;

/// A prompt, and how it is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    pub(crate) prompt: Prompt,
    pub(crate) client: Option<Arc<str>>,
    pub(crate) session: Option<String>,
    pub(crate) target: Option<usize>,
    pub(crate) asked: Asked,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) turn_timeout: Option<Duration>,
    pub(crate) on_loss: OnLoss,
    pub(crate) land: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) retry: RetryPolicy,
}

impl Submission {
    /// A text for the model.
    pub fn text(text: impl Into<String>) -> Self {
        Prompt::text(text).into()
    }

    /// One of the tool's own commands, such as aider's `/tokens`. Only those that the profile allows are sent.
    pub fn command(text: impl Into<String>) -> Self {
        Prompt::command(text).into()
    }

    /// Says who asks. The queue serves its clients in turn, one prompt each, so that one who asks much does not make the
    /// others wait; all without a name share one. A client that holds less than its share of a full queue (the limit
    /// divided among those that wait) is taken in all the same, until twice the limit wait.
    #[must_use]
    pub fn client(mut self, name: impl Into<Arc<str>>) -> Self {
        self.client = Some(name.into());
        self
    }

    /// Runs it in the conversation of that key: on the same instance as all others of the key, in order.
    #[must_use]
    pub fn session(mut self, key: impl Into<String>) -> Self {
        self.session = Some(key.into());
        self
    }

    /// What becomes of it if the conversation of its session is lost. Default [`OnLoss::Fail`].
    #[must_use]
    pub fn on_loss(mut self, on_loss: OnLoss) -> Self {
        self.on_loss = on_loss;
        self
    }

    /// Runs it on exactly this instance, counted from 0.
    #[must_use]
    pub fn on_instance(mut self, index: usize) -> Self {
        self.target = Some(index);
        self
    }

    /// Runs it on an instance of this tool, in a cluster of several. It waits for one of them while others are free, and
    /// is refused if there is none.
    #[must_use]
    pub fn to_tool(mut self, tool: impl Into<String>) -> Self {
        self.asked.tool = Some(tool.into());
        self
    }

    /// Runs it on an instance in this role; see [`ClusterBuilder::role`](crate::ClusterBuilder::role). It waits for one of
    /// them while others are free, and is refused if there is none.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.asked.role = Some(role.into());
        self
    }

    /// Begins with an empty conversation, as far as the tool can.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.prompt.fresh = true;
        self
    }

    /// Puts a file into the tool's context first; the path is relative to the instance's working folder.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.prompt.files.push(path.into());
        self
    }

    /// Attaches a label for strategies to look at.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Where the instance has a worktree: begins on the newest commit of the starting branch, and brings what the turn
    /// changed back to it as one commit named after the item.
    #[must_use]
    pub fn land(mut self, item: impl Into<String>) -> Self {
        self.land = Some(item.into());
        self
    }

    /// Names the prompt for good, in a cluster with a [journal](crate::ClusterBuilder::journal). Sent again with the same key,
    /// also to a cluster that is launched later with the same journal, it is the same prompt and not run again: its reply is
    /// that of the first one, now if it has ended, or else when it does. What an earlier cluster left queued runs, under its
    /// number. Another prompt with the same key is refused with the code `key_conflict`.
    ///
    /// A prompt with a key is not withdrawn when its caller goes; [`ReplyStream::cancel`](crate::ReplyStream::cancel)
    /// withdraws it for all who wait for it.
    ///
    /// ```no_run
    /// use toolpool_cluster::{ClusterManager, Submission};
    ///
    /// # async fn example(cluster: ClusterManager) -> Result<(), Box<dyn std::error::Error>> {
    /// let prompt = || Submission::text("Bump the version in Cargo.toml").key("release-42/bump");
    /// let reply = cluster.ask(prompt()).await?;
    /// // However often, and whoever died in between: it is done once.
    /// assert_eq!(cluster.ask(prompt()).await?.text, reply.text);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// When it may be given to a tool again after it was given to one. Default [`RetryPolicy::Once`]: never.
    ///
    /// ```no_run
    /// use toolpool_cluster::{ClusterManager, RetryPolicy, Submission};
    ///
    /// # async fn example(cluster: ClusterManager) -> Result<(), Box<dyn std::error::Error>> {
    /// let question = Submission::text("What does main.rs do?").retry(RetryPolicy::Idempotent { attempts: 3 });
    /// println!("{}", cluster.ask(question).await?.text);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Longest wait in the queue; then it expires unsent.
    #[must_use]
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// Longest run, waiting for somebody's answer and all attempts included; then the process is killed and the outcome is indeterminate.
    #[must_use]
    pub fn turn_timeout(mut self, timeout: Duration) -> Self {
        self.turn_timeout = Some(timeout);
        self
    }
}

impl From<Prompt> for Submission {
    fn from(prompt: Prompt) -> Self {
        Self {
            prompt,
            client: None,
            session: None,
            target: None,
            asked: Asked::default(),
            labels: Vec::new(),
            queue_timeout: None,
            turn_timeout: None,
            on_loss: OnLoss::Fail,
            land: None,
            key: None,
            retry: RetryPolicy::Once,
        }
    }
}

impl From<&str> for Submission {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Submission {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&String> for Submission {
    fn from(text: &String) -> Self {
        Self::text(text.as_str())
    }
}
