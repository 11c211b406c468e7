//! `toolpool resolve`: a person says what became of a prompt in doubt.
//!
//! Owns the command. Must not know how a journal is kept. Invariant: only a doubt can be settled, and what was recorded
//! before stays recorded.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;
use toolpool::TurnId;
use toolpool::journal::{Settle, State};

use crate::console::{Console, Document, Format, Tone, print_document};
use crate::error::CliError;
use crate::exit::Exit;
use crate::journal::{self, JournalArgs, turn};

#[derive(Debug, clap::Args)]
pub(crate) struct ResolveArgs {
    /// The turn, such as t17
    #[arg(value_name = "TURN", value_parser = turn)]
    turn: TurnId,
    /// What became of it, as far as you could see
    #[arg(long = "as", value_name = "OUTCOME")]
    outcome: Settled,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    journal: JournalArgs,
    /// Form of the answer
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Settled {
    /// It did what it was to do: its batch counts it as ok
    Completed,
    /// It did not: its batch runs it again with `--rerun failed`
    Failed,
    /// It is not to be counted as either: its batch runs it again with `--rerun failed`
    Cancelled,
}

impl From<Settled> for State {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Completed => Self::Completed,
            Settled::Failed => Self::Failed,
            Settled::Cancelled => Self::Cancelled,
        }
    }
}

/// A doubt that is settled.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Resolved {
    turn: u64,
    /// completed, failed or cancelled.
    outcome: &'static str,
}

impl Document for Resolved {
    const KIND: &'static str = "turn.resolved";
}

pub(crate) fn run(args: &ResolveArgs) -> Result<Exit, CliError> {
    let path = args.journal.path()?;
    // Opening makes a journal where there is none, which is not what was asked for.
    args.journal.history()?;
    let state = State::from(args.outcome);
    let settle = Settle {
        state,
        by: "person".to_owned(),
        note: args.note.clone(),
    };
    journal::open(&path)?.resolve(args.turn, &settle)?;
    match args.output {
        Format::Text => Console::new(false).tell(
            Tone::Good,
            &format!("{} counts as {state} from now on", args.turn),
        ),
        Format::Json | Format::Jsonl => print_document(&Resolved {
            turn: args.turn.0,
            outcome: state.word(),
        })?,
    }
    Ok(Exit::Done)
}
