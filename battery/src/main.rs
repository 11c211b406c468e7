//! ATTACKS: the numbered fault cases, as real runs on real processes.
//!
//! Owns the order of the run and what is printed. Must not know what a case does, nor anything of toolpool below the
//! facade. Invariants: each case has a process of its own, so that what it holds before and after can be compared; the
//! run ends well only if no case failed and the committed table says what came of each.
//!
//! The program is its own shim, and the stand-in tool, if it was started as one.

mod abort;
mod books;
mod case;
mod cases;
mod dam;
mod jumps;
mod lab;
mod manager;
mod mounts;
mod own;
mod record;
mod rig;
mod run;
mod shown;
mod volume;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use toolpool_testkit::census::Census;

use crate::case::Case;
use crate::record::Record;

/// Runs the numbered fault cases on clusters of stand-ins.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// Up to which tier: 1 are those of every `cargo xtask test`, 2 those that take long.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    tier: u8,
    /// Only this number, or the cases with this in their names; may be repeated. Of any tier.
    #[arg(long, value_name = "N|TEXT")]
    case: Vec<String>,
    /// Write the table into the document, instead of comparing.
    #[arg(long)]
    write: bool,
    /// The document that holds the table.
    #[arg(long, default_value = "docs/reliability.md")]
    document: PathBuf,
    /// Run this case in this process, and print its verdict as JSON.
    #[arg(long, hide = true, requires = "marker")]
    alone: Option<u16>,
    /// Live one life of a manager in this process, as the JSON says.
    #[arg(long, hide = true, requires = "marker")]
    manager: Option<String>,
    /// Live one life of a manager whose clock jumps in this process, as the JSON says.
    #[arg(long, hide = true, requires = "marker")]
    jumps: Option<String>,
    /// Live one life with a journal alone in this process, as the JSON says.
    #[arg(long, hide = true)]
    volume: Option<String>,
    /// How its processes are to be marked.
    #[arg(long, hide = true)]
    marker: Option<String>,
}

fn main() -> ExitCode {
    toolpool::init();
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some(lab::STANDIN) {
        return toolpool_testkit::standin::main(arguments);
    }
    let ended = match Arguments::parse() {
        Arguments {
            alone: Some(number),
            marker: Some(marker),
            ..
        } => alone(number, marker),
        Arguments {
            manager: Some(orders),
            marker: Some(marker),
            ..
        } => manager(&orders, marker),
        Arguments {
            jumps: Some(orders),
            marker: Some(marker),
            ..
        } => jumps(&orders, marker),
        Arguments {
            volume: Some(orders),
            ..
        } => volume(&orders),
        arguments => all(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn alone(number: u16, marker: String) -> Result<()> {
    let mut known = cases::all();
    let case = known
        .find(|case| case.number == number)
        .with_context(|| format!("there is no case {number}"))?;
    println!(
        "{}",
        serde_json::to_string(&lab::run_alone(case, Census::of(marker)))?
    );
    Ok(())
}

fn manager(orders: &str, marker: String) -> Result<()> {
    let orders = serde_json::from_str(orders).context("no orders for a manager")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(manager::live(&orders, &marker))
}

fn jumps(orders: &str, marker: String) -> Result<()> {
    let orders = serde_json::from_str(orders).context("no orders for a manager")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(jumps::live(&orders, &marker))
}

fn volume(orders: &str) -> Result<()> {
    let (volume, deed): (volume::Volume, volume::Deed) =
        serde_json::from_str(orders).context("no orders for a journal")?;
    volume.live(&deed)
}

fn all(arguments: &Arguments) -> Result<()> {
    let is_wanted = |case: &&Case| {
        if arguments.case.is_empty() {
            return case.tier <= arguments.tier;
        }
        let fits = |wanted: &String| match wanted.parse::<u16>() {
            Ok(number) => case.number == number,
            Err(_) => case.name.contains(wanted.as_str()),
        };
        arguments.case.iter().any(fits)
    };
    let wanted: Vec<&'static Case> = cases::all().filter(is_wanted).collect();
    if wanted.is_empty() {
        bail!("no case is named so");
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let results = runtime.block_on(run::run(&wanted))?;
    run::summarize(&results)?;
    let mut record = Record::of(&results);
    record.add(shown::SHOWN);
    let document = std::fs::read_to_string(&arguments.document)
        .with_context(|| format!("cannot read {}", arguments.document.display()))?;
    let in_document =
        |problem: String| anyhow::anyhow!("{}: {problem}", arguments.document.display());
    let mut committed = Record::read(&document).map_err(in_document)?;
    if arguments.write {
        committed.merge(&record);
        let written = committed.write(&document).map_err(in_document)?;
        std::fs::write(&arguments.document, written)
            .with_context(|| format!("cannot write {}", arguments.document.display()))?;
        return Ok(());
    }
    let differences = record.differences(&committed);
    if !differences.is_empty() {
        bail!(
            "the table in {} says something else of {} cases; if the cases are right, `cargo xtask battery --write` writes it anew:\n{}",
            arguments.document.display(),
            differences.len(),
            differences.join("\n")
        );
    }
    Ok(())
}
