//! The scheduler against a simple model of a cluster: random lives, and the cases that random lives taught.

mod cases;
mod model;

use proptest::prelude::*;

use model::{Model, Step, steps};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_random_life_keeps_the_books_the_order_and_every_promise(
        instances in 1usize..4,
        queue_limit in 1usize..6,
        life in prop::collection::vec(steps(), 0..120),
    ) {
        let mut model = Model::new(instances, queue_limit);
        for step in life {
            model.take(step);
        }
        model.take(Step::Close);
        model.all_ends();
    }
}
