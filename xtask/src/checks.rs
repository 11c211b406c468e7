//! What `cargo xtask test` checks, in order.
//!
//! Owns the list of checks. Must not know how a step is shown or timed. Invariant: the tests against real tools either
//! run and use the tool, or the last line says that they were skipped.

use anyhow::{Result, bail};

use crate::battery;
use crate::conformance;
use crate::fuzz;
use crate::runner::{Runner, cargo, run, run_and_read, works};
use crate::tools::{self, Tool};

/// The tests that run real tools have names such as `real_aider_answers`. They skip themselves, and say so, where the
/// variable with their tool's path is not set.
const REAL: &str = "real_";
/// The tools that have such tests.
const TESTED: &[Tool] = &[
    Tool::Aider,
    Tool::Claude,
    Tool::Codex,
    Tool::Gemini,
    Tool::JulesSdk,
    Tool::Qwen,
    Tool::Opencode,
];
/// The tools that the tests named `real_mixed_…` use together.
const MIXED: &[Tool] = &[Tool::Aider, Tool::Claude, Tool::Codex];
/// How long each fuzz target runs: enough to see that it still holds for its seeds and what is near them.
const FUZZ_SECONDS: u32 = 2;
/// How the conformance suite says that a tool is not here: `skipped: bc: …`. Its column is then not compared.
const SKIPPED: &str = "skipped: ";
/// How to get cargo-deny, in the version that `deny.toml` was written for.
const GET_DENY: &str =
    "cargo-deny is not installed; `cargo install cargo-deny --version 0.20.2 --locked`";

