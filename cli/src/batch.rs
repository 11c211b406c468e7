//! `toolpool batch`: one turn for each file or line.
//!
//! Owns the options and the order of things. Must not know how an item is run or shown. Invariant: nothing is started
//! before all of the input is known to be good, and every item is in the report exactly once.

mod drive;
mod earlier;
mod item;
mod items;
mod junit;
mod manifest;
mod progress;
mod report;
mod resume;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use toolpool::journal::Journal;
use toolpool::{Approvals, ShutdownReport};

use crate::console::{
    Console, Format, Tone, columns, counted, document_line, print, print_document, shortened,
};
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::settings::{ClusterArgs, Settings};
use crate::whole_file::Readers;
use crate::{duration, journal, person, running, whole_file};
use drive::Driven;
use earlier::{Rerun, Todo};
use item::Wishes;
use items::Item;
use manifest::Manifest;
use report::{BatchPlan, BatchReport, PlanItem};

pub(crate) use manifest::forget;
pub(crate) use report::{BatchItem, BatchSummary};
pub(crate) type Report = BatchReport;
pub(crate) type Plan = BatchPlan;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["pattern", "items", "resume"]))]
pub(crate) struct BatchArgs {
    /// Files, or patterns such as 'src/**/*.py': one turn for each file
    #[arg(value_name = "GLOB")]
    pattern: Vec<String>,
    /// A text file, or - for standard input: one turn for each line that is not empty
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// The prompt; {file} stands for the file's path, {item} for the line
    #[arg(
        short,
        long,
        value_name = "TEXT",
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    prompt: Option<String>,
    /// Go on with the batch of this name, or of the one name that begins so, from any folder; options that are given count
    /// before those that it began with
    #[arg(long, value_name = "BATCH")]
    resume: Option<String>,
    /// Run items again although they have their end. May be repeated
    #[arg(long, value_name = "WHICH")]
    rerun: Vec<Rerun>,
    /// Keep prompts and their ends in this file [default: one for each working folder]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Keep nothing: the batch cannot be gone on with
    #[arg(long, conflicts_with_all = ["journal", "resume"])]
    no_journal: bool,
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

/// Where a batch is kept.
pub(crate) struct Kept {
    /// Its name.
    batch: String,
    path: PathBuf,
    /// Whether other commands find the journal by the folder.
    by_folder: bool,
    journal: Journal,
}

impl Kept {
    /// What other commands need to find the journal.
    fn option(&self) -> String {
        match self.by_folder {
            true => String::new(),
            false => format!(" --journal {}", self.path.display()),
        }
    }
}

pub(crate) async fn run(args: BatchArgs) -> Result<Exit, CliError> {
    match &args.resume {
        None => run_items(args, None).await,
        Some(name) => {
            let begun = Manifest::find(name)?;
            let mut args = resume::taken_up(&begun)?;
            for path in [&mut args.report, &mut args.junit].into_iter().flatten() {
                *path = std::path::absolute(&path)?;
            }
            std::env::set_current_dir(&begun.folder).map_err(|error| {
                CliError::usage(
                    "invalid",
                    format!(
                        "cannot go to {}, where the batch {} began: {error}",
                        begun.folder.display(),
                        begun.batch
                    ),
                )
            })?;
            run_items(args, Some(begun)).await
        }
    }
}

async fn run_items(args: BatchArgs, begun: Option<Manifest>) -> Result<Exit, CliError> {
    let console = Console::new(false);
    let mut interrupts = Interrupts::listen()?;
    let mut settings = args.cluster.clone().resolve().await?;
    let prompt = args.prompt.as_deref().unwrap_or_default();
    let items = match (&begun, &args.items) {
        (Some(begun), _) => begun.items.clone(),
        (None, Some(path)) => items::from_lines(path, prompt)?,
        (None, None) => items::from_patterns(
            &settings.cwd,
            &args.pattern,
            prompt,
            settings.takes_no_files().is_none(),
        )?,
    };
    items::check_sizes(&items, settings.max_prompt_bytes())?;
    if !args.dry_run && settings.approvals == Approvals::Ask && !person::has_terminal() {
        return Err(CliError::usage(
            "invalid",
            "`--approvals ask` needs a terminal to ask on; without one, let `--approvals` none, reads, edits or all decide",
        ));
    }
    for path in [&args.report, &args.junit].into_iter().flatten() {
        whole_file::check_place(path)?;
    }
    if args.report.is_some() && args.report == args.junit {
        return Err(CliError::usage(
            "invalid",
            "--report and --junit name the same file; give each its own",
        ));
    }
    if !args.dry_run {
        settings.check()?;
    }
    let kept = keep(&args, &settings, &items, begun)?;
    let items = match &kept {
        Some(kept) => {
            let known = kept.journal.of_batch(&kept.batch);
            let known = known.map_err(journal::failed)?;
            earlier::look(known, &kept.batch, items, &args.rerun)
        }
        None => items.into_iter().map(Todo::new).collect(),
    };
    let left = items.iter().filter(|todo| todo.runs).count();
    settings.start_at_most(left);
    if args.dry_run {
        return plan(&settings, kept.as_ref(), &items, args.output);
    }
    if let Some(kept) = &kept {
        introduce(kept, &items, console);
        settings.journal = Some(kept.journal.clone());
    }
    let wishes = Wishes {
        batch: kept.as_ref().map(|kept| kept.batch.clone()),
        retries: args.retries,
        land: settings.landing.is_some(),
        name_file: settings.takes_no_files().is_none(),
        role: settings.role.clone(),
    };
    let (driven, shutdown) = if left == 0 {
        (Driven::nothing(items), ShutdownReport::default())
    } else {
        let mut running = running::launch(&settings, &mut interrupts, console).await?;
        let driven = drive::all(
            &mut running,
            &settings,
            items,
            (wishes, args.drain_timeout),
            args.output,
            &mut interrupts,
            console,
        )
        .await;
        (driven, running.stop(&mut interrupts, console).await)
    };
    let kept = kept.as_ref();
    let report = BatchReport::new(&settings, kept, driven.items, driven.took, &shutdown);
    let written = match args.output {
        Format::Text => print(summary::text(&report, kept, columns()).as_bytes()),
        Format::Json => print_document(&report),
        Format::Jsonl => print_document(&report.summary),
    };
    let left = leave(&report, args.report.as_deref(), args.junit.as_deref());
    if interrupts.exit().is_some() {
        let became = summary::counts(&report.summary);
        let error = interrupts.error().telling(&became);
        return Err(match kept {
            Some(kept) => error
                .hint("the same command goes on with what is left, from this folder; or from anywhere:")
                .next(format!("toolpool batch --resume {}", kept.batch)),
            None => error.hint(
                "what was not started can be sent again as it is; look at what is not completed before you send that again",
            ),
        });
    }
    driven.written.and(written).and(left)?;
    Ok(if report.summary.ok == report.summary.total {
        Exit::Done
    } else {
        Exit::SomeFailed
    })
}

/// Opens the journal, and keeps what it takes to go on with the batch. A dry run looks at a journal only if there is one.
fn keep(
    args: &BatchArgs,
    settings: &Settings,
    items: &[Item],
    begun: Option<Manifest>,
) -> Result<Option<Kept>, CliError> {
    if args.no_journal {
        return Ok(None);
    }
    let path = journal::path(args.journal.as_deref(), &settings.cwd)?;
    if args.dry_run && !path.exists() {
        return Ok(None);
    }
    let journal = journal::open(&path)?;
    let batch = match begun {
        Some(begun) => begun.batch,
        None => {
            let batch = manifest::name(settings, items);
            if !args.dry_run {
                Manifest::new(
                    batch.clone(),
                    resume::given()?,
                    path.clone(),
                    items.to_vec(),
                )?
                .save()?;
            }
            batch
        }
    };
    Ok(Some(Kept {
        batch,
        path,
        by_folder: args.journal.is_none(),
        journal,
    }))
}

/// Tells the batch's name, and what is known of it.
fn introduce(kept: &Kept, items: &[Todo], console: Console) {
    let (batch, path) = (&kept.batch, kept.path.display());
    let ends = items.iter().filter(|todo| !todo.runs);
    let ends: Vec<&BatchItem> = ends.filter_map(|todo| todo.before.as_ref()).collect();
    let count = counted(items.len(), "item");
    if ends.is_empty() {
        console.tell(
            Tone::Plain,
            &format!("batch {batch} of {count}, kept in {path}"),
        );
        return;
    }
    let ok = ends.iter().filter(|end| end.ok).count();
    let left = items.len() - ends.len();
    console.tell(
        Tone::Plain,
        &format!(
            "batch {batch} of {count} goes on: {ok} were ok before, {left} are left, kept in {path}"
        ),
    );
    for end in ends.iter().filter(|end| !end.ok) {
        let turn = end.reply.as_ref().map_or(0, |reply| reply.turn);
        let why = end.complaint().unwrap_or_default();
        console.tell(
            Tone::Note,
            &format!(
                "{}: {} before (t{turn}: {}), and not run again",
                shortened(&end.item, 60),
                end.end.words(),
                shortened(&why, 120)
            ),
        );
    }
    if left == 0 {
        let again = match ok == items.len() {
            true => "nothing is left to do; `--rerun all` runs all of it again",
            false => "nothing is left that is run without being asked for; see what is next below",
        };
        console.tell(Tone::Note, again);
    }
}

/// Leaves the report in files.
fn leave(report: &Report, json: Option<&Path>, junit: Option<&Path>) -> Result<(), CliError> {
    if let Some(path) = json {
        whole_file::leave(path, document_line(report).as_bytes(), Readers::Any)?;
    }
    match junit {
        Some(path) => whole_file::leave(path, junit::xml(report).as_bytes(), Readers::Any),
        None => Ok(()),
    }
}

fn plan(
    settings: &Settings,
    kept: Option<&Kept>,
    items: &[Todo],
    format: Format,
) -> Result<Exit, CliError> {
    let plan = BatchPlan {
        batch: kept.map(|kept| kept.batch.clone()),
        known: items.iter().filter(|todo| !todo.runs).count(),
        tool: settings.tool(),
        instances: settings.count(),
        lands_on: settings
            .landing
            .as_ref()
            .map(|landing| landing.branch.clone()),
        items: items
            .iter()
            .filter(|todo| todo.runs)
            .map(|Todo { item, .. }| PlanItem {
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
