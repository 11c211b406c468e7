//! Ctrl-Z and fg.

use std::io::Write as _;

use rustix::process::Signal;

use super::support::{Place, Run, named_pipe, once_it_is_read, release_at_end, signal};

#[test]
fn a_turn_whose_time_was_up_while_the_program_was_stopped_has_it_afterwards() {
    let place = Place::new();
    let (begun, pipe) = (place.path("work/begun"), place.path("work/pipe"));
    named_pipe(&begun);
    named_pipe(&pipe);
    let child = place
        .command(&[
            "ask",
            "--tool",
            "bash",
            "--turn-timeout",
            "5s",
            "echo yes > begun; sleep 6; cat pipe",
        ])
        .spawn()
        .expect("runs");
    release_at_end(&child, &begun);
    assert_eq!(std::fs::read_to_string(&begun).expect("it begins"), "yes\n");
    signal(&child, Signal::STOP);
    // The tool, which is not stopped, needs longer than the turn may take.
    let mut tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::CONT);
    tool.write_all(b"in time\n").expect("the tool reads");
    drop(tool);
    let run = Run::of(child.wait_with_output().expect("it ends")).expect(0);
    assert_eq!(run.stdout, "in time\n");
    place.assert_nothing_is_left();
}
