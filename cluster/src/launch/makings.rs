//! What the instances of a cluster are made from, at its launch and later.
//!
//! Owns the checked settings of each group, and how one instance comes of them. Must not know how many there are.
//! Invariant: an instance that is not taken in leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use toolpool_pool_core::profile::ToolProfile;

use super::plan::Plan;
use crate::dispatcher::Entry;
use crate::instance::{Instance, InstanceConfig};
use crate::store::Store;
use crate::supervisor::{Recipe, Supervisor};
use crate::turn::Message;
use crate::worktree::{Repository, WorktreeError};

/// Orders on their way to a supervisor. One turn at a time can be under way, the rest are rare acts of an operator.
const ORDERS: usize = 64;

/// An instance that has no task yet.
pub(crate) struct Made {
    pub(crate) entry: Entry,
    pub(crate) supervisor: Supervisor,
}

pub(crate) struct Makings {
    pub(crate) cluster: String,
    pub(crate) instance: InstanceConfig,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) capacity: usize,
    /// Instances of each group beside those that are on duty.
    pub(crate) spare: usize,
    pub(super) plans: Vec<Plan>,
    /// The repository of each group whose instances have worktrees.
    pub(super) repositories: Vec<Option<Repository>>,
    /// Counts the cluster's questions.
    pub(crate) permissions: Arc<AtomicU64>,
    pub(crate) journal: Option<Arc<dyn Store>>,
    /// Becomes true when all is to be killed.
    pub(crate) kill: watch::Receiver<bool>,
    pub(crate) dispatcher: mpsc::Sender<Message>,
}

impl Makings {
    /// The name of the instance of that index.
    pub(crate) fn name(&self, index: usize) -> Arc<str> {
        Arc::from(format!("{}/{}", self.cluster, index + 1))
    }

    /// The groups' tools, in their order.
    pub(crate) fn tools(&self) -> impl Iterator<Item = &str> {
        self.plans.iter().map(|plan| plan.profile.name.as_str())
    }

    /// Whether a rolling restart of a group needs an instance more: no spare shows first whether a new process can start,
    /// and processes are not shared, so that one can be replaced alone.
    pub(crate) fn is_rolled(&self, group: usize) -> bool {
        let shares = self.capacity > 1 && self.plans[group].profile.shares();
        self.spare == 0 && !shares
    }

    pub(crate) fn profile(&self, group: usize) -> &Arc<ToolProfile> {
        &self.plans[group].profile
    }

    /// Instances of such groups. Their worktrees are made one at a time, because git's own locks make parallel ones fail.
    /// Each is the group and the index of one.
    pub(crate) async fn make(
        &self,
        instances: &[(usize, usize)],
    ) -> Result<Vec<Made>, WorktreeError> {
        let mut made = Vec::with_capacity(instances.len());
        for (group, index) in instances {
            // On the heap: a supervisor is large, and would be part of the future of whoever scales.
            match Box::pin(self.make_one(*group, *index)).await {
                Ok(one) => made.push(one),
                Err(error) => {
                    for Made { supervisor, .. } in made {
                        // The first error is the one to tell; what cannot be removed is reused by the next run.
                        Box::pin(supervisor.discard()).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    async fn make_one(&self, group: usize, index: usize) -> Result<Made, WorktreeError> {
        let (plan, name) = (&self.plans[group], self.name(index));
        let worktree = match &self.repositories[group] {
            Some(repository) => Some(repository.add_worktree(&name).await?),
            None => None,
        };
        let mut options = plan.options.clone();
        let mut branch = None;
        if let Some(worktree) = &worktree {
            options.cwd = worktree.cwd_for(&plan.options.cwd)?;
            branch = Some(worktree.branch().to_owned());
        }
        let (orders, taken) = mpsc::channel(ORDERS);
        let mut entry = Entry::new(
            Arc::clone(&name),
            Arc::from(plan.profile.name.as_str()),
            group,
            orders,
            options.cwd.display().to_string(),
            branch,
            crate::clock::now(),
        );
        // A process that is shared has one folder for the conversations of several instances.
        entry.resumes = plan.profile.resumes() && (self.capacity <= 1 || !plan.profile.shares());
        let recipe = Recipe {
            profile: Arc::clone(&plan.profile),
            options,
            launcher: Arc::clone(&plan.launcher),
            resumes: entry.resumes,
            permissions: Arc::clone(&self.permissions),
            journal: self.journal.clone(),
            kill: self.kill.clone(),
            may_pass: entry.may_pass.subscribe(),
        };
        let config = InstanceConfig {
            start_timeout: self.start_timeout.unwrap_or(plan.profile.start_timeout),
            interruptible: plan.profile.can_interrupt(),
            ..self.instance.clone()
        };
        let machine = Instance::new(config, index as u64);
        let dispatcher = self.dispatcher.clone();
        let supervisor = Supervisor::new(index, name, recipe, worktree, machine, taken, dispatcher);
        Ok(Made { entry, supervisor })
    }
}
