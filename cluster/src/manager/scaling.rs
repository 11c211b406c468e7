//! Another number of instances, while the cluster runs.
//!
//! Owns the table of all instances that there are or were, and which of them come and go. Must not know how one does.
//! Invariants: an index keeps its name for the cluster's life; one change at a time.

use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use toolpool_pool_core::profile::ToolProfile;

use super::ClusterManager;
use crate::error::ControlError;
use crate::launch::MAX_COUNT;
use crate::status::Scaled;
use crate::turn::{Control, Message};

/// An instance, as the handles know it.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) profile: Arc<ToolProfile>,
    pub(crate) group: usize,
    /// It is there, and not on its way out.
    pub(crate) live: bool,
}

impl ClusterManager {
    /// Gives a cluster of one tool another number of instances. See [`ClusterManager::scale_tool`].
    ///
    /// ```no_run
    /// # async fn example(cluster: toolpool_cluster::ClusterManager) -> Result<(), Box<dyn std::error::Error>> {
    /// let scaled = cluster.scale(6).await?;
    /// println!("{} more", scaled.added.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ClusterManager::scale_tool`]; a cluster of several tools is told to name one.
    pub async fn scale(&self, count: usize) -> Result<Scaled, ControlError> {
        let tools: Vec<&str> = self.inner.makings.tools().collect();
        if tools.len() > 1 {
            let reason = format!(
                "this cluster has several tools; `scale_tool` one of {}",
                tools.join(", ")
            );
            return Err(cannot(tools.join("+"), count, reason));
        }
        self.scale_group(0, count).await
    }

    /// Gives a tool of the cluster another number of instances, at least 1 and at most [`MAX_COUNT`] in the whole cluster.
    ///
    /// More: new instances, with names, and worktrees if the tool edits, of their own; it answers when each of them had its
    /// first chance. Fewer: those with the highest numbers finish their turns and leave, and no prompt is lost; it answers
    /// when they are gone. Sessions that live on them end as their `on_loss` says, and the event `SessionsLost` says so. An
    /// instance that comes back later has the name and the index that it had.
    ///
    /// # Errors
    /// [`ControlError::CannotScale`] if the number is out of range, there is no such tool, or a worktree cannot be made:
    /// nothing was changed. [`ControlError::NotReady`] if a new instance did not become ready: it stays, and is started
    /// again as any other.
    ///
    /// # Cancel safety
    /// If the future is dropped, what it has begun goes on; instances that it has not come to yet are not made.
    pub async fn scale_tool(&self, tool: &str, count: usize) -> Result<Scaled, ControlError> {
        let tools: Vec<&str> = self.inner.makings.tools().collect();
        let groups = tools.iter().enumerate();
        let mut groups = groups
            .filter(|(_, name)| **name == tool)
            .map(|(group, _)| group);
        match (groups.next(), groups.next()) {
            (Some(group), None) => self.scale_group(group, count).await,
            (Some(_), Some(_)) => {
                let reason = "it has several groups of instances with settings of their own, so which is meant is not clear";
                Err(cannot(tool, count, reason.to_owned()))
            }
            (None, _) => {
                let reason = format!("the tools of this cluster are {}", tools.join(", "));
                Err(cannot(tool, count, reason))
            }
        }
    }

    async fn scale_group(&self, group: usize, count: usize) -> Result<Scaled, ControlError> {
        let _one_at_a_time = self.inner.scaling.lock().await;
        let (mine, others) = {
            let members = self.inner.members();
            let live = || members.iter().filter(|member| member.live);
            let mine = live().filter(|member| member.group == group).count();
            (mine, live().count() - mine)
        };
        if !(1..=MAX_COUNT - others).contains(&count) {
            let tool = self.inner.makings.profile(group).name.as_str();
            let reason = format!("choose 1 to {}", MAX_COUNT - others);
            return Err(cannot(tool, count, reason));
        }
        if count > mine {
            self.grow(group, mine, count, others).await
        } else if count < mine {
            self.shrink(group, mine, count).await
        } else {
            Ok(Scaled::default())
        }
    }

    async fn grow(
        &self,
        group: usize,
        from: usize,
        to: usize,
        others: usize,
    ) -> Result<Scaled, ControlError> {
        let makings = &self.inner.makings;
        let refused = |reason: String| cannot(makings.profile(group).name.as_str(), to, reason);
        toolpool_pool_core::reserve_open_files(others + to)
            .map_err(|error| refused(error.to_string()))?;
        let places: Vec<(usize, usize)> = {
            let members = self.inner.members();
            let each = members.iter().enumerate();
            let left = each.filter(|(_, member)| !member.live && member.group == group);
            let left = left.map(|(index, _)| index);
            let indices = left.chain(members.len()..).take(to - from);
            indices.map(|index| (group, index)).collect()
        };
        let made = makings.make(&places).await;
        let made = made.map_err(|error| refused(error.to_string()))?;
        self.order(Control::Resize { group, from, to }).await?;
        let mut scaled = Scaled::default();
        for ((_, index), made) in places.iter().zip(made) {
            let added = self
                .control(|answer| Control::Add(*index, Box::new(made), answer))
                .await?;
            if let Err(made) = added {
                made.supervisor.discard().await;
                return Err(ControlError::ShutDown);
            }
            let mut members = self.inner.members_mut();
            if *index == members.len() {
                members.push(Member {
                    name: makings.name(*index),
                    profile: Arc::clone(makings.profile(group)),
                    group,
                    live: true,
                });
            }
            members[*index].live = true;
            scaled.added.push(Arc::clone(&members[*index].name));
        }
        let mut failure = None;
        for (_, index) in &places {
            if let Err(error) = self.await_settled(*index).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(scaled), Err)
    }

    async fn shrink(&self, group: usize, from: usize, to: usize) -> Result<Scaled, ControlError> {
        self.order(Control::Resize { group, from, to }).await?;
        let leaving: Vec<(usize, Arc<str>)> = {
            let mut members = self.inner.members_mut();
            let each = members.iter_mut().enumerate().rev();
            let last = each.filter(|(_, member)| member.live && member.group == group);
            last.take(from - to)
                .map(|(index, member)| {
                    member.live = false;
                    (index, Arc::clone(&member.name))
                })
                .collect()
        };
        let mut left = Vec::new();
        for (index, name) in leaving {
            let (answer, answered) = tokio::sync::oneshot::channel();
            self.order(Control::Retire(index, answer)).await?;
            left.push((name, answered));
        }
        let mut scaled = Scaled::default();
        for (name, answered) in left {
            let kept = answered.await.map_err(|_| ControlError::ShutDown)?;
            scaled.removed.push(name);
            scaled.kept.extend(kept);
        }
        Ok(scaled)
    }

    async fn order(&self, control: Control) -> Result<(), ControlError> {
        let order = self.inner.dispatcher.send(Message::Control(control));
        order.await.map_err(|_| ControlError::ShutDown)
    }
}

impl super::Inner {
    /// Every instance that there is or was, by index.
    pub(super) fn members(&self) -> RwLockReadGuard<'_, Vec<Member>> {
        // Nobody panics while holding it; if somebody did, the table would still be whole.
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn members_mut(&self) -> RwLockWriteGuard<'_, Vec<Member>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cannot(tool: impl Into<String>, count: usize, reason: String) -> ControlError {
    ControlError::CannotScale {
        tool: tool.into(),
        count,
        reason,
    }
}
