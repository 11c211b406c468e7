//! `toolpool doctor`: what works here, and what to do about what does not.
//!
//! Owns the options, the order of the checks and the verdict. Must not know how a check is made. Invariant: everything
//! that is not well comes with its fix.

mod checks;
mod limits;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::console::{Console, Document, ListFormat, Tone, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::{probe, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Look at this tool alone
    #[arg(value_name = "TOOL")]
    tool: Option<String>,
    /// The folder that tools would work in
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    cwd: PathBuf,
    /// Form of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: ListFormat,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It works.
    Ok,
    /// It works with a limit, or is not needed.
    Note,
    /// It does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) detail: String,
    /// What to do.
    pub(crate) fix: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DoctorReport {
    checks: Vec<Check>,
    /// Tools that can be used here.
    usable: Vec<String>,
}

impl Document for DoctorReport {
    const KIND: &'static str = "doctor.report";
}

pub(crate) async fn run(args: DoctorArgs) -> Result<Exit, CliError> {
    let catalog = settings::catalog()?;
    let names = match &args.tool {
        Some(name) => {
            settings::named(name)?;
            vec![name.clone()]
        }
        None => catalog.names(),
    };
    let tools = probe::tools(&catalog, &names).await;
    let mut checks = vec![
        checks::containment(),
        checks::git().await,
        checks::folder(&args.cwd).await,
    ];
    checks.extend(checks::work_left(&args.cwd).await);
    checks.extend([
        checks::temporary_folder(),
        limits::open_files(),
        limits::tasks(),
    ]);
    let mut usable = Vec::new();
    for (name, tool) in names.iter().zip(&tools) {
        let profile = catalog.get(name).ok();
        let wanted = args.tool.is_some();
        let mut check = checks::tool(tool, profile.clone(), &args.cwd, wanted);
        if let Some(profile) = profile
            && wanted
            && check.verdict == Verdict::Ok
        {
            check = checks::service(profile, &args.cwd).await.unwrap_or(check);
        }
        // The stand-in is always there; it is no help to somebody who looks for a tool.
        if check.verdict == Verdict::Ok && (tool.name != "standin" || args.tool.is_some()) {
            usable.push(tool.name.clone());
        }
        checks.push(check);
    }
    let report = DoctorReport { checks, usable };
    match args.output {
        ListFormat::Json => print_document(&report)?,
        ListFormat::Text => print(text(&report).as_bytes())?,
    }
    Ok(if report.usable.is_empty() {
        Exit::ToolUnusable
    } else {
        Exit::Done
    })
}

fn text(report: &DoctorReport) -> String {
    let console = Console::for_stdout();
    let width = report
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let tone = match check.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Note => Tone::Note,
            Verdict::Problem => Tone::Bad,
        };
        let line = format!("{:<width$}  {}", check.name, check.detail);
        text.push_str(&console.paint(tone, &line));
        text.push('\n');
        if let Some(fix) = &check.fix {
            text.push_str(&format!("  {:<width$}  fix: {fix}\n", ""));
        }
    }
    let count = |verdict| {
        report
            .checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let (problems, notes) = (count(Verdict::Problem), count(Verdict::Note));
    let usable = match report.usable.as_slice() {
        [] => "none; try `toolpool demo`".to_owned(),
        tools => tools.join(", "),
    };
    text.push_str(&format!(
        "\nProblems: {problems}. Notes: {notes}. Ready to use: {usable}\n"
    ));
    text
}
