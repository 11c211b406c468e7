//! What is said when something is wrong, and with which exit code.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::support::Place;

/// Runs a command that must be refused, and gives what was said.
fn said(place: &Place, arguments: &[&str], code: i32) -> String {
    let run = place.run(arguments).expect(code);
    assert_eq!(run.stdout, "", "an error is no answer");
    place.masked(&run.stderr)
}

#[test]
fn wrong_input_is_refused_with_what_to_do_about_it() {
    let place = Place::new();
    place.profile("broken", "name = \"broken\"\nprogam = \"x\"\n");
    let cases: &[(&str, &[&str])] = &[
        ("no tool", &["ask", "hi"]),
        ("unknown tool", &["ask", "--tool", "standinn", "hi"]),
        ("bad profile", &["ask", "--tool", "broken", "hi"]),
        (
            "profile that is not there",
            &["ask", "--tool", "./none.toml", "hi"],
        ),
        (
            "no instances",
            &["ask", "--tool", "standin", "-n", "0", "hi"],
        ),
        (
            "too many instances",
            &["ask", "--tool", "standin", "-n", "1001", "hi"],
        ),
        (
            "unknown strategy",
            &["ask", "--tool", "standin", "--routing", "random", "hi"],
        ),
        ("empty prompt", &["ask", "--tool", "standin", "  "]),
        ("no prompt", &["ask", "--tool", "standin"]),
        (
            "no folder",
            &["ask", "--tool", "standin", "--cwd", "gone", "hi"],
        ),
        (
            "file that is not taken",
            &["ask", "--tool", "standin", "--file", "a.txt", "hi"],
        ),
        (
            "metrics for everybody",
            &[
                "ask",
                "--tool",
                "standin",
                "--metrics",
                "0.0.0.0:9464",
                "hi",
            ],
        ),
        (
            "no match",
            &["batch", "--tool", "standin", "*.rs", "-p", "do {file}"],
        ),
        (
            "bad pattern",
            &["batch", "--tool", "standin", "a[", "-p", "do {file}"],
        ),
        (
            "no placeholder",
            &["batch", "--tool", "standin", "*.rs", "-p", "do it"],
        ),
        (
            "no input",
            &["batch", "--tool", "standin", "-p", "do {file}"],
        ),
        ("unknown command", &["aks"]),
        ("unknown document", &["schema", "nothing"]),
        ("unknown topic", &["help", "nothing"]),
    ];
    let mut text = String::new();
    for (name, arguments) in cases {
        text.push_str(&format!(
            "--- {name}: toolpool {}\n{}",
            arguments.join(" "),
            said(&place, arguments, 2)
        ));
    }
    insta::assert_snapshot!("wrong_input", text);
    place.assert_nothing_is_left();
}

#[test]
fn a_tool_that_is_missing_or_fails_has_its_own_exit_code() {
    let place = Place::new();
    place.profile(
        "absent",
        "base = \"bc\"\nname = \"absent\"\nprogram = \"toolpool-test-absent\"\n",
    );
    place.standin("stillborn", &["on start exit 3"]);
    let mut text = said(&place, &["ask", "--tool", "absent", "hi"], 8);
    text.push_str(&said(&place, &["ask", "--tool", "stillborn", "hi"], 3));
    let file = place.path("work/own.toml");
    std::fs::write(
        file,
        "base = \"bc\"\nname = \"own\"\nprogram = \"toolpool-test-absent\"\n",
    )
    .expect("a profile");
    text.push_str(&said(&place, &["ask", "--tool", "./own.toml", "hi"], 8));
    insta::assert_snapshot!("tools_that_do_not_start", text);
    place.assert_nothing_is_left();
}

#[test]
fn a_crash_is_told_with_its_exit_its_last_lines_the_tries_left_and_the_next_step() {
    let place = Place::new();
    place.standin("crasher", &["on every 1 byte 8 exit 3"]);
    place.standin("killed", &["on every 1 signal KILL"]);
    let mut text = String::new();
    for (arguments, code) in [
        (&["ask", "--tool", "crasher", "good day"][..], 1),
        (&["ask", "--tool", "killed", "good day"], 1),
        (&["ask", "--tool", "crasher", "--all", "good day"], 7),
    ] {
        let run = place.run(arguments).expect(code);
        text.push_str(&format!(
            "$ toolpool {}\n{}",
            arguments.join(" "),
            run.stderr
        ));
        text.push_str(&format!("{}\n", run.stdout));
    }
    std::fs::write(place.path("work/items"), "one\n").expect("a file");
    let arguments = [
        "batch",
        "--tool",
        "crasher",
        "--items",
        "items",
        "-p",
        "do {item}",
    ];
    let run = place.run(&arguments).expect(7);
    text.push_str(&format!(
        "$ toolpool {}\n{}{}",
        arguments.join(" "),
        run.stderr,
        run.stdout
    ));
    insta::assert_snapshot!("crashes", place.masked(&text));
    place.assert_nothing_is_left();
}

