//! Batches that survive: what is kept, what is gone on with, and what the history tells.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use super::support::{LONG, Place, Run, signal, wait_for};

/// A stand-in that writes down each prompt that it reads, with more rules.
fn ledgered(place: &Place, rules: &[&str]) {
    let ledger = place.path("ledger").display().to_string();
    let mut args = vec!["--ledger".to_owned(), ledger];
    for rule in rules {
        args.extend(["--do".to_owned(), (*rule).to_owned()]);
    }
    place.profile(
        "scribe",
        &format!("base = \"standin\"\nname = \"scribe\"\nargs = {args:?}\n"),
    );
}

/// How often a tool has read each prompt, by its hash.
fn read(place: &Place) -> BTreeMap<String, usize> {
    let ledger = std::fs::read_to_string(place.path("ledger")).unwrap_or_default();
    let mut read = BTreeMap::new();
    for line in ledger.lines() {
        let hash = line.split(' ').nth(3).expect("a hash");
        *read.entry(hash.to_owned()).or_default() += 1;
    }
    read
}

/// Waits until tools have read so many prompts in all.
fn wait_until_read(place: &Place, count: usize, child: &mut Child) -> bool {
    let deadline = Instant::now() + LONG;
    loop {
        if read(place).values().sum::<usize>() >= count {
            return true;
        }
        if child.try_wait().expect("it can be asked").is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "{:?}", read(place));
        std::thread::yield_now();
    }
}

