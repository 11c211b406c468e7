//! The scheduler against a simple model of a cluster: random lives, and the cases that random lives taught.

mod cases;
mod groups;
mod model;
mod shelf;

use proptest::prelude::*;

use model::{Model, Step, steps};

/// The same groups, numbered without holes: a group has an instance.
fn every(groups: &[usize]) -> Vec<usize> {
    let mut known = groups.to_vec();
    known.sort_unstable();
    known.dedup();
    let place = |group: &usize| known.binary_search(group).expect("it is one of them");
    groups.iter().map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_random_life_keeps_the_books_the_order_and_every_promise(
        groups in prop::collection::vec(0usize..3, 1..4),
        queue_limit in 1usize..6,
        life in prop::collection::vec(steps(), 0..120),
    ) {
        let mut model = Model::new(&every(&groups), queue_limit);
        for step in life {
            model.take(step);
        }
        model.take(Step::Close);
        model.all_ends();
    }
}
