//! `toolpool batch`.

use std::io::{BufReader, Read as _, Write as _};

use super::approvals::Terminal;
use super::support::{Place, named_pipe, once_it_is_read, wait_for};

#[test]
fn every_file_gets_a_commit_and_the_users_own_changes_stay() {
    let place = Place::new();
    place.repository(&["a.py", "b.py", "c.py", "mine.txt"]);
    std::fs::write(place.path("work/mine.txt"), "not committed\n").expect("a file");
    let run = place
        .run(&[
            "batch",
            "--tool",
            "standin",
            "-n",
            "2",
            "*.py",
            "-p",
            "edit {file}: done with {file}",
            "-o",
            "json",
        ])
        .expect(0);
    let report = run.document();
    assert_eq!(report["kind"], "batch.report");
    assert_eq!((&report["total"], &report["ok"]), (&3.into(), &3.into()));
    assert_eq!(report["lands_on"], "main");
    let names: Vec<_> = report["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["item"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["a.py", "b.py", "c.py"]);
    for item in report["items"].as_array().expect("items") {
        assert_eq!(item["reply"]["landed"]["result"], "commit");
        assert_eq!(item["reply"]["landed"]["files"][0], item["item"]);
    }
    let mut subjects: Vec<String> = place
        .git(&["log", "--format=%s"])
        .lines()
        .map(str::to_owned)
        .collect();
    subjects.sort();
    assert_eq!(
        subjects,
        [
            "start",
            "toolpool: a.py",
            "toolpool: b.py",
            "toolpool: c.py"
        ]
    );
    assert_eq!(
        std::fs::read_to_string(place.path("work/b.py")).expect("a file"),
        "b.py\ndone with b.py\n"
    );
    assert_eq!(place.git(&["status", "--short"]), " M mine.txt\n");
    assert_eq!(place.git(&["worktree", "list"]).lines().count(), 1);
    place.assert_nothing_is_left();
}

#[test]
fn a_file_that_is_not_committed_or_in_the_way_is_told_and_nothing_is_lost() {
    let place = Place::new();
    place.repository(&["a.py", "b.py"]);
    std::fs::write(place.path("work/b.py"), "not committed\n").expect("a file");
    std::fs::write(place.path("work/new.py"), "new\n").expect("a file");
    let run = place
        .run(&["batch", "--tool", "standin", "*.py", "-p", "edit {file}: x"])
        .expect(7);
    assert!(
        run.stdout
            .contains("3 items: 1 ok, 1 not landed, 1 not started"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("git -C "), "{}", run.stdout);
    assert_eq!(
        std::fs::read_to_string(place.path("work/b.py")).expect("a file"),
        "not committed\n"
    );
    assert_eq!(
        std::fs::read_to_string(place.path("work/new.py")).expect("a file"),
        "new\n"
    );
    assert_eq!(
        place.git(&["log", "--format=%s"]),
        "toolpool: a.py\nstart\n"
    );
}

#[test]
fn the_answers_of_a_tool_that_changes_nothing_are_on_stdout() {
    let place = Place::new();
    let items = place.path("items.txt").display().to_string();
    std::fs::write(&items, "one\n\ntwo\n").expect("a file");
    let run = place
        .run(&[
            "batch",
            "--tool",
            "bash",
            "--items",
            &items,
            "-p",
            "echo hello {item}",
        ])
        .expect(0);
    assert!(run.stdout.contains("── one\nhello one\n"), "{}", run.stdout);
    assert!(run.stdout.contains("── two\nhello two\n"), "{}", run.stdout);
    assert!(run.stdout.contains("2 items: 2 ok"), "{}", run.stdout);
}

#[test]
fn json_lines_are_one_for_each_item_and_one_for_the_counts() {
    let place = Place::new();
    let run = place
        .run_with_input(
            &[
                "batch", "--tool", "standin", "--items", "-", "-p", "{item}!", "-o", "jsonl",
            ],
            b"one\ntwo\n",
        )
        .expect(0);
    let documents = run.documents();
    let kinds: Vec<_> = documents
        .iter()
        .map(|document| document["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["batch.item", "batch.item", "batch.summary"]);
    assert_eq!(documents[0]["reply"]["text"], "echo one!");
    assert_eq!(documents[2]["ok"], 2);
    assert_eq!(documents[2]["books"]["completed"], 2);
}

#[test]
fn an_item_in_doubt_is_never_sent_again_and_the_others_go_on() {
    let place = Place::new();
    let ledger = place.path("ledger").display().to_string();
    place.standin("shaky", &["on prompt ~bad byte 2 exit 3"]);
    let run = place
        .run_with_input(
            &[
                "batch",
                "--tool",
                "shaky",
                "--retries",
                "3",
                "--items",
                "-",
                "-p",
                "do {item}",
                "-o",
                "json",
                "--",
                "--ledger",
                &ledger,
            ],
            b"good\nbad\nfine\n",
        )
        .expect(7);
    let report = run.document();
    assert_eq!(
        (&report["ok"], &report["not_completed"]),
        (&2.into(), &1.into())
    );
    assert_eq!(report["items"][1]["reply"]["outcome"], "indeterminate");
    assert_eq!(report["items"][1]["attempts"], 1);
    // The tool itself wrote down each prompt that it read.
    assert_eq!(
        std::fs::read_to_string(&ledger)
            .expect("a ledger")
            .lines()
            .count(),
        3
    );
    place.assert_nothing_is_left();
}

#[test]
fn a_dry_run_shows_the_prompts_and_starts_nothing() {
    let place = Place::new();
    place.repository(&["a.py", "b.py"]);
    // A tool that would be noticed.
    place.standin("loud", &["on start exit 1"]);
    let arguments = [
        "batch",
        "--tool",
        "loud",
        "*.py",
        "-p",
        "work on {file}",
        "--dry-run",
    ];
    let run = place.run(&arguments).expect(0);
    assert!(run.stdout.contains("work on b.py"), "{}", run.stdout);
    let document = place
        .run(&[&arguments[..], &["-o", "json"]].concat())
        .expect(0)
        .document();
    assert_eq!(document["kind"], "batch.plan");
    assert_eq!(document["items"][0]["prompt"], "work on a.py");
    assert!(!place.path("work/.toolpool").exists());
}

#[test]
fn prompts_are_never_read_by_a_shell() {
    let place = Place::new();
    let run = place
        .run_with_input(
            &[
                "batch", "--tool", "standin", "--items", "-", "-p", "{item}", "-o", "json",
            ],
            b"$(touch work/owned); `touch owned`\n",
        )
        .expect(0);
    assert_eq!(
        run.document()["items"][0]["reply"]["text"],
        "echo $(touch work/owned); `touch owned`"
    );
    assert!(!place.path("work/owned").exists());
}

#[test]
fn a_prompt_that_the_tool_cannot_take_is_not_tried_again() {
    let place = Place::new();
    place.profile(
        "liner",
        "name = \"liner\"\nprogram = \"bash\"\nargs = [\"-c\", \"while read nonce text; do echo $nonce; done\"]\n\
         [lines]\nsubmit = \"{nonce} {text}\\n\"\nend = \"{nonce}\"\nsentinel = \"{nonce}\\n\"\nmultiline = \"refuse\"\n",
    );
    let run = place
        .run_with_input(
            &[
                "batch",
                "--tool",
                "liner",
                "--retries",
                "3",
                "--items",
                "-",
                "-p",
                "two\nlines {item}",
                "-o",
                "json",
            ],
            b"x\n",
        )
        .expect(7);
    let item = &run.document()["items"][0];
    assert_eq!(
        (&item["reply"]["cause"], &item["attempts"]),
        (&"refused".into(), &1.into())
    );
}

#[test]
fn a_reader_that_goes_away_lets_what_runs_finish_and_nothing_more_is_started() {
    let place = Place::new();
    for name in ["one", "two"] {
        named_pipe(&place.path("work").join(name));
    }
    let items = place.path("items.txt").display().to_string();
    std::fs::write(&items, "one\ntwo\nthree\n").expect("a file");
    let mut child = place
        .command(&[
            "batch",
            "--tool",
            "bash",
            "-n",
            "2",
            "--items",
            &items,
            "-p",
            "cat {item}",
            "-o",
            "jsonl",
        ])
        .spawn()
        .expect("runs");
    let first = once_it_is_read(&child, &place.path("work/one"));
    let mut second = once_it_is_read(&child, &place.path("work/two"));
    drop(child.stdout.take());
    // Its end is the first thing that nobody reads.
    drop(first);
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut story, "1/3 one");
    second.write_all(b"finished\n").expect("the tool goes on");
    drop(second);
    wait_for(&mut story, "2/3 two: completed");
    let mut rest = String::new();
    story.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(141), "{rest}");
    assert!(
        !rest.contains("three") && !rest.contains("panicked"),
        "{rest}"
    );
    place.assert_nothing_is_left();
}

#[test]
fn the_report_is_left_in_files_too_as_json_and_as_junit() {
    let place = Place::new();
    place.standin("shaky", &["on prompt ~bad byte 2 exit 3"]);
    let (json, junit) = (place.path("out.json"), place.path("out.xml"));
    let arguments = [
        "batch",
        "--tool",
        "shaky",
        "--spare",
        "1",
        "--items",
        "-",
        "-p",
        "do {item}",
        "--report",
        json.to_str().expect("text"),
        "--junit",
        junit.to_str().expect("text"),
    ];
    let run = place.run_with_input(&arguments, b"good\nbad\n").expect(7);
    assert!(run.stdout.contains("2 items: 1 ok, 1 in doubt"), "{run:#?}");
    assert!(run.stderr.contains("; 1 more stands by"), "{run:#?}");
    let report = std::fs::read_to_string(&json).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["kind"], "batch.report");
    let ends: Vec<_> = report["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["end"].as_str().expect("an end"))
        .collect();
    assert_eq!(ends, ["ok", "indeterminate"]);
    let xml = std::fs::read_to_string(&junit).expect("a report");
    assert!(
        xml.contains(r#"tests="2" skipped="0" failures="0" errors="1""#),
        "{xml}"
    );
    assert!(xml.contains(r#"<testcase name="good""#), "{xml}");
}

#[test]
fn a_report_that_could_not_be_written_is_told_before_anything_starts() {
    let place = Place::new();
    let run = place
        .run_with_input(
            &[
                "batch",
                "--tool",
                "standin",
                "--items",
                "-",
                "-p",
                "{item}",
                "--junit",
                "none/x.xml",
            ],
            b"one\n",
        )
        .expect(2);
    assert!(
        run.stderr
            .contains("cannot write none/x.xml: its folder is not there"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("starting"), "{}", run.stderr);
}

#[test]
fn the_table_of_a_batch_fits_the_terminal() {
    let place = Place::new();
    place.standin("frail", &["on every 1 byte 2 exit 3"]);
    let line = format!("an item with a long name {}\n", "and more of it ".repeat(9));
    std::fs::write(place.path("work/items.txt"), line).expect("a file");
    let line = [
        "batch",
        "--tool",
        "frail",
        "--items",
        "items.txt",
        "-p",
        "do {item}",
    ];
    let (code, _, shown) = Terminal::run_all_on_it(&place, &line).end();
    assert_eq!(code, 7, "{shown}");
    let lines = shown.lines().map(str::trim_end);
    let table: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("ITEM"))
        .take(2)
        .collect();
    let [_, row] = table[..] else {
        panic!("{shown}")
    };
    assert!(
        row.contains("indeterminate") && row.chars().count() <= 80,
        "{row}"
    );
    let [.., counts] = shown
        .lines()
        .filter(|line| line.starts_with("1 item"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{shown}")
    };
    assert!(counts.starts_with("1 item: 1 in doubt"), "{counts}");
}
