//! Bringing a cluster up.
//!
//! Owns the start of all tasks, and what is read, made and reserved before it. Must not check a setting, and not run
//! anything itself afterwards. Invariant: an error here leaves no process and no worktree behind.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::plan::{Plan, setting};
use super::{ClusterBuilder, Isolation, Made, Makings};
use crate::dispatcher::{Dispatcher, Facts, Journal, Retries, Sessions};
use crate::error::{ClusterError, ControlError};
use crate::fit::Groups;
use crate::history::{History, SUBSCRIBER_BUFFER};
use crate::mailbox::Mailbox;
use crate::manager::{ClusterManager, Inner, Member};
use crate::replacing::Replacements;
use crate::scheduler::Scheduler;
use crate::starting::{self, Starts};
use crate::store::{Accepted, Store, StoreError};
use crate::turn::{Message, Turn};
use crate::worktree::Repository;

/// Messages on their way to the dispatcher; senders wait when it is full.
const MAILBOX: usize = 1024;

/// The label of prompts that belong to a batch.
const BATCH: &str = "batch";

impl IntoFuture for ClusterBuilder {
    type Output = Result<ClusterManager, ClusterError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.launch())
    }
}

impl ClusterBuilder {
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

    /// Plans, makes the worktrees and starts the tasks.
    async fn start(mut self) -> Result<ClusterManager, ClusterError> {
        let mut plans = self.plans()?;
        let sessions = sessions(self.journal.clone(), &self.name, &mut plans).await?;
        let groups = Groups::new(plans.iter().map(Plan::offer).collect());
        let group_of = groups.of_instances(self.spare);
        toolpool_pool_core::reserve_open_files(group_of.len())?;
        let queued = queued(self.journal.clone(), &self.name).await?;
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
        if let Some(wait) = self.session_wait {
            scheduler.session_wait(wait);
        }
        let next_turn = self.journal.as_ref().map_or(1, |it| it.next_turn().0);
        let (journal, answers) = self.journal.map(Journal::new).unzip();
        let failure = journal.as_ref().map(Journal::failure).unwrap_or_default();
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
                failure,
                _alive: alive,
            }),
        })
    }
}

/// What earlier clusters of that name have accepted and never given to a tool. What belongs to a batch is its own, if the
/// batch can name it.
async fn queued(
    journal: Option<Arc<dyn Store>>,
    cluster: &str,
) -> Result<Vec<Accepted>, ClusterError> {
    let Some(store) = journal else {
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
    queued.retain(|it| it.key.is_none() || !it.labels.iter().any(|(name, _)| name == BATCH));
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