/// A file of items, and the command line of a batch of them.
fn batch(place: &Place, items: &[&str], more: &[&str]) -> Vec<String> {
    let file = place.path("items.txt");
    std::fs::write(&file, items.join("\n")).expect("a file");
    let file = file.display().to_string();
    let line = [
        "batch",
        "--tool",
        "scribe",
        "--items",
        &file,
        "-p",
        "do {item}",
    ];
    line.iter()
        .chain(more)
        .map(|word| (*word).to_owned())
        .collect()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

fn kill(mut child: Child, place: &Place) {
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    place.wait_until_all_have_ended();
}

/// The end of each item of a report.
fn ends(report: &Value) -> BTreeMap<String, String> {
    let items = report["items"].as_array().expect("items").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    items
        .map(|item| (text(&item["item"]), text(&item["end"])))
        .collect()
}

fn counts(report: &Value) -> [u64; 5] {
    [
        "total",
        "ok",
        "indeterminate",
        "not_started",
        "from_earlier_runs",
    ]
    .map(|name| report[name].as_u64().expect("a count"))
}

#[test]
fn the_same_command_again_runs_nothing_that_is_done() {
    let place = Place::new();
    ledgered(&place, &[]);
    let line = batch(&place, &["one", "two", "three"], &["-o", "json"]);
    let first = place.run(&words(&line)).expect(0);
    assert_eq!(counts(&first.document()), [3, 3, 0, 0, 0]);
    let name = first.document()["batch"]
        .as_str()
        .expect("a name")
        .to_owned();
    assert!(
        first.stderr.contains(&format!("batch {name} of 3 items")),
        "{first:#?}"
    );
    let again = place.run(&words(&line)).expect(0);
    assert_eq!(counts(&again.document()), [3, 3, 0, 0, 3]);
    assert_eq!(again.document()["items"][0]["reply"]["text"], "echo do one");
    assert_eq!(again.document()["books"]["accepted"], 0);
    assert!(again.stderr.contains("nothing is left to do"), "{again:#?}");
    assert!(!again.stderr.contains("starting"), "{again:#?}");
    assert_eq!(
        read(&place).values().copied().collect::<Vec<_>>(),
        [1, 1, 1]
    );
    // All of it once more, because somebody says so.
    let rerun = place
        .run(&[&words(&line)[..], &["--rerun", "all"]].concat())
        .expect(0);
    assert_eq!(counts(&rerun.document()), [3, 3, 0, 0, 0]);
    assert_eq!(rerun.document()["items"][0]["attempts"], 2);
    assert_eq!(
        read(&place).values().copied().collect::<Vec<_>>(),
        [2, 2, 2]
    );
}

#[test]
fn other_items_another_prompt_or_another_tool_are_another_batch() {
    let place = Place::new();
    ledgered(&place, &[]);
    let name = |items: &[&str], more: &[&str]| {
        let run = place.run(&words(&batch(&place, items, more))).expect(0);
        let name = run.stderr.split_whitespace().nth(1).expect("a name");
        name.to_owned()
    };
    let first = name(&["one", "two"], &[]);
    assert_eq!(first, name(&["one", "two"], &["-n", "2", "--retries", "1"]));
    assert_ne!(first, name(&["one", "two", "three"], &[]));
    assert_ne!(first, name(&["one", "two"], &["--", "--seed", "x"]));
    assert_eq!(read(&place).values().sum::<usize>(), 2 + 3 + 2);
}

#[test]
fn a_killed_batch_goes_on_and_what_was_with_a_tool_is_listed_and_not_run() {
    let place = Place::new();
    ledgered(&place, &["on prompt ~three hang"]);
    let line = batch(&place, &["one", "two", "three", "four"], &["-o", "json"]);
    let mut child = place.command(&words(&line)).spawn().expect("it runs");
    assert!(wait_until_read(&place, 3, &mut child));
    let none = place.run(&["history", "show", "t3", "--answer"]);
    assert!(
        none.expect(2)
            .stderr
            .contains("t3 is running and has no answer")
    );
    let look: [&[&str]; 3] = [
        &["history"],
        &["history", "batches"],
        &["history", "show", "t3"],
    ];
    for look in look {
        let run = place.run(look).expect(0);
        assert!(
            run.stdout.contains("running") && run.stderr.is_empty(),
            "{run:#?}"
        );
    }
    kill(child, &place);
    // Nobody runs anything any more, although nobody has written so yet.
    for look in look {
        let run = place.run(look).expect(0);
        assert!(
            run.stderr.contains("nobody writes this journal"),
            "{run:#?}"
        );
    }

    let run = place.run(&words(&line)).expect(7);
    let report = run.document();
    assert_eq!(counts(&report), [4, 3, 1, 0, 3]);
    assert_eq!(ends(&report)["three"], "indeterminate");
    assert_eq!(report["items"][2]["reply"]["cause"], "manager_died");
    assert!(
        run.stderr.contains("three: in doubt before (t3: ") && run.stderr.contains("not run again"),
        "{run:#?}"
    );
    assert_eq!(
        read(&place).values().copied().collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );

    // The text form says what to do about it, and that works, from anywhere.
    let name = report["batch"].as_str().expect("a name");
    let text = place.run(&words(&line)[..7]).expect(7).stdout;
    for step in [
        "4 items: 3 ok, 1 in doubt (all of them in earlier runs)".to_owned(),
        "toolpool history show t3".to_owned(),
        format!("toolpool batch --resume {name} --rerun indeterminate"),
        "toolpool resolve TURN --as".to_owned(),
    ] {
        assert!(text.contains(&step), "{step}: {text}");
    }
    ledgered(&place, &[]);
    let resume = [
        "batch",
        "--resume",
        &name[..4],
        "--rerun",
        "indeterminate",
        "-o",
        "json",
    ];
    let elsewhere = place
        .command(&resume)
        .current_dir(place.path("home"))
        .output()
        .expect("it runs");
    let report = Run::of(elsewhere).expect(0).document();
    assert_eq!(counts(&report), [4, 4, 0, 0, 3]);
    assert_eq!(report["items"][2]["attempts"], 2);
    place.assert_nothing_is_left();
}

#[test]
fn however_often_it_is_killed_every_item_is_done_once_or_in_doubt() {
    let place = Place::new();
    let items = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let files: Vec<String> = items.iter().map(|item| format!("{item}.txt")).collect();
    place.repository(&files.iter().map(String::as_str).collect::<Vec<_>>());
    ledgered(&place, &["on every 1 delay 5ms"]);
    let line = [
        "batch",
        "--tool",
        "scribe",
        "-n",
        "2",
        "*.txt",
        "-p",
        "edit {file}: done",
        "-o",
        "json",
    ];
    for point in [1, 2, 4, 5, 7, 9] {
        let mut child = place.command(&line).spawn().expect("it runs");
        wait_until_read(&place, point, &mut child);
        kill(child, &place);
    }
    let run = place.run(&line);
    let report = run.document();
    let [total, ok, in_doubt, not_started, _] = counts(&report);
    assert_eq!((total, ok + in_doubt, not_started), (12, 12, 0), "{run:#?}");
    assert_eq!(run.code, if in_doubt == 0 { 0 } else { 7 });
    let read = read(&place);
    assert!(read.values().all(|count| *count == 1), "{read:?}");
    // What is in doubt may never have been read; what is ok was.
    assert!(read.len() as u64 >= ok, "{read:?}");
    let log = place.git(&["log", "--format=%s"]);
    for (item, end) in ends(&report) {
        let commits = log
            .lines()
            .filter(|subject| **subject == format!("toolpool: {item}"));
        match (commits.count(), end.as_str()) {
            (1, "ok") | (0 | 1, "indeterminate") => {}
            other => panic!("{item}: {other:?}\n{log}"),
        }
    }
}

#[test]
fn a_second_batch_on_a_journal_is_refused_at_once_and_told_who_has_it() {
    let place = Place::new();
    ledgered(&place, &["on every 1 hang"]);
    let line = batch(&place, &["one"], &["-o", "json"]);
    let mut child = place.command(&words(&line)).spawn().expect("it runs");
    assert!(wait_until_read(&place, 1, &mut child));
    let refused = place.run(&words(&line)).expect(6);
    let error = refused.error();
    assert_eq!(
        (&error["code"], &error["retryable"]),
        (&"journal_in_use".into(), &true.into())
    );
    let message = error["message"].as_str().expect("text");
    assert!(
        message.contains(&format!("process {} ", child.id())),
        "{message}"
    );
    assert!(
        error["hint"]
            .as_str()
            .expect("text")
            .contains("--no-journal")
    );
    // It can be read all the same.
    let list = place.run(&["history", "-o", "json"]).expect(0).document();
    assert_eq!(list["items"][0]["outcome"], "running");
    // Elsewhere, and with another journal, there is nothing in the way.
    ledgered(&place, &[]);
    let other = place.path("other.db").display().to_string();
    place
        .run(&[&words(&line)[..], &["--journal", &other]].concat())
        .expect(0);
    place
        .run(&[&words(&line)[..], &["--no-journal"]].concat())
        .expect(0);
    kill(child, &place);
}

#[test]
fn an_interrupted_batch_says_how_it_goes_on() {
    let place = Place::new();
    ledgered(&place, &["on prompt ~two hang", "on signal USR1 end"]);
    let line = batch(&place, &["one", "two", "three"], &[]);
    let mut child = place.command(&words(&line)).spawn().expect("it runs");
    assert!(wait_until_read(&place, 2, &mut child));
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, Signal::INT);
    wait_for(&mut story, "finishing 1 running items, 1 are not started");
    signal(&child, Signal::INT);
    let rest: Vec<String> = story.lines().map(|line| line.expect("text")).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let next = rest.last().expect("a next step");
    let resume = next.strip_prefix("next: toolpool ").expect("a command");
    ledgered(&place, &[]);
    let resume: Vec<&str> = resume.split(' ').chain(["-o", "json"]).collect();
    let report = place.run(&resume).expect(7).document();
    assert_eq!(counts(&report), [3, 2, 1, 0, 2]);
    assert_eq!(ends(&report)["two"], "indeterminate");
}

