//! What a cluster is made of: groups of instances, each of one tool.
//!
//! Owns the groups' settings and the short form `TOOL:N`. Must not start anything. Invariant: a group's own settings win
//! over the cluster's.

use std::path::PathBuf;
use std::str::FromStr;

use toolpool_pool_core::profile::ToolProfile;

use super::MAX_COUNT;
use crate::error::ClusterError;

/// A tool and how many instances of it, as `TOOL:N`, or as `TOOL` alone.
///
/// ```
/// use toolpool_cluster::ToolSpec;
///
/// let spec: ToolSpec = "aider:2".parse()?;
/// assert_eq!((spec.tool.as_str(), spec.count), ("aider", Some(2)));
/// let spec: ToolSpec = "./calc.toml".parse()?;
/// assert_eq!((spec.tool.as_str(), spec.count), ("./calc.toml", None));
/// # Ok::<(), toolpool_cluster::ToolSpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolSpec {
    /// The name of a built-in profile, or the path of a profile's file, which ends in `.toml`.
    pub tool: String,
    /// How many instances, 1 to [`MAX_COUNT`], if it says so.
    pub count: Option<usize>,
}

/// Why a text is no [`ToolSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tool `{0}`: write TOOL, or TOOL:N with 1 to {MAX_COUNT} instances, such as aider:2")]
pub struct ToolSpecError(pub String);

impl FromStr for ToolSpec {
    type Err = ToolSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (tool, count) = match text.rsplit_once(':') {
            // A colon in the middle of a path says nothing about a number.
            Some(_) if text.ends_with(".toml") => (text, None),
            Some((tool, count)) => {
                let count = count.parse().ok();
                let count = count.filter(|count| (1..=MAX_COUNT).contains(count));
                let count = count.ok_or_else(|| ToolSpecError(text.to_owned()))?;
                (tool, Some(count))
            }
            None => (text, None),
        };
        if tool.is_empty() {
            return Err(ToolSpecError(text.to_owned()));
        }
        Ok(Self {
            tool: tool.to_owned(),
            count,
        })
    }
}

/// Instances of one tool with the same settings. What a group adds comes behind what the cluster's builder says for all.
///
/// ```no_run
/// use toolpool_cluster::{Group, launch_cluster};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = launch_cluster([
///     Group::new("aider:2").args(["--model", "sonnet"]),
///     Group::new("codex").role("security").env("OPENAI_API_KEY", "…"),
/// ])
/// .await?;
/// # let _ = cluster; Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Group {
    pub(super) profile: Result<Box<ToolProfile>, Box<ClusterError>>,
    pub(super) count: Option<usize>,
    pub(super) roles: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
}

impl Group {
    /// A group of a tool: `TOOL:N`, a tool's name, the path of its profile, or the profile itself.
    pub fn new(tool: impl Into<Self>) -> Self {
        tool.into()
    }

    /// How many instances, 1 to [`MAX_COUNT`]. Default 1.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// A role that prompts can ask for with [`Submission::role`](crate::Submission::role). A group may have several roles,
    /// and a role several groups.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Its working folder.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// An argument for its tool.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Arguments for its tool.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable for its tool, and for no other.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    fn of(profile: Result<Box<ToolProfile>, ClusterError>, count: Option<usize>) -> Self {
        Self {
            profile: profile.map_err(Box::new),
            count,
            roles: Vec::new(),
            cwd: None,
            args: Vec::new(),
            env: Vec::new(),
        }
    }
}

impl From<ToolProfile> for Group {
    fn from(profile: ToolProfile) -> Self {
        Self::of(Ok(Box::new(profile)), None)
    }
}

impl From<ToolSpec> for Group {
    fn from(spec: ToolSpec) -> Self {
        let profile = ToolProfile::builtin(&spec.tool).map(Box::new);
        Self::of(profile.map_err(ClusterError::from), spec.count)
    }
}

impl From<&str> for Group {
    fn from(spec: &str) -> Self {
        match spec.parse::<ToolSpec>() {
            Ok(spec) => spec.into(),
            Err(error) => Self::of(Err(error.into()), None),
        }
    }
}

impl From<String> for Group {
    fn from(spec: String) -> Self {
        Self::from(spec.as_str())
    }
}

/// The tools of a cluster: one, or a list of them in any mixture. Made from whatever makes a [`Group`], and from arrays
/// and vectors of it.
#[derive(Debug)]
pub struct ToolSet(pub(super) Vec<Group>);

/// Everything that makes a group makes a set of one.
macro_rules! set_of_one {
    ($($one:ty),*) => {$(
        impl From<$one> for ToolSet {
            fn from(one: $one) -> Self {
                Self(vec![one.into()])
            }
        }
    )*};
}
set_of_one!(&str, String, ToolProfile, ToolSpec, Group);

impl<T: Into<Group>, const N: usize> From<[T; N]> for ToolSet {
    fn from(groups: [T; N]) -> Self {
        Self(groups.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Group>> From<Vec<T>> for ToolSet {
    fn from(groups: Vec<T>) -> Self {
        Self(groups.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_a_name_or_a_path_and_may_say_how_many() {
        for (text, tool, count) in [
            ("aider", "aider", None),
            (" aider ", "aider", None),
            ("aider:2", "aider", Some(2)),
            ("codex:1000", "codex", Some(1000)),
            ("./a.toml", "./a.toml", None),
            ("./a.toml:3", "./a.toml", Some(3)),
            ("./a:3.toml", "./a:3.toml", None),
            ("./a:3.toml:4", "./a:3.toml", Some(4)),
        ] {
            let spec = text.parse::<ToolSpec>().expect(text);
            assert_eq!((spec.tool.as_str(), spec.count), (tool, count));
        }
        for wrong in [
            "",
            ":",
            ":2",
            "aider:",
            "aider:0",
            "aider:1001",
            "aider:x",
            "a:-1",
        ] {
            let error = wrong.parse::<ToolSpec>().expect_err(wrong);
            assert!(error.to_string().contains("TOOL:N"), "{error}");
        }
    }
}
