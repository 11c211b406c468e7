//! The `[screen]` table of a profile.
//!
//! Owns its keys and their checks. Must not know turns. Invariant: a [`ScreenConfig`] always has a way to see the
//! program's prompt, and its patterns match only what ends at the cursor.

use std::num::NonZeroU16;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use crate::launcher::TerminalSize;
use crate::profile::parse_duration;

/// How a program that needs a terminal is spoken to.
#[derive(Clone, Debug)]
pub struct ScreenConfig {
    /// The terminal's size: 4 to 500 rows of 20 to 1000 cells.
    pub size: TerminalSize,
    /// The first prompt, as it stands left of the cursor.
    pub(super) ready: Regex,
    /// The prompt that ends a reply, as it stands left of the cursor.
    pub(super) end: Regex,
    /// How long nothing must come for the screen to be believed.
    pub(super) quiet: Duration,
    /// The key that submits what was typed.
    pub(super) submit: String,
    /// Whether what is typed shows.
    pub(super) echo: bool,
    /// Whether lines are joined where the program cannot take several.
    pub(super) join: bool,
    /// What begins one of the program's own commands.
    pub(super) command_prefixes: Vec<String>,
}

/// What to do with several lines where the program takes no paste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Multiline {
    #[default]
    Refuse,
    Join,
}

/// The `[screen]` table as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenFile {
    rows: Option<u16>,
    cols: Option<u16>,
    ready: Option<String>,
    end: Option<String>,
    quiet: Option<String>,
    submit: Option<String>,
    echo: Option<bool>,
    multiline: Multiline,
    command_prefixes: Vec<String>,
}

impl ScreenConfig {
    /// Checks a table.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn from_file(file: ScreenFile) -> Result<Self, String> {
        let end = file.end.ok_or(
            "key `end` is missing: a regular expression for the program's prompt, as it stands left of the cursor",
        )?;
        let end = prompt("end", &end)?;
        let quiet = match file.quiet {
            Some(text) => {
                parse_duration(&text).map_err(|reason| format!("key `quiet`: {reason}"))?
            }
            None => Duration::from_millis(300),
        };
        if quiet.is_zero() {
            return Err(
                "key `quiet`: a screen that never rests cannot be believed; write a time such as \"300ms\""
                    .to_owned(),
            );
        }
        let submit = file.submit.unwrap_or_else(|| "\r".to_owned());
        if submit.is_empty() {
            return Err(
                "key `submit`: it is empty, so no prompt would ever be submitted; the default is \"\\r\", the Enter key"
                    .to_owned(),
            );
        }
        if file.command_prefixes.iter().any(String::is_empty) {
            return Err(
                "key `command_prefixes`: an empty prefix would make every prompt a command"
                    .to_owned(),
            );
        }
        Ok(Self {
            size: TerminalSize {
                rows: cells("rows", file.rows.unwrap_or(50), 4, 500)?,
                cols: cells("cols", file.cols.unwrap_or(200), 20, 1000)?,
            },
            ready: match file.ready {
                Some(ready) => prompt("ready", &ready)?,
                None => end.clone(),
            },
            end,
            quiet,
            submit,
            echo: file.echo.unwrap_or(true),
            join: file.multiline == Multiline::Join,
            command_prefixes: file.command_prefixes,
        })
    }
}

fn cells(key: &str, value: u16, least: u16, most: u16) -> Result<NonZeroU16, String> {
    NonZeroU16::new(value)
        .filter(|_| (least..=most).contains(&value))
        .ok_or_else(|| format!("key `{key}`: {value} is not within {least} and {most}"))
}

/// A pattern that can only match up to the cursor. `^` and `$` stand for the ends of a row.
fn prompt(key: &str, pattern: &str) -> Result<Regex, String> {
    let regex = |text: &str| {
        Regex::new(text).map_err(|error| format!("key `{key}`: not a regular expression: {error}"))
    };
    // By itself first: a slip must be shown in what the user wrote, and a parenthesis too many must not close ours.
    regex(pattern)?;
    let anchored = regex(&format!("(?m)(?:{pattern})\\z"))?;
    if anchored.is_match("") {
        return Err(format!(
            "key `{key}`: {pattern:?} matches an empty screen; name what the prompt shows"
        ));
    }
    Ok(anchored)
}
