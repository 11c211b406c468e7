//! The tools of a cluster, as they are chosen on the command line.
//!
//! Owns how `--tool`, `--role` and `--arg` share tools, roles and arguments out. Must not start anything. Invariant: what
//! could mean more than one tool is refused, with how to say which.

use toolpool::{Group, ToolProfile, ToolSpec};

use crate::error::CliError;
use crate::settings::{catalog, named};

/// Instances of one tool.
#[derive(Debug)]
pub(crate) struct ToolGroup {
    pub(crate) profile: ToolProfile,
    pub(crate) count: usize,
    pub(crate) roles: Vec<String>,
    pub(crate) args: Vec<String>,
}

impl ToolGroup {
    /// The same for the library.
    pub(crate) fn group(&self) -> Group {
        let group = Group::new(self.profile.clone())
            .count(self.count)
            .args(&self.args);
        self.roles.iter().fold(group, Group::role)
    }
}

/// What one `--role` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The tool gets the role.
    Give { role: String, tool: String },
    /// Prompts are for the role.
    Ask(String),
}

/// Reads one `--role`.
pub(crate) fn role(text: &str) -> Result<Role, String> {
    let wrong = || "write NAME=TOOL to give a role, or NAME to ask it".to_owned();
    let (role, tool) = match text.split_once('=') {
        Some((role, tool)) => (role, Some(tool)),
        None => (text, None),
    };
    if role.is_empty() || tool.is_some_and(str::is_empty) {
        return Err(wrong());
    }
    let role = role.to_owned();
    Ok(match tool {
        Some(tool) => Role::Give {
            role,
            tool: tool.to_owned(),
        },
        None => Role::Ask(role),
    })
}

/// The tools that were chosen, and how many instances of each.
pub(crate) fn chosen(tools: &[String], count: Option<usize>) -> Result<Vec<ToolGroup>, CliError> {
    let tools: Vec<&str> = tools.iter().map(|tool| tool.trim()).collect();
    let tools: Vec<&str> = tools.into_iter().filter(|tool| !tool.is_empty()).collect();
    if tools.is_empty() {
        return Err(CliError::usage(
            "no_tool",
            "no tool was chosen; give `--tool NAME`, or set TOOLPOOL_TOOL",
        )
        .hint(format!("known tools: {}", catalog()?.names().join(", ")))
        .next("toolpool demo")
        .next("toolpool tools"));
    }
    let mut groups = Vec::new();
    for tool in &tools {
        let spec: ToolSpec = tool.parse().map_err(|error: toolpool::ToolSpecError| {
            CliError::usage("invalid", error.to_string())
        })?;
        if let Some(count) = count
            && (tools.len() > 1 || spec.count.is_some())
        {
            return Err(CliError::usage(
                "invalid",
                format!(
                    "-n {count} is for a single tool without a number of its own; write `--tool {}:{count}` instead",
                    spec.tool
                ),
            ));
        }
        groups.push(ToolGroup {
            profile: named(&spec.tool)?,
            count: spec.count.or(count).unwrap_or(1),
            roles: Vec::new(),
            args: Vec::new(),
        });
    }
    Ok(groups)
}

/// Shares the arguments out; with several tools each argument says whose it is.
pub(crate) fn give_args(
    groups: &mut [ToolGroup],
    args: Vec<String>,
    trailing: Vec<String>,
) -> Result<(), CliError> {
    if let [group] = groups {
        group.args.extend(args.into_iter().chain(trailing));
        return Ok(());
    }
    let names = names(groups);
    let unclear = |arg: &str| {
        CliError::usage(
            "invalid",
            format!(
                "which tool is the argument `{arg}` for? Write `--arg TOOL:{arg}`; the tools are {names}"
            ),
        )
    };
    if let Some(arg) = trailing.first() {
        return Err(unclear(arg));
    }
    for arg in args {
        let (tool, own) = arg.split_once(':').ok_or_else(|| unclear(&arg))?;
        let mut known = false;
        for group in groups.iter_mut().filter(|group| group.profile.name == tool) {
            group.args.push(own.to_owned());
            known = true;
        }
        if !known {
            return Err(unclear(&arg));
        }
    }
    Ok(())
}

/// Shares the roles out, and gives the one that prompts are for.
pub(crate) fn give_roles(
    groups: &mut [ToolGroup],
    roles: Vec<Role>,
) -> Result<Option<String>, CliError> {
    let mut asked = None;
    for role in roles {
        match role {
            Role::Give { role, tool } => {
                let names = names(groups);
                let mut known = false;
                for group in groups.iter_mut().filter(|group| group.profile.name == tool) {
                    group.roles.push(role.clone());
                    known = true;
                }
                if !known {
                    let message = format!(
                        "the role {role}: there is no {tool} in this cluster; its tools are {names}"
                    );
                    return Err(CliError::usage("invalid", message));
                }
            }
            Role::Ask(role) => {
                if let Some(other) = asked.replace(role) {
                    let message =
                        format!("a prompt is for one role; choose {other} or another, not both");
                    return Err(CliError::usage("invalid", message));
                }
            }
        }
    }
    if let Some(role) = &asked
        && !groups.iter().any(|group| group.roles.contains(role))
    {
        let message =
            format!("nobody has the role {role}; give it to a tool with `--role {role}=TOOL`");
        return Err(CliError::usage("invalid", message));
    }
    Ok(asked)
}

fn names(groups: &[ToolGroup]) -> String {
    let names = groups.iter().map(|group| group.profile.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_given_with_a_tool_and_asked_without() {
        let give = |role: &str, tool: &str| Role::Give {
            role: role.to_owned(),
            tool: tool.to_owned(),
        };
        assert_eq!(role("style=aider"), Ok(give("style", "aider")));
        assert_eq!(role("style"), Ok(Role::Ask("style".to_owned())));
        for wrong in ["", "=", "=aider", "style="] {
            assert!(role(wrong).is_err(), "{wrong}");
        }
    }
}
