//! Building a cluster and bringing it up.
//!
//! Owns the builder, its defaults and the start of all tasks. Must not run anything itself afterwards. Invariant: an
//! error here leaves no process and no worktree behind.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use toolpool_pool_core::LaunchOptions;
use toolpool_pool_core::launcher::{Launcher, PipeLauncher};
use toolpool_pool_core::profile::{ProfileError, ToolProfile};
use toolpool_routing::{Routing, Strategy};

use crate::approvals::Approvals;
use crate::breaker::BreakerConfig;
use crate::dispatcher::{Dispatcher, Entry, Facts};
use crate::error::{ClusterError, ControlError};
use crate::event::EventSink;
use crate::history::{History, SUBSCRIBER_BUFFER};
use crate::instance::{Instance, InstanceConfig};
use crate::mailbox::Mailbox;
use crate::manager::{ClusterManager, Inner};
use crate::scheduler::Scheduler;
use crate::supervisor::{Recipe, Supervisor};
use crate::worktree::{Repository, Worktree};

/// Instances that one cluster may have.
pub const MAX_COUNT: usize = 1000;

/// Messages on their way to the dispatcher; senders wait when it is full.
const MAILBOX: usize = 1024;

/// Orders on their way to a supervisor. One turn at a time can be under way, the rest are rare acts of an operator.
const ORDERS: usize = 64;

/// Where an instance of a tool that edits files works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// In a git worktree and branch of its own, if the tool edits files and the folder is in a git repository.
    #[default]
    Worktree,
    /// In the folder itself, beside all others.
    Shared,
}

/// A tool: the name of a built-in profile, the path of a profile's file (ending in `.toml`), or a profile.
pub struct Tool(Result<Box<ToolProfile>, ProfileError>);

impl From<&str> for Tool {
    fn from(name: &str) -> Self {
        Self(ToolProfile::builtin(name).map(Box::new))
    }
}

