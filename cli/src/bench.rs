//! `toolpool bench`: what toolpool costs, as ratios to a floor and a peer measured in the same run.
//!
//! Owns the measurements and their table. Must not run inside a runtime: each measurement builds its own. Invariant:
//! both sides of a ratio use the same tool, the same bytes and the same processors, in turn.

mod floor;
mod prototype;
mod service;
mod stop;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use stop::Stop;
use toolpool::journal::Journal;
use toolpool::{ToolProfile, rss_bytes};

use crate::console::{self, Console, Document, ListFormat, Tone};
use crate::error::CliError;
use crate::exit::Exit;

/// What `bench` measures.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Turns of each latency measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    turns: u32,
    /// Pairs of measurements, floor and toolpool in turn; the median pair counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1001))]
    pairs: u32,
    /// Instances of the throughput measurement
    #[arg(short = 'n', long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Concurrent callers of the throughput measurement
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    callers: u32,
    /// For people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = ListFormat::Text)]
    output: ListFormat,
}

/// All figures of one run, with times in microseconds.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Figures {
    cores: usize,
    /// One instance, one caller, pinned to one processor.
    turn: Versus,
    /// As `turn`, unpinned, on the runtime that most programs use.
    turn_multi_thread: Versus,
    prompts_per_s: f64,
    /// The old prototype's design on the same stand-in; absent without Python.
    prototype_prompts_per_s: Option<f64>,
    prototype_ratio: Option<f64>,
    /// The same load with a journal, and how much of the throughput without one that is.
    journal_prompts_per_s: f64,
    journal_ratio: f64,
    /// With a journal and an instance for each caller, so that all of them wait for the disk at the same time.
    journal_instance_each_prompts_per_s: f64,
    /// Acceptance to first byte of the reply, under the load of the throughput measurement.
    queue_to_first_byte_p50_us: f64,
    queue_to_first_byte_p99_us: f64,
    /// Five instances.
    start: Versus,
    manager_rss_mib: f64,
}

/// A floor, what toolpool takes, and the ratio of the median pair; microseconds.
#[derive(Debug, Serialize, JsonSchema)]
struct Versus {
    floor_us: f64,
    toolpool_us: f64,
    ratio: f64,
}

impl Document for Figures {
    const KIND: &'static str = "bench";
}

impl Versus {
    fn median(mut pairs: Vec<(Duration, Duration)>) -> Self {
        let ratio = |pair: &(Duration, Duration)| pair.1.as_secs_f64() / pair.0.as_secs_f64();
        pairs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let middle = pairs[pairs.len() / 2];
        Self {
            floor_us: middle.0.as_secs_f64() * 1e6,
            toolpool_us: middle.1.as_secs_f64() * 1e6,
            ratio: ratio(&middle),
        }
    }
}

/// The prompt of all measurements.
const PROMPT: &str = "Add a docstring to every public function of this file.";

/// Measures and prints. Call it outside of any runtime.
pub(crate) fn run(args: &BenchArgs) -> Result<Exit, CliError> {
    let figures = stop::or_stop(|stop| measure(args, stop))?;
    match args.output {
        ListFormat::Text => console::print(table(&figures, args).as_bytes())?,
        ListFormat::Json => console::print_document(&figures)?,
    }
    Ok(Exit::Done)
}

fn measure(args: &BenchArgs, stop: &Stop) -> Result<Figures> {
    let profile = standin()?;
    let console = Console::new(false);
    let tell = |what: &str| console.tell(Tone::Plain, what);
    tell(&format!(
        "measuring turns, {} pairs of {} …",
        args.pairs, args.turns
    ));
    let turn = pairs(args.pairs, stop, || {
        let _pinned = floor::pin_to_one_processor();
        Ok((
            floor::turn(&profile, args.turns, stop)?,
            service::turn(&profile, args.turns, service::Runtime::CurrentThread, stop)?,
        ))
    })?;
    let turn_multi_thread = pairs(args.pairs, stop, || {
        Ok((
            floor::turn(&profile, args.turns, stop)?,
            service::turn(&profile, args.turns, service::Runtime::MultiThread, stop)?,
        ))
    })?;
    tell(&format!(
        "measuring throughput, {} instances, {} callers …",
        args.count, args.callers
    ));
    let prompts = args.turns.saturating_mul(5);
    let crowd = (args.count, args.callers);
    let mut loads = Vec::new();
    let mut kept = Vec::new();
    let mut kept_apart = Vec::new();
    for _ in 0..args.pairs {
        let load = service::throughput(&profile, crowd, prompts, None, stop)?;
        stop.check()?;
        kept.push((load.per_second, journalled(&profile, crowd, args, stop)?));
        stop.check()?;
        kept_apart.push(journalled(
            &profile,
            (args.callers, args.callers),
            args,
            stop,
        )?);
        stop.check()?;
        loads.push((
            load,
            prototype::throughput(&profile, args.count, args.turns)?,
        ));
    }
    kept.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (without, with) = kept[kept.len() / 2];
    kept_apart.sort_by(f64::total_cmp);
    // The pair with the median ratio; without Python, the run with the median throughput.
    loads.sort_by(|a, b| {
        let merit =
            |(load, peer): &(service::Load, Option<f64>)| load.per_second / peer.unwrap_or(1.0);
        merit(a).total_cmp(&merit(b))
    });
    let (load, prototype) = loads.swap_remove(loads.len() / 2);
    tell("measuring starts …");
    let start = pairs(args.pairs, stop, || {
        Ok((floor::start(&profile, 5)?, service::start(&profile, 5)?))
    })?;
    Ok(Figures {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        turn,
        turn_multi_thread,
        prompts_per_s: load.per_second,
        prototype_prompts_per_s: prototype,
        prototype_ratio: prototype.map(|prototype| load.per_second / prototype),
        journal_prompts_per_s: with,
        journal_ratio: with / without,
        journal_instance_each_prompts_per_s: kept_apart[kept_apart.len() / 2],
        queue_to_first_byte_p50_us: load.first_byte_p50.as_secs_f64() * 1e6,
        queue_to_first_byte_p99_us: load.first_byte_p99.as_secs_f64() * 1e6,
        start,
        manager_rss_mib: load.rss_bytes as f64 / f64::from(1 << 20),
    })
}

