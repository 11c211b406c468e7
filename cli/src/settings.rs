//! From options to a cluster that can be launched.
//!
//! Owns the options that every command with a cluster shares, and their checks. Must not start anything. Invariant: what
//! can be found wrong before a process is started is found here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toolpool::journal::Journal;
use toolpool::worktree::{Repository, WorktreeError};
use toolpool::{
    Approvals, BreakerConfig, Catalog, ClusterBuilder, ClusterError, Isolation, LaunchError,
    LaunchOptions, MAX_COUNT, ProfileError, Routing, ToolProfile, launch_cluster,
};

use crate::duration;
use crate::error::CliError;
use crate::groups::{self, Role, ToolGroup};
use crate::size;

/// Options of the cluster that a command launches for itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The tool: a name from `toolpool tools`, or the path of a profile ending in .toml; with how many instances, such as
    /// aider:2. May be repeated: then the cluster has several tools
    #[arg(
        short,
        long,
        value_name = "TOOL[:N]",
        env = "TOOLPOOL_TOOL",
        hide_env_values = true
    )]
    tool: Vec<String>,
    /// How many instances of a single tool [default: 1]
    #[arg(short = 'n', long, value_name = "N", value_parser = instances)]
    count: Option<usize>,
    /// How many instances more of each tool stand by, to take over at once when another is missing
    #[arg(long, value_name = "N", default_value_t = 0)]
    spare: usize,
    /// NAME=TOOL gives a tool's instances a role; NAME alone sends to those that have it. May be repeated
    #[arg(long, value_name = "NAME[=TOOL]", value_parser = groups::role)]
    role: Vec<Role>,
    /// Who gets the next prompt: round-robin, least-busy or sticky
    #[arg(long, value_name = "STRATEGY", default_value_t = Routing::LeastBusy)]
    routing: Routing,
    /// Work in this folder; files and patterns are relative to it
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    cwd: PathBuf,
    /// Whether instances of a tool that edits files get a git worktree each
    #[arg(long, value_name = "HOW", default_value = "worktree")]
    isolation: IsolationArg,
    /// How many instances share one process, for tools that can hold several conversations at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = instances)]
    capacity: usize,
    /// Start although the folder holds files that can take the tool over
    #[arg(long)]
    trust_folder: bool,
    /// What a tool may do that asks before it acts
    #[arg(long, value_name = "WHAT", default_value = "reads")]
    approvals: ApprovalsArg,
    /// How long a tool waits for your answer; then it is no
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    approval_timeout: Duration,
    /// Longest run of one turn, waiting for your answers aside; then its process is killed
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = duration::parse)]
    turn_timeout: Duration,
    /// Longest silence of a tool in a turn; then its process is killed [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    silence_timeout: Option<Duration>,
    /// Most memory of a tool in a turn, such as 2GiB; then it is killed [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory_limit: Option<u64>,
    /// Longest start of an instance [default: the profile's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    start_timeout: Option<Duration>,
    /// Serve Prometheus metrics at this loopback address while it runs, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDR", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// An argument for the tool, after those of its profile; with several tools TOOL:ARG says which. May be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// A variable for the tool; may be repeated. Not for secrets on a shared machine: others can see a command line
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// More arguments for a single tool
    #[arg(last = true, value_name = "TOOL ARGS")]
    tool_args: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum IsolationArg {
    /// A worktree and branch for each instance, if the folder is in a git repository
    Worktree,
    /// All in the folder itself
    Shared,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ApprovalsArg {
    /// What you allow, each time, at the terminal; tools are made to ask before every act
    Ask,
    /// Nothing
    None,
    /// Look at files
    Reads,
    /// Look at files and change them
    Edits,
    /// Everything, commands among them
    All,
}

impl From<ApprovalsArg> for Approvals {
    fn from(arg: ApprovalsArg) -> Self {
        match arg {
            ApprovalsArg::Ask => Self::Ask,
            ApprovalsArg::None => Self::None,
            ApprovalsArg::Reads => Self::Reads,
            ApprovalsArg::Edits => Self::Edits,
            ApprovalsArg::All => Self::All,
        }
    }
}

pub(crate) fn instances(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MAX_COUNT).contains(&count) => Ok(count),
        _ => Err(format!("choose 1 to {MAX_COUNT} instances")),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an address and a port, such as 127.0.0.1:9464".to_owned())
}

pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// A cluster, checked and ready to be launched.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) groups: Vec<ToolGroup>,
    /// The role that prompts are for, if for one.
    pub(crate) role: Option<String>,
    /// The folder that all paths are relative to, absolute and without links.
    pub(crate) cwd: PathBuf,
    pub(crate) metrics: Option<SocketAddr>,
    /// Where work lands, if instances work in worktrees.
    pub(crate) landing: Option<Landing>,
    pub(crate) routing: Routing,
    pub(crate) approvals: Approvals,
    approval_timeout: Duration,
    isolation: Isolation,
    capacity: usize,
    spare: usize,
    trust_folder: bool,
    pub(crate) turn_timeout: Duration,
    silence_timeout: Option<Duration>,
    memory_limit: Option<u64>,
    start_timeout: Option<Duration>,
    pub(crate) env: Vec<(String, String)>,
    /// Other limits than the library's own, for a rehearsal.
    pub(crate) limits: Option<Limits>,
    /// Where prompts and their ends are kept.
    pub(crate) journal: Option<Journal>,
}

/// Limits that have no option.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) stop_grace: Duration,
    /// The first and the longest.
    pub(crate) restart_delay: (Duration, Duration),
    pub(crate) breaker: BreakerConfig,
}

/// Where the changes of editing tools come home.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) branch: String,
}

impl ClusterArgs {
    pub(crate) async fn resolve(self) -> Result<Settings, CliError> {
        let mut groups = groups::chosen(&self.tool, self.count)?;
        groups::give_args(&mut groups, self.arg, self.tool_args)?;
        let role = groups::give_roles(&mut groups, self.role)?;
        let folder_gone = || LaunchError::NoFolder {
            tool: groups[0].profile.name.clone(),
            cwd: self.cwd.clone(),
        };
        let cwd = self.cwd.canonicalize().map_err(|_| folder_gone())?;
        if !cwd.is_dir() {
            return Err(folder_gone().into());
        }
        let isolation = match self.isolation {
            IsolationArg::Worktree => Isolation::Worktree,
            IsolationArg::Shared => Isolation::Shared,
        };
        let edits = groups.iter().any(|group| group.profile.edits);
        let landing = if edits && isolation == Isolation::Worktree {
            landing(&cwd).await.map_err(ClusterError::from)?
        } else {
            None
        };
        Ok(Settings {
            groups,
            role,
            cwd,
            metrics: self.metrics,
            landing,
            routing: self.routing,
            approvals: self.approvals.into(),
            approval_timeout: self.approval_timeout,
            isolation,
            capacity: self.capacity,
            spare: self.spare,
            trust_folder: self.trust_folder,
            turn_timeout: self.turn_timeout,
            silence_timeout: self.silence_timeout,
            memory_limit: self.memory_limit,
            start_timeout: self.start_timeout,
            env: self.env,
            limits: None,
            journal: None,
        })
    }
}

impl Settings {
    /// Stand-ins in a folder of the program's own.
    pub(crate) async fn standins(
        cwd: PathBuf,
        count: usize,
        args: Vec<String>,
    ) -> Result<Self, CliError> {
        Ok(Self {
            groups: vec![ToolGroup {
                profile: named("standin")?,
                count,
                roles: Vec::new(),
                args,
            }],
            role: None,
            landing: landing(&cwd).await.map_err(ClusterError::from)?,
            cwd,
            metrics: None,
            routing: Routing::LeastBusy,
            approvals: Approvals::default(),
            approval_timeout: Duration::from_secs(60),
            isolation: Isolation::Worktree,
            capacity: 1,
            spare: 0,
            trust_folder: false,
            turn_timeout: Duration::from_secs(60),
            silence_timeout: None,
            memory_limit: None,
            start_timeout: None,
            env: Vec::new(),
            limits: None,
            journal: None,
        })
    }

    /// How many instances there are to be on duty.
    pub(crate) fn count(&self) -> usize {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// How many more stand by.
    pub(crate) fn spares(&self) -> usize {
        self.groups.len().saturating_mul(self.spare)
    }

    /// The name for all tools together: `aider`, or `aider+codex`.
    pub(crate) fn tool(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !names.contains(&group.profile.name.as_str()) {
                names.push(&group.profile.name);
            }
        }
        names.join("+")
    }

    /// Whether any of the tools changes files.
    pub(crate) fn edits(&self) -> bool {
        self.groups.iter().any(|group| group.profile.edits)
    }

