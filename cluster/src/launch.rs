//! What a cluster is to be: the builder.
//!
//! Owns the settings of a cluster and their defaults. Must not check them and not start anything: `plan` and `start` do.
//! Invariant: a setting that nobody makes has the default that its method tells.

mod group;
mod makings;
mod plan;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toolpool_pool_core::LaunchOptions;
use toolpool_pool_core::launcher::{Launcher, LocalLauncher};
use toolpool_routing::{Routing, Strategy};

use crate::approvals::Approvals;
use crate::breaker::BreakerConfig;
use crate::event::EventSink;
use crate::instance::InstanceConfig;
use crate::replacing::Recycle;
use crate::restarts::{RestartLimit, RestartPolicy};
use crate::retry::Reconciler;
use crate::store::Store;

pub use group::{Group, ToolSet, ToolSpec, ToolSpecError};
pub(crate) use makings::{Made, Makings};

/// Instances that one cluster may have.
pub const MAX_COUNT: usize = 1000;

/// Where an instance of a tool that edits files works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In a git worktree and branch of its own, if the tool edits files and the folder is in a git repository.
    #[default]
    Worktree,
    /// In the folder itself, beside all others.
    Shared,
}

/// Launches instances of a tool, or of several, as one cluster. Awaiting the builder launches it.
///
/// A tool is the name of a built-in profile, the path of a profile's file (ending in `.toml`) or a
/// [`ToolProfile`](toolpool_pool_core::profile::ToolProfile); a text may say how many instances of it, as `aider:2`. A
/// list of tools makes a mixed cluster, whose prompts run on whichever instance is free unless they ask for
/// [a tool](crate::Submission::to_tool) or [a role](crate::Submission::role).
///
/// ```no_run
/// use toolpool_cluster::launch_cluster;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = launch_cluster("aider").count(3).await?;
/// let reply = cluster.ask("Add a docstring to a.py").await?;
/// println!("{} said: {}", reply.instance.as_deref().unwrap_or("nobody"), reply.text);
/// cluster.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// ```no_run
/// use toolpool_cluster::{Submission, launch_cluster};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = launch_cluster(["aider:2", "codex:1"]).role("security", "codex").await?;
/// cluster.ask(Submission::text("What can go wrong in auth.rs?").role("security")).await?;
/// # Ok(())
/// # }
/// ```
pub fn launch_cluster(tools: impl Into<ToolSet>) -> ClusterBuilder {
    ClusterBuilder {
        groups: tools.into().0,
        roles: Vec::new(),
        name: "main".to_owned(),
        count: None,
        strategy: Routing::default().strategy(),
        options: LaunchOptions::default(),
        isolation: Isolation::default(),
        instance: InstanceConfig::default(),
        start_timeout: None,
        queue_limit: 1024,
        queue_timeout: None,
        session_wait: None,
        drain_timeout: Duration::from_secs(30),
        launcher: Arc::new(LocalLauncher),
        capacity: 1,
        spare: 0,
        recycle: Recycle::default(),
        journal: None,
        reconciler: None,
        sinks: Vec::new(),
    }
}

/// What a cluster is to be. Each setting has a default; awaiting it launches the cluster.
#[must_use = "a builder does nothing until it is awaited"]
pub struct ClusterBuilder {
    groups: Vec<Group>,
    /// Roles by the name of their tool.
    roles: Vec<(String, String)>,
    name: String,
    count: Option<usize>,
    strategy: Box<dyn Strategy>,
    options: LaunchOptions,
    isolation: Isolation,
    instance: InstanceConfig,
    start_timeout: Option<Duration>,
    queue_limit: usize,
    queue_timeout: Option<Duration>,
    session_wait: Option<Duration>,
    drain_timeout: Duration,
    launcher: Arc<dyn Launcher>,
    capacity: usize,
    spare: usize,
    recycle: Recycle,
    journal: Option<Arc<dyn Store>>,
    reconciler: Option<Arc<dyn Reconciler>>,
    sinks: Vec<Box<dyn EventSink>>,
}

impl ClusterBuilder {
    /// The cluster's name, the first part of its instances' names. Default `main`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many instances of the one tool, 1 to [`MAX_COUNT`]. Default 1. In a mixed cluster each tool says it for itself,
    /// as `aider:2`.
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// Gives all instances of a tool a role that prompts can ask for with [`Submission::role`](crate::Submission::role).
    pub fn role(mut self, role: impl Into<String>, tool: impl Into<String>) -> Self {
        self.roles.push((role.into(), tool.into()));
        self
    }

    /// One of the strategies that come with toolpool. Default least-busy.
    pub fn routing(self, routing: Routing) -> Self {
        self.strategy(routing.strategy())
    }

