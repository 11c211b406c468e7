//! `toolpool batch`: one turn for each file or line.
//!
//! Owns the options and the order of things. Must not know how an item is run or shown. Invariant: nothing is started
//! before all of the input is known to be good, and every item is in the report exactly once.

mod drive;
mod item;
mod items;
mod junit;
mod progress;
mod report;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use toolpool::Approvals;

use crate::console::{Console, Format, Tone, document_line, print, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::settings::{ClusterArgs, Settings};
use crate::{duration, person, running, whole_file};
use items::Item;
use report::{BatchPlan, BatchReport, PlanItem};

pub(crate) use report::{BatchItem, BatchSummary};
pub(crate) type Report = BatchReport;
pub(crate) type Plan = BatchPlan;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["pattern", "items"]))]
pub(crate) struct BatchArgs {
    /// Files, or patterns such as 'src/**/*.py': one turn for each file
    #[arg(value_name = "GLOB")]
    pattern: Vec<String>,
    /// A text file, or - for standard input: one turn for each line that is not empty
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// The prompt; {file} stands for the file's path, {item} for the line
    #[arg(short, long, value_name = "TEXT")]
    prompt: String,
    /// How often an item that definitely failed is tried again; one in doubt never is
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// After SIGTERM or SIGHUP, how long running items may go on; after Ctrl-C they may until you press it again
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// Show what would be sent, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the report
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
    /// Write the report to this file too, as JSON, when the batch ends or is interrupted
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write it as JUnit XML too: a testcase for each item
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) async fn run(args: BatchArgs) -> Result<Exit, CliError> {
    let console = Console::new(false);
    let mut interrupts = Interrupts::listen()?;
    let mut settings = args.cluster.resolve().await?;
    let items = match &args.items {
        Some(path) => items::from_lines(path, &args.prompt)?,
        None => items::from_patterns(
            &settings.cwd,
            &args.pattern,
            &args.prompt,
            settings.takes_no_files().is_none(),
        )?,
    };
    items::check_sizes(&items, settings.max_prompt_bytes())?;
    settings.start_at_most(items.len());
    if args.dry_run {
        return plan(&settings, &items, args.output);
    }
    if settings.approvals == Approvals::Ask && !person::has_terminal() {
        return Err(CliError::usage(
            "invalid",
            "`--approvals ask` needs a terminal to ask on; without one, let `--approvals` none, reads, edits or all decide",
        ));
    }
    for path in [&args.report, &args.junit].into_iter().flatten() {
        whole_file::check_place(path)?;
    }
    let mut running = running::launch(&settings, &mut interrupts, console).await?;
    let driven = drive::all(
        &mut running,
        &settings,
        items,
        (args.retries, args.drain_timeout),
        args.output,
        &mut interrupts,
        console,
    )
    .await;
    let shutdown = running.stop(console).await;
    let report = BatchReport::new(&settings, driven.items, driven.took, &shutdown);
    let written = match args.output {
        Format::Text => print(summary::text(&report).as_bytes()),
        Format::Json => print_document(&report),
        Format::Jsonl => print_document(&report.summary),
    };
    let left = leave(&report, args.report.as_deref(), args.junit.as_deref());
    if interrupts.exit().is_some() {
        let became = summary::counts(&report.summary);
        return Err(interrupts.error().telling(&became).hint(
            "what was not started can be sent again as it is; look at what is not completed before you send that again",
        ));
    }
    driven.written.and(written).and(left)?;
    Ok(if report.summary.ok == report.summary.total {
        Exit::Done
    } else {
        Exit::SomeFailed
    })
}

/// Leaves the report in files.
fn leave(report: &Report, json: Option<&Path>, junit: Option<&Path>) -> Result<(), CliError> {
    if let Some(path) = json {
        whole_file::leave(path, document_line(report).as_bytes())?;
    }
    match junit {
        Some(path) => whole_file::leave(path, junit::xml(report).as_bytes()),
        None => Ok(()),
    }
}

fn plan(settings: &Settings, items: &[Item], format: Format) -> Result<Exit, CliError> {
    let plan = BatchPlan {
        tool: settings.tool(),
        instances: settings.count(),
        lands_on: settings
            .landing
            .as_ref()
            .map(|landing| landing.branch.clone()),
        items: items
            .iter()
            .map(|item| PlanItem {
                item: item.name.clone(),
                prompt: item.prompt.clone(),
            })
            .collect(),
    };
    match format {
        Format::Text => print(summary::plan(&plan).as_bytes())?,
        Format::Json | Format::Jsonl => print_document(&plan)?,
    }
    Console::new(false).tell(Tone::Plain, "nothing was started or sent (--dry-run)");
    Ok(Exit::Done)
}
