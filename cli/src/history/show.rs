//! `toolpool history show`: one prompt in full.
//!
//! Owns its look. Must not know how it is kept. Invariant: with `--answer` stdout gets the answer and nothing else.

use serde_json::Value;
use toolpool::TurnId;
use toolpool::journal::{Shown, Text};

use super::documents::PromptDetail;
use crate::console::{Format, print, print_answer, print_document, printable};
use crate::error::CliError;
use crate::exit::Exit;
use crate::journal::{JournalArgs, no_turn, turn};
use crate::{duration, story, when};

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The turn, such as t17
    #[arg(value_name = "TURN", value_parser = turn)]
    turn: TurnId,
    /// Print the answer alone
    #[arg(long)]
    answer: bool,
}

pub(super) fn run(
    args: &ShowArgs,
    journal: &JournalArgs,
    output: Format,
) -> Result<Exit, CliError> {
    if args.answer && output != Format::Text {
        return Err(CliError::usage(
            "usage",
            "--answer prints the answer as it is, and -o a document; choose one",
        ));
    }
    let history = journal.history()?;
    let shown = history.show(args.turn)?.ok_or_else(|| no_turn(args.turn))?;
    match output {
        _ if args.answer => print_answer(answer(&shown)?.as_bytes())?,
        Format::Text => {
            print(printable(&text(&shown)).as_bytes())?;
            super::tell_what_is_left(&history, [shown.prompt.state]);
        }
        Format::Json | Format::Jsonl => print_document(&PromptDetail::from(&shown))?,
    }
    Ok(Exit::Done)
}

/// An answer that is not there is an error, not an empty file.
fn answer(shown: &Shown) -> Result<&str, CliError> {
    let (turn, state) = (shown.prompt.turn, shown.prompt.state);
    let why = match &shown.prompt.reply {
        Some(Text {
            text: Some(text), ..
        }) => return Ok(text),
        Some(Text { bytes, .. }) => {
            format!("of the answer of {turn}, {bytes} bytes, only the hash was kept")
        }
        None => format!("{turn} is {state} and has no answer"),
    };
    Err(CliError::usage("no_answer", why).next(format!("toolpool history show {turn}")))
}

/// `commit f55f8984a: a.py, b.py`, or what else became of its changes.
fn landed(landed: &Value) -> String {
    let part = |name: &str| landed[name].as_str();
    let files = landed["files"].as_array().into_iter().flatten();
    let files: Vec<&str> = files.filter_map(Value::as_str).collect();
    let mut text = part("landed").unwrap_or_default().to_owned();
    let place = part("commit").map(story::short).or(part("branch"));
    if let Some(place) = place {
        text.push_str(&format!(" {place}"));
    }
    if !files.is_empty() {
        text.push_str(&format!(": {}", files.join(", ")));
    }
    let rest = [part("reason"), part("error"), part("show")];
    for rest in rest.into_iter().flatten() {
        text.push_str(&format!("; {rest}"));
    }
    text
}

fn text(shown: &Shown) -> String {
    let row = &shown.prompt;
    let mut lines = vec![format!("{} is {}", row.turn, row.state)];
    let mut fact = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<10}{value}")));
    };
    let why = row.cause.iter().chain(&row.detail);
    let why: Vec<&str> = why.map(String::as_str).collect();
    fact("why", (!why.is_empty()).then(|| why.join(": ")));
    for settled in &shown.settlements {
        let note = settled
            .note
            .as_ref()
            .map_or_else(String::new, |note| format!(": {note}"));
        let line = format!(
            "as {} by {} at {}, was {}{note}",
            settled.state,
            settled.by,
            when::show(settled.at),
            settled.was
        );
        fact("resolved", Some(line));
    }
    fact("accepted", Some(when::show(row.accepted)));
    fact("ended", row.ended.map(when::show));
    fact("queued", row.queued.map(duration::show));
    fact("took", row.took.map(duration::show));
    fact("session", row.session.clone());
    fact("batch", row.batch.clone());
    fact("item", row.item.clone());
    fact(
        "files",
        (!shown.files.is_empty()).then(|| shown.files.join(", ")),
    );
    let grade = shown.attribution.as_ref();
    fact(
        "grade",
        grade.map(|(grade, by)| format!("{grade}, by {by}")),
    );
    fact("landed", shown.landed.as_ref().map(landed));
    for attempt in &shown.tries {
        let back = if attempt.handed_back {
            ", handed back unread"
        } else {
            ""
        };
        let line = format!(
            "{} to {} ({}), process {}, at {}{back}",
            attempt.attempt,
            attempt.instance,
            attempt.tool,
            attempt.generation,
            when::show(attempt.at)
        );
        fact("given", Some(line));
    }
    let mut text = lines.join("\n") + "\n";
    let parts = [
        ("prompt", Some(&row.prompt)),
        ("answer", row.reply.as_ref()),
    ];
    let outputs = shown
        .tries
        .iter()
        .map(|attempt| ("partial answer", attempt.output.as_ref()));
    for (name, part) in parts.into_iter().chain(outputs) {
        let Some(part) = part else { continue };
        let kept = part.text.as_deref();
        let body = kept.map_or_else(
            || format!("(not kept: {} bytes, SHA-256 {})", part.bytes, part.sha256),
            str::to_owned,
        );
        text.push_str(&format!("── {name}\n{}\n", body.trim_end_matches('\n')));
    }
    text
}
