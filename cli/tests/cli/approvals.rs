//! `--approvals`: what tools may do, and the person who is asked.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::support::{Place, Run};

/// A tool in Claude Code's dialect that asks whether it may run a command, and says what came of it.
const ASKER: &str = r#"#!/bin/sh
field() { printf '%s' "$2" | sed 's/.*"'"$1"'":"\([^"]*\)".*/\1/'; }
read -r hello
printf '{"type":"control_response","response":{"subtype":"success","request_id":"%s","response":{}}}\n' "$(field request_id "$hello")"
end() {
  printf '{"type":"result","subtype":"success","is_error":false,"result":"%s","session_id":"%s","user_message_uuid":"%s","terminal_reason":"completed"}\n' \
    "$1" "$session" "$(field uuid "$message")"
}
session=0
while read -r message; do
  case $message in *'"/clear"'*) session=$((session + 1)) && end '' && continue ;; esac
  printf '{"type":"system","subtype":"init","session_id":"%s"}\n' "$session"
  case $message in *aloud*) printf '{"type":"stream_event","session_id":"%s","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"Let me see."}}}\n' "$session" ;; esac
  printf '{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"npm test"}}}\n'
  read -r answer
  case $answer in *'"allow"'*) end tested ;; *) end 'not tested' ;; esac
done
"#;

fn place() -> Place {
    let place = Place::new();
    let program = place.path("asker");
    std::fs::write(&program, ASKER).expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let program = program.display().to_string();
    place.profile(
        "asker",
        &format!("base = \"claude\"\nname = \"asker\"\nprogram = {program:?}\nedits = false\n"),
    );
    place
}

/// The program at a terminal of its own, which the test types on.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    shown: String,
}

impl Terminal {
    /// `kind` is what `TERM` says, and `typed` is there before the program starts. What goes to stdout does not show.
    fn run(place: &Place, kind: &str, typed: &str, arguments: &[&str]) -> Self {
        Self::start(place, kind, typed, arguments, |_| Stdio::piped())
    }

    /// Where everything shows.
    pub(crate) fn run_all_on_it(place: &Place, arguments: &[&str]) -> Self {
        Self::start(place, "dumb", "", arguments, |screen| {
            screen.try_clone().expect("a copy").into()
        })
    }

    fn start(
        place: &Place,
        kind: &str,
        typed: &str,
        arguments: &[&str],
        stdout: fn(&File) -> Stdio,
    ) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&keys).expect("it is ours");
        unlockpt(&keys).expect("it is ours");
        let name = ptsname(&keys, Vec::new()).expect("it has a name");
        let screen = rustix::fs::open(
            name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let screen = File::from(screen.expect("it opens"));
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&keys, size).expect("it has a size");
        let mut keys = File::from(keys);
        keys.write_all(typed.as_bytes()).expect("it takes keys");
        let program = place.command(arguments);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(place.path("work"))
            .env_clear()
            .env("TERM", kind)
            .stdin(screen.try_clone().expect("a copy"))
            .stdout(stdout(&screen))
            .stderr(screen);
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let child = command.spawn().expect("setsid, of util-linux, is there");
        // The test must not hold the screen open, or it would never see its end.
        drop(command);
        Self {
            child,
            keys,
            shown: String::new(),
        }
    }

    /// Waits until this shows, behind what was waited for before.
    fn wait_for(&mut self, text: &str) -> &mut Self {
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return self;
            }
            assert!(self.read(), "{text:?} never showed; {:?} did", self.shown);
        }
    }

    /// Reads on; false at the end of the program.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.keys.read(&mut bytes) {
            Ok(count @ 1..) => {
                self.shown += &String::from_utf8_lossy(&bytes[..count]);
                true
            }
            // The other end is closed.
            _ => false,
        }
    }

    fn type_line(&mut self, line: &str) -> &mut Self {
        writeln!(self.keys, "{line}").expect("it takes keys");
        self
    }

    /// What was printed, with the rest of what showed in the place of stderr.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        while self.read() {}
        let output = self.child.wait_with_output().expect("it ends");
        let code = output.status.code().expect("it exits by itself");
        let stdout = String::from_utf8(output.stdout).expect("text");
        (code, stdout, self.shown)
    }
}

