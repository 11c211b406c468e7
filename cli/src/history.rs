//! `toolpool history`: what was asked, what was answered and what became of it.
//!
//! Owns the options and what is printed. Must not know how a journal is kept. Invariant: nothing here changes a prompt;
//! pruning takes whole ones away, and never one without its end.

mod batches;
mod documents;
mod prune;
mod show;

use std::time::SystemTime;

use serde_json::Value;
use toolpool::journal::{History, PromptRow, Query, State};

use crate::console::{Console, Format, Tone, print, print_document, printable, shortened};
use crate::error::CliError;
use crate::exit::Exit;
use crate::journal::JournalArgs;
use crate::table::Table;
use crate::{duration, when};

pub(crate) use documents::{
    BatchDocument, BatchList, PromptDetail, PromptDocument, PromptList, SqlRow, SqlTable,
    event_fields,
};
pub(crate) use prune::Pruned;

/// Rows of an answer in SQL that are read; more belong into a program of one's own.
const ROWS: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
    /// Words that are all in the prompt or in the answer; 'words in quotes' stand beside each other, word* is a beginning
    #[arg(value_name = "WORD")]
    query: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Ask in SQL, read-only: the view `history` has a row for each prompt
    #[arg(long, value_name = "QUERY", conflicts_with = "query")]
    sql: Option<String>,
    #[command(flatten)]
    journal: JournalArgs,
    /// Form of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Debug, clap::Args)]
struct Filters {
    /// Those that this tool ran, or that ask for it
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// How they stand: queued, running, completed, failed, cancelled, expired or indeterminate
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<State>,
    /// Those of this session
    #[arg(long, value_name = "KEY")]
    session: Option<String>,
    /// Those of the batch whose name begins so
    #[arg(long, value_name = "BATCH")]
    batch: Option<String>,
    /// Accepted at that time or later: how long ago, such as 36h or 3d, a day, or a moment
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    /// Accepted before that time
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    until: Option<SystemTime>,
}

#[derive(Debug, clap::Subcommand)]
enum HistoryCommand {
    /// Show one prompt in full, with its answer, attempts and events
    Show(show::ShowArgs),
    /// List the batches, with the counts of their items
    Batches(batches::BatchesArgs),
    /// Write everything to standard output, one JSON document a line
    Export(ExportArgs),
    /// Take old prompts that have their end away
    Prune(prune::PruneArgs),
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    journal: JournalArgs,
}

impl HistoryArgs {
    /// Whether errors are to be told as JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        let output = match &self.command {
            None => self.output,
            Some(HistoryCommand::Show(args)) => args.output,
            Some(HistoryCommand::Batches(args)) => args.output,
            Some(HistoryCommand::Prune(args)) => args.output,
            Some(HistoryCommand::Export(_)) => Format::Jsonl,
        };
        output != Format::Text
    }
}

pub(crate) fn run(args: HistoryArgs) -> Result<Exit, CliError> {
    match args.command {
        Some(HistoryCommand::Show(args)) => show::run(&args),
        Some(HistoryCommand::Batches(args)) => batches::run(&args),
        Some(HistoryCommand::Prune(args)) => prune::run(&args),
        Some(HistoryCommand::Export(args)) => export(&args.journal.history()?),
        None => match &args.sql {
            Some(text) => sql(&args.journal.history()?, text, args.output),
            None => find(&args),
        },
    }
}

fn find(args: &HistoryArgs) -> Result<Exit, CliError> {
    let history = args.journal.history()?;
    let filters = args.filters.clone();
    let batch = filters.batch.map(|batch| batches::named(&history, &batch));
    let words: Vec<String> = args.query.iter().map(|word| together(word)).collect();
    let text = words.join(" ");
    let query = Query {
        text: (!text.trim().is_empty()).then_some(text),
        tool: filters.tool,
        state: filters.outcome,
        session: filters.session,
        batch: batch.transpose()?,
        since: filters.since,
        until: filters.until,
        limit: Some(args.limit),
    };
    let found = history.find(&query)?;
    let items: Vec<PromptDocument> = found.iter().map(PromptDocument::from).collect();
    match args.output {
        Format::Text if found.is_empty() => nothing("no prompt is like that"),
        Format::Text => print(list(&found).as_bytes())?,
        Format::Json => print_document(&PromptList { items })?,
        Format::Jsonl => items.iter().try_for_each(print_document)?,
    }
    Ok(Exit::Done)
}

/// An empty list is told, and leaves stdout empty.
pub(crate) fn nothing(told: &str) {
    Console::new(false).tell(Tone::Plain, told);
}

/// What the shell kept together stands beside each other.
fn together(word: &str) -> String {
    if word.contains(char::is_whitespace) && !word.contains('"') {
        format!("\"{word}\"")
    } else {
        word.to_owned()
    }
}

/// Each prompt in full, the oldest first.
fn export(history: &History) -> Result<Exit, CliError> {
    for row in history.find(&Query::default())?.iter().rev() {
        // One that was pruned meanwhile is left out.
        if let Some(shown) = history.show(row.turn)? {
            print_document(&PromptDetail::from(&shown))?;
        }
    }
    Ok(Exit::Done)
}

fn sql(history: &History, text: &str, format: Format) -> Result<Exit, CliError> {
    let answer = history.sql(text, ROWS)?;
    match format {
        Format::Text => {
            let columns: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
            let mut table = Table::new(&columns);
            for row in &answer.rows {
                table.row(row.iter().map(cell));
            }
            print(table.text().as_bytes())?;
            if answer.more {
                let more =
                    format!("only the first {ROWS} rows are shown; ask for fewer with LIMIT");
                Console::new(false).tell(Tone::Note, &more);
            }
        }
        Format::Json => print_document(&SqlTable::from(&answer))?,
        Format::Jsonl => SqlRow::all(&answer).iter().try_for_each(print_document)?,
    }
    Ok(Exit::Done)
}

fn list(found: &[PromptRow]) -> String {
    let mut table = Table::new(&[
        "TURN", "ACCEPTED", "BY", "TIME", "OUTCOME", "PROMPT", "ANSWER",
    ]);
    for row in found {
        let by = row.instance.as_ref().or(row.tool.as_ref());
        table.row([
            row.turn.to_string(),
            when::show(row.accepted),
            by.cloned().unwrap_or_else(|| "-".to_owned()),
            row.took.map_or_else(|| "-".to_owned(), duration::show),
            row.state.to_string(),
            shortened(row.prompt.text.as_deref().unwrap_or("(not kept)"), 50),
            shortened(answer(row), 50),
        ]);
    }
    table.text()
}

/// What came of it, in a few words.
fn answer(row: &PromptRow) -> &str {
    let text = row.reply.as_ref().and_then(|reply| reply.text.as_deref());
    match (&row.detail, text) {
        (Some(detail), _) => detail,
        (None, text) => text.unwrap_or_default(),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text).replace('\n', "\\n"),
        other => other.to_string(),
    }
}
