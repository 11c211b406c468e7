//! What is to be known about a tool without using it.
//!
//! Owns the look-up and the run of its program for the version. Must not know how it is shown. Invariant: a tool that
//! hangs, floods or misbehaves when asked for its version costs a moment, never the command.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use toolpool::{Catalog, LaunchOptions, ToolProfile};

use crate::settings::embed;
use crate::version;

/// Longest wait for a version. Aider, a large Python program, takes two seconds when nothing of it is in memory.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Looks at one tool.
pub(crate) async fn tool(catalog: &Catalog, name: &str) -> ToolReport {
    match catalog.get(name) {
        Ok(profile) => known(embed(profile)).await,
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
    for name in names {
        let (catalog, name) = (catalog.clone(), name.clone());
        looking.push(tokio::spawn(async move { tool(&catalog, &name).await }));
    }
    let mut reports = Vec::new();
    for report in looking {
        reports.extend(report.await);
    }
    reports
}

pub(crate) async fn known(profile: ToolProfile) -> ToolReport {
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
        Ok(program) => version_of(program, &profile.version_args).await,
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

/// What a program says when it is asked for its version.
pub(crate) async fn version_of(program: &Path, args: &[String]) -> Option<String> {
    if args.is_empty() {
        return None;
    }
    let mut child = Command::new(program)
        .args(args)
        // Not in the user's folder: some tools read settings there, and settings can run programs.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let mut text = Vec::new();
    let read = async {
        stdout.take(LONGEST).read_to_end(&mut text).await.ok()?;
        Some(())
    };
    tokio::time::timeout(PATIENCE, read).await.ok()??;
    version::find(&String::from_utf8_lossy(&text))
}
