//! What a program on a terminal is given, and that nothing of it is left.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::support::{LONG, Terminal, profile};

/// A process whose end can be awaited, even if its number is used again.
fn watch(pid: &str) -> OwnedFd {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    pidfd_open(pid.expect("a process id"), PidfdFlags::empty()).expect("it lives")
}

async fn gone(process: OwnedFd) {
    let wait = move || {
        let limit = LONG.try_into().expect("a short time");
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) == Ok(1)
    };
    let ended = tokio::task::spawn_blocking(wait).await.expect("it waits");
    assert!(ended, "the process is still there");
}

#[tokio::test]
async fn a_tool_has_a_terminal_a_session_and_no_other_file() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    let pid = terminal.connection.pid().expect("a local process");
    let script = "tty <&0; tty <&1; tty <&2; stty size; echo $TERM; cut -d' ' -f5,6 /proc/$$/stat; for f in {0..255}; do [ -e /proc/$$/fd/$f ] && echo $f; done";
    let reply = terminal.answer(script).await;
    let lines: Vec<_> = reply.lines().collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{reply}");
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[0], lines[2]);
    assert_eq!(lines[3], "50 200");
    assert_eq!(lines[4], "xterm-256color");
    assert_eq!(lines[5], format!("{pid} {pid}"));
    // 255 is bash's own copy of its terminal.
    assert_eq!(lines[6..], ["0", "1", "2", "255"]);
}

#[tokio::test]
async fn jobs_in_groups_of_their_own_that_ignore_the_hang_up_die_with_it() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    let script =
        "(trap '' HUP TERM; exec sleep 1000) & sleep 0; echo $!; cut -d' ' -f5 /proc/$!/stat";
    let reply = terminal.answer(script).await;
    let lines: Vec<_> = reply.lines().collect();
    let [_, job, group] = lines[..] else {
        panic!("{reply}");
    };
    assert_eq!(job, group, "job control gives it a group");
    let job = watch(job);
    let shell = watch(
        &terminal
            .connection
            .pid()
            .expect("a local process")
            .to_string(),
    );
    drop(terminal);
    gone(shell).await;
    gone(job).await;
}

#[tokio::test]
async fn a_shell_is_stopped_by_the_hang_up() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let terminal = Terminal::launch(&profile).await;
    // bash on a terminal ignores SIGTERM.
    let exit = terminal.connection.stop(LONG).await;
    assert_eq!(exit.signal, Some(rustix::process::Signal::HUP.as_raw()));
}

#[tokio::test]
async fn the_end_of_a_tool_is_seen_with_its_last_words() {
    let Some(profile) = profile("bash") else {
        return;
    };
    let mut terminal = Terminal::launch(&profile).await;
    terminal
        .submit("echo last words; exit 9")
        .expect("accepted");
    assert_eq!(terminal.exit().await.code, Some(9));
    let lines = terminal.connection.last_lines(3);
    assert!(lines.contains(&"last words".to_owned()), "{lines:?}");
}
