//! A laboratory for the real Claude Code: a git repository, the local model server, and a configuration of its own, so
//! that nobody's login is used.

#![allow(dead_code, reason = "each test uses a part of this")]

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use toolpool::{ClusterBuilder, Group, LaunchOptions, ToolProfile, launch_cluster};
use toolpool_pool_core::launcher::LocalLauncher;
use toolpool_pool_core::{Connection, Happening};
use toolpool_testkit::model_server::ModelServer;

pub(crate) struct Lab {
    pub(crate) server: ModelServer,
    folder: TempDir,
    program: PathBuf,
}

impl Lab {
    /// A repository with one file, or None, loudly, where there is no Claude Code.
    pub(crate) fn new() -> Option<Self> {
        let Some(program) = std::env::var_os("TOOLPOOL_CLAUDE") else {
            println!("skipped: TOOLPOOL_CLAUDE is not set; it names the executable of Claude Code");
            return None;
        };
        crate::aider_lab::init_shim();
        let lab = Self {
            server: ModelServer::start().expect("a port on loopback"),
            folder: tempfile::tempdir().expect("temp folder"),
            program: program.into(),
        };
        std::fs::create_dir(lab.repo()).expect("folder");
        std::fs::create_dir(lab.folder.path().join("config")).expect("folder");
        lab.git(&["init", "--quiet", "--initial-branch=main"]);
        lab.git(&["config", "user.name", "Somebody"]);
        lab.git(&["config", "user.email", "somebody@example.invalid"]);
        std::fs::write(lab.repo().join("README"), "a place to work\n").expect("write");
        lab.git(&["add", "."]);
        lab.git(&["commit", "--quiet", "--message", "start"]);
        Some(lab)
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
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {complaint}");
        String::from_utf8(output.stdout).expect("utf-8")
    }

    /// Whether this version knows the switch that keeps it from reading files that a prompt mentions.
    pub(crate) fn ignores_mentions(&self) -> bool {
        let output = Command::new(&self.program)
            .arg("--version")
            .output()
            .expect("it runs");
        !String::from_utf8_lossy(&output.stdout).starts_with("2.1.197")
    }

    fn profile(&self) -> ToolProfile {
        let mut profile = ToolProfile::builtin("claude").expect("built in");
        profile.program = self.program.display().to_string();
        profile
    }

    fn env(&self, marker: &str) -> Vec<(String, String)> {
        let config = self.folder.path().join("config").display().to_string();
        let mut env = vec![
            ("CLAUDE_CONFIG_DIR", config),
            ("ANTHROPIC_BASE_URL", self.server.origin()),
        ];
        env.extend(
            [
                ("ANTHROPIC_API_KEY", "none"),
                ("CLAUDE_CODE_MAX_RETRIES", "1"),
                ("TOOLPOOL_TEST_MARKER", marker),
            ]
            .map(|(name, value)| (name, value.to_owned())),
        );
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// A cluster in the repository, marked so that its processes can be counted.
    pub(crate) fn cluster(&self, count: usize, marker: &str) -> ClusterBuilder {
        let cluster = launch_cluster(self.profile()).count(count).cwd(self.repo());
        self.env(marker)
            .into_iter()
            .fold(cluster, |cluster, (name, value)| cluster.env(name, value))
    }

    /// A Claude Code that uses this laboratory's server, as a part of a mixed cluster.
    pub(crate) fn group(&self) -> Group {
        let env = self.env("").into_iter();
        env.filter(|(name, _)| name != "TOOLPOOL_TEST_MARKER")
            .fold(Group::new(self.profile()), |group, (name, value)| {
                group.env(name, value)
            })
    }

    /// One process without a cluster, which asks before it edits.
    pub(crate) async fn connection(&self, marker: &str) -> Connection {
        let options = LaunchOptions {
            cwd: self.repo(),
            args: ["--permission-mode", "default"].map(str::to_owned).to_vec(),
            env: self.env(marker),
            ..LaunchOptions::default()
        };
        let launched = Connection::launch(&self.profile(), &options, &LocalLauncher).await;
        launched.expect("it starts")
    }
}

/// The next thing that the protocol saw.
pub(crate) async fn next_event(
    connection: &mut Connection,
) -> toolpool_pool_core::protocol::TurnEvent {
    match connection.next().await {
        Happening::Turn(event) => event,
        other => panic!("{other:?}; {:?}", connection.last_lines(5)),
    }
}