impl From<String> for Tool {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<ToolProfile> for Tool {
    fn from(profile: ToolProfile) -> Self {
        Self(Ok(Box::new(profile)))
    }
}

/// Launches N instances of a tool as one cluster. Awaiting the builder launches it.
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
pub fn launch_cluster(tool: impl Into<Tool>) -> ClusterBuilder {
    ClusterBuilder {
        tool: tool.into(),
        name: "main".to_owned(),
        count: 1,
        strategy: Routing::default().strategy(),
        options: LaunchOptions::default(),
        isolation: Isolation::default(),
        instance: InstanceConfig::default(),
        start_timeout: None,
        queue_limit: 1024,
        queue_timeout: None,
        drain_timeout: Duration::from_secs(30),
        launcher: Arc::new(PipeLauncher),
        sinks: Vec::new(),
    }
}

/// What a cluster is to be. Each setting has a default; awaiting it launches the cluster.
#[must_use = "a builder does nothing until it is awaited"]
pub struct ClusterBuilder {
    tool: Tool,
    name: String,
    count: usize,
    strategy: Box<dyn Strategy>,
    options: LaunchOptions,
    isolation: Isolation,
    instance: InstanceConfig,
    start_timeout: Option<Duration>,
    queue_limit: usize,
    queue_timeout: Option<Duration>,
    drain_timeout: Duration,
    launcher: Arc<dyn Launcher>,
    sinks: Vec<Box<dyn EventSink>>,
}

impl ClusterBuilder {
    /// The cluster's name, the first part of its instances' names. Default `main`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many instances, 1 to [`MAX_COUNT`]. Default 1.
    pub fn count(mut self, count: usize) -> Self {
        self.count = count;
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

    /// First and longest wait before a restart. Default 200 milliseconds and 30 seconds.
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

    /// How many prompts the queue holds; more are refused. Default 1,024.
    pub fn queue_limit(mut self, limit: usize) -> Self {
        self.queue_limit = limit;
        self
    }

    /// Longest wait of a prompt in the queue. Default: no limit.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// How long [`ClusterManager::shutdown`] waits for prompts to end. Default 30 seconds.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// What is answered when a tool asks for a permission. Default: what only reads is allowed.
    pub fn approvals(mut self, approvals: Approvals) -> Self {
        self.instance.approvals = approvals;
        self
    }

    /// With [`Approvals::Ask`]: how long a question waits for [`ClusterManager::answer`]; then the answer is no. Default
    /// 5 minutes.
    pub fn approval_timeout(mut self, timeout: Duration) -> Self {
        self.instance.approval_timeout = timeout;
        self
    }

    /// Another way to start processes. Default: plain pipes.
    pub fn launcher(mut self, launcher: Arc<dyn Launcher>) -> Self {
        self.launcher = launcher;
        self
    }

    /// Somebody who takes every event, in order.
    pub fn sink(mut self, sink: impl EventSink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    async fn launch(self) -> Result<ClusterManager, ClusterError> {
        let (manager, count, tool) = self.start().await?;
        // Every instance gets its first chance; the cluster is up if one took it.
        let mut failure = None;
        let mut ready = 0;
        for index in 0..count {
            match manager.await_settled(index).await {
                Ok(()) => ready += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if ready == 0 => {
                manager.shutdown_within(Duration::ZERO).await;
                let (instance, reason) = match error {
                    ControlError::NotReady { instance, reason } => (instance, reason),
                    other => ("all".to_owned(), other.to_string()),
                };
                Err(ClusterError::NoneReady {
                    tool,
                    count,
                    instance,
                    reason,
                })
            }
            _ => Ok(manager),
        }
    }

    /// Checks all settings, makes the worktrees and starts the tasks.
    async fn start(mut self) -> Result<(ClusterManager, usize, String), ClusterError> {
        self.check_settings()?;
        let mut profile = *self.tool.0?;
        if self.instance.approvals == Approvals::Ask {
            let tool = profile.name.clone();
            profile = profile.asking().ok_or_else(|| ClusterError::Setting {
                setting: "approvals",
                value: "ask".to_owned(),
                reason: format!(
                    "{tool} never asks for a permission, so nobody could be asked; choose another policy, or another tool"
                ),
            })?;
        }
        let profile = Arc::new(profile);
        if self.options.cwd.as_os_str().is_empty() {
            self.options.cwd = PathBuf::from(".");
        }
        if let Ok(cwd) = self.options.cwd.canonicalize() {
            self.options.cwd = cwd;
        }
        toolpool_pool_core::check(&profile, &self.options)?;
        toolpool_pool_core::reserve_open_files(self.count)?;
        self.instance.start_timeout = self.start_timeout.unwrap_or(profile.start_timeout);

        let names: Vec<Arc<str>> = (1..=self.count)
            .map(|place| Arc::from(format!("{}/{place}", self.name)))
            .collect();
        let mut worktrees = worktrees(self.isolation, &self.options.cwd, &profile, &names)
            .await?
            .into_iter();
        let now = tokio::time::Instant::now().into_std();
        let (dispatcher, inbox) = mpsc::channel(MAILBOX);
        let events = broadcast::Sender::new(SUBSCRIBER_BUFFER);
        let permissions = Arc::new(AtomicU64::new(1));
        let subscribers = events.downgrade();
        let (alive, handles) = oneshot::channel();
        let mut roster = Vec::with_capacity(self.count);
        for (index, name) in names.iter().enumerate() {
            let mut options = self.options.clone();
            let mut branch = None;
            let worktree = worktrees.next();
            if let Some(worktree) = &worktree {
                options.cwd = worktree.cwd_for(&self.options.cwd)?;
                branch = Some(worktree.branch().to_owned());
            }
            let (orders, taken) = mpsc::channel(ORDERS);
            roster.push(Entry::new(
                Arc::clone(name),
                orders,
                options.cwd.display().to_string(),
                branch,
                now,
            ));
            let recipe = Recipe {
                profile: Arc::clone(&profile),
                options,
                launcher: Arc::clone(&self.launcher),
                permissions: Arc::clone(&permissions),
            };
            let machine = Instance::new(self.instance.clone(), index as u64);
            let supervisor = Supervisor::new(
                index,
                Arc::clone(name),
                recipe,
                worktree,
                machine,
                taken,
                dispatcher.clone(),
            );
            tokio::spawn(supervisor.run());
        }
        let facts = Facts {
            cluster: Arc::from(self.name),
            tool: Arc::from(profile.name.as_str()),
            strategy: self.strategy.name(),
            queue_limit: self.queue_limit,
            max_prompt_bytes: profile.max_prompt_bytes,
        };
        let task = Dispatcher {
            facts,
            scheduler: Scheduler::new(self.count, self.queue_limit, self.strategy, now),
            history: History::new(self.sinks, events),
            roster,
            inbox,
            handles,
            turns: HashMap::new(),
            decisions: Vec::new(),
            shutdown: None,
            kept: Vec::new(),
        };
        tokio::spawn(task.run());
        let tool = profile.name.clone();
        let manager = ClusterManager {
            inner: Arc::new(Inner {
                dispatcher,
                events: subscribers,
                next_turn: AtomicU64::new(1),
                profile,
                names,
                queue_timeout: self.queue_timeout,
                drain_timeout: self.drain_timeout,
                mailbox: Mailbox::default(),
                _alive: alive,
            }),
        };
        Ok((manager, self.count, tool))
    }

    fn check_settings(&self) -> Result<(), ClusterError> {
        let refuse = |setting, value: String, reason: String| {
            Err(ClusterError::Setting {
                setting,
                value,
                reason,
            })
        };
        if !(1..=MAX_COUNT).contains(&self.count) {
            return refuse(
                "count",
                self.count.to_string(),
                format!("choose 1 to {MAX_COUNT} instances"),
            );
        }
        if self.queue_limit == 0 {
            return refuse(
                "queue_limit",
                "0".to_owned(),
                "a queue must hold at least one prompt".to_owned(),
            );
        }
        if self.name.is_empty()
            || !self
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            return refuse(
                "name",
                self.name.clone(),
                "use letters, digits, `-` and `_`".to_owned(),
            );
        }
        if self.instance.breaker.failures == 0 {
            return refuse(
                "breaker.failures",
                "0".to_owned(),
                "a breaker trips at 1 failure or more".to_owned(),
            );
        }
        Ok(())
    }
}

/// One worktree for each instance of a tool that edits files in a git repository, none otherwise.
async fn worktrees(
    isolation: Isolation,
    cwd: &Path,
    profile: &ToolProfile,
    names: &[Arc<str>],
) -> Result<Vec<Worktree>, ClusterError> {
    if !profile.edits || isolation == Isolation::Shared {
        return Ok(Vec::new());
    }
    let Some(repository) = Repository::discover(cwd).await? else {
        return Ok(Vec::new());
    };
    let litter: Vec<&str> = profile.litter.iter().map(String::as_str).collect();
    repository.exclude(&litter).await?;
    let mut worktrees = Vec::new();
    // One at a time: git's own locks make parallel ones fail.
    for name in names {
        match repository.add_worktree(name).await {
            Ok(worktree) => worktrees.push(worktree),
            Err(error) => {
                for worktree in worktrees {
                    // The first error is the one to tell; what cannot be removed is reused by the next run.
                    worktree.release().await.ok();
                }
                return Err(error.into());
            }
        }
    }
    Ok(worktrees)
}

impl IntoFuture for ClusterBuilder {
    type Output = Result<ClusterManager, ClusterError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.launch())
    }
}
