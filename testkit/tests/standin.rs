//! The stand-in as a process: each family of actions, seen from outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A running stand-in; killed when dropped.
struct Tool {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tool {
    fn start(args: &[&str], folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_standin"))
            .args(args)
            .current_dir(folder)
            .env("TOOLPOOL_GENERATION", "7")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the stand-in starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self {
            child,
            stdin,
            stdout,
        }
    }

    fn ready(args: &[&str], folder: &Path) -> Self {
        let mut tool = Self::start(args, folder);
        assert_eq!(tool.line(), "standin ready\n");
        tool
    }

    fn send(&mut self, prompt: &str) {
        let line = format!("{TOKEN} {}\n", serde_json::Value::from(prompt));
        self.stdin
            .as_mut()
            .expect("stdin is open")
            .write_all(line.as_bytes())
            .expect("the stand-in reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout is text");
        line
    }

    /// Sends a prompt and gives its reply of one line.
    fn ask(&mut self, prompt: &str) -> String {
        self.send(prompt);
        let reply = self.line();
        assert_eq!(self.line(), format!("{TOKEN} end\n"));
        reply.trim_end_matches('\n').to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the stand-in lives");
    }

    /// Closes standard input and gives the rest of standard output, standard error and the status.
    fn finish(mut self) -> (Vec<u8>, String, ExitStatus) {
        self.stdin = None;
        let mut stderr = self.child.stderr.take().expect("stderr is a pipe");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("stderr is text");
            text
        });
        let mut rest = Vec::new();
        self.stdout
            .read_to_end(&mut rest)
            .expect("stdout can be read");
        let status = self.child.wait().expect("the stand-in can be waited for");
        (rest, errors.join().expect("stderr was read"), status)
    }
}

/// Everything that a stand-in prints for the prompts `one` and `two`, and how it ends.
fn play(rules: &[&str]) -> (Vec<u8>, String, ExitStatus) {
    let args: Vec<&str> = rules.iter().flat_map(|rule| ["--do", rule]).collect();
    let mut tool = Tool::start(&args, &std::env::temp_dir());
    let lines = format!("{TOKEN} \"one\"\n{TOKEN} \"two\"\n");
    // A stand-in that ends at the start reads nothing.
    let _ = tool
        .stdin
        .as_mut()
        .expect("stdin is open")
        .write_all(lines.as_bytes());
    tool.finish()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn prompts_of_any_shape_come_back_exactly() {
    let mut tool = Tool::ready(&[], &std::env::temp_dir());
    let long = "long ".repeat(1 << 18);
    for prompt in [
        "",
        "hello",
        "two\nlines\n",
        "\"quoted\" \\ \u{2028} \u{1} é",
        &long,
    ] {
        tool.send(prompt);
        let mut reply =
            vec![0; "echo ".len() + prompt.len() + "\n".len() + TOKEN.len() + " end\n".len()];
        tool.stdout.read_exact(&mut reply).expect("a whole reply");
        assert_eq!(
            String::from_utf8(reply).expect("UTF-8"),
            format!("echo {prompt}\n{TOKEN} end\n")
        );
    }
    assert_eq!(tool.finish().2.code(), Some(0));
}

#[test]
fn a_hash_reply_depends_on_the_seed_and_the_prompt() {
    let mut seeded = Tool::ready(
        &["--reply", "sha256", "--seed", "ab"],
        &std::env::temp_dir(),
    );
    let mut bare = Tool::ready(&["--reply", "sha256"], &std::env::temp_dir());
    // The example "abc" of FIPS 180-4.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(seeded.ask("c"), abc);
    assert_eq!(bare.ask("abc"), abc);
    assert_ne!(seeded.ask("abc"), abc);
}

#[test]
fn the_plain_dialect_takes_a_line_and_shows_a_prompt_mark() {
    let mut tool = Tool::start(&["--plain"], &std::env::temp_dir());
    let stdin = tool.stdin.as_mut().expect("stdin is open");
    stdin
        .write_all(b"hello\n\xff raw\n")
        .expect("the stand-in reads");
    assert_eq!(tool.finish().0, b"> echo hello\n> echo \xff raw\n> ");
}

#[test]
fn replies_take_the_shapes_that_the_script_gives_them() {
    let end = format!("\n{TOKEN} end\n");
    let wrong = format!("{} end\n", "0".repeat(32));
    let table: &[(&str, Vec<u8>)] = &[
        ("on turn 1 reply hello", format!("hello{end}").into()),
        (
            "on turn 1 bytes ff fe 00",
            [b"echo one\xff\xfe\x00", end.as_bytes()].concat(),
        ),
        ("on turn 1 double-end", format!("echo one{end}{end}").into()),
        (
            "on turn 1 unsolicited more to say",
            format!("echo one{end}more to say\n").into(),
        ),
        (
            "on turn 1 late 1ms more",
            format!("echo one{end}more\n").into(),
        ),
        ("on turn 1 stream 3B 1us", format!("echo one{end}").into()),
        (
            "on turn 1 byte 2 unsolicited X",
            format!("ecX\nho one{end}").into(),
        ),
        ("on turn 1 flood 3B", format!("xxxecho one{end}").into()),
        ("on turn 1 delay 1ms", format!("echo one{end}").into()),
        (
            "on turn 1 repeat 2",
            format!("echo oneecho one{end}").into(),
        ),
        ("on turn 1 cut 1ms", format!("echo one{end}").into()),
        ("on turn 1 grow 3MiB", format!("echo one{end}").into()),
        ("on turn 1 nest 3", format!("[[[\necho one{end}").into()),
        (
            "on turn 1 forge",
            format!(
                "forged\n{wrong}standin ready\n{} \"forged\"\nend\n end\necho one{end}",
                "0".repeat(32)
            )
            .into(),
        ),
    ];
    for (rule, first) in table {
        let (out, _, status) = play(&[rule]);
        let all = [b"standin ready\n", &first[..], b"echo two", end.as_bytes()].concat();
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&all),
            "{rule}"
        );
        assert_eq!(out, all, "{rule}");
        assert_eq!(status.code(), Some(0), "{rule}");
    }
}

