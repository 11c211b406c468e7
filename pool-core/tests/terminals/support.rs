//! A program on a terminal, and what becomes of its turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toolpool_pool_core::launcher::{Exit, LocalLauncher};
use toolpool_pool_core::outcome::{Grade, Outcome};
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::{Prompt, Refusal, TurnId};
use toolpool_pool_core::protocol::TurnEvent;
use toolpool_pool_core::{Connection, Happening, LaunchOptions, shim};

/// Longer than anything takes on a machine that is merely slow: a test that reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A profile of this folder. None, loudly, where its program is missing.
pub(crate) fn profile(name: &str) -> Option<ToolProfile> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/terminals/profiles")
        .join(name)
        .with_extension("toml");
    let profile = ToolProfile::from_file(&path).unwrap_or_else(|error| panic!("{error}"));
    if which::which(&profile.program).is_err() {
        eprintln!("SKIPPED: {} is not on PATH", profile.program);
        return None;
    }
    Some(profile)
}

/// The example `standin_tool`, which begins with `shim::init`.
fn shim_program() -> PathBuf {
    let exe = std::env::current_exe().expect("the test has a path");
    let path = exe
        .parent()
        .and_then(|deps| deps.parent())
        .expect("tests are built into target/*/deps")
        .join("examples/standin_tool");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

pub(crate) struct Terminal {
    pub(crate) connection: Connection,
    turns: u64,
}

impl Terminal {
    /// A program at its first prompt.
    pub(crate) async fn launch(profile: &ToolProfile) -> Self {
        shim::init_with(shim_program());
        let connection = Connection::launch(profile, &LaunchOptions::default(), &LocalLauncher)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let mut terminal = Self {
            connection,
            turns: 0,
        };
        let first = terminal.next().await;
        assert!(
            matches!(first, Happening::Turn(TurnEvent::Ready)),
            "{first:?}, it printed {:?}",
            terminal.connection.last_lines(5)
        );
        terminal
    }

    pub(crate) async fn next(&mut self) -> Happening {
        let next = tokio::time::timeout(LONG, self.connection.next()).await;
        next.unwrap_or_else(|_| panic!("it shows {:?}", self.connection.last_lines(5)))
    }

    pub(crate) fn submit(&mut self, text: &str) -> Result<(), Refusal> {
        self.turns += 1;
        self.connection
            .submit(TurnId(self.turns), &Prompt::text(text))
    }

    /// The end of the running turn, and its reply.
    pub(crate) async fn end(&mut self) -> (Outcome, String) {
        let mut reply = Vec::new();
        loop {
            match self.next().await {
                Happening::Turn(TurnEvent::Chunk { bytes, .. }) => reply.extend(bytes),
                Happening::Turn(TurnEvent::TurnEnded {
                    turn,
                    outcome,
                    attribution,
                    ..
                }) => {
                    assert_eq!(turn, TurnId(self.turns));
                    assert_eq!(attribution.grade, Grade::D);
                    return (outcome, String::from_utf8(reply).expect("characters"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// One turn that must complete, and its reply.
    pub(crate) async fn answer(&mut self, text: &str) -> String {
        self.submit(text).unwrap_or_else(|error| panic!("{error}"));
        let (outcome, reply) = self.end().await;
        assert_eq!(outcome, Outcome::Completed);
        reply
    }

    /// Interrupts the running turn as soon as its reply has begun to leave the screen.
    pub(crate) async fn interrupt_at_first_chunk(&mut self) -> (Outcome, String) {
        let first = self.next().await;
        assert!(
            matches!(first, Happening::Turn(TurnEvent::Chunk { .. })),
            "{first:?}"
        );
        self.connection.interrupt();
        self.end().await
    }

    pub(crate) async fn exit(&mut self) -> Exit {
        loop {
            if let Happening::Exited(exit) = self.next().await {
                return exit;
            }
        }
    }
}
