//! `toolpool tools test`.

use super::support::Place;

#[test]
fn nothing_is_sent_to_a_model_before_the_user_has_said_yes() {
    let place = Place::new();
    let run = place
        .run(&["tools", "test", "standin", "-o", "json"])
        .expect(2);
    let error = run.error();
    assert_eq!(error["code"], "needs_yes");
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("spends your tokens"), "{message}");
    assert_eq!(run.stdout, "");
}

#[test]
fn a_tool_that_answers_forgets_and_dies_has_a_verdict_for_each_case() {
    let place = Place::new();
    // It echoes what it is asked. The fifth turn asks for the word of the fourth, the seventh is to be interrupted.
    place.standin(
        "fragile",
        &["on turn 5 reply marmalade-01", "on turn 7 exit 3"],
    );
    let run = place
        .run(&["tools", "test", "fragile", "--yes", "-o", "json"])
        .expect(7);
    assert!(run.stderr.contains("in English"), "{}", run.stderr);
    let report = run.document();
    assert_eq!(report["kind"], "tool.test");
    let results = report["cases"].as_array().expect("a list").iter();
    let results: Vec<_> = results
        .map(|case| case["result"].as_str().expect("a word"))
        .collect();
    assert_eq!(
        results,
        ["pass", "pass", "pass", "pass", "pass", "fail", "pass"]
    );
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&6.into(), &1.into())
    );
    let detail = report["cases"][5]["detail"].as_str().expect("evidence");
    assert!(detail.contains("Crashed"), "{detail}");
    place.assert_nothing_is_left();
}

#[test]
fn a_program_with_a_language_of_its_own_costs_nothing_and_is_tried_in_it() {
    let place = Place::new();
    let run = place.run(&["tools", "test", "bash"]).expect(0);
    assert!(run.stdout.contains("unicode"), "{}", run.stdout);
    assert!(run.stdout.contains(" 0 failed"), "{}", run.stdout);
    place.assert_nothing_is_left();
}
