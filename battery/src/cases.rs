//! The list of cases, one file a theme.
//!
//! Owns their order. Must not know how they run. Invariant: a number stands for one case, and is never used again.

mod bytes;
mod death;
mod doubt;
mod ends;
mod floods;
mod forged;
mod hang;
mod left;
mod permissions;
mod pipes;
mod prompts;
mod starts;
mod terminal;
mod timers;

use crate::case::Case;

/// All cases.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        death::CASES,
        doubt::CASES,
        ends::CASES,
        hang::CASES,
        left::CASES,
        starts::CASES,
        pipes::CASES,
        floods::CASES,
        bytes::CASES,
        forged::CASES,
        prompts::CASES,
        permissions::CASES,
        terminal::CASES,
        timers::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_number_stands_for_one_case_with_a_name_of_its_own() {
        let numbers: BTreeSet<u16> = all().map(|case| case.number).collect();
        let names: BTreeSet<&str> = all().map(|case| case.name).collect();
        assert_eq!((numbers.len(), names.len()), (all().count(), all().count()));
        assert!(all().all(|case| [1, 2].contains(&case.tier)));
    }
}
