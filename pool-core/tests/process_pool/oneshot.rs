//! Tools of one process for each prompt, behind a real turn runner.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use toolpool_pool_core::launcher::{GroupSignal, LocalLauncher};
use toolpool_pool_core::outcome::{DoubtCause, Grade, Outcome};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::{Prompt, TurnId};
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{Connection, Happening, LaunchOptions, shim};

use crate::support::{LONG, answer, ask, launch, pid, signal, standin_tool, watch};

/// A profile whose keys from `program` on are `toml`.
fn tool(toml: &str) -> ToolProfile {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, format!("protocol = \"oneshot\"\n{toml}")).expect("writable");
    ToolProfile::from_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// Every prompt is a script.
fn sh() -> ToolProfile {
    tool("program = \"sh\"\n[oneshot]\nprompt_args = [\"-c\", \"{prompt}\"]")
}

async fn connect(profile: &ToolProfile) -> Connection {
    shim::init_with(standin_tool());
    let options = LaunchOptions::default();
    let mut connection = Connection::launch(profile, &options, &LocalLauncher)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(event(&mut connection).await, TurnEvent::Ready));
    connection
}

async fn event(connection: &mut Connection) -> TurnEvent {
    match connection.next().await {
        Happening::Turn(event) => event,
        other => panic!("{other:?}; {:?}", connection.last_lines(5)),
    }
}

