//! Which instances fit what a prompt asks for.
//!
//! Owns what never changes about the groups of a cluster: their tools, roles and limits. Must not know what instances
//! are doing. Invariant: what is refused here, no instance of the cluster could ever run.

use std::sync::Arc;

use toolpool_pool_core::prompt::{Prompt, Refusal};

use crate::error::SubmitError;

/// Groups of instances that one cluster may have.
pub const MAX_GROUPS: usize = 64;

/// Some of a cluster's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupSet(u64);

impl GroupSet {
    /// Every group, however many there are.
    pub(crate) const ALL: Self = Self(u64::MAX);
    pub(crate) const NONE: Self = Self(0);

    /// The group of that index, below [`MAX_GROUPS`].
    pub(crate) fn of(group: usize) -> Self {
        Self(1 << group)
    }

    pub(crate) fn with(self, group: usize) -> Self {
        Self(self.0 | Self::of(group).0)
    }

    fn without(self, group: usize) -> Self {
        Self(self.0 & !Self::of(group).0)
    }

    pub(crate) fn contains(self, group: usize) -> bool {
        self.meets(Self::of(group))
    }

    /// Whether they have a group in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

/// Which tool and role a prompt asks for; None asks for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) tool: Option<String>,
    pub(crate) role: Option<String>,
}

/// What a group offers.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) tool: Arc<str>,
    pub(crate) roles: Vec<String>,
    /// How to log in.
    pub(crate) login: Option<String>,
    pub(crate) count: usize,
    pub(crate) max_prompt_bytes: usize,
    pub(crate) keeps_conversations: bool,
    pub(crate) talks_to_a_model: bool,
}

/// All groups of a cluster. At first their instances are counted through, group after group.
#[derive(Debug)]
pub(crate) struct Groups(Vec<Offer>);

impl Groups {
    pub(crate) fn new(offers: Vec<Offer>) -> Self {
        Self(offers)
    }

    /// The group of each instance at the launch, with so many spares in each.
    pub(crate) fn of_instances(&self, spare: usize) -> Vec<usize> {
        let each = self.0.iter().enumerate();
        each.flat_map(|(group, offer)| std::iter::repeat_n(group, offer.count + spare))
            .collect()
    }

    /// A group has another number of instances.
    pub(crate) fn resize(&mut self, group: usize, count: usize) {
        self.0[group].count = count;
    }

