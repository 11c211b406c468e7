//! Remote jobs: the same `ask`, against the stand-in of Jules' API.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use toolpool_testkit::jules_server::{JulesServer, KEY, REPOSITORY, message_for, patch_for};

use super::support::{Place, Run, signal};

/// Where the stand-in's first session can be seen.
const SESSION: &str = "session 1001 goes on by itself: https://jules.google.com/session/1001";

/// The service, in a runtime of its own, and a clone of its repository.
struct Lab {
    place: Place,
    server: JulesServer,
    _runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = {
            let _in_runtime = runtime.enter();
            JulesServer::start().expect("a port")
        };
        let place = Place::new();
        place.repository(&["a.txt"]);
        let origin = format!("https://github.com/{REPOSITORY}.git");
        place.git(&["remote", "add", "origin", &origin]);
        Self {
            place,
            server,
            _runtime: runtime,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("JULES_BASE_URL", self.server.base_url())
            .env("JULES_API_KEY", KEY)
            .env("JULES_POLL", "1ms");
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the program runs"))
    }
}

#[test]
fn a_job_is_asked_like_any_tool_and_its_patch_lands_on_the_branch() {
    let lab = Lab::new();
    let prompt = "make it [[jules: new=b.txt text=hello]]";
    let run = lab.run(&["ask", "--tool", "jules", prompt]).expect(0);
    let patch = patch_for("b.txt", "hello");
    assert_eq!(run.stdout, format!("{}\n\n{patch}", message_for(prompt)));
    assert!(run.stderr.contains(SESSION), "{}", run.stderr);
    assert_eq!(lab.place.git(&["show", "main:b.txt"]), "hello\n");
    assert_eq!(lab.place.git(&["rev-list", "--count", "main"]), "2\n");
    lab.place.assert_nothing_is_left();
}

#[test]
fn jobs_of_a_batch_run_beside_each_other_and_each_lands() {
    let lab = Lab::new();
    std::fs::write(lab.place.path("items.txt"), "one\ntwo\nthree\n").expect("a file");
    let items = lab.place.path("items.txt").display().to_string();
    let prompt = "[[jules: new={item}.txt text={item}]]";
    let report = lab
        .run(&[
            "batch", "--tool", "jules", "-n", "3", "--items", &items, "-p", prompt, "-o", "json",
        ])
        .expect(0)
        .document();
    assert_eq!(report["ok"], 3);
    for item in ["one", "two", "three"] {
        let shown = lab.place.git(&["show", &format!("main:{item}.txt")]);
        assert_eq!(shown, format!("{item}\n"));
    }
    assert_eq!(lab.server.prompts().len(), 3);
    lab.place.assert_nothing_is_left();
}

#[test]
fn a_patch_that_does_not_fit_fails_the_turn_and_is_in_the_reply() {
    let lab = Lab::new();
    let run = lab
        .run(&["ask", "--tool", "jules", "-o", "json", "[[jules: misfit]]"])
        .expect(1);
    let reply = run.document();
    assert_eq!(reply["outcome"], "failed");
    assert!(reply["text"].as_str().expect("text").contains("+after"));
    assert!(
        run.stderr.contains("could not be made here"),
        "{}",
        run.stderr
    );
    assert_eq!(lab.place.git(&["rev-list", "--count", "main"]), "1\n");
    lab.place.assert_nothing_is_left();
}

#[test]
fn without_a_key_nothing_is_sent_and_the_next_step_is_named() {
    let lab = Lab::new();
    let without = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.env_remove("JULES_API_KEY");
        Run::of(command.output().expect("the program runs"))
    };
    let run = without(&["ask", "--tool", "jules", "-o", "json", "hi"]).expect(8);
    let error = run.error();
    assert_eq!(error["code"], "not_logged_in");
    let message = error["message"].as_str().expect("text");
    assert!(
        message
            .contains("JULES_API_KEY is not set; get a key at https://jules.google.com/settings"),
        "{message}"
    );
    assert_eq!(error["next"][0], "toolpool doctor jules");
    let report = without(&["doctor", "jules"]).expect(8);
    assert!(
        report.stdout.contains("JULES_API_KEY is not set"),
        "{}",
        report.stdout
    );
    assert!(
        report.stdout.contains("fix: get a key at https://"),
        "{}",
        report.stdout
    );
    let shown = without(&["tools", "show", "jules"]).expect(0);
    assert!(
        shown.stdout.contains("no stream, no attach, no cancel"),
        "{}",
        shown.stdout
    );
    assert_eq!(lab.server.requests(), []);
}

