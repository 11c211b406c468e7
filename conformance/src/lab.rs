//! The laboratory: a git repository, the local model server or the stand-in of Jules, and what each real tool needs to
//! talk to it.
//!
//! Owns the list of tools that are examined, where their programs are found, and their settings for the server. Must not
//! know what is examined. Invariants: no tool sees a login, a key or settings of the user's; adding a tool is one entry.

mod jules;
mod mock;
mod setup;

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use toolpool::{ClusterBuilder, ToolProfile, launch_cluster};
use toolpool_testkit::model_server::{Builder, ModelServer};

use crate::record::Group;
use crate::{Bench, Case, MARKER, Program, Speech, census};
use jules::Jules;
pub use mock::{Habits, Mock};
use setup::{ONE_SHOTS, SETUPS, Setup};

/// The profile of a program on a terminal, which is the documentation's example of one.
const TERMINAL: (&str, &str) = (
    "bash-terminal",
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../pool-core/tests/terminals/profiles/bash.toml"
    ),
);

/// A place for one tool to work in.
pub struct Lab {
    /// The model behind the tool.
    pub server: Arc<ModelServer>,
    tool: String,
    /// Empty for what is reached over the network.
    program: String,
    setup: Option<&'static Setup>,
    jules: Option<Jules>,
    folder: TempDir,
    marker: String,
}

impl Lab {
    /// A laboratory for the tool, with a model that answers at once. Its repository holds one file, `README`.
    ///
    /// # Errors
    /// In words, where the tool is not here.
    pub fn new(tool: &str) -> Result<Self, String> {
        Self::with(tool, ModelServer::builder())
    }

    /// A laboratory for the tool; None, and it is said, where the tool is not here.
    pub fn or_skip(tool: &str) -> Option<Self> {
        Self::new(tool)
            .inspect_err(|reason| println!("skipped: {reason}"))
            .ok()
    }

