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

use crate::console::{Console, Format, Tone, columns, print, print_document, printable, shortened};
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

/// Prompts that are listed unless more are asked for.
const LIMIT: usize = 20;

/// Characters of a text that a list shows where there is room.
const TEXT: usize = 50;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "toolpool history [OPTIONS] [WORD]...\n       toolpool history [OPTIONS] <COMMAND>"
)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
    /// Words that are all in the prompt or in the answer; 'words in quotes' stand beside each other, word* is a beginning
    #[arg(value_name = "WORD")]
    query: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Ask in SQL, read-only: the view `history` has a row for each prompt
    #[arg(long, value_name = "QUERY", conflicts_with = "query")]
    sql: Option<String>,
    #[command(flatten)]
    journal: JournalArgs,
    /// Form of the answer
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
    output: Format,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
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
    /// At most so many, the newest [default: 20]
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, clap::Subcommand)]
enum HistoryCommand {
    /// Show one prompt in full, with its answer, attempts and events
    Show(show::ShowArgs),
    /// List the batches, with the counts of their items
    Batches,
    /// Write everything to standard output, one JSON document a line
    Export,
    /// Take old prompts that have their end away
    Prune(prune::PruneArgs),
}

impl Filters {
    const NONE: Self = Self {
        tool: None,
        outcome: None,
        session: None,
        batch: None,
        since: None,
        until: None,
        limit: None,
    };
}

impl HistoryArgs {
    /// Whether errors are to be told as JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        self.output != Format::Text || matches!(self.command, Some(HistoryCommand::Export))
    }
}

pub(crate) fn run(args: HistoryArgs) -> Result<Exit, CliError> {
    let (journal, output) = (&args.journal, args.output);
    let filters = args.filters != Filters::NONE;
    let searches = filters || args.sql.is_some() || !args.query.is_empty();
    match (&args.command, &args.sql) {
        // Otherwise they would be passed over in silence.
        (Some(_), _) if searches => Err(CliError::usage(
            "usage",
            "words, filters and --sql belong to a search, and show, batches, export and prune do none; a word to search \
             for that is one of these goes behind `--`",
        )
        .next("toolpool help history")),
        (Some(HistoryCommand::Show(args)), _) => show::run(args, journal, output),
        (Some(HistoryCommand::Batches), _) => batches::run(journal, output),
        (Some(HistoryCommand::Prune(args)), _) => prune::run(args, journal, output),
        (Some(HistoryCommand::Export), _) => export(&journal.history()?),
        (None, Some(_)) if filters => Err(CliError::usage(
            "usage",
            "--sql says itself what it wants: write filters as its WHERE, and a limit as its LIMIT",
        )),
        (None, Some(text)) => sql(&journal.history()?, text, output),
        (None, None) => find(&args),
    }
}

fn find(args: &HistoryArgs) -> Result<Exit, CliError> {
    let history = args.journal.history()?;
    let filters = args.filters.clone();
    let batch = filters.batch.map(|batch| batches::named(&history, &batch));
    let words: Vec<String> = args.query.iter().map(|word| together(word)).collect();
    let text = words.join(" ");
    let typed = args.query.join(" ");
    let typed = typed.trim();
    if !typed.is_empty() && !typed.contains(char::is_alphanumeric) {
        return Err(CliError::usage(
            "bad_query",
            format!("there is no letter and no digit in {typed:?}, and words are what is searched"),
        )
        .hint("SQL finds signs: `--sql \"SELECT turn, prompt FROM history WHERE prompt LIKE '%->%'\"`"));
    }
    let query = Query {
        text: (!typed.is_empty()).then_some(text),
        tool: filters.tool,
        state: filters.outcome,
        session: filters.session,
        batch: batch.transpose()?,
        since: filters.since,
        until: filters.until,
        limit: Some(filters.limit.unwrap_or(LIMIT)),
    };
    let found = history.find(&query)?;
    let items: Vec<PromptDocument> = found.iter().map(PromptDocument::from).collect();
    match args.output {
        Format::Text
            if found.is_empty() && args.query.is_empty() && args.filters == Filters::NONE =>
        {
            nothing("there is no prompt in this journal");
        }
        Format::Text if found.is_empty() => nothing("no prompt is like that"),
        Format::Text => {
            let seen = columns().map(|columns| (columns, SystemTime::now()));
            print(list(&found, seen).as_bytes())?;
            tell_what_is_left(&history, found.iter().map(|row| row.state));
        }
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

/// Somebody who looks at a terminal sees ages, and texts as long as there is room; a program sees moments.
fn list(found: &[PromptRow], seen: Option<(usize, SystemTime)>) -> String {
    let by = |row: &PromptRow| {
        let by = row.instance.as_ref().or(row.tool.as_ref());
        by.cloned().unwrap_or_else(|| "-".to_owned())
    };
    let took = |row: &PromptRow| row.took.map_or_else(|| "-".to_owned(), duration::show);
    let accepted = |row: &PromptRow| match seen {
        Some((_, now)) => when::ago(row.accepted, now),
        None => when::show(row.accepted),
    };
    let rows: Vec<[String; 5]> = found
        .iter()
        .map(|row| {
            [
                row.turn.to_string(),
                accepted(row),
                by(row),
                took(row),
                row.state.to_string(),
            ]
        })
        .collect();
    let header = [
        "TURN", "ACCEPTED", "BY", "TIME", "OUTCOME", "PROMPT", "ANSWER",
    ];
    let taken: usize = (0..5)
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default().max(header[column].len()) + 2
        })
        .sum();
    // Two texts, each with a mark where it is cut, and two blanks between them.
    let room = seen.map_or(TEXT, |(columns, _)| {
        (columns.saturating_sub(taken + 4) / 2).clamp(10, 2 * TEXT)
    });
    let mut table = Table::new(&header);
    for (facts, row) in rows.into_iter().zip(found) {
        let prompt = row.prompt.text.as_deref().unwrap_or("(not kept)");
        let texts = [shortened(prompt, room), shortened(answer(row), room)];
        table.row(facts.into_iter().chain(texts));
    }
    table.text()
}

/// What a killed toolpool left behind still looks as if it ran.
pub(crate) fn tell_what_is_left(history: &History, states: impl IntoIterator<Item = State>) {
    let runs = states.into_iter().any(|state| state == State::Running);
    if runs && !history.is_written() {
        Console::new(false).tell(
            Tone::Note,
            "nobody writes this journal: what is running here was with a tool when toolpool was killed, and is in doubt as soon \
             as a command writes the journal again",
        );
    }
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
