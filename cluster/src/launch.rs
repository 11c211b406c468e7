//! Building a cluster and bringing it up.
//!
//! Owns the builder, its defaults and the start of all tasks. Must not run anything itself afterwards. Invariant: an
//! error here leaves no process and no worktree behind.

mod group;
mod makings;

use std::collections::HashMap;
use std::future::IntoFuture;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use toolpool_pool_core::LaunchOptions;
use toolpool_pool_core::SharingLauncher;
use toolpool_pool_core::launcher::{Launcher, LocalLauncher};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_routing::{Routing, Strategy};

use crate::approvals::Approvals;
use crate::breaker::BreakerConfig;
use crate::dispatcher::{Dispatcher, Facts, Journal, Retries, Sessions};
use crate::error::{ClusterError, ControlError};
use crate::event::EventSink;
use crate::fit::{Groups, MAX_GROUPS, Offer};
use crate::history::{History, SUBSCRIBER_BUFFER};
use crate::instance::InstanceConfig;
use crate::mailbox::Mailbox;
use crate::manager::{ClusterManager, Inner, Member};
use crate::replacing::{Recycle, Replacements};
use crate::restarts::{RestartLimit, RestartPolicy};
use crate::retry::Reconciler;
use crate::scheduler::Scheduler;
use crate::starting::{self, Starts};
use crate::store::{Accepted, Store, StoreError};
use crate::turn::{Message, Turn};
use crate::worktree::Repository;

pub use group::{Group, ToolSet, ToolSpec, ToolSpecError};
pub(crate) use makings::{Made, Makings};

/// Instances that one cluster may have.
pub const MAX_COUNT: usize = 1000;

/// Messages on their way to the dispatcher; senders wait when it is full.
const MAILBOX: usize = 1024;

/// The label of prompts that belong to a batch.
const BATCH: &str = "batch";

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

