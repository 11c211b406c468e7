//! What is answered when a tool asks for a permission.
//!
//! Owns the policy. Must not know how a question is asked: it sees what kind of act it is, which protocols take from
//! structured fields only. Invariant: text never approves anything.

use toolpool_pool_core::protocol::{Act, Answer};

/// Which permissions a cluster gives. But for [`Approvals::Ask`] nobody is asked: a tool that needs more is told no, and
/// its turn goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approvals {
    /// Somebody is asked for each: the instance waits for [`ClusterManager::answer`], and is told no when nobody answers
    /// in time. Tools that can are made to ask before every act.
    ///
    /// [`ClusterManager::answer`]: crate::ClusterManager::answer
    Ask,
    /// None.
    None,
    /// To look at files.
    #[default]
    Reads,
    /// To look at files and to change them.
    Edits,
    /// All, commands among them. For tools in a sandbox of their own.
    All,
}

impl Approvals {
    /// The policy's own answer; None if somebody is to be asked.
    pub(crate) fn answer(self, act: Act) -> Option<Answer> {
        let allowed = match (self, act) {
            (Self::Ask, _) => return None,
            (_, Act::Read) => self != Self::None,
            (_, Act::Edit) => matches!(self, Self::Edits | Self::All),
            (_, Act::Execute | Act::Other) => self == Self::All,
        };
        Some(if allowed { Answer::Allow } else { Answer::Deny })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_allows_what_its_name_says_and_no_more() {
        use Act::{Edit, Execute, Other, Read};
        for (policy, allowed) in [
            (Approvals::None, &[][..]),
            (Approvals::Reads, &[Read]),
            (Approvals::Edits, &[Read, Edit]),
            (Approvals::All, &[Read, Edit, Execute, Other]),
        ] {
            for act in [Read, Edit, Execute, Other] {
                let expected = if allowed.contains(&act) {
                    Answer::Allow
                } else {
                    Answer::Deny
                };
                assert_eq!(policy.answer(act), Some(expected), "{policy:?} {act:?}");
                assert_eq!(Approvals::Ask.answer(act), None, "{act:?}");
            }
        }
    }
}
