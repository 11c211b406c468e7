//! Where output goes: the answer to stdout, the story to stderr.
//!
//! Owns writing, colors and the envelope of JSON. Must not know commands. Invariants: stdout gets nothing but answers;
//! no escape code is ever written to anything but a terminal, and none that a tool wrote reaches one.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::CliError;

/// A line of the answer stands unfinished on the terminal.
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// The forms of an answer that comes bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document, at the end.
    Json,
    /// One JSON document a line, as things happen.
    Jsonl,
}

/// The forms of an answer that is there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// Something that is printed as JSON.
pub(crate) trait Document: Serialize + JsonSchema {
    /// Names its schema; the field `kind` of its envelope.
    const KIND: &'static str;
}

/// How many characters fit on a line of stdout; None if it is no terminal.
pub(crate) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// What every JSON document on stdout looks like.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Envelope<T> {
    pub(crate) v: u32,
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) body: T,
}

/// Prints one document on one line.
pub(crate) fn print_document<T: Document>(document: &T) -> Result<(), CliError> {
    print(document_line(document).as_bytes())
}

/// One document in its envelope, on one line.
pub(crate) fn document_line<T: Document>(document: &T) -> String {
    let envelope = Envelope {
        v: 1,
        kind: T::KIND,
        body: document,
    };
    serde_json::to_string(&envelope).expect("reports are plain data with text keys") + "\n"
}

/// Prints a piece of the answer now.
pub(crate) fn print(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    if !bytes.is_empty() {
        let unfinished = !bytes.ends_with(b"\n") && stdout.is_terminal();
        UNFINISHED.store(unfinished, Ordering::Relaxed);
    }
    Ok(())
}

/// Prints what a tool wrote: as it is into a pipe, without control characters on a terminal.
pub(crate) fn print_answer(bytes: &[u8]) -> Result<(), CliError> {
    if io::stdout().is_terminal() {
        print(printable(&String::from_utf8_lossy(bytes)).as_bytes())
    } else {
        print(bytes)
    }
}

/// Text that cannot steer a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(steers) {
        Cow::Owned(text.replace(steers, ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// `1 item`, `3 items`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// The first line of a text, cut to a width.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let line = printable(line);
    let mut short: String = line.chars().take(width).collect();
    if short.len() < line.len() || text.trim().lines().nth(1).is_some() {
        short.push('…');
    }
    short
}

/// The way to stderr.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    quiet: bool,
    colors: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        let colors = io::stderr().is_terminal() && wants_colors();
        Self { quiet, colors }
    }

    /// For painting what goes to stdout.
    pub(crate) fn for_stdout() -> Self {
        let colors = io::stdout().is_terminal() && wants_colors();
        Self {
            quiet: false,
            colors,
        }
    }

    /// Whether stderr can show something that moves.
    pub(crate) fn is_live(self) -> bool {
        !self.quiet && io::stderr().is_terminal() && !is_dumb()
    }

    /// Tells a part of the story.
    pub(crate) fn tell(self, tone: Tone, text: &str) {
        if !self.quiet || tone == Tone::Question {
            // On a terminal that shows both, the story does not go on in a line of the answer.
            let unfinished = UNFINISHED.swap(false, Ordering::Relaxed);
            let begin = if unfinished && io::stderr().is_terminal() {
                "\n"
            } else {
                ""
            };
            write_stderr(&format!("{begin}{}\n", self.paint(tone, text)));
        }
    }

    /// The text with the mark and the color of its tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let text = printable(text);
        let (mark, color) = match tone {
            Tone::Plain => ("", "2"),
            Tone::Good => ("✓ ", "32"),
            Tone::Note => ("! ", "33"),
            Tone::Bad => ("✗ ", "31"),
            Tone::Question => ("? ", "36"),
        };
        match (self.colors, tone) {
            (false, _) => format!("{mark}{text}"),
            (true, Tone::Plain) => format!("\x1b[{color}m{text}\x1b[0m"),
            (true, _) => format!("\x1b[{color}m{mark}\x1b[0m{text}"),
        }
    }
}

fn wants_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb()
}

/// Whether the terminal knows no escape codes.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// What kind of news it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Note,
    Bad,
    /// Somebody has to answer, so it is told even where nothing else is.
    Question,
}

/// Writes to stderr as it is.
pub(crate) fn write_stderr(text: &str) {
    // There is nobody left to tell if this fails.
    io::stderr().write_all(text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::{printable, shortened};

    #[test]
    fn text_of_a_tool_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\u{9b}c\x07\td\n"), "a[31mbc\td\n");
        assert_eq!(printable("plain ✓"), "plain ✓");
    }

    #[test]
    fn a_shortened_text_shows_that_it_was_cut() {
        assert_eq!(shortened("hello", 10), "hello");
        assert_eq!(shortened("  hello there", 5), "hello…");
        assert_eq!(shortened("hello\nthere", 10), "hello…");
        assert_eq!(shortened("", 10), "");
    }
}