/// Launches instances of a tool, or of several, as one cluster. Awaiting the builder launches it.
///
/// A tool is the name of a built-in profile, the path of a profile's file (ending in `.toml`) or a [`ToolProfile`]; a text
/// may say how many instances of it, as `aider:2`. A list of tools makes a mixed cluster, whose prompts run on whichever
/// instance is free unless they ask for [a tool](crate::Submission::to_tool) or [a role](crate::Submission::role).
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
    /// tool, so that prompts for one that is stuck do not keep out the others. Several callers: see [`Submission::client`](crate::Submission::client).
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
    /// when it is in them that this is going to happen; and its caller, [the events](ClusterManager::subscribe) and
    /// [the account](crate::Books) hear its end when that is in them. Where the books have no space left, prompts are refused
    /// with the code `journal_full`. When they cannot be written any more, the cluster stops at once: what a tool was given
    /// ends indeterminate, with the cause `journal_failed`, and what was only queued is still queued in the books.
    ///
    /// What earlier clusters of the same [name](ClusterBuilder::name) accepted and never gave to a tool runs again, under its
    /// number, with nobody waiting for it: its end is in the books and the events. What belongs to a batch (it has a label
    /// `batch`) waits for that batch to be resumed. What a tool may have begun is in doubt and does not run again.
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

    async fn launch(self) -> Result<ClusterManager, ClusterError> {
        let manager = self.start().await?;
        let count = manager.instances().len();
        // Every instance gets its first chance; the cluster is up if one took it.
        let mut failure = None;
        let mut ready = 0;
        for index in 0..count {
            match manager.await_settled(index).await {
                Ok(()) => ready += 1,
                Err(error) => failure = failure.or(Some((index, error))),
            }
        }
        match failure {
            Some((index, error)) if ready == 0 => {
                manager.shutdown_within(Duration::ZERO).await;
                let (instance, reason) = match error {
                    ControlError::NotReady { instance, reason } => (instance, reason),
                    other => (manager.instances()[index].to_string(), other.to_string()),
                };
                Err(ClusterError::NoneReady {
                    tool: manager.profiles()[index].name.clone(),
                    count,
                    instance,
                    reason,
                })
            }
            _ => Ok(manager),
        }
    }

    /// Checks all settings, makes the worktrees and starts the tasks.
    async fn start(mut self) -> Result<ClusterManager, ClusterError> {
        self.check_settings()?;
        let mut plans = self.plans()?;
        let journal = self.journal.clone();
        let sessions = sessions(journal, &self.name, &mut plans).await?;
        let groups = Groups::new(plans.iter().map(Plan::offer).collect());
        let group_of = groups.of_instances(self.spare);
        toolpool_pool_core::reserve_open_files(group_of.len())?;

        let queued = queued(self.journal.as_ref(), &self.name).await?;

        let now = crate::clock::now();
        let (dispatcher, inbox) = mpsc::channel(MAILBOX);
        let events = broadcast::Sender::new(SUBSCRIBER_BUFFER);
        let subscribers = events.downgrade();
        let (alive, handles) = oneshot::channel();
        let (kill, killed) = watch::channel(false);
        let makings = Makings {
            cluster: self.name.clone(),
            instance: self.instance.clone(),
            start_timeout: self.start_timeout,
            capacity: self.capacity,
            spare: self.spare,
            repositories: repositories(self.isolation, &plans).await?,
            plans,
            permissions: Arc::new(AtomicU64::new(1)),
            journal: self.journal.clone(),
            kill: killed,
            dispatcher: dispatcher.clone(),
        };
        let places: Vec<(usize, usize)> = group_of.iter().copied().zip(0..).collect();
        let mut roster = Vec::with_capacity(places.len());
        for Made { entry, supervisor } in makings.make(&places).await? {
            roster.push(entry);
            tokio::spawn(supervisor.run());
        }
        let members = places.iter().map(|(group, index)| Member {
            name: makings.name(*index),
            profile: Arc::clone(makings.profile(*group)),
            group: *group,
            live: true,
        });
        let members: Vec<Member> = members.collect();
        let facts = Facts {
            cluster: Arc::from(self.name),
            tool: groups.tool(),
            strategy: self.strategy.name(),
            queue_limit: self.queue_limit,
            recycle: self.recycle,
            groups,
            kill,
        };
        let starts = Starts::new(&group_of, starting::at_once(), &self.instance.breaker);
        let mut scheduler = Scheduler::new(&group_of, self.queue_limit, self.strategy, now);
        for group in 0..facts.groups.len() {
            // Nothing is decided while nothing runs.
            scheduler.resize(now, group, facts.groups.count_of(group), &mut Vec::new());
        }
        let next_turn = self.journal.as_ref().map_or(1, |it| it.next_turn().0);
        let (journal, answers) = self.journal.map(Journal::new).unzip();
        if let Some(sessions) = &sessions {
            scheduler.shelve(sessions.shelved(&roster));
        }
        let task = Dispatcher {
            facts,
            scheduler,
            history: History::new(self.sinks, events, journal),
            roster,
            inbox,
            answers,
            handles,
            turns: HashMap::new(),
            decisions: Vec::new(),
            retries: Retries::new(self.reconciler),
            starts,
            replacements: Replacements::new(),
            replacing: None,
            sessions,
            shutdown: None,
            kept: Vec::new(),
        };
        tokio::spawn(task.run());
        for accepted in queued {
            let turn = Box::new(Turn::again(accepted, now));
            // It runs before anybody can have ended it.
            dispatcher.send(Message::Submit(turn)).await.ok();
        }
        Ok(ClusterManager {
            inner: Arc::new(Inner {
                dispatcher,
                events: subscribers,
                next_turn: AtomicU64::new(next_turn),
                members: RwLock::new(members),
                makings,
                scaling: tokio::sync::Mutex::default(),
                queue_timeout: self.queue_timeout,
                drain_timeout: self.drain_timeout,
                mailbox: Mailbox::default(),
                _alive: alive,
            }),
        })
    }

    /// What each group is to be, with the cluster's settings under its own, checked as far as that goes without a start.
    fn plans(&mut self) -> Result<Vec<Plan>, ClusterError> {
        let several = self.groups.len() > 1;
        let mut plans = Vec::new();
        for group in std::mem::take(&mut self.groups) {
            let profile = self.asking(*group.profile.map_err(|error| *error)?)?;
            let count = match (self.count, group.count) {
                (Some(count), Some(own)) => {
                    return Err(setting(
                        "count",
                        count,
                        format!(
                            "{} says {own} for itself; leave one of them out",
                            profile.name
                        ),
                    ));
                }
                (Some(count), None) if several => {
                    return Err(setting(
                        "count",
                        count,
                        format!("it is for a single tool; write {}:{count}", profile.name),
                    ));
                }
                (count, own) => own.or(count).unwrap_or(1),
            };
            let mut options = self.options.clone();
            options.cwd = group.cwd.unwrap_or(options.cwd);
            if options.cwd.as_os_str().is_empty() {
                options.cwd = PathBuf::from(".");
            }
            if let Ok(cwd) = options.cwd.canonicalize() {
                options.cwd = cwd;
            }
            options.args.extend(group.args);
            options.env.extend(group.env);
            plans.push(Plan {
                launcher: self.launcher_of(&profile)?,
                profile,
                count,
                roles: group.roles,
                options,
            });
        }
        let tools: Vec<String> = plans.iter().map(|plan| plan.profile.name.clone()).collect();
        for (role, tool) in &self.roles {
            if !tools.contains(tool) {
                return Err(setting(
                    "role",
                    format!("{role}={tool}"),
                    format!("the tools of this cluster are {}", tools.join(", ")),
                ));
            }
            for plan in plans.iter_mut().filter(|plan| plan.profile.name == *tool) {
                plan.roles.push(role.clone());
            }
        }
        let count: usize = plans.iter().map(|plan| plan.count).sum();
        let all = count.saturating_add(plans.len().saturating_mul(self.spare));
        if self.spare > 0 && all > MAX_COUNT {
            let reason = format!(
                "with the spares that makes {all} instances; choose at most {MAX_COUNT} in all"
            );
            return Err(setting("spare", self.spare, reason));
        }
        if !(1..=MAX_COUNT).contains(&count) || plans.iter().any(|plan| plan.count == 0) {
            let reason = format!("choose 1 to {MAX_COUNT} instances");
            return Err(setting("count", count, reason));
        }
        self.check_capacity(&plans)?;
        for plan in &plans {
            toolpool_pool_core::check(&plan.profile, &plan.options)?;
        }
        Ok(plans)
    }

    /// The profile as the policy for permissions needs it.
    fn asking(&self, profile: ToolProfile) -> Result<Arc<ToolProfile>, ClusterError> {
        if self.instance.approvals != Approvals::Ask {
            return Ok(Arc::new(profile));
        }
        let tool = profile.name.clone();
        let asking = profile.asking().map(Arc::new);
        asking.ok_or_else(|| {
            setting(
                "approvals",
                "ask",
                format!(
                    "{tool} never asks for a permission, so nobody could be asked; choose another policy, or another tool"
                ),
            )
        })
    }

    /// What starts the processes of a tool.
    fn launcher_of(&self, profile: &ToolProfile) -> Result<Arc<dyn Launcher>, ClusterError> {
        if self.capacity <= 1 || !profile.shares() {
            return Ok(Arc::clone(&self.launcher));
        }
        if profile.edits && self.isolation == Isolation::Worktree {
            let reason = format!(
                "a process of {} works in one folder, and its instances are to have a worktree each; choose shared isolation (`Isolation::Shared`, `--isolation shared`)",
                profile.name
            );
            return Err(setting("capacity", self.capacity, reason));
        }
        let launcher = Arc::clone(&self.launcher);
        Ok(Arc::new(SharingLauncher::new(launcher, self.capacity)))
    }

    /// A capacity is for tools that can use it.
    fn check_capacity(&self, plans: &[Plan]) -> Result<(), ClusterError> {
        if self.capacity == 0 {
            let reason = "a process serves at least one instance".to_owned();
            return Err(setting("capacity", 0, reason));
        }
        if self.capacity > 1 && !plans.iter().any(|plan| plan.profile.shares()) {
            let names: Vec<&str> = plans
                .iter()
                .map(|plan| plan.profile.name.as_str())
                .collect();
            let reason = format!(
                "a process of {} holds one conversation; leave the capacity out",
                names.join(" or ")
            );
            return Err(setting("capacity", self.capacity, reason));
        }
        Ok(())
    }

    fn check_settings(&self) -> Result<(), ClusterError> {
        if !(1..=MAX_GROUPS).contains(&self.groups.len()) {
            return Err(setting(
                "tools",
                self.groups.len(),
                format!("choose 1 to {MAX_GROUPS} tools"),
            ));
        }
        if self.queue_limit == 0 {
            let reason = "a queue must hold at least one prompt".to_owned();
            return Err(setting("queue_limit", 0, reason));
        }
        let Recycle {
            turns,
            age,
            rss_bytes,
        } = self.recycle;
        if turns == Some(0) || age == Some(Duration::ZERO) || rss_bytes == Some(0) {
            let reason =
                "a limit of 0 would replace every process for ever; leave it out".to_owned();
            return Err(setting("recycle", 0, reason));
        }
        if self.capacity > 1 && self.recycle != Recycle::default() {
            let reason = "instances that share a process cannot be replaced one by one; leave one of the two settings out".to_owned();
            return Err(setting("recycle", "set", reason));
        }
        if self.capacity > 1 && self.instance.memory_limit.is_some() {
            let reason = "instances that share a process cannot be weighed one by one; leave one of the two settings out".to_owned();
            return Err(setting("memory_limit", "set", reason));
        }
        if self.name.is_empty()
            || !self
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            let reason = "use letters, digits, `-` and `_`".to_owned();
            return Err(setting("name", &self.name, reason));
        }
        if self.instance.breaker.failures == 0 {
            let reason = "a breaker trips at 1 failure or more".to_owned();
            return Err(setting("breaker.failures", 0, reason));
        }
        Ok(())
    }
}

