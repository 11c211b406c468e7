//! `toolpool tools test`: the cases of the conformance suite that are safe on a user's own tool.
//!
//! Owns the options, the consent and the report. Must not know what a case does. Invariants: no token is spent before the
//! user has said yes, and the tool works in an empty folder of this program's own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::{LaunchOptions, ToolProfile, launch_cluster};
use toolpool_conformance::{Bench, Case, MARKER, PlainWords, Program, Speech, Verdict};

use crate::console::{Console, Document, ListFormat, Tone, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::table::Table;
use crate::{duration, settings};

/// From a cancel to the end of a program, which is not slow to confirm but cannot.
const PROGRAMS_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct ExamArgs {
    /// A name, or the path of a profile ending in .toml
    #[arg(value_name = "NAME|FILE.toml")]
    name: String,
    /// Yes, spend tokens: about ten short prompts go to the tool's model, with your login
    #[arg(short, long)]
    yes: bool,
    /// An argument for the tool, after those of its profile; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// A variable for the tool; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = settings::variable)]
    env: Vec<(String, String)>,
}

/// What came of one case.
#[derive(Serialize, JsonSchema)]
struct CaseReport {
    case: &'static str,
    /// `pass`, `not_applicable` or `fail`.
    result: &'static str,
    /// How the tool does it, why it does not apply, or what was seen.
    detail: Option<String>,
    took_s: f64,
}

/// What came of all.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ToolTest {
    tool: String,
    passed: usize,
    not_applicable: usize,
    failed: usize,
    cases: Vec<CaseReport>,
}

impl Document for ToolTest {
    const KIND: &'static str = "tool.test";
}

pub(crate) async fn run(args: ExamArgs, format: ListFormat) -> Result<Exit, CliError> {
    let profile = settings::named(&args.name)?;
    let program = Program::named(&profile.name);
    if program.is_none() && !args.yes {
        return Err(consent(&profile.name, &args.name));
    }
    let folder = tempfile::tempdir()?;
    let options = LaunchOptions {
        cwd: folder.path().to_owned(),
        args: args.arg.clone(),
        env: args.env.clone(),
        ..LaunchOptions::default()
    };
    toolpool::check(&profile, &options)?;
    make_repository(folder.path()).await;
    let mut interrupts = Interrupts::listen()?;
    let mut bench = bench(&profile, program, &options);
    let mut report = ToolTest {
        tool: profile.name.clone(),
        passed: 0,
        not_applicable: 0,
        failed: 0,
        cases: Vec::new(),
    };
    let console = Console::new(false);
    if program.is_none() && ["lines", "screen"].contains(&profile.protocol_name()) {
        let language = format!(
            "{} is spoken to in English, as a tool with a model is; a program with a language of its own will not understand",
            profile.name
        );
        console.tell(Tone::Note, &language);
    }
    for case in Case::SAFE {
        console.tell(Tone::Plain, case.name());
        let begun = std::time::Instant::now();
        // Dropped in the middle, the bench still leaves nothing behind.
        let verdict = tokio::select! {
            verdict = bench.examine(case) => verdict,
            _ = interrupts.next() => {
                bench.quit().await;
                return Err(interrupts.error());
            }
        };
        report.note(case, verdict, begun.elapsed());
    }
    bench.quit().await;
    match format {
        ListFormat::Json => print_document(&report)?,
        ListFormat::Text => print(text(&report).as_bytes())?,
    }
    Ok(if report.failed == 0 {
        Exit::Done
    } else {
        Exit::SomeFailed
    })
}

fn consent(tool: &str, name: &str) -> CliError {
    CliError::usage(
        "needs_yes",
        format!(
            "this sends about ten short prompts to {tool} with your own login and settings, and spends your tokens; nothing was sent"
        ),
    )
    .hint("the tool works in an empty folder, not in yours")
    .next(format!("toolpool tools test {name} --yes"))
}

/// Some tools work in git repositories only. Those that do not need one get along without it.
async fn make_repository(folder: &Path) {
    let mut git = tokio::process::Command::new("git");
    git.args(["init", "--quiet"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    git.status().await.ok();
}

fn bench(
    profile: &ToolProfile,
    program: Option<&'static Program>,
    options: &LaunchOptions,
) -> Bench {
    let marker = format!("tools-test-{}", std::process::id());
    let speech: Box<dyn Speech> = match program {
        Some(program) => Box::new(*program),
        None => Box::new(PlainWords),
    };
    let (profile, options, mark) = (profile.clone(), options.clone(), marker.clone());
    let folder = options.cwd.clone();
    let launch = move || {
        let builder = launch_cluster(profile.clone())
            .cwd(&options.cwd)
            .args(&options.args)
            .env(MARKER, mark.as_str());
        let builder = match program {
            Some(_) => builder.interrupt_grace(PROGRAMS_GRACE),
            None => builder,
        };
        options
            .env
            .iter()
            .fold(builder, |builder, (key, value)| builder.env(key, value))
    };
    Bench::new(launch, speech, &folder, &marker)
}

impl ToolTest {
    fn note(&mut self, case: Case, verdict: Result<Verdict, String>, took: Duration) {
        let (result, detail) = match verdict {
            Ok(Verdict::Pass) => ("pass", None),
            Ok(Verdict::PassBy(how)) => ("pass", Some(how)),
            Ok(Verdict::NotApplicable(reason)) => ("not_applicable", Some(reason)),
            Err(evidence) => ("fail", Some(evidence)),
        };
        *match result {
            "pass" => &mut self.passed,
            "fail" => &mut self.failed,
            _ => &mut self.not_applicable,
        } += 1;
        self.cases.push(CaseReport {
            case: case.name(),
            result,
            detail,
            took_s: took.as_secs_f64(),
        });
    }
}

fn text(report: &ToolTest) -> String {
    let mut table = Table::new(&["CASE", "RESULT", "TIME", "DETAIL"]);
    for case in &report.cases {
        table.row([
            case.case.to_owned(),
            case.result.replace('_', " "),
            duration::show(Duration::from_secs_f64(case.took_s)),
            case.detail.clone().unwrap_or_default().replace('\n', " "),
        ]);
    }
    format!(
        "{}\n{}: {} passed, {} not applicable, {} failed\n",
        table.text(),
        report.tool,
        report.passed,
        report.not_applicable,
        report.failed
    )
}
