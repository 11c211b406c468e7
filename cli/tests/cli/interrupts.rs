//! Ctrl-C and the signals that end programs.

use std::io::{BufReader, Read as _, Write as _};
use std::process::Child;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{
    LONG, Place, Run, named_pipe, once_it_is_read, release_at_end, signal, wait_for,
};

#[test]
fn the_first_ctrl_c_of_a_batch_finishes_what_runs_and_starts_nothing_more() {
    let place = Place::new();
    for name in ["one", "two", "three"] {
        named_pipe(&place.path("work").join(name));
    }
    let items = place.path("items.txt").display().to_string();
    std::fs::write(&items, "one\ntwo\nthree\n").expect("a file");
    let mut child = place
        .command(&[
            "batch",
            "--tool",
            "bash",
            "--items",
            &items,
            "-p",
            "cat {item}",
            "-o",
            "json",
        ])
        .spawn()
        .expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    let mut tool = once_it_is_read(&child, &place.path("work/one"));
    signal(&child, Signal::INT);
    wait_for(&mut story, "finishing 1 running items, 2 are not started");
    tool.write_all(b"finished\n").expect("the tool reads");
    drop(tool);
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut stdout)
        .expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        (&report["ok"], &report["not_started"]),
        (&1.into(), &2.into())
    );
    assert_eq!(report["items"][0]["reply"]["text"], "finished\n");
    place.assert_nothing_is_left();
}

#[test]
fn the_first_ctrl_c_of_an_ask_cancels_and_the_second_kills_its_tool() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let mut child = place
        .command(&["ask", "--tool", "bash", "cat pipe"])
        .spawn()
        .expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    let tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::INT);
    wait_for(
        &mut story,
        "cancelling the turn; Ctrl-C again to kill its tool",
    );
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    drop(tool);
    place.assert_nothing_is_left();
}

#[test]
fn a_request_to_terminate_cancels_an_ask_the_tools_own_way_and_says_what_became_of_it() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let child = place
        .command(&["ask", "--tool", "bash", "-o", "json", "cat pipe"])
        .spawn()
        .expect("runs");
    let tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::TERM);
    let run = Run::of(child.wait_with_output().expect("it ends")).expect(143);
    assert_eq!(run.error()["code"], "terminated");
    assert_eq!(
        run.error()["message"],
        "terminated before it was done: t1 on main/1 was cancelled"
    );
    assert_eq!(run.document()["outcome"], "cancelled");
    drop(tool);
    place.assert_nothing_is_left();
}

#[test]
fn the_first_ctrl_c_of_an_ask_to_all_cancels_each_turn() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let child = place
        .command(&["ask", "--tool", "bash:2", "--all", "-o", "json", "cat pipe"])
        .spawn()
        .expect("runs");
    let tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::INT);
    let run = Run::of(child.wait_with_output().expect("it ends")).expect(130);
    let items = run.document()["items"].clone();
    let outcomes: Vec<_> = items.as_array().expect("items").iter().collect();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|item| item["outcome"] == "cancelled"));
    drop(tool);
    place.assert_nothing_is_left();
}

/// Waits until the stand-ins have read so many prompts, and gives the number of each one's process.
fn readers(place: &Place, count: usize) -> Vec<Pid> {
    let ledger = place.path("ledger");
    let deadline = Instant::now() + LONG;
    loop {
        let text = std::fs::read_to_string(&ledger).unwrap_or_default();
        if text.lines().count() == count {
            let pids = text
                .lines()
                .map(|line| line.split(' ').next().and_then(|pid| pid.parse().ok()));
            return pids
                .map(|pid| pid.and_then(Pid::from_raw).expect("a process"))
                .collect();
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::yield_now();
    }
}

/// A stand-in whose turns end when it gets SIGUSR1 and not before, and a file of so many items.
fn patient(place: &Place, rules: &str, items: usize) -> String {
    let ledger = place.path("ledger").display().to_string();
    place.profile(
        "patient",
        &format!(
            "base = \"standin\"\nname = \"patient\"\nargs = [\"--ledger\", {ledger:?}, \"--do\", \"on every 1 hang\", \
             \"--do\", \"on signal USR1 end\"{rules}]\n"
        ),
    );
    let file = place.path("items.txt");
    let lines: Vec<String> = (1..=items).map(|item| format!("item {item}")).collect();
    std::fs::write(&file, lines.join("\n")).expect("a file");
    file.display().to_string()
}

fn batch(place: &Place, items: &str, count: &str, drain: &str) -> Child {
    place
        .command(&[
            "batch",
            "--tool",
            "patient",
            "-n",
            count,
            "--items",
            items,
            "-p",
            "do {item}",
            "--drain-timeout",
            drain,
            "-o",
            "json",
        ])
        .spawn()
        .expect("runs")
}

#[test]
fn a_hundred_running_turns_get_the_drain_timeout_after_a_request_to_terminate() {
    let place = Place::new();
    let items = patient(&place, "", 120);
    let mut child = batch(&place, &items, "100", "2s");
    let running = readers(&place, 100);
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, Signal::TERM);
    wait_for(
        &mut story,
        "finishing 100 running items within 2.0 s, 20 are not started",
    );
    // Half of them end in time.
    for tool in &running[..50] {
        kill_process(*tool, Signal::USR1).expect("it runs");
    }
    let mut rest = String::new();
    let mut stdout = String::new();
    let mut output = child.stdout.take().expect("piped");
    output.read_to_string(&mut stdout).expect("text");
    story.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let books = &report["books"];
    assert_eq!(
        (
            &report["ok"],
            &report["not_completed"],
            &report["not_started"]
        ),
        (&50.into(), &50.into(), &20.into())
    );
    assert_eq!(
        (
            &books["accepted"],
            &books["completed"],
            &books["indeterminate"]
        ),
        (&100.into(), &50.into(), &50.into())
    );
    assert!(
        rest.contains("terminated before it was done: 50 ok, 50 in doubt, 20 not started"),
        "{rest}"
    );
    assert_eq!(
        readers(&place, 100).len(),
        100,
        "no prompt was sent after the signal"
    );
    place.assert_nothing_is_left();
}