#[test]
fn it_dies_at_the_moment_and_in_the_way_that_the_script_says() {
    let end = format!("\n{TOKEN} end\n");
    let ready = "standin ready\n";
    let table = [
        ("on start exit 3", String::new(), Some(3), None),
        (
            "on start exit 3 after ready",
            ready.to_owned(),
            Some(3),
            None,
        ),
        ("on turn 1 exit 4", ready.to_owned(), Some(4), None),
        (
            "on turn 1 exit 4 after end",
            format!("{ready}echo one{end}"),
            Some(4),
            None,
        ),
        (
            "on turn 2 exit 5",
            format!("{ready}echo one{end}"),
            Some(5),
            None,
        ),
        (
            "on every 2 exit 255",
            format!("{ready}echo one{end}"),
            Some(255),
            None,
        ),
        (
            "on prompt ~tw exit 6",
            format!("{ready}echo one{end}"),
            Some(6),
            None,
        ),
        (
            "on turn 2 signal 9",
            format!("{ready}echo one{end}"),
            None,
            Some(9),
        ),
        (
            "on turn 2 signal SEGV after end",
            format!("{ready}echo one{end}echo two{end}"),
            None,
            Some(11),
        ),
        ("on byte 0 exit 1", ready.to_owned(), Some(1), None),
        ("on byte 6 exit 1", format!("{ready}echo o"), Some(1), None),
        (
            "on turn 2 byte 13 exit 1",
            format!("{ready}echo one{end}echo two\n0123"),
            Some(1),
            None,
        ),
        (
            "on byte 1000 exit 1",
            format!("{ready}echo one{end}echo two{end}"),
            Some(0),
            None,
        ),
    ];
    for (rule, printed, code, signal) in table {
        let (out, _, status) = play(&[rule]);
        assert_eq!(String::from_utf8_lossy(&out), printed, "{rule}");
        assert_eq!((status.code(), status.signal()), (code, signal), "{rule}");
    }
}