/// Prompts a second with a new journal in the folder for temporary files.
fn journalled(
    profile: &ToolProfile,
    crowd: (u32, u32),
    args: &BenchArgs,
    stop: &Stop,
) -> Result<f64> {
    let folder = tempfile::tempdir().context("cannot make a folder for a journal")?;
    let journal = Journal::open(folder.path().join("bench.db"))?;
    let load = service::throughput(profile, crowd, args.turns, Some(journal), stop)?;
    Ok(load.per_second)
}

fn pairs(
    count: u32,
    stop: &Stop,
    mut measure: impl FnMut() -> Result<(Duration, Duration)>,
) -> Result<Versus> {
    let mut one = || stop.check().and_then(|()| measure());
    let pairs = (0..count).map(|_| one()).collect::<Result<Vec<_>>>()?;
    Ok(Versus::median(pairs))
}

/// The embedded stand-in as a tool: this very program.
fn standin() -> Result<ToolProfile> {
    let mut profile = ToolProfile::builtin("standin")?;
    profile.program = std::env::current_exe()
        .context("cannot find this program's own path, which is the stand-in to measure with")?
        .display()
        .to_string();
    profile.args = vec!["standin".to_owned()];
    profile.edits = false;
    Ok(profile)
}

fn table(figures: &Figures, args: &BenchArgs) -> String {
    let mut table = String::new();
    let mut row = |what: &str, floor: String, ours: String, ratio: String| {
        table.push_str(&format!("{what:<44} {floor:>14} {ours:>14} {ratio:>8}\n"));
    };
    let us = |value: f64| format!("{value:.1} us");
    let times = |value: f64| format!("{value:.2}x");
    row("", "floor".into(), "toolpool".into(), "ratio".into());
    let mut versus = |what: &str, versus: &Versus| {
        row(
            what,
            us(versus.floor_us),
            us(versus.toolpool_us),
            times(versus.ratio),
        );
    };
    versus("one turn, pinned to one processor", &figures.turn);
    versus(
        "one turn, multi-threaded runtime",
        &figures.turn_multi_thread,
    );
    versus("5 instances, spawn to ready", &figures.start);
    let prototype = figures.prototype_prompts_per_s;
    row(
        &format!(
            "{} instances, {} callers, prompts/s",
            args.count, args.callers
        ),
        prototype.map_or("no python3".into(), |value| format!("{value:.0}/s")),
        format!("{:.0}/s", figures.prompts_per_s),
        figures.prototype_ratio.map_or("-".into(), times),
    );
    row(
        "the same with a journal, beside without",
        format!(
            "{:.0}/s",
            figures.journal_prompts_per_s / figures.journal_ratio
        ),
        format!("{:.0}/s", figures.journal_prompts_per_s),
        times(figures.journal_ratio),
    );
    row(
        &format!("… and {} instances, one for each caller", args.callers),
        "-".into(),
        format!("{:.0}/s", figures.journal_instance_each_prompts_per_s),
        "-".into(),
    );
    row(
        "acceptance to first byte under that load, p50",
        "-".into(),
        us(figures.queue_to_first_byte_p50_us),
        "-".into(),
    );
    row(
        "acceptance to first byte under that load, p99",
        "-".into(),
        us(figures.queue_to_first_byte_p99_us),
        "-".into(),
    );
    row(
        "memory of the manager under that load",
        "-".into(),
        format!("{:.1} MiB", figures.manager_rss_mib),
        "-".into(),
    );
    table.push_str(&format!(
        "\nfloor: a raw pipe to the same stand-in (turns), a bare spawn of the same command (starts),\n\
         the Python prototype's design on the same stand-in (prompts/s). {} cores.\n",
        figures.cores
    ));
    table
}

/// The memory of this process.
fn own_rss() -> u64 {
    rss_bytes(std::process::id()).unwrap_or(0)
}