    /// A laboratory whose model is built by the caller.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with(tool: &str, server: Builder) -> Result<Self, String> {
        let mut setups = SETUPS.iter().chain(ONE_SHOTS);
        let setup = setups.find(|setup| setup.tool == tool);
        let program = match setup {
            Some(setup) => real(setup.installed)?,
            None if tool == jules::NAME => String::new(),
            None => installed(tool)?,
        };
        Self::build(tool, setup, program, server)
            .map_err(|error| format!("{tool}: cannot make a place to work in: {error}"))
    }

    fn build(
        tool: &str,
        setup: Option<&'static Setup>,
        program: String,
        server: Builder,
    ) -> io::Result<Self> {
        init_shim();
        let folder = tempfile::tempdir()?;
        let name = folder.path().file_name().unwrap_or_default();
        let marker = format!("{tool}-{}-{}", std::process::id(), name.to_string_lossy());
        let jules = (tool == jules::NAME).then(Jules::start).transpose()?;
        let lab = Self {
            server: Arc::new(server.start()?),
            tool: tool.to_owned(),
            program,
            setup,
            jules,
            folder,
            marker,
        };
        std::fs::create_dir(lab.repo())?;
        lab.git(&["init", "--quiet", "--initial-branch=main"]);
        lab.git(&["config", "user.name", "Somebody"]);
        lab.git(&["config", "user.email", "somebody@example.invalid"]);
        lab.commit("README", "a place to work\n");
        if lab.jules.is_some() {
            lab.git(&["remote", "add", "origin", &Jules::remote()]);
        }
        Ok(lab)
    }

    /// All tools that are examined, as they are shown together.
    pub fn groups() -> [Group; 3] {
        let names = |setups: &'static [Setup]| setups.iter().map(|setup| setup.tool);
        [
            Group {
                title: "Agents that keep a conversation",
                tools: names(SETUPS).collect(),
            },
            Group {
                title: "Agents that begin anew with each prompt",
                tools: names(ONE_SHOTS).chain([jules::NAME]).collect(),
            },
            Group {
                title: "Programs with a language of their own",
                tools: Program::all().map(|program| program.name).collect(),
            },
        ]
    }

    /// The repository.
    pub fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// A place beside the repository, which no tool has any business in.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of the tool's program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What git says in the repository.
    ///
    /// # Panics
    /// If git fails.
    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repo())
            .args(args)
            .output()
            .expect("git is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Commits a file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn commit(&self, file: &str, text: &str) {
        std::fs::write(self.repo().join(file), text).expect("the repository can be written to");
        self.git(&["add", file]);
        self.git(&["commit", "--quiet", "--message", file]);
    }

    /// The profile of the tool with the path of its program.
    ///
    /// # Panics
    /// If it has gone since the laboratory was made.
    pub fn profile(&self) -> ToolProfile {
        let mut profile = profile(&self.tool).expect("it was there when the laboratory was made");
        profile.program.clone_from(&self.program);
        profile.start_timeout = setup::START;
        if let Some(setup) = self.setup {
            (setup.profile)(&mut profile);
        }
        profile
    }

    /// The arguments and variables by which the tool finds the model server.
    ///
    /// # Panics
    /// If its settings cannot be written.
    pub fn settings(&self) -> (Vec<String>, Vec<(String, String)>) {
        let (args, mut env) = match self.setup {
            Some(setup) => (setup.settings)(&self.server, self.folder.path())
                .expect("the folder can be written to"),
            None => (Vec::new(), Vec::new()),
        };
        env.extend(self.jules.iter().flat_map(Jules::settings));
        env.push((MARKER.to_owned(), self.marker.clone()));
        (args, env)
    }

    /// So many instances in the repository.
    pub fn cluster(&self, count: usize) -> ClusterBuilder {
        let (args, env) = self.settings();
        let builder = launch_cluster(self.profile())
            .count(count)
            .cwd(self.repo())
            .args(args);
        env.into_iter()
            .fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// What marks the processes of this laboratory.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The live processes of this laboratory.
    pub fn census(&self) -> Vec<u32> {
        census(&self.marker)
    }

    /// Waits until the model was asked something that contains `text`.
    pub async fn asked(&self, text: &str) {
        self.server
            .wait_until(|requests| requests.iter().any(|request| request.prompt.contains(text)))
            .await;
    }

    /// How the tool is spoken to.
    pub fn speech(&self) -> Box<dyn Speech> {
        if let (None, Some(program)) = (self.setup, Program::named(&self.tool)) {
            return Box::new(*program);
        }
        if let Some(jules) = &self.jules {
            return Box::new(jules.clone());
        }
        let wants_whole_paths = self.setup.is_some_and(|setup| setup.wants_whole_paths);
        let folder = wants_whole_paths.then(|| self.repo());
        let habits = Habits {
            folder,
            streams: self.setup.is_none_or(|setup| setup.streams),
            includes_files: self.setup.is_some_and(|setup| setup.includes_files),
        };
        Box::new(Mock::new(Arc::clone(&self.server), habits))
    }

    /// Why a case does not come out as it should, or not always, with this tool, if that is the tool's own way.
    pub fn limit(&self, case: Case) -> Option<&'static str> {
        let mut known = self.setup?.limits.iter();
        known.find_map(|(limited, how)| (*limited == case).then_some(*how))
    }

    /// The tool on the bench.
    pub fn bench(self: &Arc<Self>) -> Bench {
        let lab = Arc::clone(self);
        let grace = match self.profile().can_interrupt() {
            true => setup::GRACE,
            false => setup::NO_GRACE,
        };
        let launch = move || lab.cluster(1).interrupt_grace(grace);
        Bench::new(launch, self.speech(), &self.repo(), &self.marker)
    }
}

/// Makes an example the shim of this process where `main` is not its own, as in tests.
fn init_shim() {
    if toolpool::is_initialized() {
        return;
    }
    let own = std::env::current_exe().expect("a program knows its path");
    let target = own
        .ancestors()
        .nth(2)
        .expect("tests are built into target/*/deps");
    let example = target.join("examples/simple_pool");
    assert!(
        example.exists(),
        "{} is missing: `cargo build --examples`",
        example.display()
    );
    toolpool::init_with(example);
}

/// The path of a real tool's executable.
fn real(tool: &str) -> Result<String, String> {
    let variable = format!("TOOLPOOL_{}", tool.to_uppercase().replace('-', "_"));
    std::env::var(&variable).map_err(|_| {
        format!("{variable} is not set; `cargo xtask tools {tool}` installs it and prints its path")
    })
}

/// The profile by that name.
fn profile(tool: &str) -> Result<ToolProfile, toolpool::ProfileError> {
    match TERMINAL {
        (name, path) if name == tool => ToolProfile::from_file(path.as_ref()),
        _ => ToolProfile::builtin(tool),
    }
}

/// The name of a program that every system has or can have.
fn installed(tool: &str) -> Result<String, String> {
    let profile = profile(tool).map_err(|error| error.to_string())?;
    let found = toolpool::check(&profile, &toolpool::LaunchOptions::default());
    found.map_err(|error| error.to_string())?;
    Ok(profile.program)
}
