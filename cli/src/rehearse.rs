//! `toolpool rehearse`: a cluster of stand-ins with faults, so that people see what happens before it happens to them.
//!
//! Owns the options and the order of things. Must not know what a fault is, nor how it is told. Invariant: whatever the
//! stand-ins do, it ends by itself, in a folder of its own, and counts what is left.

mod acts;
mod census;
mod narrator;
mod report;
mod stage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use toolpool::{Books, BreakerConfig};
use toolpool_testkit::standin;

use crate::console::{Console, ListFormat, Tone, print, print_document};
use crate::duration;
use crate::error::CliError;
use crate::exit::Exit;
use crate::interrupts::Interrupts;
use crate::running;
use crate::settings::{Limits, Settings};
use crate::story;
use acts::Act;
use census::Mark;
use stage::Stage;

pub(crate) use report::RehearsalReport;

#[derive(Debug, clap::Args)]
pub(crate) struct RehearseArgs {
    /// A fault of your own, such as 'on turn 3 exit 1', for every stand-in; may be repeated. Without any, a story of five
    /// faults is played
    #[arg(long = "do", value_name = "RULE")]
    rules: Vec<String>,
    /// Faults of your own from a file, one a line
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Stand-ins
    #[arg(short = 'n', long, value_name = "N", default_value = "3", value_parser = crate::settings::instances)]
    count: usize,
    /// Prompts that are sent, with faults of your own
    #[arg(long, value_name = "N", default_value = "12", value_parser = clap::value_parser!(u32).range(1..=1000))]
    prompts: u32,
    /// Print what a rule can say, and start nothing
    #[arg(long = "rules")]
    explain: bool,
    /// Form of the books at the end
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: ListFormat,
}

/// Everything is short here, so that a fault and what follows can be watched.
const TURN: Duration = Duration::from_secs(2);
const STOP: Duration = Duration::from_millis(300);
const RESTART: Duration = Duration::from_millis(50);
const FAILURES: u32 = 3;
const OPEN: Duration = Duration::from_millis(500);
/// Longest answer, in bytes.
const ANSWER: usize = 1 << 20;

pub(crate) async fn run(args: RehearseArgs) -> Result<Exit, CliError> {
    if args.explain {
        print(standin::rules().as_bytes())?;
        return Ok(Exit::Done);
    }
    let console = Console::new(false);
    let mut interrupts = Interrupts::listen()?;
    let own = own_rules(&args)?;
    let (acts, rules) = match &own {
        Some(rules) => (Vec::new(), rules.clone()),
        None => (acts::story(), acts::rules()),
    };
    let folder = tempfile::Builder::new()
        .prefix("toolpool-rehearse-")
        .tempdir()
        .map_err(|error| {
            CliError::usage(
                "folder",
                format!(
                    "cannot make a temporary folder: {error}; set TMPDIR to one that can be written"
                ),
            )
        })?;
    let mark = Mark::new(folder.path());
    let mut settings = Settings::standins(folder.path().to_owned(), args.count, rules).await?;
    settings.env.push(mark.variable());
    settings.turn_timeout = TURN;
    settings.limits = Some(limits());
    for group in &mut settings.groups {
        group.profile.max_reply_bytes = ANSWER;
    }
    console.tell(Tone::Plain, &introduction(args.count));
    let started = Instant::now();
    let mut running = running::launch(&settings, &mut interrupts, Console::new(true)).await?;
    let mut stage = Stage::new(&mut running, &mut interrupts, console);
    let played = match own {
        Some(_) => stage.play_freely(args.prompts).await.map(|()| Vec::new()),
        None => stage.play(&acts).await,
    };
    let restarts = stage.restarts();
    let shutdown = running.stop(&mut interrupts, Console::new(true)).await;
    let left = mark.processes();
    let played = played.map_err(|error| error.telling(&story::books(&shutdown.books)))?;
    let report = RehearsalReport::new(
        args.count,
        played,
        restarts,
        started.elapsed(),
        &shutdown.books,
        left,
    );
    match args.output {
        ListFormat::Text => print(report.text().as_bytes())?,
        ListFormat::Json => print_document(&report)?,
    }
    verdict(&acts, &report, &shutdown.books)
}

/// The arguments that give every stand-in the faults of the command line; None if there are none.
fn own_rules(args: &RehearseArgs) -> Result<Option<Vec<String>>, CliError> {
    let mut rules: Vec<String> = Vec::new();
    if let Some(script) = &args.script {
        let script = script.canonicalize().map_err(|error| {
            CliError::usage("invalid", format!("the file {}: {error}", script.display()))
        })?;
        rules.extend(["--script".to_owned(), script.display().to_string()]);
    }
    for rule in &args.rules {
        rules.extend(["--do".to_owned(), rule.clone()]);
    }
    standin::check(&rules).map_err(|problem| {
        CliError::usage("bad_rule", problem).next("toolpool rehearse --rules")
    })?;
    Ok((!rules.is_empty()).then_some(rules))
}

fn limits() -> Limits {
    Limits {
        stop_grace: STOP,
        restart_delay: (RESTART, 4 * RESTART),
        breaker: BreakerConfig {
            failures: FAILURES,
            open_for: OPEN,
            open_for_max: 2 * OPEN,
        },
    }
}

fn introduction(count: usize) -> String {
    let standins = match count {
        1 => "1 stand-in".to_owned(),
        count => format!("{count} stand-ins"),
    };
    format!(
        "{standins}, with limits that are short for the occasion: a turn may take {}, an answer {} MiB, a stop {}; \
         a breaker opens at failure {FAILURES} in a row, for about {}",
        duration::show(TURN),
        ANSWER >> 20,
        duration::show(STOP),
        duration::show(OPEN),
    )
}

/// Whether what is promised was kept.
fn verdict(acts: &[Act], report: &RehearsalReport, books: &Books) -> Result<Exit, CliError> {
    let broken = |what: String| {
        Err(CliError::new(
            Exit::TurnFailed,
            "promise_broken",
            format!("{what}; this is a fault of toolpool's, please report it"),
        ))
    };
    if !books.balance() {
        return broken("the books do not balance".to_owned());
    }
    if report.processes_left > 0 {
        return broken(format!("{} processes are left", report.processes_left));
    }
    match acts.iter().find(|act| !report.shows(act)) {
        Some(act) => broken(format!("{} went otherwise than it was to", act.name)),
        None => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_story_make_sense_to_a_stand_in() {
        assert_eq!(standin::check(&acts::rules()), Ok(()));
    }
}
