//! What whoever starts the program leaves to it: signals, closed files, a umask.

use rustix::process::Signal;

use super::support::{Place, Run, named_pipe, once_it_is_read, signal};

/// Everything that a careless parent can leave behind, as options of GNU `env`.
const CARELESS: &[&str] = &["--ignore-signal=PIPE,CHLD,HUP,INT", "--block-signal"];

#[test]
fn a_tool_is_not_touched_by_what_a_careless_parent_left_behind() {
    let place = Place::new();
    place.profile(
        "plain",
        "base = \"bash\"\nname = \"plain\"\n[files]\n\"note.txt\" = \"a secret\"\n",
    );
    let prompt = "{ grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; ls /proc/self/fd; \
                  stat -c %a $TMPDIR/toolpool-plain-* $TMPDIR/toolpool-plain-*/note.txt; } > report; exit 7";
    let mut command = place.command_after(CARELESS, &["ask", "--tool", "plain", prompt]);
    // A shell closes the files and sets the umask, and then becomes what was to be started.
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "umask 0; exec \"$@\" 0<&- 1>&- 2>&-", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(place.path("work"));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    command = shell;
    let ended = command.status().expect("it runs");
    // The tool's exit in mid-turn is a doubt: how it ended was learned although SIGCHLD was ignored.
    assert_eq!(ended.code(), Some(1));
    let report = std::fs::read_to_string(place.path("work/report")).expect("a report");
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    let ignored = lines[1].strip_prefix("SigIgn:\t").expect("the mask");
    let ignored = u64::from_str_radix(ignored, 16).expect("hex");
    // glibc's `posix_spawn` leaves its own two signals, 32 and 33, ignored; the others are the first 31 bits.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{report}");
    assert_eq!(lines[2], "0000", "the umask is the user's business");
    // The folder that is being listed is 3, and bash reads its prompt from 9.
    assert_eq!(
        lines[3..],
        ["0", "1", "2", "3", "9", "700", "600"],
        "{report}"
    );
    place.assert_nothing_is_left();
}

#[test]
fn how_a_tool_ended_is_known_although_sigchld_was_ignored() {
    let place = Place::new();
    place.standin("crasher", &["on turn 1 exit 3"]);
    let run = Run::of(
        place
            .command_after(CARELESS, &["ask", "--tool", "crasher", "-o", "json", "hi"])
            .output()
            .expect("it runs"),
    )
    .expect(1);
    assert_eq!(run.document()["message"], "exit code 3");
    place.assert_nothing_is_left();
}

#[test]
fn a_signal_that_was_blocked_ends_the_program_all_the_same() {
    let place = Place::new();
    let pipe = place.path("work/pipe");
    named_pipe(&pipe);
    let child = place
        .command_after(&["--block-signal"], &["ask", "--tool", "bash", "cat pipe"])
        .spawn()
        .expect("runs");
    let tool = once_it_is_read(&child, &pipe);
    signal(&child, Signal::TERM);
    Run::of(child.wait_with_output().expect("it ends")).expect(143);
    drop(tool);
    place.assert_nothing_is_left();
}