#[test]
fn a_flood_of_standard_error_is_as_long_as_ordered() {
    let (out, errors, _) = play(&["on turn 1 flood-stderr 1MiB"]);
    assert!(errors.len() == 1 << 20 && errors.bytes().all(|byte| byte == b'x'));
    assert!(out.ends_with(format!("echo two\n{TOKEN} end\n").as_bytes()));
}

#[test]
fn a_wrong_rule_and_a_wrong_line_end_it_with_their_own_codes() {
    let (_, errors, status) = play(&["on turn 1 explode"]);
    assert_eq!(status.code(), Some(64));
    assert!(
        errors.starts_with("standin: rule `on turn 1 explode`: `explode` is no action"),
        "{errors}"
    );
    let mut tool = Tool::ready(&[], &std::env::temp_dir());
    tool.stdin
        .as_mut()
        .expect("stdin is open")
        .write_all(b"hello\n")
        .expect("the stand-in reads");
    let (_, errors, status) = tool.finish();
    assert_eq!(status.code(), Some(65));
    assert!(
        errors.contains("found a line that begins with \"hello\""),
        "{errors}"
    );
}

#[test]
fn a_hanging_turn_ends_with_its_own_mark_when_the_script_lets_it_be_interrupted() {
    let rules = ["--do", "on turn 1 byte 5 hang", "--do", "on signal INT end"];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    tool.send("one");
    let mut head = [0; 5];
    tool.stdout
        .read_exact(&mut head)
        .expect("the head of the reply");
    tool.signal(Signal::INT);
    assert_eq!(tool.line(), "interrupted\n");
    assert_eq!(tool.line(), format!("{TOKEN} end\n"));
    // Between turns there is nothing to end.
    tool.signal(Signal::INT);
    assert_eq!(tool.ask("two"), "echo two");
}

#[test]
fn an_ignored_signal_does_not_end_it_and_a_handled_one_does_as_told() {
    let rules = [
        "--do",
        "on start ignore TERM INT HUP",
        "--do",
        "on signal USR1 exit 9",
    ];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        tool.signal(signal);
    }
    assert_eq!(tool.ask("one"), "echo one");
    tool.signal(Signal::USR1);
    assert_eq!(tool.child.wait().expect("it ends").code(), Some(9));
}

#[test]
fn forked_sleepers_outlive_the_tool_hold_its_output_and_leave_its_session_if_told() {
    let rules = [
        "--do",
        "on turn 1 fork 1",
        "--do",
        "on turn 1 fork 1 setsid ignore TERM",
        "--do",
        "on turn 1 fork 1 orphan",
        "--do",
        "on turn 2 report",
    ];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    tool.ask("one");
    let report: serde_json::Value = serde_json::from_str(&tool.ask("two")).expect("a report");
    let pids: Vec<Pid> = report["sleepers"]
        .as_array()
        .expect("process ids")
        .iter()
        .map(|pid| Pid::from_raw(pid.as_i64().expect("a number") as i32).expect("a process id"))
        .collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(session(pids[0]), session(Pid::from_child(&tool.child)));
    assert_eq!(parent(pids[0]), Pid::from_child(&tool.child).as_raw_pid());
    assert_ne!(parent(pids[2]), Pid::from_child(&tool.child).as_raw_pid());
    assert_eq!(session(pids[1]), pids[1].as_raw_pid());
    tool.stdin = None;
    assert_eq!(tool.child.wait().expect("the tool ends").code(), Some(0));
    for (pid, pipe) in pids.iter().map(|pid| {
        (
            *pid,
            fs::read_link(format!("/proc/{}/fd/1", pid.as_raw_nonzero())),
        )
    }) {
        assert!(
            pipe.expect("a sleeper lives")
                .to_string_lossy()
                .starts_with("pipe:")
        );
        kill_process(pid, Signal::KILL).expect("a sleeper can be killed");
    }
    // The end of the output comes only now.
    let mut rest = Vec::new();
    tool.stdout.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty());
}

/// Read from `/proc`, for it is 0 where the session's leader lives outside this PID namespace, and rustix refuses 0.
fn session(pid: Pid) -> i32 {
    stat_field(pid, 3)
}

fn parent(pid: Pid) -> i32 {
    stat_field(pid, 1)
}

