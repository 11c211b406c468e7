//! Ctrl-C.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::ChildStderr;

use rustix::process::Signal;

use super::support::{Place, named_pipe, once_it_is_read, release_at_end, signal};

/// Reads the story up to the line with this text.
fn wait_for(story: &mut BufReader<ChildStderr>, text: &str) {
    let mut seen = String::new();
    loop {
        let before = seen.len();
        assert!(
            story.read_line(&mut seen).expect("text") > 0,
            "{text:?} was never told: {seen}"
        );
        if seen[before..].contains(text) {
            return;
        }
    }
}

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
fn the_first_ctrl_c_of_an_ask_cancels_and_the_second_leaves_at_once() {
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
        "cancelling the turn; Ctrl-C again to leave at once",
    );
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    drop(tool);
    place.assert_nothing_is_left();
}

#[test]
fn a_request_to_terminate_does_not_wait_for_what_runs() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let mut child = place
        .command(&["ask", "--tool", "bash", "-o", "json", "cat pipe"])
        .spawn()
        .expect("runs");
    let tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::TERM);
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(child.wait().expect("ends").code(), Some(143));
    assert!(stderr.contains("\"code\":\"terminated\""), "{stderr}");
    drop(tool);
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
