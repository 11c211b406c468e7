//! What each group of a cluster is to be, and whether that can be.
//!
//! Owns the checks of all settings, and how a group's own go over the cluster's. Must not start anything. Invariant: what
//! is planned fails for no setting any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toolpool_pool_core::launcher::Launcher;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::{LaunchOptions, SharingLauncher};

use super::{ClusterBuilder, Group, Isolation, MAX_COUNT};
use crate::approvals::Approvals;
use crate::error::ClusterError;
use crate::fit::{MAX_GROUPS, Offer};
use crate::replacing::Recycle;

/// A group with all its settings.
pub(super) struct Plan {
    pub(super) profile: Arc<ToolProfile>,
    pub(super) launcher: Arc<dyn Launcher>,
    count: usize,
    roles: Vec<String>,
    pub(super) options: LaunchOptions,
}

impl Plan {
    pub(super) fn offer(&self) -> Offer {
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

impl ClusterBuilder {
    /// What each group is to be, with the cluster's settings under its own, checked as far as that goes without a start.
    pub(super) fn plans(&mut self) -> Result<Vec<Plan>, ClusterError> {
        self.check_settings()?;
        let groups = std::mem::take(&mut self.groups);
        let alone = groups.len() == 1;
        let plans = groups.into_iter().map(|group| self.plan(group, alone));
        let mut plans = plans.collect::<Result<Vec<Plan>, ClusterError>>()?;
        self.give_roles(&mut plans)?;
        self.check_counts(&plans)?;
        self.check_capacity(&plans)?;
        for plan in &plans {
            toolpool_pool_core::check(&plan.profile, &plan.options)?;
        }
        Ok(plans)
    }

    fn plan(&self, group: Group, alone: bool) -> Result<Plan, ClusterError> {
        let profile = self.asking(*group.profile.map_err(|error| *error)?)?;
        let tool = &profile.name;
        let count = match (self.count, group.count) {
            (Some(count), Some(own)) => {
                let reason = format!("{tool} says {own} for itself; leave one of them out");
                return Err(setting("count", count, reason));
            }
            (Some(count), None) if !alone => {
                let reason = format!("it is for a single tool; write {tool}:{count}");
                return Err(setting("count", count, reason));
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
        Ok(Plan {
            launcher: self.launcher_of(&profile)?,
            profile,
            count,
            roles: group.roles,
            options,
        })
    }

    /// Each role goes to all groups of its tool.
    fn give_roles(&self, plans: &mut [Plan]) -> Result<(), ClusterError> {
        let tools: Vec<String> = plans.iter().map(|plan| plan.profile.name.clone()).collect();
        for (role, tool) in &self.roles {
            if !tools.contains(tool) {
                let reason = format!("the tools of this cluster are {}", tools.join(", "));
                return Err(setting("role", format!("{role}={tool}"), reason));
            }
            for plan in plans.iter_mut().filter(|plan| plan.profile.name == *tool) {
                plan.roles.push(role.clone());
            }
        }
        Ok(())
    }

    fn check_counts(&self, plans: &[Plan]) -> Result<(), ClusterError> {
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
        Ok(())
    }

    /// The profile as the policy for permissions needs it.
    fn asking(&self, profile: ToolProfile) -> Result<Arc<ToolProfile>, ClusterError> {
        if self.instance.approvals != Approvals::Ask {
            return Ok(Arc::new(profile));
        }
        let tool = profile.name.clone();
        let asking = profile.asking().map(Arc::new);
        asking.ok_or_else(|| {
            let reason = format!(
                "{tool} never asks for a permission, so nobody could be asked; choose another policy, or another tool"
            );
            setting("approvals", "ask", reason)
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
            let reason = format!("choose 1 to {MAX_GROUPS} tools");
            return Err(setting("tools", self.groups.len(), reason));
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

pub(super) fn setting(setting: &'static str, value: impl ToString, reason: String) -> ClusterError {
    ClusterError::Setting {
        setting,
        value: value.to_string(),
        reason,
    }
}