    /// How many instances of a group are on duty.
    pub(crate) fn count_of(&self, group: usize) -> usize {
        self.0[group].count
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The tool of a group.
    pub(crate) fn tool_of(&self, group: usize) -> &Arc<str> {
        &self.0[group].tool
    }

    /// How to log in to the tool of a group.
    pub(crate) fn login_of(&self, group: usize) -> Option<&str> {
        self.0[group].login.as_deref()
    }

    /// The longest text of a prompt for a group, in bytes.
    pub(crate) fn limit_of(&self, group: usize) -> usize {
        self.0[group].max_prompt_bytes
    }

    /// Whether a text is a message to a model in all of these groups.
    pub(crate) fn talk_to_models(&self, groups: GroupSet) -> bool {
        let mut each = self.0.iter().enumerate();
        each.all(|(group, offer)| !groups.contains(group) || offer.talks_to_a_model)
    }

    /// The tool that is alone in these groups.
    pub(crate) fn only_tool_of(&self, groups: GroupSet) -> Option<&Arc<str>> {
        let each = self.0.iter().enumerate();
        let mut meant = each.filter(|(group, _)| groups.contains(*group));
        let (_, first) = meant.next()?;
        let same = meant.all(|(_, offer)| offer.tool == first.tool);
        same.then_some(&first.tool)
    }

    /// The name for all tools together: `aider`, or `aider+codex`.
    pub(crate) fn tool(&self) -> Arc<str> {
        let mut names: Vec<&str> = Vec::new();
        for offer in &self.0 {
            if !names.contains(&&*offer.tool) {
                names.push(&offer.tool);
            }
        }
        names.join("+").into()
    }

    /// The groups that a prompt may run on, or why there are none. `target` is the instance that it is for, if for one,
    /// and its group.
    pub(crate) fn admit(
        &self,
        prompt: &Prompt,
        asked: &Asked,
        target: Option<(usize, usize)>,
        session: Option<&str>,
    ) -> Result<GroupSet, SubmitError> {
        if prompt.text.trim().is_empty() {
            return Err(Refusal::Empty.into());
        }
        let home = target.map(|(_, group)| group);
        let bytes = prompt.text.len();
        let (mut fitting, mut any) = (GroupSet::ALL, false);
        let (mut limit, mut forgets) = (None, None);
        for (group, offer) in self.0.iter().enumerate() {
            let fits = asked
                .tool
                .as_deref()
                .is_none_or(|tool| *tool == *offer.tool)
                && asked
                    .role
                    .as_ref()
                    .is_none_or(|role| offer.roles.contains(role))
                && home.is_none_or(|home| home == group);
            if fits && session.is_some() && !offer.keeps_conversations {
                forgets = Some(&offer.tool);
                fitting = fitting.without(group);
                continue;
            }
            if fits {
                limit = limit.max(Some(offer.max_prompt_bytes));
            }
            if fits && bytes <= offer.max_prompt_bytes {
                any = true;
            } else {
                fitting = fitting.without(group);
            }
        }
        match (limit, forgets) {
            _ if any => Ok(fitting),
            (Some(limit), _) => Err(Refusal::TooLarge { bytes, limit }.into()),
            (None, Some(tool)) => Err(Refusal::Unsupported(format!(
                "{tool} has a process for each prompt and keeps no conversation; send the prompt without a session, or use \
                 a tool that stays"
            ))
            .into()),
            (None, None) => Err(SubmitError::NoFit {
                asked: describe(asked, target.map(|(index, _)| index)),
                known: self.describe(),
            }),
        }
    }

    /// `2 of aider, 1 of codex (security, style)`
    fn describe(&self) -> String {
        let groups = self.0.iter().map(|offer| {
            let roles = match offer.roles.as_slice() {
                [] => String::new(),
                roles => format!(" ({})", roles.join(", ")),
            };
            format!("{} of {}{roles}", offer.count, offer.tool)
        });
        groups.collect::<Vec<_>>().join(", ")
    }
}

/// `the tool codex in the role style`
fn describe(asked: &Asked, target: Option<usize>) -> String {
    let parts = [
        target.map(|index| format!("at index {index}")),
        asked
            .tool
            .as_ref()
            .map(|tool| format!("of the tool {tool}")),
        asked
            .role
            .as_ref()
            .map(|role| format!("in the role {role}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        let offer = |tool: &str, roles: &[&str], count, max_prompt_bytes| Offer {
            tool: tool.into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            login: None,
            count,
            max_prompt_bytes,
            keeps_conversations: true,
            talks_to_a_model: true,
        };
        Groups::new(vec![
            offer("aider", &[], 2, 100),
            offer("codex", &["security", "style"], 1, 10),
            offer("codex", &["style"], 1, 10),
        ])
    }

    fn admitted(
        tool: Option<&str>,
        role: Option<&str>,
        target: Option<usize>,
        bytes: usize,
    ) -> Result<Vec<usize>, String> {
        let asked = Asked {
            tool: tool.map(str::to_owned),
            role: role.map(str::to_owned),
        };
        let groups = groups();
        let group = |index| groups.of_instances(0).get(index).copied();
        let target = target.and_then(|index| Some((index, group(index)?)));
        let admitted = groups.admit(&Prompt::text("x".repeat(bytes)), &asked, target, None);
        admitted
            .map(|fitting| (0..3).filter(|group| fitting.contains(*group)).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_prompt_fits_the_groups_of_its_tool_role_instance_and_size() {
        for (tool, role, target, bytes, fitting) in [
            (None, None, None, 1, &[0, 1, 2][..]),
            (Some("aider"), None, None, 1, &[0]),
            (Some("codex"), None, None, 1, &[1, 2]),
            (None, Some("style"), None, 1, &[1, 2]),
            (None, Some("security"), None, 1, &[1]),
            (Some("codex"), Some("security"), None, 1, &[1]),
            (None, None, Some(1), 1, &[0]),
            (None, None, Some(3), 1, &[2]),
            // The scheduler refuses an instance that is not there, with the range.
            (None, None, Some(9), 1, &[0, 1, 2]),
            (None, None, None, 50, &[0]),
        ] {
            assert_eq!(admitted(tool, role, target, bytes).as_deref(), Ok(fitting));
        }
    }

    #[test]
    fn what_no_instance_could_run_is_refused_with_what_there_is() {
        let known = "this cluster has 2 of aider, 1 of codex (security, style), 1 of codex (style)";
        for (tool, role, target, asked) in [
            (Some("claude"), None, None, "of the tool claude"),
            (None, Some("Style"), None, "in the role Style"),
            (
                Some("aider"),
                Some("style"),
                None,
                "of the tool aider in the role style",
            ),
            (Some("codex"), None, Some(0), "at index 0 of the tool codex"),
        ] {
            assert_eq!(
                admitted(tool, role, target, 1),
                Err(format!("there is no instance {asked}; {known}"))
            );
        }
        let too_long = admitted(Some("codex"), None, None, 50).expect_err("10 is its limit");
        assert!(too_long.contains("10"), "{too_long}");
        assert!(admitted(None, None, None, 0).is_err());
    }

    #[test]
    fn a_session_fits_only_tools_that_keep_a_conversation() {
        let mut groups = groups();
        groups.0[1].keeps_conversations = false;
        groups.0[2].keeps_conversations = false;
        let admitted = |tool: Option<&str>, session| {
            let asked = Asked {
                tool: tool.map(str::to_owned),
                role: None,
            };
            let admitted = groups.admit(&Prompt::text("x"), &asked, None, session);
            admitted
                .map(|fitting| (0..3).filter(|group| fitting.contains(*group)).collect())
                .map_err(|error| error.to_string())
        };
        assert_eq!(admitted(None, Some("chat")), Ok(vec![0]));
        assert_eq!(admitted(None, None), Ok(vec![0, 1, 2]));
        let refused = admitted(Some("codex"), Some("chat")).expect_err("it forgets");
        assert!(
            refused.starts_with("codex has a process for each prompt"),
            "{refused}"
        );
    }

    #[test]
    fn all_tools_together_have_one_name() {
        assert_eq!(&*groups().tool(), "aider+codex");
        assert_eq!(groups().of_instances(0), [0, 0, 1, 2]);
    }
}
