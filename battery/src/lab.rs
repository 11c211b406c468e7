//! Where one case runs: a process of its own, with its baseline.
//!
//! Owns the stand-ins' settings, the folder and the census. Must not know a case. Invariant: a case ends with the closing
//! census: no process of its own lives, and this process holds what it held before.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use toolpool::{ClusterBuilder, ToolProfile};
use toolpool_testkit::census::{Census, Holdings};
use toolpool_testkit::ledgers::Closing;

use crate::case::{CannotBe, Case, Verdict};
use crate::rig::Rig;

/// Longer than anything takes on a machine that is merely slow: a case that reaches it has failed. With a bug that was put
/// in cases are to fail, and soon.
pub(crate) const LONG: Duration = Duration::from_secs(if cfg!(planted) { 10 } else { 60 });

/// How long what a case used may take to be given back, once its clusters have stopped: threads end by and by.
const CLOSING: Duration = Duration::from_secs(10);

/// How long an idle thread of the runtime lives, so that threads come back to the baseline soon.
const IDLE_THREAD: Duration = Duration::from_millis(20);

/// The first argument that makes this program the stand-in tool.
pub(crate) const STANDIN: &str = "standin";

/// What a case has to work with.
pub(crate) struct Lab {
    folder: PathBuf,
    /// Removed with the laboratory, if it is its own.
    _own: Option<TempDir>,
    census: Census,
    seed: String,
}

/// Runs a case in this process, which is its own.
pub(crate) fn run_alone(case: &Case, census: Census) -> Verdict {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(IDLE_THREAD)
        .enable_all()
        .build();
    let ended = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| run_on(case, census, &runtime));
    match ended {
        Ok(verdict) => verdict,
        Err(error) => match error.downcast::<CannotBe>() {
            Ok(CannotBe(reason)) => Verdict::Skipped(reason),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        },
    }
}

fn run_on(case: &Case, census: Census, runtime: &Runtime) -> Result<Verdict> {
    let lab = Lab::new(case.number, census)?;
    // What is made once is no leak: the spawning thread, the runtime's own files.
    runtime.block_on(async {
        let rig = lab.launch(lab.standin(&[])?, 1, |builder| builder).await?;
        rig.ask("warm up").await?;
        rig.close().await
    })?;
    let before = settled(|_| true);
    let counted = runtime.block_on((case.run)(&lab))?;
    let orphans = lab.census.alive();
    let after = settled(|now| *now == before);
    let closing = Closing {
        orphans,
        before,
        after,
    };
    if let Err(wrong) = closing.check() {
        bail!("closing census: {}", wrong.join("; "));
    }
    Ok(Verdict::Passed(counted))
}

/// What this process holds once that is as it should be, or after [`CLOSING`]. Two looks in a row must be alike, because
/// idle threads end by and by.
fn settled(is_right: impl Fn(&Holdings) -> bool) -> Holdings {
    let deadline = Instant::now() + CLOSING;
    let mut last = Holdings::now();
    loop {
        std::thread::sleep(2 * IDLE_THREAD);
        let now = Holdings::now();
        if (now == last && is_right(&now)) || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

impl Lab {
    fn new(number: u16, census: Census) -> Result<Self> {
        let own = tempfile::tempdir().context("cannot make a temporary folder")?;
        let lab = Self::at(own.path(), &format!("battery-{number}"), census);
        Ok(Self {
            _own: Some(own),
            ..lab
        })
    }

    /// One in a folder of somebody else's.
    pub(crate) fn at(folder: &Path, seed: &str, census: Census) -> Self {
        Self {
            folder: folder.to_owned(),
            _own: None,
            census,
            seed: seed.to_owned(),
        }
    }

    /// A folder for files of the case's own.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The processes of this case.
    pub(crate) fn census(&self) -> &Census {
        &self.census
    }

    /// The seed of all answers.
    pub(crate) fn seed(&self) -> &str {
        &self.seed
    }

    /// The stand-in with rules, which answers by formula and keeps its ledger.
    pub(crate) fn standin(&self, rules: &[&str]) -> Result<ToolProfile> {
        self.told(ToolProfile::builtin("standin")?, &[], rules)
    }

    /// The stand-in as an agent of the Agent Client Protocol.
    pub(crate) fn agent(&self, rules: &[&str]) -> Result<ToolProfile> {
        self.told(
            self.profile("agent", "protocol = \"acp\"")?,
            &["--acp"],
            rules,
        )
    }

    /// The stand-in as a program that takes lines and shows its prompt, on pipes.
    pub(crate) fn line_program(&self, rules: &[&str]) -> Result<ToolProfile> {
        let lines = "protocol = \"lines\"\n[lines]\nready = '^> $'\nend_pattern = '^> $'\n";
        self.told(self.profile("lines", lines)?, &["--plain"], rules)
    }

    /// The same on a terminal.
    pub(crate) fn on_terminal(&self, rules: &[&str]) -> Result<ToolProfile> {
        let screen = "protocol = \"screen\"\n[screen]\nend = '^> $'\nquiet = \"50ms\"\n";
        self.told(self.profile("terminal", screen)?, &["--plain"], rules)
    }

    fn profile(&self, name: &str, rest: &str) -> Result<ToolProfile> {
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(
            &path,
            format!("name = {name:?}\nprogram = \"replaced\"\n{rest}"),
        )?;
        Ok(ToolProfile::from_file(&path)?)
    }

    fn told(&self, mut profile: ToolProfile, args: &[&str], rules: &[&str]) -> Result<ToolProfile> {
        profile.program = program()?.display().to_string();
        profile.start_timeout = LONG;
        let ledger = self.ledger().display().to_string();
        let always = [
            STANDIN, "--reply", "sha256", "--seed", &self.seed, "--ledger", &ledger,
        ];
        profile.args = always
            .iter()
            .chain(args)
            .map(|arg| (*arg).to_owned())
            .collect();
        for rule in rules {
            profile.args.extend(["--do".to_owned(), (*rule).to_owned()]);
        }
        Ok(profile)
    }

    /// Lets a shell run before the tool at each start, in the working folder: for tools that are not always alike.
    pub(crate) fn behind(&self, profile: &mut ToolProfile, script: &str) {
        let script = format!("cd {:?}; {script}\nexec \"$0\" \"$@\"", self.folder());
        let program = std::mem::replace(&mut profile.program, "/bin/sh".to_owned());
        profile
            .args
            .splice(0..0, ["-c".to_owned(), script, program]);
    }

    /// Where the stand-ins write down what they read.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    /// Launches a cluster of which every account is kept. Only one at a time.
    pub(crate) async fn launch(
        &self,
        profile: ToolProfile,
        count: usize,
        change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Result<Rig> {
        Rig::launch(self, profile, count, change).await
    }
}

/// This program, which is its own shim and the stand-in too.
pub(crate) fn program() -> Result<PathBuf> {
    std::env::current_exe().context("this program has no path")
}
