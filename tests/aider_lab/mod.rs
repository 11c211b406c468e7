//! A laboratory for the real aider: a git repository, the local model server, and what an aider needs to talk to it.

#![allow(dead_code, reason = "each test and benchmark uses a part of this")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use toolpool::{ClusterBuilder, ToolProfile, launch_cluster};
use toolpool_testkit::model_server::{Builder, ModelServer};

pub(crate) struct Lab {
    pub(crate) server: ModelServer,
    folder: TempDir,
    program: PathBuf,
}

impl Lab {
    /// A repository with one file of two lines for each name, or None, loudly, where there is no aider.
    pub(crate) fn new(server: Builder, files: &[&str]) -> Option<Self> {
        let Some(program) = std::env::var_os("TOOLPOOL_AIDER") else {
            println!(
                "skipped: TOOLPOOL_AIDER is not set; `cargo xtask test` installs aider and sets it"
            );
            return None;
        };
        Some(Self::of(server, files, program.into()))
    }

    /// The same around another program.
    pub(crate) fn of(server: Builder, files: &[&str], program: PathBuf) -> Self {
        init_shim();
        let lab = Self {
            server: server.start().expect("a port on loopback"),
            folder: tempfile::tempdir().expect("temp folder"),
            program,
        };
        std::fs::create_dir(lab.repo()).expect("folder");
        lab.git(&["init", "--quiet", "--initial-branch=main"]);
        lab.git(&["config", "user.name", "Somebody"]);
        lab.git(&["config", "user.email", "somebody@example.invalid"]);
        for file in files {
            std::fs::write(
                lab.repo().join(file),
                format!("first line of {file}\nlast line\n"),
            )
            .expect("write");
        }
        std::fs::write(lab.repo().join("README"), "a place to work\n").expect("write");
        lab.git(&["add", "."]);
        lab.git(&["commit", "--quiet", "--message", "start"]);
        // An unknown model needs its edit format and its limits; without them aider looks for tables on the network.
        std::fs::write(
            lab.folder.path().join("settings.yml"),
            "- name: openai/mock\n  edit_format: diff\n  weak_model_name: openai/mock\n  use_repo_map: false\n  streaming: true\n  extra_params: {max_retries: 0}\n",
        )
        .expect("write");
        std::fs::write(
            lab.folder.path().join("metadata.json"),
            r#"{"openai/mock":{"max_tokens":8192,"max_input_tokens":4000000,"max_output_tokens":8192,"input_cost_per_token":0,"output_cost_per_token":0,"litellm_provider":"openai","mode":"chat"}}"#,
        )
        .expect("write");
        lab
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repo())
            .args(args)
            .output()
            .expect("git");
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("utf-8")
    }

    pub(crate) fn profile(&self) -> ToolProfile {
        let mut profile = ToolProfile::builtin("aider").expect("built in");
        profile.program = self.program.display().to_string();
        profile
    }

    /// What aider needs to use the model server.
    pub(crate) fn args(&self) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut args = [
            "--model",
            "openai/mock",
            "--map-tokens",
            "0",
            "--openai-api-base",
        ]
        .map(str::to_owned)
        .to_vec();
        args.push(self.server.base_url());
        args.extend(["--model-settings-file".to_owned(), file("settings.yml")]);
        args.extend(["--model-metadata-file".to_owned(), file("metadata.json")]);
        args
    }

    /// A cluster of real aiders in the repository, marked so that their processes can be counted.
    pub(crate) fn cluster(&self, count: usize, marker: &str) -> ClusterBuilder {
        launch_cluster(self.profile())
            .count(count)
            .cwd(self.repo())
            .args(self.args())
            .env("OPENAI_API_KEY", "none")
            .env("TOOLPOOL_TEST_MARKER", marker)
    }
}

/// What a tool might not see or strip before it looks for a command: what JavaScript, Python and Rust take for blanks, and
/// characters without a look. A carriage return and a line feed are missing, because aider and the model server do not
/// leave them as they are.
pub(crate) const UNSEEN: &[char] = &[
    ' ',
    '\t',
    '\u{b}',
    '\u{c}',
    '\0',
    '\u{1}',
    '\u{8}',
    '\u{1b}',
    '\u{1c}',
    '\u{1f}',
    '\u{7f}',
    '\u{85}',
    '\u{a0}',
    '\u{ad}',
    '\u{115f}',
    '\u{1680}',
    '\u{180e}',
    '\u{2000}',
    '\u{200a}',
    '\u{200b}',
    '\u{200d}',
    '\u{200e}',
    '\u{2028}',
    '\u{2029}',
    '\u{202e}',
    '\u{202f}',
    '\u{205f}',
    '\u{2060}',
    '\u{2800}',
    '\u{3000}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{e0020}',
];

/// Makes an example the shim of this process: a test's `main` is not its own.
pub(crate) fn init_shim() {
    if toolpool::is_initialized() {
        return;
    }
    let test = std::env::current_exe().expect("own path");
    let target = test.ancestors().nth(2).expect("target folder");
    let example = target.join("examples/simple_pool");
    assert!(
        example.exists(),
        "{} is missing: `cargo build --examples`",
        example.display()
    );
    toolpool_pool_core::shim::init_with(example);
}

/// The live processes whose environment carries the marker.
pub(crate) fn census(marker: &str) -> Vec<u32> {
    let wanted = format!("TOOLPOOL_TEST_MARKER={marker}");
    let is_alive = |folder: &Path| {
        std::fs::read_to_string(folder.join("stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .unwrap_or("")
                .trim_start()
                .starts_with('Z')
        })
    };
    std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            std::fs::read(folder.join("environ")).is_ok_and(|environ| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == wanted.as_bytes())
            }) && is_alive(&folder)
        })
        .collect()
}