fn stat_field(pid: Pid, index: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields
        .split(' ')
        .nth(index)
        .and_then(|field| field.parse().ok())
        .expect("a number")
}

#[test]
fn a_tool_that_closes_its_output_or_its_input_lives_on() {
    let mut tool = Tool::ready(&["--do", "on turn 1 close-stdout"], &std::env::temp_dir());
    tool.send("one");
    assert_eq!(tool.line(), "");
    assert!(tool.child.try_wait().expect("it can be asked").is_none());
    assert_eq!(tool.finish().2.code(), Some(0));

    let rules = [
        "--do",
        "on turn 1 close-stdin",
        "--do",
        "on signal TERM exit 0",
    ];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    assert_eq!(tool.ask("one"), "echo one");
    // A write may still succeed: a process that another test is starting may hold a copy of the pipe for a moment.
    let stdin = fs::read_link(format!("/proc/{}/fd/0", tool.child.id()));
    assert_eq!(stdin.expect("it lives"), Path::new("/dev/null"));
    tool.signal(Signal::TERM);
    assert_eq!(tool.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_ledger_has_a_line_for_each_prompt_read_and_none_for_an_unread_one() {
    let folder = folder();
    let rules = [
        "--ledger",
        "ledger",
        "--do",
        "on turn 2 stop-reading",
        "--do",
        "on signal TERM exit 0",
    ];
    let mut tool = Tool::ready(&rules, folder.path());
    for prompt in ["abc", "two"] {
        tool.ask(prompt);
    }
    tool.send("three");
    tool.signal(Signal::TERM);
    let pid = tool.child.id();
    assert_eq!(tool.finish().2.code(), Some(0));
    let ledger = fs::read_to_string(folder.path().join("ledger")).expect("a ledger");
    let lines: Vec<Vec<&str>> = ledger
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(lines.len(), 2);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(lines[0][..4], [pid.to_string().as_str(), "7", "1", abc]);
    assert_eq!(lines[1][2], "2");
    let times: Vec<u64> = lines
        .iter()
        .map(|line| line[4].parse().expect("nanoseconds"))
        .collect();
    assert!(times[0] <= times[1]);
}

#[test]
fn an_edit_appends_inside_the_working_folder_and_nowhere_else() {
    let folder = folder();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).expect("a folder");
    let mut tool = Tool::ready(&["--edits"], &inside);
    assert_eq!(tool.ask("edit a.txt: one: two"), "edited a.txt");
    assert_eq!(tool.ask("edit a.txt: three"), "edited a.txt");
    assert_eq!(
        fs::read_to_string(inside.join("a.txt")).expect("a file"),
        "one: two\nthree\n"
    );
    let absolute = folder.path().join("b.txt").display().to_string();
    for file in ["../b.txt", "x/../../b.txt", &absolute, ""] {
        let reply = tool.ask(&format!("edit {file}: no"));
        assert!(reply.starts_with("refused to edit"), "{file}: {reply}");
    }
    assert!(!folder.path().join("b.txt").exists());
    assert_eq!(
        Tool::ready(&[], &inside).ask("edit a.txt: no"),
        "echo edit a.txt: no"
    );
}

#[test]
fn the_report_names_the_environment_without_its_values() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_standin"))
        .arg("--print-env")
        .current_dir(folder.path())
        .env_clear()
        .env("A_SECRET", "hunter2")
        .stdin(Stdio::null())
        .output()
        .expect("the stand-in starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let report: serde_json::Value = serde_json::from_str(&text).expect("a report");
    assert_eq!(report["env"], serde_json::json!(["A_SECRET"]));
    assert!(!text.contains("hunter2"));
    assert_eq!(
        report["isatty"],
        serde_json::json!({"stdin": false, "stdout": false, "stderr": false})
    );
    let folder = folder.path().canonicalize().expect("the folder exists");
    assert_eq!(report["cwd"], serde_json::json!(folder));
    let fds: Vec<u64> = report["open_fds"]
        .as_array()
        .expect("fds")
        .iter()
        .filter_map(|fd| fd["fd"].as_u64())
        .collect();
    assert_eq!(fds[..3], [0, 1, 2]);
}

#[test]
fn what_is_read_ahead_of_the_prompts_is_gone_and_nothing_else() {
    let rules = [
        "--do",
        "on start await-input after ready",
        "--do",
        "on start read 3B after ready",
    ];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    let stdin = tool.stdin.as_mut().expect("stdin is open");
    stdin.write_all(b"xyz").expect("the stand-in reads");
    assert_eq!(tool.ask("hello"), "echo hello");
    assert_eq!(tool.finish().2.code(), Some(0));
}

#[test]
fn a_slow_reader_reads_everything() {
    let rules = ["--do", "on start read-slowly 16B 50us"];
    let mut tool = Tool::ready(&rules, &std::env::temp_dir());
    let long = "long ".repeat(200);
    assert_eq!(tool.ask(&long), format!("echo {long}"));
    assert_eq!(tool.ask("next"), "echo next");
}

#[test]
fn a_question_waits_for_its_answer_and_the_reply_tells_it() {
    let mut tool = Tool::ready(
        &["--do", "on prompt ~ask ask rm -r x"],
        &std::env::temp_dir(),
    );
    for (answer, told) in [("y", "allowed"), ("n", "denied"), ("yes, please", "denied")] {
        tool.send("ask");
        assert_eq!(tool.line(), "rm -r x [y/N]\n");
        let stdin = tool.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{answer}").expect("the stand-in reads");
        assert_eq!(tool.line(), format!("echo ask {told}\n"));
        assert_eq!(tool.line(), format!("{TOKEN} end\n"));
    }
    assert_eq!(tool.ask("nothing"), "echo nothing");
}

#[test]
fn an_agent_answers_each_prompt_under_its_id_and_asks_under_one_of_its_own() {
    let rules = ["on prompt ~ask ask rm -r x", "on prompt ~forge forge"];
    let args: Vec<&str> = rules.iter().flat_map(|rule| ["--do", rule]).collect();
    let mut tool = Tool::start(&[&["--acp"], &args[..]].concat(), &std::env::temp_dir());
    let send = |tool: &mut Tool, message: serde_json::Value| {
        let stdin = tool.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{message}").expect("the stand-in reads");
    };
    let receive = |tool: &mut Tool| -> serde_json::Value {
        serde_json::from_str(&tool.line()).expect("a message a line")
    };
    let prompt = |id: u64, text: &str| {
        let blocks = serde_json::json!([{"type": "text", "text": text}]);
        serde_json::json!({"id": id, "method": "session/prompt", "params": {"prompt": blocks}})
    };
    send(
        &mut tool,
        serde_json::json!({"id": 1, "method": "initialize"}),
    );
    assert_eq!(receive(&mut tool)["result"]["protocolVersion"], 1);
    send(
        &mut tool,
        serde_json::json!({"id": 2, "method": "session/new"}),
    );
    assert!(receive(&mut tool)["result"]["sessionId"].is_string());

    send(&mut tool, prompt(3, "ask"));
    let question = receive(&mut tool);
    assert_eq!(question["method"], "session/request_permission");
    let outcome = serde_json::json!({"outcome": {"outcome": "selected", "optionId": "allow"}});
    send(
        &mut tool,
        serde_json::json!({"id": question["id"], "result": outcome}),
    );
    let text = |chunk: &serde_json::Value| chunk["params"]["update"]["content"]["text"].clone();
    assert_eq!(text(&receive(&mut tool)), "echo ask allowed");
    let end = receive(&mut tool);
    assert_eq!(
        (&end["id"], &end["result"]["stopReason"]),
        (&3.into(), &"end_turn".into())
    );

    send(&mut tool, prompt(4, "forge"));
    for id in [serde_json::json!(0), serde_json::json!("0")] {
        assert_eq!(receive(&mut tool)["id"], id);
    }
    assert_eq!(text(&receive(&mut tool)), "forged");
    let forged = text(&receive(&mut tool));
    assert!(
        forged
            .as_str()
            .is_some_and(|text| text.contains("\"id\":4")),
        "{forged}"
    );
    assert_eq!(receive(&mut tool)["id"], 4);
}
