//! A place of its own for each test: folders, environment, and the census of what is left.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;

/// Longer than anything takes on a machine that is merely slow: a test that reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A temporary folder with the user's home, the programs' temporary folder and a working folder in it. Tools may see
/// `TMPDIR`, so its path in a process's environment tells that the process belongs to the test.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// What a run of the program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home", "tmp", "work", "config/toolpool/tools"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .canonicalize()
            .expect("the folder is there")
            .join(name)
    }

    /// A profile of the user's own.
    pub(crate) fn profile(&self, name: &str, text: &str) {
        let file = self
            .path("config/toolpool/tools")
            .join(format!("{name}.toml"));
        std::fs::write(file, text).expect("a profile");
    }

    /// A stand-in that behaves as the rules say.
    pub(crate) fn standin(&self, name: &str, rules: &[&str]) {
        let args: Vec<String> = rules
            .iter()
            .flat_map(|rule| ["--do".to_owned(), (*rule).to_owned()])
            .collect();
        self.profile(
            name,
            &format!("base = \"standin\"\nname = {name:?}\nargs = {args:?}\n"),
        );
    }

    /// The program with arguments, in the working folder, with nothing of the machine's own settings. Signals that the
    /// tests' own parent ignores are at their defaults; `env` becomes the program, so it has the number of the child.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_after(&["--default-signal=HUP,INT,TERM"], arguments)
    }

    /// The same with options of GNU `env` before it.
    pub(crate) fn command_after(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new("env");
        command
            .args(options)
            .arg(env!("CARGO_BIN_EXE_toolpool"))
            .args(arguments)
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the program runs"))
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A program that ends without reading all of it is none of our business here.
        stdin.write_all(input).ok();
        drop(stdin);
        Run::of(child.wait_with_output().expect("the program ends"))
    }

    /// A git repository in the working folder, with these files in its first commit.
    pub(crate) fn repository(&self, files: &[&str]) {
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.git(&["config", "user.name", "tester"]);
        self.git(&["config", "user.email", "tester@localhost"]);
        for file in files {
            std::fs::write(self.path("work").join(file), format!("{file}\n")).expect("a file");
        }
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message=start"]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git runs");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("git prints text")
    }

    /// Asserts that no process of this place lives, and that nothing is left in its temporary folder.
    pub(crate) fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "processes are left");
        let files: Vec<PathBuf> = std::fs::read_dir(self.path("tmp"))
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(files, Vec::<PathBuf>::new(), "files are left");
    }

    /// Waits until no process of this place lives.
    pub(crate) fn wait_until_all_have_ended(&self) {
        let deadline = Instant::now() + LONG;
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "{:?}", self.processes());
            std::thread::yield_now();
        }
    }

    /// The command lines of the living processes of this place.
    fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.path("tmp").display()).into_bytes();
        std::fs::read_dir("/proc")
            .expect("/proc is mounted")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|process| {
                std::fs::read(process.join("environ")).is_ok_and(|environment| {
                    environment
                        .split(|byte| *byte == 0)
                        .any(|variable| variable == mark)
                })
            })
            .map(|process| {
                let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).replace('\0', " ")
            })
            .collect()
    }

    /// Text without what differs from run to run: paths, times, commits, the program's own path.
    pub(crate) fn masked(&self, text: &str) -> String {
        let text = text
            .replace(&self.path("").display().to_string(), "[PLACE]/")
            .replace(env!("CARGO_BIN_EXE_toolpool"), "[TOOLPOOL]");
        text.lines()
            .map(|line| mask_times(&mask_hashes(&mask_lists(line))) + "\n")
            .collect()
    }
}

/// Lists that grow with every tool and every key of a profile.
fn mask_lists(line: &str) -> String {
    for (begin, end) in [("known tools: ", ". A tool"), ("expected one of ", "\n")] {
        if let Some(at) = line.find(begin) {
            let (before, list) = line.split_at(at + begin.len());
            let rest = list.find(end).map_or("", |at| &list[at..]);
            return format!("{before}[LIST]{rest}");
        }
    }
    line.to_owned()
}

/// Eight digits that are made from a path, behind the letter of a batch or the name of a journal, become `[HASH]`.
fn mask_hashes(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['b', '-']) {
        let (before, behind) = rest.split_at(at + 1);
        masked.push_str(before);
        let digits = behind.find(|c: char| !c.is_ascii_hexdigit());
        rest = if digits.unwrap_or(behind.len()) == 8 {
            masked.push_str("[HASH]");
            &behind[8..]
        } else {
            behind
        };
    }
    masked + rest
}

/// `0.3 s` becomes `[TIME]`.
fn mask_times(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let is_number =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        match words.last() {
            Some(last) if matches!(word, "s" | "s)" | "s:") && is_number(last) => {
                words.pop();
                words.push(word.replacen('s', "[TIME]", 1));
            }
            _ => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let run = Self {
            code: output.status.code().expect("the program exits by itself"),
            stdout: String::from_utf8(output.stdout).expect("stdout is text"),
            stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "an escape code in a pipe: {run:?}"
        );
        run
    }

    /// Asserts the exit code, with everything that was printed in the message.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// The one JSON document on stdout.
    pub(crate) fn document(&self) -> Value {
        let documents = self.documents();
        assert_eq!(documents.len(), 1, "{self:#?}");
        documents.into_iter().next().expect("there is one")
    }

    /// The JSON documents on stdout, one a line.
    pub(crate) fn documents(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            })
            .collect()
    }

    /// The JSON error on stderr, its last line.
    pub(crate) fn error(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        let document: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert_eq!(document["v"], 1);
        document["error"].clone()
    }
}

/// Ends a program as a user does.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the program is there");
}

/// A named pipe, by which a test and a tool wait for each other.
pub(crate) fn named_pipe(path: &Path) {
    let made = Command::new("mkfifo")
        .arg(path)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
}

/// Waits until the tool reads from the pipe: its turn runs then.
pub(crate) fn once_it_is_read(child: &Child, pipe: &Path) -> File {
    release_at_end(child, pipe);
    File::options()
        .write(true)
        .open(pipe)
        .expect("the pipe opens")
}

/// Makes waiting for the pipe's other end fail, instead of lasting for ever, if the program ends first.
pub(crate) fn release_at_end(child: &Child, pipe: &Path) {
    let (pid, pipe) = (Pid::from_child(child), pipe.to_owned());
    std::thread::spawn(move || {
        // Only looks: the test itself asks for the exit code.
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .ok();
        File::options().read(true).write(true).open(pipe).ok();
    });
}

/// Reads the story up to the line with this text.
pub(crate) fn wait_for(story: &mut BufReader<ChildStderr>, text: &str) {
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
