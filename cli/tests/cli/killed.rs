//! `kill -9` of toolpool in the middle of a turn.

use super::support::{Place, named_pipe, once_it_is_read};

/// What the doctor says of work that was left, with the command that throws it away.
fn work_left(place: &Place) -> Vec<(String, String)> {
    let report = place
        .run(&["doctor", "bash", "-o", "json"])
        .expect(0)
        .document();
    let checks = report["checks"].as_array().expect("checks");
    let left = checks.iter().filter(|check| {
        let detail = check["detail"].as_str().expect("text");
        detail.contains("left by an earlier run")
    });
    left.map(|check| {
        assert_eq!(check["verdict"], "note");
        let fix = check["fix"].as_str().expect("a fix");
        let (_, command) = fix.rsplit_once("(`").expect("a command");
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        (
            text(&check["detail"]),
            command.trim_end_matches("`)").to_owned(),
        )
    })
    .collect()
}

#[test]
fn a_killed_toolpool_leaves_nothing_but_work_and_the_doctor_says_so() {
    let place = Place::new();
    place.repository(&["a.txt"]);
    place.profile(
        "editor",
        "base = \"bash\"\nname = \"editor\"\nedits = true\n",
    );
    let pipe = place.path("work/.git/pipe");
    named_pipe(&pipe);
    let prompt = format!(
        "echo more >> a.txt; setsid -f sh -c 'trap \"\" TERM HUP INT; sleep 1000'; cat {}",
        pipe.display()
    );
    let mut child = place
        .command(&["ask", "--tool", "editor", &prompt])
        .spawn()
        .expect("it runs");
    let tool = once_it_is_read(&child, &pipe);
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    place.wait_until_all_have_ended();
    place.assert_nothing_is_left();
    drop(tool);

    let left = work_left(&place);
    let [(detail, discard)] = &left[..] else {
        panic!("{left:?}")
    };
    assert!(detail.contains("uncommitted files: 1"), "{detail}");
    let discarded = std::process::Command::new("sh")
        .args(["-c", discard])
        .current_dir(place.path("work"))
        .output()
        .expect("sh runs");
    assert!(discarded.status.success(), "{discard}: {discarded:?}");
    assert_eq!(work_left(&place), []);
    assert_eq!(place.git(&["worktree", "list"]).lines().count(), 1);
}