#[test]
fn what_was_queued_when_toolpool_was_killed_runs_under_its_old_number() {
    let place = Place::new();
    // The first process dies of its first prompt; those after it are never ready.
    let once = place.path("once").display().to_string();
    let script = format!(
        "mkdir {once} 2>/dev/null || exec sleep 1000; read nonce; echo $nonce; read nonce text; exit 3"
    );
    let profile = |script: &str| {
        place.profile(
            "scribe",
            &format!(
                "name = \"scribe\"\nprogram = \"bash\"\nargs = [\"-c\", {script:?}]\n\
                 [lines]\nsubmit = \"{{nonce}} {{text}}\\n\"\nend = \"{{nonce}}\"\nsentinel = \"{{nonce}}\\n\"\n"
            ),
        );
    };
    profile(&script);
    let line = batch(&place, &["one", "two"], &["-o", "json"]);
    let child = place.command(&words(&line)).spawn().expect("it runs");
    let deadline = Instant::now() + LONG;
    let queued = loop {
        let list = place.run(&["history", "--outcome", "queued", "-o", "json"]);
        if list.code == 0 && list.document()["items"][0]["item"] == "two" {
            break list.document()["items"][0]["turn"].clone();
        }
        assert!(Instant::now() < deadline, "{list:#?}");
    };
    kill(child, &place);
    profile("while read nonce text; do echo $text; echo $nonce; done");
    let report = place.run(&words(&line)).expect(7).document();
    assert_eq!(counts(&report), [2, 1, 1, 0, 1]);
    assert_eq!(report["items"][1]["reply"]["turn"], queued);
    assert_eq!(report["items"][1]["attempts"], 1);
}