#[test]
fn a_missing_login_is_told_with_how_to_log_in() {
    let place = Place::new();
    place.repository(&["a.txt"]);
    let program = place.path("home/refused");
    let script = "#!/bin/sh\ncat > /dev/null\n\
        echo '{\"type\":\"thread.started\",\"thread_id\":\"x\"}'\n\
        echo '{\"type\":\"turn.started\"}'\n\
        echo '{\"type\":\"turn.failed\",\"error\":{\"message\":\"unexpected status 401 Unauthorized: no such key\"}}'\n\
        exit 1\n";
    std::fs::write(&program, script).expect("a script");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
    place.profile(
        "refused",
        &format!("base = \"codex-exec\"\nname = \"refused\"\nprogram = {program:?}\n"),
    );
    std::fs::write(place.path("work/items"), "one\n").expect("a file");
    let mut text = String::new();
    for (arguments, code) in [
        (&["ask", "--tool", "jules", "good day"][..], 8),
        (
            &[
                "batch",
                "--tool",
                "jules",
                "--items",
                "items",
                "-p",
                "do {item}",
            ],
            8,
        ),
        (&["ask", "--tool", "refused", "good day"], 8),
        (
            &[
                "batch",
                "--tool",
                "refused",
                "--items",
                "items",
                "-p",
                "do {item}",
            ],
            7,
        ),
        (
            &[
                "batch",
                "--tool",
                "absent",
                "--items",
                "items",
                "-p",
                "do {item}",
            ],
            8,
        ),
    ] {
        place.profile(
            "absent",
            "base = \"bc\"\nname = \"absent\"\nprogram = \"toolpool-test-absent\"\n",
        );
        let run = place.run(arguments).expect(code);
        text.push_str(&format!(
            "$ toolpool {}\n{}{}\n",
            arguments.join(" "),
            run.stderr,
            run.stdout
        ));
    }
    insta::assert_snapshot!("logins", place.masked(&text));
    place.assert_nothing_is_left();
}

#[test]
fn a_prompt_over_the_limit_is_refused_before_anything_starts() {
    let place = Place::new();
    place.profile("small", "base = \"standin\"\nname = \"small\"\nargs = [\"--do\", \"on start exit 3\"]\nmax_prompt_bytes = 10\n");
    assert!(
        said(&place, &["ask", "--tool", "small", "12345678901"], 2)
            .contains("longer than 10 bytes")
    );
    let piped = place
        .run_with_input(&["ask", "--tool", "small"], &[b'x'; 100_000])
        .expect(2);
    assert!(
        piped.stderr.contains("longer than 10 bytes"),
        "{}",
        piped.stderr
    );
    let not_text = place
        .run_with_input(&["ask", "--tool", "small"], b"ab\xff")
        .expect(2);
    assert!(not_text.stderr.contains("not UTF-8"), "{}", not_text.stderr);
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let place = Place::new();
    for (arguments, code, word) in [
        (
            &["ask", "--tool", "nope", "-o", "json", "x"][..],
            2,
            "unknown_tool",
        ),
        (&["ask", "-o", "jsonl", "x"], 2, "no_tool"),
        (&["ask", "-o", "json", "--what", "x"], 2, "usage"),
        (
            &[
                "batch", "--tool", "standin", "-o", "json", "*.rs", "-p", "{file}",
            ],
            2,
            "no_match",
        ),
        (&["tools", "show", "nope", "-o", "json"], 2, "unknown_tool"),
    ] {
        let run = place.run(arguments).expect(code);
        let error = run.error();
        assert_eq!(error["code"], word, "{arguments:?}");
        assert!(!error["message"].as_str().expect("text").is_empty());
        assert!(error["next"].is_array() && error["retryable"].is_boolean());
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_folder_that_could_take_the_tool_over_needs_trust() {
    let place = Place::new();
    place.profile(
        "careful",
        "base = \"standin\"\nname = \"careful\"\nrefuse_files = [\".careful.yml\"]\n",
    );
    std::fs::write(place.path("work/.careful.yml"), "run: me\n").expect("a file");
    let refused = place.run(&["ask", "--tool", "careful", "hi"]).expect(2);
    assert!(
        refused.stderr.contains("--trust-folder"),
        "{}",
        refused.stderr
    );
    place
        .run(&["ask", "--tool", "careful", "--trust-folder", "hi"])
        .expect(0);
}

#[test]
fn a_repository_on_no_branch_is_refused_before_anything_starts() {
    let place = Place::new();
    place.repository(&["a.txt"]);
    place.git(&["checkout", "--quiet", "--detach"]);
    let refused = place.run(&["ask", "--tool", "standin", "hi"]).expect(2);
    assert!(
        refused.stderr.contains("--isolation shared"),
        "{}",
        refused.stderr
    );
    place
        .run(&["ask", "--tool", "standin", "--isolation", "shared", "hi"])
        .expect(0);
}
