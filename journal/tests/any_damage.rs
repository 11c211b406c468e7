//! Whatever befalls the files of a journal: it tells the truth, or that it is damaged and what to do.

// Not every test needs all of them.
#[allow(dead_code)]
mod books;
mod damage;

use std::sync::LazyLock;

use damage::{Mutation, Whole};
use proptest::prelude::*;

static WHOLE: LazyLock<Whole> = LazyLock::new(Whole::make);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn files_that_something_befell_tell_the_truth_or_that_they_are_damaged(
        mutations in prop::collection::vec(any::<Mutation>(), 1..4)
    ) {
        WHOLE.hold(&mutations);
    }
}