#[test]
fn what_failed_is_run_again_only_if_that_is_asked_for() {
    let place = Place::new();
    let profile = |multiline: &str| {
        place.profile(
            "scribe",
            &format!(
                "name = \"scribe\"\nprogram = \"bash\"\nargs = [\"-c\", \"while read nonce text; do echo $text; echo $nonce; done\"]\n\
                 [lines]\nsubmit = \"{{nonce}} {{text}}\\n\"\nend = \"{{nonce}}\"\nsentinel = \"{{nonce}}\\n\"\nmultiline = \"{multiline}\"\n"
            ),
        );
    };
    profile("refuse");
    let line = batch(&place, &["one"], &["-o", "json"]);
    let line: Vec<&str> = words(&line)
        .into_iter()
        .map(|word| {
            if word == "do {item}" {
                "do\n{item}"
            } else {
                word
            }
        })
        .collect();
    let report = place.run(&line).expect(7).document();
    assert_eq!(ends(&report)["one"], "failed");
    profile("join");
    let kept = place.run(&line).expect(7).document();
    assert_eq!(kept["from_earlier_runs"], 1);
    let again = place
        .run(&[&line[..], &["--rerun", "failed"]].concat())
        .expect(0)
        .document();
    assert_eq!(
        (&again["ok"], &again["items"][0]["attempts"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn without_a_journal_nothing_is_kept() {
    let place = Place::new();
    ledgered(&place, &[]);
    let line = batch(&place, &["one"], &["--no-journal", "-o", "json"]);
    for _ in 0..2 {
        let report = place.run(&words(&line)).expect(0).document();
        assert_eq!(
            (&report["batch"], &report["from_earlier_runs"]),
            (&Value::Null, &0.into())
        );
    }
    assert_eq!(read(&place).values().copied().collect::<Vec<_>>(), [2]);
    assert!(!place.path("home/.local").exists());
    let error = place.run(&["history", "-o", "json"]).expect(2).error();
    assert_eq!(error["code"], "no_journal");
}

#[test]
fn a_doubt_is_settled_by_a_person_and_the_batch_counts_it_so() {
    let place = Place::new();
    ledgered(&place, &["on prompt ~bad byte 2 exit 3"]);
    let line = batch(&place, &["bad", "good"], &["-o", "json"]);
    let report = place.run(&words(&line)).expect(7).document();
    assert_eq!(ends(&report)["bad"], "indeterminate");
    let settle = |turn: &str, code: i32| {
        let run = place.run(&[
            "resolve",
            turn,
            "--as",
            "completed",
            "--note",
            "the file is right",
            "-o",
            "json",
        ]);
        run.expect(code)
    };
    assert_eq!(settle("t1", 0).document()["outcome"], "completed");
    assert_eq!(settle("t2", 2).error()["code"], "not_in_doubt");
    assert_eq!(settle("t9", 2).error()["code"], "unknown_turn");
    let report = place.run(&words(&line)).expect(0).document();
    assert_eq!(counts(&report), [2, 2, 0, 0, 2]);
    let shown = place
        .run(&["history", "show", "t1", "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(shown["resolved"]["was"], "indeterminate");
    assert_eq!(shown["resolved"]["note"], "the file is right");
    assert_eq!(read(&place).values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_history_finds_prompts_by_their_words_and_filters() {
    let place = Place::new();
    ledgered(&place, &["on prompt ~bad byte 2 exit 3"]);
    let line = batch(
        &place,
        &["apples and pears", "pears", "bad plums"],
        &["-o", "json"],
    );
    let report = place.run(&words(&line)).expect(7).document();
    let name = report["batch"].as_str().expect("a name");
    let found = |more: &[&str]| -> Vec<u64> {
        let line = [&["history", "-o", "json"], more].concat();
        let list = place.run(&line).expect(0).document();
        let items = list["items"].as_array().expect("items").iter();
        let mut turns: Vec<u64> = items
            .map(|item| item["turn"].as_u64().expect("a turn"))
            .collect();
        turns.sort_unstable();
        turns
    };
    for (more, turns) in [
        (&[][..], &[1, 2, 3][..]),
        (&["PEARS"], &[1, 2]),
        (&["apples", "pears"], &[1]),
        (&["pears apples"], &[]),
        (&["and pears"], &[1]),
        (&["plu*"], &[3]),
        (&["--outcome", "indeterminate"], &[3]),
        (&["--tool", "scribe"], &[1, 2, 3]),
        (&["--tool", "aider"], &[]),
        (&["--batch", &name[..5]], &[1, 2, 3]),
        (&["--since", "1h"], &[1, 2, 3]),
        (&["--until", "2001-01-01"], &[]),
        (&["-n", "1"], &[3]),
    ] {
        assert_eq!(found(more), turns, "{more:?}");
    }
    let text = place.run(&["history", "apples"]).expect(0).stdout;
    assert!(
        text.contains("t1 ") && text.contains("do apples and pears"),
        "{text}"
    );
    let shown = place.run(&["history", "show", "t3"]).expect(0).stdout;
    assert!(
        shown.contains("t3 is indeterminate") && shown.contains("do bad plums"),
        "{shown}"
    );
    let answer = place
        .run(&["history", "show", "2", "--answer"])
        .expect(0)
        .stdout;
    assert_eq!(answer, "echo do pears");
    let sql = "select state, count(*) as n from history group by 1 order by 1";
    let rows = place
        .run(&["history", "--sql", sql, "-o", "jsonl"])
        .expect(0)
        .documents();
    assert_eq!(
        rows[0]["row"],
        serde_json::json!({ "state": "completed", "n": 2 })
    );
    let refused = place
        .run(&["history", "--sql", "delete from prompts", "-o", "json"])
        .expect(2);
    assert_eq!(refused.error()["code"], "bad_query");
    let exported = place.run(&["history", "export"]).expect(0);
    assert!(exported.documents().len() >= 3, "{exported:#?}");
    let unknown = place
        .run(&["history", "--batch", "zzz", "-o", "json"])
        .expect(2);
    assert_eq!(unknown.error()["code"], "unknown_batch");
    let batches = place
        .run(&["history", "batches", "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(batches["items"][0]["completed"], 2);
    assert_eq!(batches["items"][0]["indeterminate"], 1);
}

#[test]
fn the_lives_of_instances_and_the_events_are_told() {
    let place = Place::new();
    ledgered(&place, &["on prompt ~bad byte 2 exit 3"]);
    place
        .run(&words(&batch(&place, &["bad", "good"], &[])))
        .expect(7);
    let lives = place
        .run(&["logs", "main/1", "-o", "json"])
        .expect(0)
        .document();
    let lives = lives["items"].as_array().expect("items");
    assert_eq!(lives.len(), 2, "{lives:#?}");
    assert_eq!(lives[0]["code"], 3);
    let unknown = place
        .run(&["logs", "main/7", "-o", "json"])
        .expect(2)
        .error();
    assert_eq!(unknown["code"], "unknown_instance");
    let events = place.run(&["events", "-o", "jsonl"]).expect(0).documents();
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event["id"].as_u64().expect("an id"))
        .collect();
    assert!(ids.is_sorted() && !ids.is_empty(), "{ids:?}");
    let rest = ["events", "--since", &ids[1].to_string(), "-o", "json"];
    let rest = place.run(&rest).expect(0).documents();
    assert_eq!(rest, events[2..]);
    let text = place.run(&["events"]).expect(0).stdout;
    assert_eq!(text.lines().count(), ids.len());
    assert!(text.contains("instance_exited"), "{text}");
    // Whoever follows hears of them too, and leaves when told to.
    let mut child = place
        .command(&["events", "--follow"])
        .spawn()
        .expect("it runs");
    let mut followed = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in text.lines() {
        assert_eq!(followed.next().expect("a line").expect("text"), line);
    }
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_pruned_journal_keeps_what_has_no_end() {
    let place = Place::new();
    ledgered(&place, &[]);
    place
        .run(&words(&batch(&place, &["one", "two"], &[])))
        .expect(0);
    let none = place.run(&["history", "prune", "--older-than", "1h", "-o", "json"]);
    assert_eq!(none.expect(0).document()["prompts"], 0);
    let all = place.run(&["history", "prune", "--older-than", "0s", "-o", "json"]);
    assert_eq!(all.expect(0).document()["prompts"], 2);
    let list = place.run(&["history", "-o", "json"]).expect(0).document();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_ask_is_kept_where_it_says() {
    let place = Place::new();
    let file = place.path("asked.db").display().to_string();
    place
        .run(&[
            "ask",
            "--tool",
            "standin",
            "--journal",
            &file,
            "hello there",
        ])
        .expect(0);
    let list = place
        .run(&["history", "hello", "--journal", &file, "-o", "json"])
        .expect(0)
        .document();
    assert_eq!(list["items"][0]["reply"]["text"], "echo hello there");
    assert!(!place.path("home/.local").exists());
}

#[test]
fn a_session_is_known_from_run_to_run_and_what_its_tool_cannot_go_on_with_is_lost_in_words() {
    let place = Place::new();
    let ask = |more: &[&str]| {
        let line = ["ask", "-q", "--tool", "bash", "--session", "chat"];
        place.run(&[&line, more].concat())
    };
    assert_eq!(ask(&["x=1; echo $x"]).expect(0).stdout, "1\n");
    let lost = ask(&["-o", "json", "echo $x"]);
    assert!(lost.stderr.contains("earlier run"), "{}", lost.stderr);
    assert!(lost.stderr.contains("--on-loss fresh"), "{}", lost.stderr);
    assert!(lost.stdout.contains("session_lost"), "{}", lost.stdout);
    let anew = ask(&["echo [$x]"]).expect(0);
    assert_eq!(anew.stdout, "[]\n", "it begins anew");
    let fresh = ask(&["--on-loss", "fresh", "echo [$x]"]).expect(0);
    assert_eq!(fresh.stdout, "[]\n");
    let wrong = ask(&["--on-loss", "sometimes", "echo"]).expect(2);
    assert!(wrong.stderr.contains("replay:N"), "{}", wrong.stderr);
    place.assert_nothing_is_left();
}