#[test]
fn the_second_signal_of_a_batch_kills_what_runs_and_the_report_is_whole() {
    let place = Place::new();
    let items = patient(&place, ", \"--do\", \"on start ignore TERM\"", 5);
    let mut child = batch(&place, &items, "2", "30s");
    readers(&place, 2);
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, Signal::INT);
    wait_for(&mut story, "finishing 2 running items, 3 are not started");
    signal(&child, Signal::INT);
    wait_for(&mut story, "killing 2 running items");
    let mut stdout = String::new();
    let mut output = child.stdout.take().expect("piped");
    output.read_to_string(&mut stdout).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        (&report["not_completed"], &report["not_started"]),
        (&2.into(), &3.into())
    );
    assert_eq!(report["items"][0]["reply"]["cause"], "stopped");
    place.assert_nothing_is_left();
}

#[test]
fn the_third_signal_leaves_at_once_whatever_it_is_doing() {
    let place = Place::new();
    let items = patient(&place, "", 2);
    // Its report does not fit a pipe that nobody reads, so it cannot end by itself.
    let name = "x".repeat(1000);
    let lines: Vec<String> = (0..200).map(|item| format!("{name} {item}")).collect();
    std::fs::write(&items, lines.join("\n")).expect("a file");
    let mut child = batch(&place, &items, "2", "30s");
    readers(&place, 2);
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, Signal::INT);
    wait_for(&mut story, "finishing 2 running items, 198 are not started");
    signal(&child, Signal::TERM);
    wait_for(&mut story, "killing 2 running items");
    let mut output = child.stdout.take().expect("piped");
    let mut stdout = vec![0];
    output.read_exact(&mut stdout).expect("its report begins");
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    output.read_to_end(&mut stdout).expect("the rest of it");
    let report: Result<Value, _> = serde_json::from_slice(&stdout);
    assert!(report.is_err(), "there is no time for a whole report");
    place.wait_until_all_have_ended();
    place.assert_nothing_is_left();
}

#[test]
fn a_hang_up_ends_what_it_may_and_nohup_keeps_it_from_that() {
    let place = Place::new();
    let (first, second) = (place.path("work/first"), place.path("work/second"));
    named_pipe(&first);
    named_pipe(&second);
    let child = place
        .command(&["ask", "--tool", "bash", "cat first"])
        .spawn()
        .expect("runs");
    let tool = once_it_is_read(&child, &first);
    signal(&child, Signal::HUP);
    Run::of(child.wait_with_output().expect("it ends")).expect(143);
    drop(tool);

    let child = place
        .command_after(
            &["--ignore-signal=HUP"],
            &["ask", "--tool", "bash", "cat second"],
        )
        .spawn()
        .expect("runs");
    let mut tool = once_it_is_read(&child, &second);
    signal(&child, Signal::HUP);
    tool.write_all(b"still here\n").expect("the tool reads");
    drop(tool);
    let run = Run::of(child.wait_with_output().expect("it ends")).expect(0);
    assert_eq!(run.stdout, "still here\n");
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_demo_says_what_became_of_its_prompts() {
    let place = Place::new();
    let mut child = place.command(&["demo"]).spawn().expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut story, "3 of 3 ready");
    signal(&child, Signal::INT);
    let mut rest = String::new();
    story.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(
        rest.contains("interrupted before it was done: 12 prompts: "),
        "{rest}"
    );
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_benchmark_stops_its_measurement_and_leaves_nothing() {
    let place = Place::new();
    let mut child = place
        .command(&["bench", "--turns", "10000000", "--pairs", "1"])
        .spawn()
        .expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut story, "measuring turns");
    signal(&child, Signal::INT);
    wait_for(&mut story, "stopping this measurement");
    wait_for(&mut story, "interrupted before it was done");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    place.wait_until_all_have_ended();
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_launch_leaves_neither_processes_nor_worktrees() {
    let place = Place::new();
    place.repository(&["a.txt"]);
    let pipe = place.path("work/.git/pipe");
    named_pipe(&pipe);
    // It writes down that it was started, and is never ready.
    place.profile(
        "stuck",
        &format!(
            "name = \"stuck\"\nprogram = \"bash\"\nargs = [\"-c\", \"echo started > {}; exec cat\"]\nedits = true\n\
             [lines]\nready = \"^never$\"\nsubmit = \"{{nonce}} {{json}}\\n\"\nend = \"{{nonce}}\"\n",
            pipe.display()
        ),
    );
    let mut child = place
        .command(&["ask", "--tool", "stuck", "hi"])
        .spawn()
        .expect("runs");
    release_at_end(&child, &pipe);
    assert_eq!(
        std::fs::read_to_string(&pipe).expect("the tool writes"),
        "started\n"
    );
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(place.git(&["worktree", "list"]).lines().count(), 1);
    place.assert_nothing_is_left();
}
