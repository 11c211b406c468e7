//! What is to be known about a tool without using it.
//!
//! Owns the look-up and the run of its program for the version. Must not know how it is shown. Invariant: a tool that
//! hangs, floods or misbehaves when asked for its version costs a moment, never the command.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use toolpool::{Catalog, LaunchOptions, ToolProfile};

use crate::settings::embed;
use crate::version;

/// Longest wait for a version. Aider, a large Python program, takes two seconds when nothing of it is in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for the end of a program that was killed, which a busy machine takes its time for.
const END: Duration = Duration::from_secs(1);

/// Longest text that a version is looked for in.
const LONGEST: u64 = 64 * 1024;

/// One tool, as far as it can be known.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ToolReport {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Where its program is, or the program that stands in for it; None if it cannot be started.
    pub(crate) program: Option<String>,
    /// What its program says its version is.
    pub(crate) version: Option<String>,
    /// The versions that its profile was proven on.
    pub(crate) proven: Option<String>,
    /// Whether `version` is one of `proven`; None where one of them is not known.
    pub(crate) is_proven: Option<bool>,
    /// How it is spoken to.
    pub(crate) protocol: &'static str,
    /// How surely its answers belong to their prompts: A, B, C or D.
    pub(crate) grade: String,
    /// Whether it changes files in its working folder.
    pub(crate) edits: bool,
    /// The command that installs it.
    pub(crate) install: Option<String>,
    /// Whether there is a sign of a login; None for a tool that needs none.
    pub(crate) logged_in: Option<bool>,
    /// That sign: the name of a variable, or a file.
    pub(crate) login_mark: Option<String>,
    /// Why it cannot be used, if so.
    pub(crate) problem: Option<String>,
}

/// A program with the arguments that it is asked with.
type Question = (PathBuf, Vec<String>);

/// What it has said, if it was a version.
type Said = Arc<OnceCell<Option<String>>>;

/// What programs have said of their versions: each is asked once, for however many tools it stands.
#[derive(Clone, Default)]
struct Versions(Arc<Mutex<HashMap<Question, Said>>>);

impl Versions {
    async fn of(&self, program: &Path, args: &[String]) -> Option<String> {
        let asked = {
            // Whoever panicked left a whole table.
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (program.to_owned(), args.to_owned());
            Arc::clone(asked.entry(key).or_default())
        };
        let version = asked.get_or_init(|| version_of(program, args)).await;
        version.clone()
    }
}

/// Looks at one tool.
async fn tool(catalog: &Catalog, name: &str, versions: &Versions) -> ToolReport {
    match catalog.get(name) {
        Ok(profile) => look(embed(profile), versions).await,
        Err(error) => ToolReport {
            name: name.to_owned(),
            title: String::new(),
            program: None,
            version: None,
            proven: None,
            is_proven: None,
            protocol: "unknown",
            grade: "unknown".to_owned(),
            edits: false,
            install: None,
            logged_in: None,
            login_mark: None,
            problem: Some(error.to_string()),
        },
    }
}

/// Looks at several tools at the same time; the answers are in their order.
pub(crate) async fn tools(catalog: &Catalog, names: &[String]) -> Vec<ToolReport> {
    let mut looking = Vec::new();
    let versions = Versions::default();
    for name in names {
        let (catalog, name, versions) = (catalog.clone(), name.clone(), versions.clone());
        looking.push(tokio::spawn(async move {
            tool(&catalog, &name, &versions).await
        }));
    }
    let mut reports = Vec::new();
    for report in looking {
        reports.extend(report.await);
    }
    reports
}

/// Looks at one tool whose profile is known.
pub(crate) async fn known(profile: ToolProfile) -> ToolReport {
    look(profile, &Versions::default()).await
}

async fn look(profile: ToolProfile, versions: &Versions) -> ToolReport {
    // The folder's own dangers are not the tool's: whoever asks for them looks separately.
    let options = LaunchOptions {
        trust_folder: true,
        ..LaunchOptions::default()
    };
    let found = toolpool::check(&profile, &options);
    let version = match &found {
        // Nothing of the tool is here.
        Ok(_) if profile.program.is_empty() => None,
        Ok(program) if is_own(program) => Some(env!("CARGO_PKG_VERSION").to_owned()),
        Ok(program) => versions.of(program, &profile.version_args).await,
        Err(_) => None,
    };
    let mark = toolpool::login_mark(&profile, &options).map(str::to_owned);
    ToolReport {
        logged_in: (!profile.login_marks.is_empty()).then_some(mark.is_some()),
        login_mark: mark,
        is_proven: version
            .as_ref()
            .zip(profile.versions.as_ref())
            .and_then(|(version, range)| version::is_in(version, range)),
        program: found
            .as_ref()
            .ok()
            .map(|program| program.display().to_string()),
        problem: found.err().map(|error| error.to_string()),
        version,
        protocol: profile.protocol_name(),
        grade: format!("{:?}", profile.grade()),
        edits: profile.edits,
        install: profile.install,
        proven: profile.versions,
        title: profile.title,
        name: profile.name,
    }
}

fn is_own(program: &Path) -> bool {
    std::env::current_exe().is_ok_and(|own| own == program)
}

/// A program that was asked. It does not outlive the question, however that ends.
struct Asked(Child);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.start_kill().ok();
        let until = Instant::now() + END;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

/// What a program says when it is asked for its version.
pub(crate) async fn version_of(program: &Path, args: &[String]) -> Option<String> {
    if args.is_empty() {
        return None;
    }
    let child = Command::new(program)
        .args(args)
        // Not in the user's folder: some tools read settings there, and settings can run programs.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut asked = Asked(child);
    let stdout = asked.0.stdout.take()?;
    let mut text = Vec::new();
    let read = async {
        stdout.take(LONGEST).read_to_end(&mut text).await.ok()?;
        Some(())
    };
    tokio::time::timeout(PATIENCE, read).await.ok()??;
    version::find(&String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_asked_in_vain_is_gone_when_nobody_waits_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("pid");
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; exec tail -f /dev/null",
            told.display()
        );
        let args = ["-c".to_owned(), script];
        let pid = tokio::select! {
            said = version_of(Path::new("/bin/sh"), &args) => panic!("it never ends: {said:?}"),
            pid = async {
                loop {
                    match std::fs::read_to_string(&told) {
                        Ok(pid) => break pid,
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            } => pid,
        };
        assert!(!Path::new("/proc").join(pid.trim()).exists());
    }

    #[tokio::test]
    async fn a_program_that_stands_for_several_tools_is_asked_for_its_version_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let asked = folder.path().join("asked");
        let script = format!("echo x >> {}; echo tool 1.2.3", asked.display());
        let args = ["-c".to_owned(), script];
        let versions = Versions::default();
        let shell = Path::new("/bin/sh");
        let (one, two) = tokio::join!(versions.of(shell, &args), versions.of(shell, &args));
        assert_eq!(one.as_deref(), Some("1.2.3"));
        assert_eq!(two, one);
        assert_eq!(std::fs::read_to_string(asked).expect("it ran"), "x\n");
    }
}
