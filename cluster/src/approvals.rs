//! What is answered when a tool asks for a permission.
//!
//! Owns the policy. Must not know how a question is asked: it sees what kind of act it is, which protocols take from
//! structured fields only. Invariant: text never approves anything.

use toolpool_pool_core::protocol::{Act, Answer};

/// Which permissions a cluster gives. Nobody is asked: a tool that needs more is told no, and its turn goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approvals {
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
    pub(crate) fn answer(self, act: Act) -> Answer {
        let allowed = match act {
            Act::Read => self != Self::None,
            Act::Edit => matches!(self, Self::Edits | Self::All),
            Act::Execute | Act::Other => self == Self::All,
        };
        if allowed { Answer::Allow } else { Answer::Deny }
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
                let answer = policy.answer(act);
                assert_eq!(
                    answer == Answer::Allow,
                    allowed.contains(&act),
                    "{policy:?} {act:?}"
                );
            }
        }
    }
}
