//! Another number of instances, while the cluster runs.
//!
//! Owns the table of all instances that there are or were, and which of them come and go. Must not know how one does.
//! Invariants: an index keeps its name for the cluster's life; one change at a time.

use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::oneshot;
use toolpool_pool_core::profile::ToolProfile;

use super::ClusterManager;
use crate::dispatcher::Addition;
use crate::error::ControlError;
use crate::launch::{MAX_COUNT, Made};
use crate::status::{KeptWork, Scaled};
use crate::turn::{Control, Message};

/// An instance, as the handles know it.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) profile: Arc<ToolProfile>,
    pub(crate) group: usize,
    /// It is there, and not on its way out.
    pub(crate) live: bool,
}

/// The names of those that were told to leave, and what each answers when it has.
type Leaving = Vec<(Arc<str>, oneshot::Receiver<Option<KeptWork>>)>;

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
    /// If the future is dropped, what it has begun goes on; instances that it has not come to yet are not made. It waits for
    /// another change, and for a [`ClusterManager::restart_all`], that is under way.
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
        let spare = self.inner.makings.spare;
        let (mine, others) = {
            let members = self.inner.members();
            let live = || members.iter().filter(|member| member.live);
            let mine = live().filter(|member| member.group == group).count();
            (mine.saturating_sub(spare), live().count() - mine)
        };
        let most = MAX_COUNT - others - spare;
        if !(1..=most).contains(&count) {
            let tool = self.inner.makings.profile(group).name.as_str();
            let reason = format!("choose 1 to {most}");
            return Err(cannot(tool, count, reason));
        }
        if count > mine {
            toolpool_pool_core::reserve_open_files(others + spare + count).map_err(|error| {
                let tool = self.inner.makings.profile(group).name.as_str();
                cannot(tool, count, error.to_string())
            })?;
            self.grow(group, mine, count).await
        } else if count < mine {
            self.shrink(group, mine, count).await
        } else {
            Ok(Scaled::default())
        }
    }

    async fn grow(&self, group: usize, from: usize, to: usize) -> Result<Scaled, ControlError> {
        let makings = &self.inner.makings;
        let places = self.places(group, to - from);
        let made = makings.make(&places).await.map_err(|error| {
            let tool = makings.profile(group).name.as_str();
            cannot(tool, to, error.to_string())
        })?;
        self.order(Control::Resize { group, from, to }).await?;
        let mut scaled = Scaled::default();
        for ((_, index), made) in places.iter().zip(made) {
            let name = self.add(*index, group, made).await?;
            scaled.added.push(name);
        }
        let mut failure = None;
        for (_, index) in &places {
            if let Err(error) = self.await_settled(*index).await {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(scaled), Err)
    }

    /// Where so many more instances of a group go: to the places of those that have left, then behind all.
    fn places(&self, group: usize, count: usize) -> Vec<(usize, usize)> {
        let members = self.inner.members();
        let each = members.iter().enumerate();
        let left = each.filter(|(_, member)| !member.live && member.group == group);
        let left = left.map(|(index, _)| index);
        let indices = left.chain(members.len()..).take(count);
        indices.map(|index| (group, index)).collect()
    }

    /// Lets the dispatcher take an instance in; its name.
    async fn add(&self, index: usize, group: usize, made: Made) -> Result<Arc<str>, ControlError> {
        let addition = Box::new(Addition {
            index,
            passing: false,
            made,
        });
        let this = self.clone();
        // Once it has been sent it is there, so nobody may stop listening before it is in the table.
        let adding = tokio::spawn(async move { this.take_in(addition, group).await });
        adding.await.map_err(|_| ControlError::ShutDown)?
    }

    async fn take_in(
        &self,
        addition: Box<Addition>,
        group: usize,
    ) -> Result<Arc<str>, ControlError> {
        let index = addition.index;
        let added = self
            .control(|answer| Control::Add(addition, answer))
            .await?;
        if let Err(refused) = added {
            refused.made.supervisor.discard().await;
            return Err(ControlError::ShutDown);
        }
        let makings = &self.inner.makings;
        let mut members = self.inner.members_mut();
        if index == members.len() {
            members.push(Member {
                name: makings.name(index),
                profile: Arc::clone(makings.profile(group)),
                group,
                live: true,
            });
        }
        members[index].live = true;
        Ok(Arc::clone(&members[index].name))
    }

    /// Replaces every process, group after group, with an instance more in each meanwhile.
    pub(super) async fn roll(&self) -> Result<(), ControlError> {
        let _no_scaling = self.inner.scaling.lock().await;
        let mut left = self.live().len();
        for group in 0..self.inner.makings.tools().count() {
            let first = self.first_of_new(group, left).await?;
            // Those that stand by show first whether a new process can start at all.
            let status = self.status().await?;
            let each = status.instances.iter();
            let spares = each
                .filter(|instance| instance.spare)
                .map(|instance| instance.index);
            let spares: Vec<usize> = spares.collect();
            let passing = first.as_ref().map(|passing| passing.index);
            let mut mine = self.live_of(group);
            mine.retain(|index| Some(*index) != passing);
            mine.sort_by_key(|index| !spares.contains(index));
            for index in mine {
                left -= 1;
                let replaced = self
                    .control(|answer| Control::Replace(index, answer))
                    .await?;
                replaced.map_err(|error| stopped(error, left))?;
            }
            if let Some(passing) = first {
                passing.leave().await?;
            }
        }
        Ok(())
    }

    /// The first instance with a new process, before any old one goes, where no spare can be that: one that is there for
    /// the while. If it cannot start, nothing has happened to the others.
    async fn first_of_new(
        &self,
        group: usize,
        untouched: usize,
    ) -> Result<Option<Passing>, ControlError> {
        let makings = &self.inner.makings;
        let full = self.live().len() == MAX_COUNT;
        let places = self.places(group, 1);
        let Some((_, index)) = places.first().filter(|_| !full && makings.is_rolled(group)) else {
            return Ok(None);
        };
        let made = makings.make(&places).await.map_err(|error| {
            let tool = makings.profile(group).name.as_str();
            cannot(tool, 1, error.to_string())
        })?;
        let (this, index) = (self.clone(), *index);
        // Whatever becomes of whoever waits for it here, it has somebody who lets it go.
        let adding = tokio::spawn(async move {
            for made in made {
                let addition = Box::new(Addition {
                    index,
                    passing: true,
                    made,
                });
                this.take_in(addition, group).await?;
            }
            Ok(Passing {
                manager: this,
                index,
                leaves: false,
            })
        });
        let passing = adding.await.map_err(|_| ControlError::ShutDown)??;
        match self.await_settled(index).await {
            Ok(()) => Ok(Some(passing)),
            Err(error) => {
                passing.leave().await?;
                Err(stopped(error, untouched))
            }
        }
    }

    async fn shrink(&self, group: usize, from: usize, to: usize) -> Result<Scaled, ControlError> {
        let this = self.clone();
        // Whoever is not in the table any more must have been told to leave.
        let leaving = tokio::spawn(async move { this.let_go(group, from, to).await });
        let leaving = leaving.await.map_err(|_| ControlError::ShutDown)??;
        let mut scaled = Scaled::default();
        for (name, answered) in leaving {
            let kept = answered.await.map_err(|_| ControlError::ShutDown)?;
            scaled.removed.push(name);
            scaled.kept.extend(kept);
        }
        Ok(scaled)
    }

    /// Tells those with the highest numbers to leave.
    async fn let_go(&self, group: usize, from: usize, to: usize) -> Result<Leaving, ControlError> {
        self.order(Control::Resize { group, from, to }).await?;
        let mut leaving = Vec::new();
        for index in self.live_of(group).into_iter().rev().take(from - to) {
            let name = {
                let member = &mut self.inner.members_mut()[index];
                member.live = false;
                Arc::clone(&member.name)
            };
            let (answer, answered) = oneshot::channel();
            self.order(Control::Retire(index, answer)).await?;
            leaving.push((name, answered));
        }
        Ok(leaving)
    }

    /// The indices of the instances that there are of a group.
    fn live_of(&self, group: usize) -> Vec<usize> {
        let members = self.inner.members();
        let each = members.iter().enumerate();
        let live = each.filter(|(_, member)| member.live && member.group == group);
        live.map(|(index, _)| index).collect()
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

/// An instance that is there while others are replaced. Dropping it lets it go.
struct Passing {
    manager: ClusterManager,
    index: usize,
    leaves: bool,
}

impl Passing {
    /// Waits until it has gone.
    async fn leave(mut self) -> Result<(), ControlError> {
        let (answer, answered) = oneshot::channel();
        self.manager
            .order(Control::Retire(self.index, answer))
            .await?;
        self.leaves = true;
        answered.await.map(drop).map_err(|_| ControlError::ShutDown)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.manager.inner.members_mut()[self.index].live = false;
        if self.leaves {
            return;
        }
        let (answer, _) = oneshot::channel();
        let retire = Message::Control(Control::Retire(self.index, answer));
        // With a full mailbox it stays, as a spare.
        self.manager.inner.dispatcher.try_send(retire).ok();
    }
}

fn stopped(error: ControlError, untouched: usize) -> ControlError {
    match error {
        ControlError::NotReady { instance, reason } => ControlError::RestartStopped {
            instance,
            reason,
            untouched,
        },
        other => other,
    }
}

fn cannot(tool: impl Into<String>, count: usize, reason: String) -> ControlError {
    ControlError::CannotScale {
        tool: tool.into(),
        count,
        reason,
    }
}
