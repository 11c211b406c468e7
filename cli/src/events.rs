//! `toolpool events`: what happened, in the order in which it did.
//!
//! Owns printing and following. Must not know what the events mean. Invariant: every event after the given one is printed
//! once, in order.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use toolpool::journal::EventRow;

use crate::console::{Document, Format, print, print_document, printable};
use crate::error::CliError;
use crate::exit::Exit;
use crate::history::event_fields;
use crate::interrupts::Interrupts;
use crate::journal::JournalArgs;
use crate::when;

/// How often a journal that is followed is looked at. A journal gets an event at the latest a second after it happened.
const LOOK: Duration = Duration::from_millis(250);

/// Events that are read at once.
const AT_ONCE: usize = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Those after the event of this number, which is the first on its line; or those of that time or later: how long ago, such
    /// as 2h or 3d, a day, or a moment
    #[arg(long, value_name = "ID|WHEN", value_parser = since, default_value = "0", hide_default_value = true)]
    since: Since,
    /// Go on with those to come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    journal: JournalArgs,
    /// Form of the answer; json is as jsonl, because there may be no last one
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

/// Where the events begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// After the one of this number.
    Id(u64),
    Moment(SystemTime),
}

fn since(text: &str) -> Result<Since, String> {
    match text.parse() {
        Ok(id) => Ok(Since::Id(id)),
        Err(_) => when::parse(text)
            .map(Since::Moment)
            .map_err(|wrong| wrong.replacen("write ", "write the number of an event, or ", 1)),
    }
}

/// One event: its `id` in the journal, its `seq` in its cluster, `unix_s`, `type`, and what belongs to that type.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct EventDocument(BTreeMap<String, Value>);

impl Document for EventDocument {
    const KIND: &'static str = "event";
}

pub(crate) async fn run(args: EventsArgs) -> Result<Exit, CliError> {
    let history = args.journal.history()?;
    let mut interrupts = Interrupts::listen()?;
    let (mut seen, from) = match args.since {
        Since::Id(id) => (id, None),
        Since::Moment(moment) => (0, Some(moment)),
    };
    loop {
        let events = history.events(seen, AT_ONCE)?;
        seen = events.last().map_or(seen, |event| event.id);
        events
            .iter()
            .filter(|event| from.is_none_or(|from| at(event).is_none_or(|at| at >= from)))
            .try_for_each(|event| show(event, args.output))?;
        if events.len() == AT_ONCE {
            continue;
        }
        if !args.follow {
            return Ok(Exit::Done);
        }
        tokio::select! {
            biased;
            _ = interrupts.next() => return Ok(Exit::Done),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn show(event: &EventRow, format: Format) -> Result<(), CliError> {
    match format {
        Format::Text => print(line(event).as_bytes()),
        Format::Json | Format::Jsonl => print_document(&EventDocument(event_fields(event))),
    }
}

/// `17  2026-11-22T14:02:11Z  turn_started  generation=1 instance=main/1 …`
fn line(event: &EventRow) -> String {
    let mut fields = event.event.clone();
    fields.remove("seq");
    let kind = fields.remove("type");
    fields.remove("unix_s");
    let fields: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            format!(
                "{name}={}",
                value.as_str().map_or_else(|| value.to_string(), quoted)
            )
        })
        .collect();
    let line = format!(
        "{}  {}  {}  {}",
        event.id,
        at(event).map(when::show).unwrap_or_default(),
        kind.as_ref().and_then(Value::as_str).unwrap_or_default(),
        fields.join(" ")
    );
    format!("{}\n", printable(line.trim_end()))
}

/// When it happened.
fn at(event: &EventRow) -> Option<SystemTime> {
    let seconds = event.event.get("unix_s")?.as_f64()?;
    Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?)
}

/// A text on one line, in quotes where it has blanks.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"') {
        format!("{text:?}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_begin_after_a_number_or_at_a_time() {
        assert_eq!(since("0"), Ok(Since::Id(0)));
        assert_eq!(since("881"), Ok(Since::Id(881)));
        assert!(matches!(since("2h"), Ok(Since::Moment(_))));
        let day = since("2026-11-22").expect("a day");
        assert_eq!(since("2026-11-22T00:00:00Z"), Ok(day));
        for wrong in ["", "t17", "-1", "soon"] {
            let said = since(wrong).expect_err(wrong);
            assert!(
                said.starts_with("write the number of an event, or how long ago"),
                "{said}"
            );
        }
    }
}
