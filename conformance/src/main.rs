//! The program `conformance`: every case on every real tool, against the local model server.
//!
//! Owns the order of the run and what is printed. Must not know what a case does. Invariant: it ends well only if no case
//! failed and the committed table says what came of each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use toolpool_conformance::lab::Lab;
use toolpool_conformance::record::Record;
use toolpool_conformance::{Case, Verdict, figures};

/// Benches that work at the same time, with one to three processes each.
const AT_WORK: usize = 2;
/// Benches beside those, on which the cases run that wait.
const WAITING: usize = 2;
/// The slowest tools, which begin first, or one of them would run alone at the end.
const SLOWEST: [&str; 4] = ["opencode", "aider-message", "qwen", "aider"];

/// Runs the conformance cases on the real tools, against a local model server.
#[derive(Parser)]
struct Arguments {
    /// Only these tools.
    tools: Vec<String>,
    /// Only cases with this in their names; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Write the tables into the document, instead of comparing.
    #[arg(long)]
    write: bool,
    /// Measure the tools instead.
    #[arg(long)]
    figures: bool,
    /// The document that holds the tables.
    #[arg(long, default_value = "docs/tools.md")]
    document: PathBuf,
}

fn main() -> ExitCode {
    toolpool::init();
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let groups = Lab::groups();
    let all: Vec<&'static str> = groups
        .iter()
        .flat_map(|group| group.tools.clone())
        .collect();
    if let Some(unknown) = arguments
        .tools
        .iter()
        .find(|tool| !all.contains(&tool.as_str()))
    {
        bail!("{unknown} is not examined; these are: {}", all.join(", "));
    }
    let chosen = |tool: &&&str| {
        arguments.tools.is_empty() || arguments.tools.iter().any(|name| name == **tool)
    };
    let tools: Vec<&str> = all.iter().filter(chosen).copied().collect();
    if arguments.figures {
        return figures::print(&tools).await;
    }
    let wanted = |case: &Case| {
        arguments.case.is_empty()
            || arguments
                .case
                .iter()
                .any(|part| case.name().contains(part.as_str()))
    };
    let cases: Vec<Case> = Case::ALL.into_iter().filter(wanted).collect();
    let record = examine_all(&tools, &cases).await?;
    println!("{}", record.tables(&Lab::groups()));
    let document = std::fs::read_to_string(&arguments.document)
        .with_context(|| format!("cannot read {}", arguments.document.display()))?;
    let in_document =
        |problem: String| anyhow::anyhow!("{}: {problem}", arguments.document.display());
    let mut committed = Record::read(&document).map_err(in_document)?;
    if arguments.write {
        committed.merge(&record);
        let written = committed.write(&document, &groups).map_err(in_document)?;
        std::fs::write(&arguments.document, written)
            .with_context(|| format!("cannot write {}", arguments.document.display()))?;
    }
    let differences = record.differences(&committed);
    if !differences.is_empty() {
        bail!(
            "the tables in {} say something else of {} cases; if the tools are right, `cargo xtask conformance --write` writes them anew:\n{}",
            arguments.document.display(),
            differences.len(),
            differences.join("\n")
        );
    }
    Ok(())
}

/// Examines the tools. The cases of each that wait run on a bench of their own, beside the others.
async fn examine_all(tools: &[&'static str], cases: &[Case]) -> Result<Record> {
    let begun = Instant::now();
    let mut order = tools.to_vec();
    let slow = |tool: &&str| SLOWEST.iter().position(|slow| slow == tool);
    order.sort_by_key(|tool| slow(tool).unwrap_or(SLOWEST.len()));
    let (waiting, working) = cases.iter().copied().partition(|case| case.waits());
    let (worked, waited) = tokio::join!(
        examine_some(&order, working, AT_WORK),
        examine_some(&order, waiting, WAITING)
    );
    let mut results = worked?;
    results.extend(waited?);
    let mut record = Record::default();
    let mut failures = 0;
    results.sort_by_key(|(tool, _)| tools.iter().position(|known| known == tool));
    let mut skipped = Vec::new();
    for (tool, result) in results {
        match result {
            Ok(verdicts) => {
                for (case, verdict) in verdicts {
                    failures += u32::from(verdict.is_err());
                    record.note(tool, case, &verdict);
                }
            }
            Err(_) if skipped.contains(&tool) => {}
            Err(reason) => {
                println!("skipped: {tool}: {reason}");
                skipped.push(tool);
            }
        }
    }
    eprintln!("examined in {:.0} s", begun.elapsed().as_secs_f64());
    if failures > 0 {
        println!("{}", record.tables(&Lab::groups()));
        bail!("{failures} cases failed; what was seen is below the tables");
    }
    Ok(record)
}

/// Examines each tool for these cases, so many at once.
async fn examine_some(
    tools: &[&'static str],
    cases: Vec<Case>,
    at_once: usize,
) -> Result<Vec<(&'static str, Result<Verdicts, String>)>> {
    let mut results = Vec::new();
    if cases.is_empty() {
        return Ok(results);
    }
    let cases: Arc<[Case]> = cases.into();
    let free = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for tool in tools.iter().copied() {
        let cases = Arc::clone(&cases);
        // The semaphore is never closed. It is taken here, so that they begin in this order.
        let turn = Arc::clone(&free).acquire_owned().await.ok();
        running.spawn(async move {
            let examined = examine(tool, &cases).await;
            drop(turn);
            (tool, examined)
        });
    }
    while let Some(examined) = running.join_next().await {
        results.push(examined.context("a case panicked")?);
    }
    Ok(results)
}

type Verdicts = Vec<(Case, Result<Verdict, String>)>;

/// Some cases on one tool; an error is why it cannot be examined here.
async fn examine(tool: &'static str, cases: &[Case]) -> Result<Verdicts, String> {
    let lab = Arc::new(Lab::new(tool)?);
    let mut bench = lab.bench();
    let mut verdicts = Vec::new();
    let begun = Instant::now();
    for case in cases.iter().copied() {
        let started = Instant::now();
        let mut verdict = bench.examine(case).await;
        if let (Ok(_), Some(how)) = (&verdict, lab.limit(case)) {
            verdict = Ok(Verdict::not_applicable(how));
        }
        let word = match &verdict {
            Ok(Verdict::Pass | Verdict::PassBy(_)) => "pass".to_owned(),
            Ok(Verdict::NotApplicable(_)) => "not applicable".to_owned(),
            Err(evidence) => format!("FAIL: {evidence}"),
        };
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{tool}: {}: {word} ({seconds:.1} s)", case.name());
        verdicts.push((case, verdict));
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{tool}: {} cases in {seconds:.0} s", cases.len());
    Ok(verdicts)
}
