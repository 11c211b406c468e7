//! `toolpool ask`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use super::support::{Place, Run, named_pipe, once_it_is_read};

#[test]
fn the_answer_is_on_stdout_and_the_story_on_stderr() {
    let place = Place::new();
    let run = place.run(&["ask", "--tool", "standin", "hello"]).expect(0);
    assert_eq!(run.stdout, "echo hello\n");
    assert!(run.stderr.contains("main/1 · t1 · "), "{}", run.stderr);
    place.assert_nothing_is_left();
}

#[test]
fn a_quiet_ask_tells_nothing_but_the_answer() {
    let place = Place::new();
    let run = place
        .run(&["ask", "-q", "--tool", "standin", "hello"])
        .expect(0);
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("echo hello\n", "")
    );
}

#[test]
fn the_tool_may_be_chosen_by_a_variable_or_a_file() {
    let place = Place::new();
    place.standin("mine", &["on turn 1 reply mine"]);
    let run = Run::of(
        place
            .command(&["ask", "-q", "x"])
            .env("TOOLPOOL_TOOL", "mine")
            .output()
            .expect("runs"),
    );
    assert_eq!(run.stdout, "mine\n");
    let file = place
        .path("config/toolpool/tools/mine.toml")
        .display()
        .to_string();
    assert_eq!(
        place.run(&["ask", "-q", "--tool", &file, "x"]).stdout,
        "mine\n"
    );
}

#[test]
fn json_is_one_document_with_the_exact_answer() {
    let place = Place::new();
    let document = place
        .run(&["ask", "--tool", "standin", "-o", "json", "hi"])
        .expect(0)
        .document();
    assert_eq!(document["kind"], "turn.reply");
    assert_eq!(document["outcome"], "completed");
    assert_eq!(document["text"], "echo hi");
    assert_eq!(document["instance"], "main/1");
}