    /// A strategy of the caller's own.
    pub fn strategy(mut self, strategy: impl Strategy + 'static) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// The working folder. Default: the current one.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.options.cwd = cwd.into();
        self
    }

    /// Whether instances of a tool that edits files get worktrees of their own. Default [`Isolation::Worktree`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// An argument behind the profile's own.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.options.args.push(arg.into());
        self
    }

    /// Arguments behind the profile's own.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.options.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable over the profile's own. Tools see allow-listed variables only, so a key that a profile does not pass
    /// on belongs here.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.env.push((key.into(), value.into()));
        self
    }

    /// Start although the working folder holds files that can take the tool over. Default: refuse.
    pub fn trust_folder(mut self, trust: bool) -> Self {
        self.options.trust_folder = trust;
        self
    }

    /// Longest time from spawn to ready. Default: the profile's.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Longest run of a turn, without the time in which it waits for somebody's answer; then its process is killed.
    /// Default 20 minutes.
    pub fn turn_timeout(mut self, timeout: Duration) -> Self {
        self.instance.turn_timeout = timeout;
        self
    }

    /// As long as a tool takes none of the bytes of its prompt that do not fit its pipe; then its process is killed.
    /// Default 5 minutes.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.instance.write_timeout = timeout;
        self
    }

    /// From a turn's start to the first byte from its tool, of whatever kind; then its process is killed. Default: no
    /// limit, as a tool may work for long without a word.
    pub fn first_byte_timeout(mut self, timeout: Duration) -> Self {
        self.instance.first_byte_timeout = timeout;
        self
    }

    /// From one byte of a tool to the next in a turn, the time left out in which it waits for somebody's answer; then its
    /// process is killed. Every byte that the process prints is a sign of life, whether it is part of the reply or not.
    /// Default: no limit. [`InstanceStatus::silent_for_s`](crate::InstanceStatus::silent_for_s) tells of silence in any
    /// case.
    pub fn silence_timeout(mut self, timeout: Duration) -> Self {
        self.instance.silence_timeout = timeout;
        self
    }

    /// The most resident memory that a tool's process may have in the middle of a turn, in bytes; then it is killed, and
    /// its turn ends in doubt. Looked at once a second, so a tool that grows fast may have more for a moment. Of the
    /// tool's first process alone, without those that it started. Default: no limit.
    /// [`Recycle::rss_bytes`] is the limit that costs no turn.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.instance.memory_limit = Some(bytes);
        self
    }

    /// From a cancel to the tool's confirmation; then its process is killed. Default 10 seconds.
    pub fn interrupt_grace(mut self, grace: Duration) -> Self {
        self.instance.interrupt_grace = grace;
        self
    }

    /// From SIGTERM to SIGKILL. Default 3 seconds.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.instance.stop_grace = grace;
        self
    }

    /// From SIGKILL to giving a process up that does not end. Default 5 seconds.
    pub fn kill_wait(mut self, wait: Duration) -> Self {
        self.instance.kill_wait = wait;
        self
    }

    /// When a process that has ended is followed by another. Default [`RestartPolicy::Permanent`]. Exit code 125 is
    /// followed by none in any case: by it a tool says that another start cannot help.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.instance.restart = policy;
        self
    }

    /// How many restarts of an instance there may be in a short time, and in a long one. Beyond either it is
    /// crash-looping: its breaker is held open for the times that its [`BreakerConfig`] says, and lets single starts out,
    /// until a process has been ready for 10 minutes. Restarts that its owner asks for do not count. Default 5 in a
    /// minute and 30 in an hour.
    pub fn restart_limits(mut self, burst: RestartLimit, sustained: RestartLimit) -> Self {
        self.instance.restarts.burst = burst;
        self.instance.restarts.sustained = sustained;
        self
    }

    /// First and longest wait before a restart after failures in a row, 200 milliseconds and 30 seconds by default. The
    /// second wait is ten times the first; then they double. Each is shortened by chance, by up to a half.
    pub fn restart_delay(mut self, first: Duration, longest: Duration) -> Self {
        self.instance.restart_delay = first;
        self.instance.restart_delay_max = longest;
        self
    }

    /// When the breaker of an instance trips and for how long.
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.instance.breaker = breaker;
        self
    }

    /// How many prompts the queue holds; more are refused. Default 1,024. In a mixed cluster it holds so many for each
    /// tool, so that prompts for one that is stuck do not keep out the others. Several callers: see
    /// [`Submission::client`](crate::Submission::client).
    pub fn queue_limit(mut self, limit: usize) -> Self {
        self.queue_limit = limit;
        self
    }

    /// Longest wait of a prompt in the queue. Default: no limit.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// How long prompts of a session wait for the instance that has its conversation while that does not come up, whatever
    /// keeps it from starting. Then they fail as `session_unavailable` and the session stays; those that may begin anew, with
    /// [`OnLoss::Fresh`](crate::OnLoss::Fresh) or [`OnLoss::Replay`](crate::OnLoss::Replay), go to another instance that is
    /// up. Counted from the moment when it went away, so that a prompt which comes later does not wait for as long again.
    /// Default 5 minutes.
    pub fn session_wait(mut self, wait: Duration) -> Self {
        self.session_wait = Some(wait);
        self
    }

    /// How long [`ClusterManager::shutdown`](crate::ClusterManager::shutdown) waits for prompts to end. Default 30 seconds.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// What is answered when a tool asks for a permission. Default: what only reads is allowed.
    pub fn approvals(mut self, approvals: Approvals) -> Self {
        self.instance.approvals = approvals;
        self
    }

    /// With [`Approvals::Ask`]: how long a question waits for [`ClusterManager::answer`](crate::ClusterManager::answer);
    /// then the answer is no. Default 5 minutes.
    pub fn approval_timeout(mut self, timeout: Duration) -> Self {
        self.instance.approval_timeout = timeout;
        self
    }

    /// Another way to start processes. Default: plain pipes.
    pub fn launcher(mut self, launcher: Arc<dyn Launcher>) -> Self {
        self.launcher = launcher;
        self
    }

    /// How many instances share one process, for the tools that can hold several conversations at once, which saves most
    /// of their memory. They work in one folder and share their process's fate: when one has to be stopped in the middle
    /// of a turn, the turns of the others end with it, indeterminate. Default 1.
    pub fn capacity(mut self, instances: usize) -> Self {
        self.capacity = instances;
        self
    }

    /// How many instances of each tool stand by, beside the `count` that is on duty: started and ready, with names (and
    /// worktrees) of their own. When one on duty dies, is replaced or drained, a spare takes its place at once, and the
    /// other one stands by when it is back. Spares count for [`MAX_COUNT`]. Default 0.
    ///
    /// A prompt [for one instance](crate::Submission::on_instance) alone, and a session that lives on an instance, run there
    /// whether it stands by or not.
    pub fn spare(mut self, instances: usize) -> Self {
        self.spare = instances;
        self
    }

    /// When a process is replaced though it has not failed. Default: never.
    ///
    /// ```no_run
    /// use toolpool_cluster::{Recycle, launch_cluster};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let worn = Recycle { turns: Some(50), rss_bytes: Some(1 << 30), ..Recycle::default() };
    /// let cluster = launch_cluster("aider").count(3).recycle(worn).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn recycle(mut self, recycle: Recycle) -> Self {
        self.recycle = recycle;
        self
    }

    /// Keeps every prompt and its one end in books that outlive this program. Default: none, and then nothing of this costs
    /// anything.
    ///
    /// With one, a prompt is called accepted when it is in the books for good; the first byte of it is written to a tool
    /// when it is in them that this is going to happen; and its caller, [the events](crate::ClusterManager::subscribe) and
    /// [the account](crate::Books) hear its end when that is in them. Where the books have no space left, prompts are refused
    /// with the code `journal_full`. When they cannot be written any more, the cluster stops at once: what a tool was given
    /// ends indeterminate, with the cause `journal_failed`, and what was only queued is still queued in the books.
    ///
    /// What earlier clusters of the same [name](ClusterBuilder::name) accepted and never gave to a tool runs again, under its
    /// number, with nobody waiting for it: its end is in the books and the events. It runs on a tool of that name alone, if
    /// there was but one that could run it. What belongs to a batch (it has a label
    /// `batch`, and a key) waits for that batch to be resumed. What a tool may have begun is in doubt and does not run again.
    ///
    /// ```no_run
    /// use toolpool_cluster::{Store, launch_cluster};
    ///
    /// # async fn example(books: impl Store + 'static) -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = launch_cluster("aider").journal(books).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn journal(mut self, store: impl Store + 'static) -> Self {
        self.journal = Some(Arc::new(store));
        self
    }

    /// Whom to ask what became of a prompt with the policy [`RetryPolicy::Reconcile`](crate::RetryPolicy) whose end is in
    /// doubt. Default: nobody, and such prompts are refused.
    pub fn reconciler(mut self, reconciler: impl Reconciler + 'static) -> Self {
        self.reconciler = Some(Arc::new(reconciler));
        self
    }

    /// Somebody who takes every event, in order.
    pub fn sink(mut self, sink: impl EventSink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }
}
