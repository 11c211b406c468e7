//! What is asked of a journal, rightly and wrongly.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::approvals::Terminal;
use super::support::Place;

/// A place with a batch of two in its journal.
fn place() -> Place {
    let place = Place::new();
    std::fs::write(place.path("work/items.txt"), "one\ntwo\n").expect("a file");
    batch(&place, &[]);
    place
}

fn batch(place: &Place, more: &[&str]) {
    let line = [
        "batch",
        "--tool",
        "standin",
        "--items",
        "items.txt",
        "-p",
        "do {item}",
    ];
    place.run(&[&line, more].concat()).expect(0);
}

#[test]
fn options_may_stand_before_the_command_that_they_belong_to() {
    let place = place();
    let journal = place.path("other.db").display().to_string();
    batch(&place, &["--journal", &journal, "--rerun", "all"]);
    for line in [
        ["history", "--journal", &journal, "-o", "json", "show", "t1"],
        ["history", "-o", "json", "show", "--journal", &journal, "t1"],
        ["history", "show", "t1", "-o", "json", "--journal", &journal],
    ] {
        let shown = place.run(&line).expect(0).document();
        assert_eq!(shown["kind"], "history.detail", "{line:?}");
    }
    let list = place.run(&["history", "--cwd", ".", "batches", "-o", "json"]);
    assert_eq!(list.expect(0).document()["kind"], "history.batches");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let place = place();
    std::fs::create_dir(place.path("work/folder")).expect("a folder");
    let cases: &[(&str, &[&str])] = &[
        (
            "filter of nothing",
            &["history", "--tool", "x", "show", "t1"],
        ),
        (
            "filter beside SQL",
            &["history", "-n", "3", "--sql", "select 1"],
        ),
        ("no SQL", &["history", "--sql", ""]),
        (
            "two statements",
            &["history", "--sql", "select 1; select 2"],
        ),
        (
            "SQL that writes",
            &["history", "--sql", "delete from prompts"],
        ),
        ("signs", &["history", "--", "->"]),
        ("empty batch", &["history", "--batch", ""]),
        ("empty batch to resume", &["batch", "--resume", ""]),
        ("unknown turn", &["history", "show", "t9"]),
        (
            "unknown turn to settle",
            &["resolve", "t9", "--as", "failed"],
        ),
        ("no doubt", &["resolve", "t1", "--as", "failed"]),
        (
            "empty session",
            &["ask", "--tool", "standin", "--session", "", "x"],
        ),
        (
            "two reports in one file",
            &[
                "batch",
                "--tool",
                "standin",
                "--items",
                "items.txt",
                "-p",
                "{item}",
                "--report",
                "r",
                "--junit",
                "r",
            ],
        ),
        ("no event and no time", &["events", "--since", "soon"]),
        (
            "answer as JSON",
            &["history", "show", "t1", "--answer", "--output=json"],
        ),
        ("folder", &["history", "--journal", "folder"]),
        ("text", &["history", "--journal", "items.txt"]),
        ("none", &["history", "--journal", "none.db"]),
    ];
    let mut text = String::new();
    for (name, arguments) in cases {
        let run = place.run(arguments).expect(2);
        assert_eq!(run.stdout, "", "{name}");
        text.push_str(&format!("## {name}\n{}\n", place.masked(&run.stderr)));
    }
    insta::assert_snapshot!("wrong_questions", text);
}

#[test]
fn events_are_told_from_a_time_on() {
    let place = place();
    let all = place.run(&["events", "-o", "jsonl"]).expect(0).documents();
    let recent = place.run(&["events", "--since", "1h", "-o", "jsonl"]);
    assert_eq!(recent.expect(0).documents(), all);
    let none = place.run(&["events", "--since", "9999-01-01", "-o", "jsonl"]);
    assert_eq!(none.expect(0).documents().len(), 0);
}

#[test]
fn a_terminal_shows_ages_and_as_much_of_the_texts_as_fits() {
    let place = Place::new();
    let long = "a prompt that is rather long for a line of eighty characters, and goes on";
    let journal = place.path("j.db").display().to_string();
    let ask = [
        "ask",
        "-q",
        "--tool",
        "standin",
        "--journal",
        &journal,
        long,
    ];
    place.run(&ask).expect(0);
    let history = ["history", "--journal", &journal];
    let shown = Terminal::run_all_on_it(&place, &history).end().2;
    let widest = shown.lines().map(|line| line.trim_end().chars().count());
    assert!(widest.max().is_some_and(|widest| widest <= 80), "{shown}");
    assert!(
        shown.contains("s ago") || shown.contains("m ago"),
        "{shown}"
    );
    let piped = place.run(&history).expect(0).stdout;
    assert!(
        piped.contains("Z  main/1") && !piped.contains(" ago"),
        "{piped}"
    );
}

#[test]
fn nobody_but_its_user_can_read_or_replace_what_is_kept() {
    let place = place();
    let mut found = 0;
    let mut look = vec![place.path("home/.local/state/toolpool")];
    while let Some(path) = look.pop() {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        found += 1;
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            look.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    assert!(found > 5, "the journal, its folders and the batch");
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("it is there").mode()
}