#[test]
fn json_lines_tell_the_start_the_pieces_and_the_whole() {
    let place = Place::new();
    place.standin("slow", &["on turn 1 stream 3B 1ms"]);
    let documents = place
        .run(&["ask", "--tool", "slow", "-o", "jsonl", "über→alles"])
        .expect(0)
        .documents();
    let kinds: Vec<_> = documents
        .iter()
        .map(|document| document["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds.first(), Some(&"turn.started"));
    assert_eq!(kinds.last(), Some(&"turn.reply"));
    let text: String = documents
        .iter()
        .filter(|document| document["kind"] == "turn.text")
        .map(|document| document["text"].as_str().expect("text"))
        .collect();
    assert_eq!(text, "echo über→alles");
    assert_eq!(documents.last().expect("documents")["text"], text.as_str());
}

#[test]
fn what_is_piped_in_follows_the_prompt() {
    let place = Place::new();
    let joined = place
        .run_with_input(
            &["ask", "-q", "--tool", "standin", "Explain this"],
            b"a diff\n",
        )
        .expect(0);
    assert_eq!(joined.stdout, "echo Explain this\n\na diff\n");
    let alone = place
        .run_with_input(&["ask", "-q", "--tool", "standin", "-"], b"all of it")
        .expect(0);
    assert_eq!(alone.stdout, "echo all of it\n");
    let none = place
        .run_with_input(&["ask", "-q", "--tool", "standin", "only this"], b"")
        .expect(0);
    assert_eq!(none.stdout, "echo only this\n");
}

#[test]
fn everybody_is_asked_and_answers_under_their_name() {
    let place = Place::new();
    let run = place
        .run(&["ask", "--tool", "standin", "-n", "3", "--all", "hi"])
        .expect(0);
    assert_eq!(run.stdout.matches("echo hi\n").count(), 3);
    for instance in ["main/1", "main/2", "main/3"] {
        assert!(
            run.stdout
                .contains(&format!("── {instance} · standin · completed")),
            "{}",
            run.stdout
        );
    }
    let document = place
        .run(&[
            "ask", "--tool", "standin", "-n", "2", "--all", "-o", "json", "hi",
        ])
        .expect(0)
        .document();
    let items = document["items"].as_array().expect("items");
    let instances: Vec<_> = items
        .iter()
        .map(|item| item["instance"].as_str().expect("a name"))
        .collect();
    assert_eq!(instances, ["main/1", "main/2"]);
}

#[test]
fn one_failure_among_all_is_told_by_the_exit_code() {
    let place = Place::new();
    place.standin("shaky", &["on prompt ~hi byte 2 exit 3"]);
    let run = place
        .run(&["ask", "--tool", "shaky", "-n", "2", "--all", "hi"])
        .expect(7);
    assert!(run.stderr.contains("0 of 2 answered"), "{}", run.stderr);
    place.assert_nothing_is_left();
}

#[test]
fn an_edit_lands_as_a_commit_and_leaves_the_users_own_changes_alone() {
    let place = Place::new();
    place.repository(&["a.txt", "mine.txt"]);
    std::fs::write(place.path("work/mine.txt"), "not committed\n").expect("a file");
    let run = place
        .run(&["ask", "--tool", "standin", "edit a.txt: more"])
        .expect(0);
    assert!(
        run.stderr.contains("✓ landed on main as "),
        "{}",
        run.stderr
    );
    assert_eq!(
        place.git(&["log", "--format=%s"]),
        "toolpool: edit a.txt: more\nstart\n"
    );
    assert_eq!(
        std::fs::read_to_string(place.path("work/a.txt")).expect("a file"),
        "a.txt\nmore\n"
    );
    assert_eq!(place.git(&["status", "--short"]), " M mine.txt\n");
    assert_eq!(place.git(&["worktree", "list"]).lines().count(), 1);
    place.assert_nothing_is_left();
}

#[test]
fn an_edit_that_is_in_the_users_way_is_kept_and_shown() {
    let place = Place::new();
    place.repository(&["a.txt"]);
    std::fs::write(place.path("work/a.txt"), "not committed\n").expect("a file");
    let run = place
        .run(&["ask", "--tool", "standin", "edit a.txt: more", "-o", "json"])
        .expect(1);
    assert_eq!(run.error()["code"], "not_landed");
    let landed = &run.document()["landed"];
    assert_eq!(landed["result"], "blocked");
    // The command that is told shows the work.
    let show = landed["show"].as_str().expect("a command");
    let words: Vec<_> = show.split(' ').skip(3).collect();
    assert!(place.git(&words).contains("+more"), "{show}");
    assert_eq!(
        std::fs::read_to_string(place.path("work/a.txt")).expect("a file"),
        "not committed\n"
    );
}

#[test]
fn a_crash_is_a_doubt_and_what_there_is_of_the_answer_is_printed() {
    let place = Place::new();
    place.standin("crasher", &["on turn 1 byte 3 exit 4"]);
    let run = place
        .run(&["ask", "--tool", "crasher", "-o", "json", "hi"])
        .expect(1);
    let error = run.error();
    assert_eq!(error["code"], "indeterminate");
    assert_eq!(error["retryable"], false);
    let document = run.document();
    assert_eq!(document["text"], "ech");
    assert_eq!(document["cause"], "crashed");
    place.assert_nothing_is_left();
}

#[test]
fn a_turn_out_of_time_has_an_exit_code_of_its_own() {
    let place = Place::new();
    place.standin("sleeper", &["on turn 1 hang"]);
    let run = place
        .run(&["ask", "--tool", "sleeper", "--turn-timeout", "50ms", "hi"])
        .expect(4);
    assert_eq!(run.stdout, "");
    place.assert_nothing_is_left();
}

#[test]
fn a_tool_that_outgrows_its_memory_in_a_turn_is_killed_and_a_limit_needs_its_unit() {
    let place = Place::new();
    place.standin("glutton", &["on turn 1 grow 200MiB", "on turn 1 hang"]);
    let ask = |limit| place.run(&["ask", "--tool", "glutton", "--memory-limit", limit, "hi"]);
    let run = ask("100MiB").expect(1);
    assert!(run.stderr.contains("may have 100 MiB"), "{run:#?}");
    assert!(run.stderr.contains("--memory-limit"), "{run:#?}");
    let run = ask("100").expect(2);
    assert!(run.stderr.contains("such as 512MiB or 2GiB"), "{run:#?}");
    place.assert_nothing_is_left();
}

#[test]
fn a_reader_that_goes_away_ends_the_command_at_once() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let mut child = place
        .command(&["ask", "-q", "--tool", "bash", "cat pipe"])
        .spawn()
        .expect("runs");
    let mut answer = BufReader::new(child.stdout.take().expect("piped"));
    let mut tool = once_it_is_read(&child, &pipe);
    // A line is held back until the next one begins: it could be the end of the turn.
    tool.write_all(b"first\nnext\n").expect("the tool reads");
    let mut line = String::new();
    answer.read_line(&mut line).expect("a line");
    assert_eq!(line, "first\n");
    drop(answer);
    // The turn never ends by itself: the pipe stays open.
    tool.write_all(b"more\nand more\n").expect("the tool reads");
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(141), "{stderr}");
    assert_eq!(stderr, "");
    drop(tool);
    place.assert_nothing_is_left();
}

#[test]
fn metrics_are_served_while_it_runs() {
    let place = Place::new();
    let run = place
        .run(&["ask", "--tool", "standin", "--metrics", "127.0.0.1:0", "hi"])
        .expect(0);
    assert!(
        run.stderr.contains("metrics http://127.0.0.1:"),
        "{}",
        run.stderr
    );
}