/// Checks everything; stops at the first check that fails.
///
/// # Errors
/// What failed, with the name of the step.
pub(crate) fn run_all(without_tools: bool) -> Result<()> {
    let mut runner = Runner::new();
    let nextest = works(&mut cargo(&["nextest", "--version"]));

    runner.step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    runner.step("clippy", || {
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    runner.step("tests", || run(&mut all_but_real_tools(nextest)))?;
    runner.step("doctests", || {
        run(&mut cargo(&["test", "--workspace", "--doc"]))
    })?;
    // Without the command, whose program has the facade's name: its pages would overwrite the facade's.
    runner.step("rustdoc", || {
        run(cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--exclude",
            "toolpool-cli",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    // A workspace of its own, see its manifest.
    runner.step("official ACP types", || {
        run(&mut cargo(&[
            "test",
            "--locked",
            "--manifest-path",
            "pool-core/acp-schema/Cargo.toml",
            "--target-dir",
            "target/acp-schema",
        ]))
    })?;
    runner.step("examples", || {
        run(&mut cargo(&["build", "--workspace", "--examples"]))
    })?;
    if works(&mut cargo(&["deny", "--version"])) {
        runner.step("cargo-deny", || {
            run(&mut cargo(&[
                "deny",
                "--workspace",
                "--all-features",
                "check",
                "--hide-inclusion-graph",
                "bans",
                "licenses",
                "sources",
            ]))
        })?;
    } else {
        runner.skip("cargo-deny", GET_DENY);
    }
    runner.step("battery", || run(&mut battery::program()))?;
    match fuzz::missing() {
        None => runner.step("fuzz", || fuzz::run_targets(None, FUZZ_SECONDS))?,
        Some(why) => runner.skip("fuzz", why),
    }
    if without_tools {
        runner.skip("real tools", "--without-tools was given");
    } else {
        let mut command = real_tools(nextest);
        let mut installed = Vec::new();
        for tool in TESTED {
            if tool.is_from_npm() && !works(std::process::Command::new("npm").arg("--version")) {
                runner.skip(
                    tool.name(),
                    "it comes from npm, which is not installed; e.g. `apt-get install npm`",
                );
                continue;
            }
            let path = runner.step(&format!("install {}", tool.name()), || {
                tools::install(*tool)
            })?;
            command.env(tool.variable(), &path);
            installed.push((*tool, path));
        }
        let mut names: Vec<String> = installed
            .iter()
            .map(|(tool, _)| tool.name().replace('-', "_"))
            .collect();
        if MIXED
            .iter()
            .all(|tool| installed.iter().any(|(here, _)| here == tool))
        {
            names.push("mixed".to_owned());
        }
        if nextest {
            command.args([
                "--filterset",
                &format!("test(/(^|::){REAL}({})_/)", names.join("|")),
            ]);
        } else {
            command.arg("--").arg("--nocapture");
            command.args(names.iter().map(|name| format!("{REAL}{name}_")));
        }
        runner.step("tests with real tools", || {
            let lines = run_and_read(&mut command)?;
            all_ran(&lines)
        })?;
        let lines = runner.step("conformance", || {
            run_and_read(&mut conformance::program(&installed, false))
        })?;
        for line in lines.iter().filter_map(|line| line.strip_prefix(SKIPPED)) {
            let (tool, why) = line.split_once(": ").unwrap_or((line, ""));
            runner.skip(&format!("conformance of {tool}"), why);
        }
    }
    runner.finish();
    Ok(())
}

fn all_but_real_tools(nextest: bool) -> std::process::Command {
    if nextest {
        let filter = format!("not test(/(^|::){REAL}/)");
        cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--filterset",
            &filter,
        ])
    } else {
        cargo(&[
            "test",
            "--workspace",
            "--tests",
            "--no-fail-fast",
            "--",
            "--skip",
            REAL,
        ])
    }
}

/// The tests with real tools, with their output shown, because it says whether one skipped itself.
fn real_tools(nextest: bool) -> std::process::Command {
    if nextest {
        cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--success-output",
            "immediate",
            "--no-tests",
            "fail",
        ])
    } else {
        cargo(&["test", "--workspace", "--tests", "--no-fail-fast"])
    }
}

/// Sees from the output that there were tests and that none skipped itself.
fn all_ran(lines: &[String]) -> Result<()> {
    if let Some(line) = lines.iter().find(|line| says_skipped(line)) {
        bail!(
            "a test skipped itself although its tool is there: {}",
            line.trim()
        );
    }
    if !lines.iter().any(|line| says_passed(line)) {
        bail!("no test whose name begins with `{REAL}` has run; no real tool is tested");
    }
    Ok(())
}

/// True for a line such as `skipped: TOOLPOOL_AIDER is not set`.
fn says_skipped(line: &str) -> bool {
    line.contains("TOOLPOOL_") && line.to_ascii_lowercase().contains("skip")
}

/// True for the summaries of nextest and of libtest if at least one test passed.
fn says_passed(line: &str) -> bool {
    let is_summary =
        line.trim_start().starts_with("Summary [") || line.starts_with("test result: ok.");
    let mut words = line.split([' ', ',', ';']);
    let mut before = "";
    is_summary
        && words.any(|word| {
            let number = std::mem::replace(&mut before, word);
            word == "passed" && number.parse().is_ok_and(|passed: u32| passed > 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[&str]) -> Result<()> {
        all_ran(
            &lines
                .iter()
                .map(|&line| line.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn tests_that_ran_are_seen_in_either_runners_summary() {
        for summary in [
            "     Summary [  12.345s] 3 tests run: 3 passed, 120 skipped",
            "     Summary [   0.004s] 1 test run: 1 passed (1 slow), 0 skipped",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 8.00s",
        ] {
            verdict(&["running", summary]).unwrap();
        }
    }

    #[test]
    fn nothing_that_ran_is_a_failure() {
        verdict(&[]).unwrap_err();
        verdict(&["test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s"])
            .unwrap_err();
        verdict(&["     Summary [   0.000s] 0 tests run: 0 passed, 120 skipped"]).unwrap_err();
        verdict(&["3 passed said a test by itself"]).unwrap_err();
    }

    #[test]
    fn a_test_that_skipped_itself_is_a_failure() {
        let summary = "     Summary [  12.345s] 3 tests run: 3 passed, 120 skipped";
        verdict(&["    skipped: TOOLPOOL_AIDER is not set", summary]).unwrap_err();
        verdict(&["Skipping: set TOOLPOOL_AIDER to run this", summary]).unwrap_err();
    }
}
