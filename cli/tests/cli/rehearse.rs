//! `toolpool rehearse`.

use std::io::{BufReader, Read as _};

use rustix::process::Signal;

use super::support::{Place, signal, wait_for};

#[test]
fn the_story_is_told_line_by_line_and_ends_with_the_books() {
    let place = Place::new();
    let run = place.run(&["rehearse"]).expect(0);
    let text = format!("{}{}", run.stderr, run.stdout);
    insta::assert_snapshot!("story", place.masked(&text));
    place.assert_nothing_is_left();
}

#[test]
fn the_books_are_json_where_json_was_asked_for() {
    let place = Place::new();
    let report = place
        .run(&["rehearse", "-n", "1", "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(report["kind"], "rehearsal");
    let acts = report["acts"].as_array().expect("acts");
    assert_eq!(acts.len(), 5);
    assert!(
        acts.iter().all(|act| act["next_completed"] == true),
        "{report}"
    );
    let books = &report["books"];
    assert_eq!(books["accepted"], 22);
    assert_eq!(
        (&books["completed"], &books["indeterminate"]),
        (&15.into(), &7.into())
    );
    assert_eq!(report["restarts"], 7);
    assert_eq!(report["processes_left"], 0);
    place.assert_nothing_is_left();
}

#[test]
fn faults_of_ones_own_come_from_the_command_line_and_from_a_file() {
    let place = Place::new();
    std::fs::write(
        place.path("work/faults"),
        "# two faults\non turn 2 byte 4 exit 9\n",
    )
    .expect("a file");
    let run = place
        .run(&[
            "rehearse",
            "-n",
            "1",
            "--prompts",
            "5",
            "--script",
            "faults",
            "--do",
            "on prompt ~5 hang",
            "-o",
            "json",
        ])
        .expect(0);
    let report = run.document();
    let books = &report["books"];
    // Turns 2 of the first process and of the second crash, and prompt 5 hangs.
    assert_eq!(
        (&books["completed"], &books["indeterminate"]),
        (&2.into(), &3.into()),
        "{run:?}"
    );
    assert_eq!(report["restarts"], 3);
    assert_eq!(report["processes_left"], 0);
    assert!(
        run.stderr.contains("has ended: exit code 9"),
        "{}",
        run.stderr
    );
    place.assert_nothing_is_left();
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_with_where_the_rules_are() {
    let place = Place::new();
    let run = place
        .run(&["rehearse", "--do", "on tuesday exit 1", "-o", "json"])
        .expect(2);
    assert_eq!(run.error()["code"], "bad_rule");
    assert_eq!(run.error()["next"][0], "toolpool rehearse --rules");
    let rules = place.run(&["rehearse", "--rules"]).expect(0).stdout;
    assert!(rules.starts_with("RULES\n  on TRIGGER ACTION"), "{rules}");
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_rehearsal_says_what_became_of_its_prompts() {
    let place = Place::new();
    let mut child = place.command(&["rehearse"]).spawn().expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut story, "a turn that hangs");
    signal(&child, Signal::INT);
    let mut rest = String::new();
    story.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(rest.contains("interrupted before it was done: "), "{rest}");
    assert!(rest.contains(" prompts: "), "{rest}");
    place.assert_nothing_is_left();
}