fn setting(setting: &'static str, value: impl ToString, reason: String) -> ClusterError {
    ClusterError::Setting {
        setting,
        value: value.to_string(),
        reason,
    }
}

/// A group with all its settings.
struct Plan {
    profile: Arc<ToolProfile>,
    launcher: Arc<dyn Launcher>,
    count: usize,
    roles: Vec<String>,
    options: LaunchOptions,
}

impl Plan {
    fn offer(&self) -> Offer {
        Offer {
            tool: Arc::from(self.profile.name.as_str()),
            roles: self.roles.clone(),
            login: self.profile.login.clone(),
            count: self.count,
            max_prompt_bytes: self.profile.max_prompt_bytes,
            keeps_conversations: self.profile.keeps_conversations(),
            talks_to_a_model: self.profile.talks_to_a_model(),
        }
    }
}

/// What earlier clusters of that name have accepted and never given to a tool. What belongs to a batch is its own.
async fn queued(
    journal: Option<&Arc<dyn Store>>,
    cluster: &str,
) -> Result<Vec<Accepted>, ClusterError> {
    let Some(store) = journal.map(Arc::clone) else {
        return Ok(Vec::new());
    };
    let cluster = cluster.to_owned();
    let read = tokio::task::spawn_blocking(move || store.queued(&cluster)).await;
    // A store that panics is one that cannot be read.
    let queued = read.unwrap_or_else(|panic| {
        Err(StoreError::Failed {
            path: "the journal".to_owned(),
            detail: panic.to_string(),
        })
    });
    let mut queued = queued.map_err(ClusterError::Journal)?;
    queued.retain(|accepted| !accepted.labels.iter().any(|(name, _)| name == BATCH));
    Ok(queued)
}

