//! Runs the fuzz targets of `fuzz/`.
//!
//! Owns how they are built on the stable toolchain and for how long each runs. Must not know what they test. Invariant:
//! what a target found is left in `target/fuzz/found`, with the command that shows it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::runner::{cargo, run, works, workspace};

/// The targets, each a file in `fuzz/fuzz_targets`.
pub(crate) const TARGETS: [&str; 8] = [
    "acp", "aider", "claude", "codex", "journal", "json_rpc", "lines", "profile",
];

/// What `cargo fuzz` passes too, without a sanitizer: those want a nightly toolchain, and our code has no `unsafe`.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Why there is nothing to run, where libFuzzer cannot be built.
pub(crate) fn missing() -> Option<&'static str> {
    let compiler = works(Command::new("c++").arg("--version"));
    (!compiler).then_some("libFuzzer is C++ and there is no `c++`; e.g. `apt-get install g++`")
}

/// Builds the targets and runs one, or all, for so many seconds each.
///
/// # Errors
/// If they cannot be built, or if one found something.
pub(crate) fn run_targets(only: Option<&str>, seconds: u32) -> Result<()> {
    if let Some(why) = missing() {
        bail!("cannot fuzz: {why}");
    }
    let programs = build()?;
    let folder = workspace().join("target/fuzz");
    let found = folder.join("found");
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    for target in TARGETS
        .iter()
        .filter(|target| only.is_none_or(|only| only == **target))
    {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        let mut command = Command::new(programs.join(target));
        command.arg(corpus).arg(seeds(target)).args([
            format!("-max_total_time={seconds}"),
            format!("-artifact_prefix={}/{target}-", found.display()),
            "-max_len=8192".to_owned(),
            "-timeout=10".to_owned(),
            "-rss_limit_mb=1024".to_owned(),
            "-verbosity=0".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        println!("     {target} for {seconds} s");
        run(&mut command).with_context(|| {
            format!(
                "{target} found something; run {} with the file that is named above, from {}",
                programs.join(target).display(),
                found.display()
            )
        })?;
    }
    Ok(())
}

/// Builds all targets and answers their folder.
fn build() -> Result<PathBuf> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.context("cannot start `rustc -vV`")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    let folder = workspace().join("target/fuzz");
    // With a target named, the flags do not reach build scripts, which have no libFuzzer to link with.
    run(cargo(&[
        "build",
        "--release",
        "--locked",
        "--bins",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        host,
    ])
    .env("CARGO_TARGET_DIR", &folder)
    .env("RUSTFLAGS", COVERAGE))?;
    Ok(folder.join(host).join("release"))
}

/// Inputs to begin with: recorded transcripts cut to stories, and the built-in profiles.
fn seeds(target: &str) -> PathBuf {
    let folder = match target {
        "profile" => Path::new("pool-core/profiles").to_owned(),
        _ => Path::new("fuzz/seeds").join(target),
    };
    workspace().join(folder)
}