#[test]
fn the_doctor_asks_the_service_about_the_key_and_the_repository() {
    let lab = Lab::new();
    let report = lab.run(&["doctor", "jules"]).expect(0);
    assert!(
        report
            .stdout
            .contains("ready; each prompt is a remote job: no stream, no attach, no cancel"),
        "{}",
        report.stdout
    );
    let mut other = lab.command(&["doctor", "jules"]);
    other.env("JULES_REPO", "acme/other");
    let report = Run::of(other.output().expect("the program runs")).expect(8);
    assert!(
        report.stdout.contains(
            "acme/other is not connected to Jules; connect it at https://jules.google.com"
        ),
        "{}",
        report.stdout
    );
    let report = lab.run(&["doctor", "jules-cli"]).expect(8);
    assert!(
        report.stdout.contains("jules was not found on PATH"),
        "{}",
        report.stdout
    );
    assert!(
        report
            .stdout
            .contains("fix: npm install --global @google/jules && jules login"),
        "{}",
        report.stdout
    );
    assert!(lab.server.prompts().is_empty(), "no prompt was sent");
}

/// An ask of a job that never ends, once it has begun.
fn never_ending(lab: &Lab) -> (Child, BufReader<ChildStderr>) {
    let arguments = [
        "ask",
        "--tool",
        "jules",
        "-o",
        "json",
        "[[jules: end=never]]",
    ];
    let mut child = lab.command(&arguments).spawn().expect("runs");
    let mut story = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(SESSION) {
        line.clear();
        assert!(
            story.read_line(&mut line).expect("text") > 0,
            "it never began"
        );
    }
    (child, story)
}

/// The reply and the exit code.
fn reply(mut child: Child) -> (Value, Option<i32>) {
    let mut stdout = String::new();
    let mut pipe = child.stdout.take().expect("piped");
    pipe.read_to_string(&mut stdout).expect("text");
    let code = child.wait().expect("ends").code();
    (serde_json::from_str(&stdout).expect("JSON"), code)
}

#[test]
fn ctrl_c_lets_a_job_go_on_and_says_where() {
    let lab = Lab::new();
    let (child, _story) = never_ending(&lab);
    signal(&child, Signal::INT);
    let (reply, code) = reply(child);
    assert_eq!(code, Some(130));
    assert_eq!(reply["outcome"], "indeterminate");
    let document = reply.to_string();
    assert!(
        document.contains("cancel_unconfirmed") && document.contains(SESSION),
        "{document}"
    );
    lab.place.assert_nothing_is_left();
}

#[test]
fn a_driver_that_is_killed_costs_the_turn_its_certainty_and_not_its_name() {
    let lab = Lab::new();
    let (child, _story) = never_ending(&lab);
    let driver = driver_of(&child);
    kill_process(driver, Signal::KILL).expect("it lives");
    let (reply, code) = reply(child);
    assert_eq!(code, Some(1));
    assert_eq!(reply["outcome"], "indeterminate");
    let document = reply.to_string();
    assert!(
        document.contains("crashed") && document.contains(SESSION),
        "{document}"
    );
    assert_eq!(
        lab.server.prompts().len(),
        1,
        "nothing is handed over again"
    );
    lab.place.assert_nothing_is_left();
}

/// The driver that a program has started.
fn driver_of(child: &Child) -> Pid {
    let (all, own) = (
        std::fs::read_dir("/proc").expect("mounted"),
        child.id().to_string(),
    );
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
            let is_child = read("status")
                .is_ok_and(|status| status.lines().any(|line| line == format!("PPid:\t{own}")));
            is_child && read("cmdline").is_ok_and(|line| line.contains("__toolpool-jules"))
        })
        .find_map(Pid::from_raw)
        .expect("it has a driver")
}