/// What the books know of sessions, once nothing that a killed program has left works in their folders any more.
async fn sessions(
    journal: Option<Arc<dyn Store>>,
    cluster: &str,
    plans: &mut [Plan],
) -> Result<Option<Sessions>, ClusterError> {
    let Some(store) = journal else {
        return Ok(None);
    };
    let sessions = Sessions::open(store, Arc::from(cluster))
        .map_err(|error| setting("journal", cluster, error.to_string()))?;
    for plan in plans {
        plan.options.keep_in = sessions.root();
    }
    Ok(Some(sessions.settled().await))
}

/// The repository of each group of a tool that edits files, where its folder is in one.
async fn repositories(
    isolation: Isolation,
    plans: &[Plan],
) -> Result<Vec<Option<Repository>>, ClusterError> {
    let mut repositories = Vec::new();
    for plan in plans {
        repositories.push(match isolation {
            Isolation::Worktree if plan.profile.edits => repository(plan).await?,
            Isolation::Worktree | Isolation::Shared => None,
        });
    }
    Ok(repositories)
}

/// The repository that a group works in, told of its tool's litter.
async fn repository(plan: &Plan) -> Result<Option<Repository>, ClusterError> {
    let Some(repository) = Repository::discover(&plan.options.cwd).await? else {
        return Ok(None);
    };
    let litter: Vec<&str> = plan.profile.litter.iter().map(String::as_str).collect();
    repository.exclude(&litter).await?;
    Ok(Some(repository))
}

impl IntoFuture for ClusterBuilder {
    type Output = Result<ClusterManager, ClusterError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.launch())
    }
}