    /// The groups that a prompt may run on.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &ToolGroup> {
        self.groups.iter().filter(|group| self.may_ask(group))
    }

    /// The places of the instances that a prompt may run on, those that stand by at first aside.
    pub(crate) fn asked_instances(&self) -> Vec<usize> {
        let each = self.groups.iter().flat_map(|group| {
            let on_duty = std::iter::repeat_n(self.may_ask(group), group.count);
            on_duty.chain(std::iter::repeat_n(false, self.spare))
        });
        each.enumerate()
            .filter_map(|(index, may)| may.then_some(index))
            .collect()
    }

    fn may_ask(&self, group: &ToolGroup) -> bool {
        let role = self.role.as_ref();
        role.is_none_or(|role| group.roles.contains(role))
    }

    /// The longest prompt that one of the tools takes.
    pub(crate) fn max_prompt_bytes(&self) -> usize {
        let limits = self.asked().map(|group| group.profile.max_prompt_bytes);
        limits.max().unwrap_or_default()
    }

    /// More instances than prompts would only cost their start.
    pub(crate) fn start_at_most(&mut self, prompts: usize) {
        if let [group] = self.groups.as_mut_slice() {
            group.count = group.count.min(prompts);
        }
    }

    /// A tool that a prompt may run on and that is not told about files apart from the prompt's text.
    pub(crate) fn takes_no_files(&self) -> Option<&str> {
        self.asked()
            .find(|group| group.profile.protocol_name() == "lines")
            .map(|group| group.profile.name.as_str())
    }

    pub(crate) fn builder(&self) -> ClusterBuilder {
        let groups: Vec<_> = self.groups.iter().map(ToolGroup::group).collect();
        let mut builder = launch_cluster(groups)
            .routing(self.routing)
            .cwd(&self.cwd)
            .isolation(self.isolation)
            .capacity(self.capacity)
            .spare(self.spare)
            .trust_folder(self.trust_folder)
            .approvals(self.approvals)
            .approval_timeout(self.approval_timeout)
            .turn_timeout(self.turn_timeout);
        if let Some(journal) = &self.journal {
            builder = builder.journal(journal.clone());
        }
        if let Some(timeout) = self.silence_timeout {
            builder = builder.silence_timeout(timeout);
        }
        if let Some(bytes) = self.memory_limit {
            builder = builder.memory_limit(bytes);
        }
        if let Some(timeout) = self.start_timeout {
            builder = builder.start_timeout(timeout);
        }
        if let Some(limits) = &self.limits {
            let (first, longest) = limits.restart_delay;
            builder = builder
                .stop_grace(limits.stop_grace)
                .restart_delay(first, longest)
                .breaker(limits.breaker.clone());
        }
        self.env
            .iter()
            .fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// Everything about a start that can be checked without one.
    pub(crate) fn check(&self) -> Result<(), LaunchError> {
        for group in &self.groups {
            let options = LaunchOptions {
                cwd: self.cwd.clone(),
                args: group.args.clone(),
                env: self.env.clone(),
                trust_folder: self.trust_folder,
                ..LaunchOptions::default()
            };
            toolpool::check(&group.profile, &options)?;
        }
        Ok(())
    }
}

/// The branch that work lands on, asked before there is any.
async fn landing(cwd: &Path) -> Result<Option<Landing>, WorktreeError> {
    let Some(repository) = Repository::discover(cwd).await? else {
        return Ok(None);
    };
    Ok(Some(Landing {
        branch: repository.landing_branch()?.to_owned(),
    }))
}

/// The built-in profiles with the user's own over them, from `toolpool/tools` in the folder for configurations.
pub(crate) fn catalog() -> Result<Catalog, ProfileError> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(absolute)
        .or_else(|| {
            let home = std::env::var_os("HOME")
                .map(PathBuf::from)
                .filter(absolute)?;
            Some(home.join(".config"))
        });
    match folder {
        Some(folder) => Catalog::with_folder(&folder.join("toolpool/tools")),
        None => Ok(Catalog::builtin()),
    }
}

/// The profile of that name or path.
pub(crate) fn named(name: &str) -> Result<ToolProfile, CliError> {
    Ok(embed(catalog()?.get(name)?))
}

/// A profile whose program is the stand-in gets the one inside this program.
pub(crate) fn embed(mut profile: ToolProfile) -> ToolProfile {
    if profile.program == "standin"
        && let Ok(own) = std::env::current_exe()
    {
        profile.program = own.display().to_string();
        profile
            .args
            .splice(0..0, ["standin".to_owned(), "--edits".to_owned()]);
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_1_to_the_most_there_may_be() {
        assert_eq!(instances("1"), Ok(1));
        assert_eq!(instances("1000"), Ok(1000));
        for wrong in ["0", "1001", "-1", "many", "99999999999999999999"] {
            assert_eq!(
                instances(wrong),
                Err("choose 1 to 1000 instances".to_owned())
            );
        }
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("=x").is_err());
        assert!(variable("A").is_err());
    }
}
