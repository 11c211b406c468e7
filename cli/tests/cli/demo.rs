//! `toolpool demo`.

use super::support::Place;

#[test]
fn the_demo_ends_by_itself_and_leaves_nothing() {
    let place = Place::new();
    let run = place.run(&["demo"]).expect(0);
    assert!(
        run.stdout
            .contains("12 prompts on 3 instances: 11 completed, 1 indeterminate"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("6 commits on main"), "{}", run.stdout);
    assert!(
        run.stdout.contains("toolpool_turns_total{"),
        "{}",
        run.stdout
    );
    // The crash is told, and what follows from it.
    assert!(
        run.stderr
            .contains("crashed: process 1 ended with exit code 3"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr
            .contains("it may have run, so it is not sent again"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("ready again"), "{}", run.stderr);
    place.assert_nothing_is_left();
}
