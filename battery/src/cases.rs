//! The list of cases, one file a theme.
//!
//! Owns their order. Must not know how they run. Invariant: a number stands for one case, and is never used again.

mod breaker;
mod bytes;
mod cancels;
mod clock;
mod crowds;
mod death;
mod disk;
mod doubt;
mod ends;
mod floods;
mod forged;
mod full;
mod hang;
mod killed;
mod left;
mod lifecycle;
mod limits;
mod load;
mod million;
mod names;
mod permissions;
mod pipes;
mod probes;
mod prompts;
mod resources;
mod restarts;
mod routing;
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
        breaker::CASES,
        probes::CASES,
        restarts::CASES,
        routing::CASES,
        load::CASES,
        cancels::CASES,
        resources::CASES,
        limits::CASES,
        crowds::CASES,
        lifecycle::CASES,
        names::CASES,
        killed::CASES,
        full::CASES,
        disk::CASES,
        clock::CASES,
        million::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shown::SHOWN;

    #[test]
    fn each_number_stands_for_one_case_with_a_name_of_its_own() {
        let cases = all().map(|case| (case.number, case.name));
        let all_of_them: Vec<(u16, &str)> = cases
            .chain(SHOWN.iter().map(|shown| (shown.number, shown.name)))
            .collect();
        let numbers: BTreeSet<u16> = all_of_them.iter().map(|(number, _)| *number).collect();
        let names: BTreeSet<&str> = all_of_them.iter().map(|(_, name)| *name).collect();
        let count = all_of_them.len();
        assert_eq!((numbers.len(), names.len()), (count, count));
        assert!(all().all(|case| [1, 2].contains(&case.tier)));
    }
}