fn ask(more: &[&'static str]) -> Vec<&'static str> {
    let mut arguments = vec!["ask", "--tool", "asker", "--approvals", "ask"];
    arguments.extend(more);
    arguments.push("test it");
    arguments
}

#[test]
fn a_policy_decides_without_asking_and_a_no_is_told() {
    let place = place();
    let run = place
        .run(&["ask", "--tool", "asker", "--approvals", "all", "test it"])
        .expect(0);
    assert_eq!(run.stdout, "tested\n");
    let run = place.run(&["ask", "--tool", "asker", "test it"]).expect(0);
    assert_eq!(run.stdout, "not tested\n");
    let told = "main/1 · t1 · it may not run commands; `--approvals` says what it may";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    place.assert_nothing_is_left();
}

#[test]
fn without_a_terminal_the_answer_is_no_and_the_flag_is_named() {
    let place = place();
    let run = place
        .run(&ask(&["-q", "--approval-timeout", "100ms"]))
        .expect(0);
    assert_eq!(run.stdout, "not tested\n");
    assert_eq!(
        run.stderr,
        "? main/1 · t1 · asks: Bash: npm test\n  there is no terminal to ask on, so the answer is no in 0.1 s; \
         `--approvals` none, reads, edits or all decides without asking\n"
    );
    place.assert_nothing_is_left();
}

#[test]
fn at_a_terminal_the_person_decides() {
    for (lines, answer) in [
        (&["y"][..], "tested\n"),
        (&["no"], "not tested\n"),
        (&["what?", "", "yes"], "tested\n"),
    ] {
        let place = place();
        let mut terminal = Terminal::run(&place, "dumb", "", &ask(&["-q"]));
        terminal
            .wait_for("main/1 · t1 · asks: Bash: npm test")
            .wait_for("y or n, within 5m00s");
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                terminal.wait_for("y or n?");
            }
            terminal.type_line(line);
        }
        let (code, stdout, shown) = terminal.end();
        assert_eq!((code, stdout.as_str()), (0, answer), "{shown}");
        place.assert_nothing_is_left();
    }
}

#[test]
fn a_question_in_the_middle_of_an_answer_begins_a_line_of_its_own() {
    let place = place();
    let arguments = ["ask", "--tool", "asker", "--approvals", "ask", "-q"];
    let arguments = [&arguments[..], &["test it aloud"]].concat();
    let mut terminal = Terminal::run_all_on_it(&place, &arguments);
    terminal
        .wait_for("Let me see.\r\n? main/1 · t1 · asks")
        .wait_for("y or n")
        .type_line("y");
    let (code, _, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn what_was_typed_before_the_question_is_no_answer() {
    let place = place();
    let arguments = ask(&["--approval-timeout", "300ms"]);
    let mut terminal = Terminal::run(&place, "dumb", "y\ny\n", &arguments);
    terminal
        .wait_for("y or n")
        .wait_for("nobody answered in time");
    let (code, stdout, shown) = terminal.end();
    assert_eq!((code, stdout.as_str()), (0, "not tested\n"), "{shown}");
}

#[test]
fn a_batch_asks_one_question_at_a_time() {
    let place = place();
    std::fs::write(place.path("work/items"), "one\ntwo\n").expect("a file");
    let arguments = ["batch", "--tool", "asker", "-n", "2", "--items", "items"];
    let arguments = [
        &arguments[..],
        &[
            "-p",
            "{item}",
            "--approvals",
            "ask",
            "--rerun",
            "all",
            "-o",
            "jsonl",
        ],
    ]
    .concat();
    // With a bar, without one, and where it refuses to draw.
    for kind in ["xterm", "dumb", ""] {
        let mut terminal = Terminal::run(&place, kind, "", &arguments);
        terminal.wait_for("asks: Bash: npm test").wait_for("y or n");
        terminal.type_line("y");
        terminal.wait_for("asks: Bash: npm test").wait_for("y or n");
        terminal.type_line("n");
        let (code, stdout, shown) = terminal.end();
        assert_eq!(code, 0, "{shown}");
        let count = |text: &str| stdout.matches(text).count();
        assert_eq!(
            (
                count("\"text\":\"tested\""),
                count("\"text\":\"not tested\"")
            ),
            (1, 1),
            "{stdout}"
        );
        place.assert_nothing_is_left();
    }
}

#[test]
fn what_could_never_be_asked_is_refused_before_anything_starts() {
    let place = place();
    std::fs::write(place.path("work/items"), "one\n").expect("a file");
    let arguments = [
        "batch", "--tool", "asker", "--items", "items", "-p", "{item}",
    ];
    let refused: Run = place
        .run(&[&arguments[..], &["--approvals", "ask"]].concat())
        .expect(2);
    assert!(
        refused
            .stderr
            .contains("`--approvals ask` needs a terminal"),
        "{}",
        refused.stderr
    );
    let refused = place
        .run(&["ask", "--tool", "standin", "--approvals", "ask", "x"])
        .expect(2);
    assert!(
        refused
            .stderr
            .contains("standin never asks for a permission"),
        "{}",
        refused.stderr
    );
}
