//! `toolpool logs`: the lives of instances.
//!
//! Owns what is printed of each process: its start, its end and why. Must not know prompts. Invariant: a life without an
//! end is told as one, never as a good end.

use std::collections::BTreeSet;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;
use toolpool::journal::Life;

use crate::console::{Document, Format, print, print_document, shortened};
use crate::error::CliError;
use crate::exit::Exit;
use crate::history::nothing;
use crate::journal::JournalArgs;
use crate::table::Table;
use crate::{duration, when};

/// Characters of a reason that are shown.
const REASON: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// One instance, such as main/2
    #[arg(value_name = "INSTANCE")]
    instance: Option<String>,
    /// Processes started at that time or later: how long ago, such as 36h or 3d, a day, or a moment
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    #[command(flatten)]
    journal: JournalArgs,
    /// Form of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

/// Processes, in the order of their starts.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LifeList {
    items: Vec<LifeDocument>,
}

impl Document for LifeList {
    const KIND: &'static str = "instance.lives";
}

/// One process of an instance, from its start to its end.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LifeDocument {
    cluster: String,
    instance: String,
    generation: u64,
    pid: Option<u32>,
    started_at: String,
    /// From its start until it was ready; absent if it never was.
    ready_after_s: Option<f64>,
    ended_at: Option<String>,
    code: Option<i32>,
    signal: Option<i32>,
    /// What was last said of its state.
    reason: Option<String>,
    /// Its end is not known: toolpool ended before it.
    lost: bool,
}

impl Document for LifeDocument {
    const KIND: &'static str = "instance.life";
}

impl From<&Life> for LifeDocument {
    fn from(life: &Life) -> Self {
        Self {
            cluster: life.cluster.clone(),
            instance: life.instance.clone(),
            generation: life.generation,
            pid: life.pid,
            started_at: when::exact(life.spawned),
            ready_after_s: life.start.map(|start| start.as_secs_f64()),
            ended_at: life.ended.map(when::exact),
            code: life.code,
            signal: life.signal,
            reason: life.reason.clone(),
            lost: life.lost,
        }
    }
}

pub(crate) fn run(args: &LogsArgs) -> Result<Exit, CliError> {
    let history = args.journal.history()?;
    let mut lives = history.lives(args.instance.as_deref())?;
    if let Some(instance) = &args.instance
        && lives.is_empty()
    {
        let all = history.lives(None)?;
        let known: BTreeSet<String> = all.into_iter().map(|life| life.instance).collect();
        let known: Vec<String> = known.into_iter().collect();
        return Err(CliError::usage(
            "unknown_instance",
            format!(
                "this journal knows no instance {instance:?}; it knows: {}",
                known.join(", ")
            ),
        ));
    }
    if let Some(since) = args.since {
        lives.retain(|life| life.spawned >= since);
    }
    let items: Vec<LifeDocument> = lives.iter().map(LifeDocument::from).collect();
    match args.output {
        Format::Text if lives.is_empty() => nothing("no process was started"),
        Format::Text => print(text(&lives).as_bytes())?,
        Format::Json => print_document(&LifeList { items })?,
        Format::Jsonl => items.iter().try_for_each(print_document)?,
    }
    Ok(Exit::Done)
}

fn text(lives: &[Life]) -> String {
    let header = [
        "INSTANCE", "PROCESS", "PID", "STARTED", "READY IN", "ENDED", "HOW",
    ];
    let mut table = Table::new(&header);
    let dash = || "-".to_owned();
    for life in lives {
        table.row([
            life.instance.clone(),
            life.generation.to_string(),
            life.pid.map_or_else(dash, |pid| pid.to_string()),
            when::show(life.spawned),
            life.start
                .map_or_else(|| "never".to_owned(), duration::show),
            life.ended.map_or_else(dash, when::show),
            how(life),
        ]);
    }
    table.text()
}

fn how(life: &Life) -> String {
    let end = match (life.code, life.signal, life.ended) {
        (_, Some(signal), _) => format!("signal {signal}"),
        (Some(code), None, _) => format!("exit code {code}"),
        (None, None, Some(_)) => "ended".to_owned(),
        (None, None, None) if life.lost => "lost: toolpool ended before it".to_owned(),
        (None, None, None) => "lives".to_owned(),
    };
    match &life.reason {
        Some(reason) if !reason.is_empty() => format!("{end} · {}", shortened(reason, REASON)),
        _ => end,
    }
}