/// The first line that the running turn shows.
async fn first_line(connection: &mut Connection) -> String {
    let mut shown = Vec::new();
    while !shown.ends_with(b"\n") {
        match event(connection).await {
            TurnEvent::Chunk { bytes, .. } => shown.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(shown).expect("UTF-8").trim().to_owned()
}

/// How the running turn ends.
async fn outcome(connection: &mut Connection) -> Outcome {
    loop {
        match event(connection).await {
            TurnEvent::Chunk { .. } => {}
            TurnEvent::TurnEnded { outcome, .. } => return outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn submit(connection: &mut Connection, turn: u64, prompt: &str) {
    connection
        .submit(TurnId(turn), &Prompt::text(prompt))
        .unwrap_or_else(|refusal| panic!("{refusal}"));
}

/// Whether there is no such process, or only what is left for its parent to read.
fn is_dead(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn each_prompt_has_a_process_of_its_own_and_its_exit_ends_the_turn() {
    let pool = launch(sh(), 1).await;
    let response = ask(&pool, "printf hi").await;
    assert_eq!(
        (response.outcome, response.text.as_str()),
        (Outcome::Completed, "hi")
    );
    let attribution = response.attribution.expect("an end");
    assert_eq!((attribution.grade, attribution.by), (Grade::B, "exit"));
    let first = answer(&pool, "echo $$").await;
    let second = answer(&pool, "echo $$").await;
    assert_ne!(first, second);
    assert_eq!(pool.get_status()[0].generation, 1, "the runner stays");

    let response = ask(&pool, "echo half; echo why >&2; exit 3").await;
    let Outcome::Failed(failure) = response.outcome else {
        panic!("{response:?}")
    };
    assert_eq!(failure.message, "exit code 3: why");
    assert_eq!(response.text, "half\n");

    let response = ask(&pool, "kill -SEGV $$").await;
    let Outcome::Indeterminate(doubt) = response.outcome else {
        panic!("{response:?}")
    };
    assert_eq!(
        (doubt.cause, doubt.detail.as_str()),
        (DoubtCause::Crashed, "signal 11")
    );
    assert_eq!(answer(&pool, "echo on").await, "on\n");
}

#[tokio::test]
async fn a_command_is_in_the_group_of_its_runner_and_sees_three_files() {
    let pool = launch(sh(), 1).await;
    let runner = pid(&pool, 0);
    let text = answer(
        &pool,
        "cut -d' ' -f4-6 /proc/$$/stat; ls /proc/$$/fd; readlink /proc/$$/fd/0; grep -E '^Sig(Blk|Ign)' /proc/self/status",
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{runner} {runner} {runner}"));
    assert_eq!(lines[1..5], ["0", "1", "2", "/dev/null"]);
    let masks: Vec<_> = lines[5..]
        .iter()
        .filter_map(|line| u64::from_str_radix(line.split_once('\t')?.1, 16).ok())
        // glibc's `posix_spawn` leaves its own two signals, 32 and 33, ignored.
        .map(|mask| mask & 0x7fff_ffff)
        .collect();
    assert_eq!(masks, [0, 0], "{text}");
}

#[tokio::test]
async fn a_prompt_reaches_its_command_exactly_by_each_way() {
    let large = "line \u{e9}\u{1f600}\n".repeat(100_000);
    assert!(large.len() > 1 << 20);
    let argument = "program = \"sh\"\nargs = [\"-c\", 'printf %s \"$1\"', \"x\"]\n[oneshot]\nprompt_args = [\"{prompt}\"]";
    let file = "program = \"cat\"\n[oneshot]\nprompt_args = [\"{prompt_file}\"]";
    let stdin = "program = \"cat\"";
    for (toml, prompts) in [
        (
            stdin,
            vec![
                "-x",
                "$(id) 'quoted' \"{prompt}\"",
                &large,
                "\u{1}\u{1b}[31m\r\n",
            ],
        ),
        (file, vec!["-x", &large, "{prompt_file}"]),
        (
            argument,
            vec![
                "$(id) 'quoted' \"{prompt}\"",
                &large[..100_000],
                "\u{1}\r\n",
            ],
        ),
    ] {
        let pool = launch(tool(toml), 1).await;
        for prompt in prompts {
            assert!(
                answer(&pool, prompt).await == prompt,
                "{toml}: {:.40}",
                prompt
            );
        }
    }
    let pool = launch(tool(argument), 1).await;
    assert_eq!(answer(&pool, "-n").await, " -n", "no option");
    let response = ask(&pool, &large).await;
    assert_eq!(response.outcome.word(), "failed", "nothing is cut off");
}

#[tokio::test]
async fn the_file_of_a_prompt_is_gone_when_its_turn_is_over() {
    let toml = "program = \"sh\"\nargs = [\"-c\", 'cat \"$1\"; echo; echo \"$1\"', \"x\"]\n[oneshot]\nprompt_args = [\"{prompt_file}\"]";
    let pool = launch(tool(toml), 1).await;
    let text = answer(&pool, "a secret").await;
    let (prompt, path) = text.trim_end().split_once('\n').expect("two lines");
    assert_eq!(prompt, "a secret");
    assert!(!std::path::Path::new(path).exists(), "{path}");
}

#[tokio::test]
async fn a_command_that_reads_none_of_its_prompt_is_no_trouble() {
    let pool = launch(tool("program = \"sh\"\nargs = [\"-c\", \"echo done\"]"), 1).await;
    for _ in 0..3 {
        assert_eq!(answer(&pool, &"x".repeat(1 << 20)).await, "done\n");
    }
}

#[tokio::test]
async fn output_is_passed_on_whatever_its_bytes_are() {
    let pool = launch(sh(), 1).await;
    let response = ask(&pool, "printf 'X\\0\\0\\0\\2c\\0R\\0\\0\\0\\0'").await;
    assert_eq!(response.text, "X\0\0\0\u{2}c\0R\0\0\0\0");
    let response = ask(&pool, "printf 'a\\377b'").await;
    assert_eq!(
        (response.text.as_str(), response.lossy),
        ("a\u{fffd}b", true)
    );
    let response = ask(
        &pool,
        "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2",
    )
    .await;
    assert_eq!(response.text.len(), 3_000_000);
}

#[tokio::test]
async fn what_a_command_leaves_running_is_dead_when_its_turn_ends() {
    let pool = launch(sh(), 1).await;
    // Both hold the output open; the second is in a session of its own, and an orphan.
    let text = answer(
        &pool,
        "sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); (trap '' TERM HUP INT; sleep 1000) & echo $!",
    )
    .await;
    assert_eq!(text.lines().count(), 3);
    for pid in text.lines() {
        assert!(is_dead(pid), "{pid} lives");
    }
    assert_eq!(answer(&pool, "echo on").await, "on\n");
}

#[tokio::test]
async fn an_interrupt_ends_the_command_and_not_the_runner() {
    let mut connection = connect(&sh()).await;
    // At once: the command may not even have been started.
    submit(&mut connection, 1, "echo up; sleep 1000; echo never");
    connection.interrupt();
    assert_eq!(outcome(&mut connection).await, Outcome::Cancelled);
    submit(&mut connection, 2, "echo $$; sleep 1000; echo never");
    let command = first_line(&mut connection).await;
    connection.interrupt();
    assert_eq!(outcome(&mut connection).await, Outcome::Cancelled);
    assert!(is_dead(&command));
    // One that ends as it likes has stopped too.
    submit(
        &mut connection,
        3,
        "trap 'exit 0' INT; echo up; while :; do sleep 0.01; done",
    );
    assert_eq!(first_line(&mut connection).await, "up");
    connection.interrupt();
    assert_eq!(outcome(&mut connection).await, Outcome::Cancelled);
    // A signal to the whole group, as from a terminal, does not end the runner either.
    connection.signal(GroupSignal::Interrupt);
    submit(&mut connection, 4, "echo on");
    assert_eq!(first_line(&mut connection).await, "on");
    assert_eq!(outcome(&mut connection).await, Outcome::Completed);
}

#[tokio::test]
async fn a_command_may_clean_up_after_sigterm() {
    let mut connection = connect(&sh()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mark = folder.path().join("cleaned");
    submit(
        &mut connection,
        1,
        &format!(
            "trap 'echo cleaned > {}; exit 0' TERM; echo up; while :; do sleep 0.01; done",
            mark.display()
        ),
    );
    assert_eq!(first_line(&mut connection).await, "up");
    let exit = connection.stop(LONG).await;
    assert_eq!(exit.code, Some(0));
    assert!(mark.exists());
}

#[tokio::test]
async fn a_runner_that_is_killed_takes_its_command_along() {
    let mut connection = connect(&sh()).await;
    submit(&mut connection, 1, "echo $$; sleep 1000");
    let command = watch(
        first_line(&mut connection)
            .await
            .parse()
            .expect("a process id"),
    );
    signal(connection.pid().expect("it lives"), Signal::KILL);
    command.gone().await;
    match connection.next().await {
        Happening::Exited(exit) => assert_eq!(exit.signal, Some(9)),
        other => panic!("{other:?}"),
    }
}

/// A turn runner without a manager.
fn runner() -> std::process::Child {
    Command::new(standin_tool())
        .args([
            "__toolpool-run",
            "/nonexistent",
            "2",
            "sh",
            "-c",
            "{prompt}",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[test]
fn a_runner_whose_parent_is_gone_ends_all_that_its_command_has_started() {
    let mut runner = runner();
    let mut stdin = runner.stdin.take().expect("piped");
    let mut stdout = runner.stdout.take().expect("piped");
    let prompt = b"setsid sleep 1000 & echo $! $$; sleep 1000";
    let length = u32::try_from(prompt.len()).expect("short").to_be_bytes();
    stdin
        .write_all(&[b"P", &length[..], prompt].concat())
        .expect("it reads");
    let mut headers = [0; 10];
    stdout.read_exact(&mut headers).expect("it goes on");
    assert_eq!(headers[..9], *b"R\0\0\0\0O\0\0\0");
    let mut text = vec![0; headers[9].into()];
    stdout.read_exact(&mut text).expect("it goes on");
    let text = String::from_utf8_lossy(&text);
    let below: Vec<_> = text
        .split_whitespace()
        .map(|pid| watch(pid.parse().expect("a process id")))
        .collect();
    assert_eq!(below.len(), 2);
    drop(stdin);
    assert_eq!(runner.wait().expect("it ends").code(), Some(0));
    assert!(below.iter().all(crate::support::Watched::is_gone));
}

#[test]
fn a_runner_is_small() {
    let mut runner = runner();
    let mut ready = [0; 5];
    runner
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut ready)
        .expect("it says that it is ready");
    let rss = toolpool_pool_core::rss_bytes(runner.id()).expect("it lives");
    println!("a turn runner has {} KiB of memory", rss >> 10);
    assert!(rss < 32 << 20, "{rss}");
    drop(runner.stdin.take());
    runner.wait().expect("it ends");
}

#[tokio::test]
async fn a_program_that_vanishes_fails_the_turn_and_not_the_runner() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tool");
    std::fs::copy("/bin/true", &path).expect("a copy");
    let pool = launch(tool(&format!("program = {path:?}")), 1).await;
    assert_eq!(answer(&pool, "hi").await, "");
    std::fs::remove_file(&path).expect("it is there");
    for _ in 0..2 {
        let response = ask(&pool, "hi").await;
        let Outcome::Failed(failure) = response.outcome else {
            panic!("{response:?}")
        };
        assert!(
            failure.message.contains("cannot execute"),
            "{}",
            failure.message
        );
    }
    assert_eq!(pool.get_status()[0].generation, 1);
}
