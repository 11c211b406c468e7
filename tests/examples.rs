//! The examples run as they are, on the stand-in and on the real aider.

use std::path::PathBuf;
use std::process::{Command, Output};

use toolpool_conformance::lab::Lab;

/// Cargo builds a package's examples together with its tests, beside their folder.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("own path");
    let built: PathBuf = test
        .ancestors()
        .nth(2)
        .expect("target folder")
        .join("examples")
        .join(name);
    Command::new(built)
}

fn stdout_of(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("examples are built with the tests");
    let stdout = String::from_utf8(stdout).expect("utf-8");
    assert!(
        status.success(),
        "{stdout}{}",
        String::from_utf8_lossy(&stderr)
    );
    stdout
}

#[test]
fn simple_pool_answers_every_prompt_in_turn() {
    let stdout = stdout_of(example("simple_pool"));
    for place in 1..=3 {
        assert_eq!(
            stdout.matches(&format!("main/{place}:")).count(),
            2,
            "{stdout}"
        );
    }
    assert!(stdout.ends_with("6 of 6 prompts completed\n"), "{stdout}");
}

#[test]
fn parallel_refactor_lands_every_file_as_a_commit() {
    let stdout = stdout_of(example("parallel_refactor"));
    assert_eq!(stdout.matches(": commit ").count(), 8, "{stdout}");
    assert_eq!(stdout.matches("toolpool: module_").count(), 8, "{stdout}");
}

#[test]
fn multi_agent_review_brings_three_reviews() {
    let stdout = stdout_of(example("multi_agent_review"));
    for (place, role) in ["security", "performance", "readability"]
        .iter()
        .enumerate()
    {
        let head = format!("## {role} (main/{}, {role}-standin, ", place + 1);
        assert!(stdout.contains(&head), "{stdout}");
    }
    assert!(stdout.ends_with("3 of 3 reviews\n"), "{stdout}");
}

#[test]
fn custom_strategy_keeps_a_label_on_its_instance() {
    let stdout = stdout_of(example("custom_strategy"));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{stdout}");
    assert_eq!(lines[..3], lines[3..], "{stdout}");
}

#[test]
fn custom_tool_speaks_to_a_program_described_by_one_file() {
    assert_eq!(
        stdout_of(example("custom_tool")),
        "1 + 2 = 3\n6 * 7 = 42\n(2 + 3) * 4 = 20\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn real_aider_runs_the_three_examples() {
    let Some(lab) = Lab::or_skip("aider") else {
        return;
    };
    for file in ["a.py", "b.py"] {
        lab.commit(file, "first line\nlast line\n");
    }
    let aider = PathBuf::from(lab.program());
    let (args, env) = lab.settings();
    let path = format!(
        "{}:{}",
        aider.parent().expect("bin folder").display(),
        std::env::var("PATH").expect("PATH")
    );
    for (name, files, expected) in [
        ("simple_pool", &[][..], "6 of 6 prompts completed"),
        (
            "parallel_refactor",
            &["a.py", "b.py"][..],
            "a.py: nothing changed",
        ),
        ("multi_agent_review", &[][..], "3 of 3 reviews"),
    ] {
        let mut command = example(name);
        command
            .args(["--tool", "aider"])
            .args(files)
            .arg("--")
            .args(&args)
            .current_dir(lab.repo())
            .envs(env.iter().map(|(key, value)| (key, value)))
            .env("PATH", &path)
            .stdin(std::process::Stdio::null());
        let stdout = tokio::task::spawn_blocking(move || stdout_of(command))
            .await
            .expect("no panic");
        assert!(stdout.contains(expected), "{name}: {stdout}");
        assert_eq!(lab.census(), Vec::<u32>::new(), "{name}");
    }
    assert_eq!(
        lab.git(&["status", "--porcelain"]),
        "",
        "the repository is as it was"
    );
}
