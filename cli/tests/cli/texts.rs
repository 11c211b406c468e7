//! What the program says about itself.

use super::support::Place;

#[test]
fn the_help_is_as_it_was_read_last() {
    let place = Place::new();
    let mut text = String::new();
    for arguments in [
        &[][..],
        &["--help"],
        &["help", "exit-codes"],
        &["help", "ask"],
        &["help", "batch"],
        &["help", "history"],
        &["help", "history", "show"],
        &["help", "history", "prune"],
        &["help", "logs"],
        &["help", "events"],
        &["help", "resolve"],
        &["help", "demo"],
        &["help", "rehearse"],
        &["help", "tools"],
        &["help", "tools", "show"],
        &["help", "tools", "test"],
        &["help", "doctor"],
        &["help", "schema"],
    ] {
        let run = place.run(arguments).expect(0);
        assert_eq!(run.stderr, "");
        text.push_str(&format!(
            "$ toolpool {}\n{}\n",
            arguments.join(" "),
            run.stdout
        ));
    }
    insta::assert_snapshot!("help", text);
}

#[test]
fn the_version_is_one_line() {
    let place = Place::new();
    let run = place.run(&["--version"]).expect(0);
    assert_eq!(
        run.stdout,
        format!("toolpool {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_stand_in_is_inside_and_gets_its_arguments_as_they_are() {
    let place = Place::new();
    let run = place
        .run_with_input(
            &["standin", "--plain", "--do", "on turn 1 reply --help"],
            b"hi\n",
        )
        .expect(0);
    assert_eq!(run.stdout, "> --help\n> ");
}
