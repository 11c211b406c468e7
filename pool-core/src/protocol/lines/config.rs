//! The `[lines]` table of a profile.
//!
//! Owns its keys, their checks and the encoding of a prompt. Must not know turns. Invariant: a [`LinesConfig`] always
//! has a way to become ready and a way to see the end.

use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use crate::planted::planted;
use crate::profile::parse_duration;
use crate::prompt::Refusal;

/// How a line-oriented program is spoken to.
#[derive(Clone, Debug)]
pub struct LinesConfig {
    /// A line, finished or not, that shows the program is ready. None: the sentinel is sent at once and awaited.
    pub ready: Option<Regex>,
    /// What to write for a prompt; `{text}`, `{json}` and `{nonce}` stand for the prompt and this turn's mark.
    pub submit: String,
    /// What to do with a prompt of several lines where `submit` takes `{text}`.
    pub multiline: Multiline,
    /// What to write before and after the prompt so that the program prints a mark.
    pub sentinel: String,
    /// How to stop a turn so that the program lives on. None: a cancel kills it.
    pub interrupt: Option<Interrupt>,
    /// Whether stderr shares stdout's pipe, in the order written.
    pub merge_stderr: bool,
    pub(super) end: End,
    /// How long an end pattern must stand as the last output to be believed.
    pub(super) quiet: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    /// A whole line with the nonce in it.
    Mark(String),
    /// The program's own prompt, as an unfinished last line.
    Pattern(Regex),
}

/// What stops what the program does, and not the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interrupt {
    /// SIGINT to the process group.
    Sigint,
}

/// What to do with a prompt of several lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiline {
    /// Refuse it: the program would take each line for a prompt.
    #[default]
    Refuse,
    /// Join the lines with spaces.
    Join,
    /// Write the lines as they are: the end mark follows the last one.
    Raw,
}

/// The `[lines]` table as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinesFile {
    ready: Option<String>,
    submit: Option<String>,
    multiline: Multiline,
    sentinel: Option<String>,
    end: Option<String>,
    end_pattern: Option<String>,
    quiet: Option<String>,
    merge_stderr: bool,
    interrupt: Option<Interrupt>,
}

impl LinesConfig {
    /// Checks a table.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn from_file(file: LinesFile) -> Result<Self, String> {
        let regex = |key: &str, pattern: &str| {
            Regex::new(pattern)
                .map_err(|error| format!("key `{key}`: not a regular expression: {error}"))
        };
        let submit = file.submit.unwrap_or_else(|| "{text}\n".to_owned());
        if !submit.contains("{text}") && !submit.contains("{json}") {
            return Err(
                "key `submit`: it must contain {text} or {json}, or the prompt is never sent"
                    .to_owned(),
            );
        }
        if !submit.ends_with('\n') {
            return Err(
                "key `submit`: it must end with \"\\n\", or the program never sees a whole line"
                    .to_owned(),
            );
        }
        // Each key by itself comes first, so that a slip in one is not reported as a gap in another.
        let ready = match file.ready {
            Some(pattern) => Some(regex("ready", &pattern)?),
            None => None,
        };
        let end_pattern = match file.end_pattern {
            Some(pattern) => Some(regex("end_pattern", &pattern)?),
            None => None,
        };
        let quiet = match file.quiet {
            Some(text) => {
                parse_duration(&text).map_err(|reason| format!("key `quiet`: {reason}"))?
            }
            None => Duration::from_millis(100),
        };
        let sentinel = file.sentinel.unwrap_or_default();
        let marks = sentinel.contains("{nonce}") && sentinel.ends_with('\n');
        if !(sentinel.is_empty() || marks) {
            return Err("key `sentinel`: it must contain {nonce} and end with \"\\n\"".to_owned());
        }
        let end = match (file.end, end_pattern) {
            (Some(mark), None) if !mark.contains("{nonce}") => {
                return Err("key `end`: it must contain {nonce}; a fixed text could be part of a reply (for the program's own prompt use `end_pattern`)".to_owned());
            }
            (Some(mark), None) if sentinel.is_empty() && !submit.contains("{nonce}") => {
                return Err(format!(
                    "key `end`: nothing makes the program print {mark:?}; set `sentinel`, or put {{nonce}} into `submit`"
                ));
            }
            (Some(mark), None) => End::Mark(mark),
            (None, Some(pattern)) => End::Pattern(pattern),
            (None, None) => {
                return Err(
                    "key `end` (or `end_pattern`) is missing: how does a reply end?".to_owned(),
                );
            }
            (Some(_), Some(_)) => {
                return Err("keys `end` and `end_pattern`: set one of them".to_owned());
            }
        };
        let ready = match (ready, &end) {
            (Some(pattern), _) => Some(pattern),
            (None, End::Pattern(pattern)) => Some(pattern.clone()),
            (None, End::Mark(_)) if sentinel.is_empty() => {
                return Err("key `ready` is missing: without a `sentinel` nothing shows that the program is ready".to_owned());
            }
            (None, End::Mark(_)) => None,
        };
        if file.interrupt.is_some() && (sentinel.is_empty() || matches!(end, End::Pattern(_))) {
            return Err(
                "key `interrupt`: it needs `sentinel` and `end`, whose mark proves that the program took the signal and lives"
                    .to_owned(),
            );
        }
        Ok(Self {
            ready,
            submit,
            multiline: file.multiline,
            sentinel,
            interrupt: file.interrupt,
            merge_stderr: file.merge_stderr,
            end,
            quiet,
        })
    }

    /// Whether the program can be made to print a mark before a reply.
    pub(super) fn marks_start(&self) -> bool {
        !self.sentinel.is_empty() && matches!(self.end, End::Mark(_))
    }

    /// What to write for a prompt, the sentinel behind it included.
    pub(super) fn encode(&self, text: &str, nonce: &str) -> Result<String, Refusal> {
        let mut joined = None;
        if self.submit.contains("{text}") {
            let trimmed = text.strip_suffix('\n').unwrap_or(text);
            if trimmed.contains(['\n', '\r']) {
                match self.multiline {
                    Multiline::Refuse if planted("lines_raw") => joined = Some(trimmed.to_owned()),
                    Multiline::Refuse => return Err(Refusal::Multiline),
                    Multiline::Join => joined = Some(trimmed.lines().collect::<Vec<_>>().join(" ")),
                    Multiline::Raw => joined = Some(trimmed.to_owned()),
                }
            } else {
                joined = Some(trimmed.to_owned());
            }
        }
        let mut encoded = fill(&self.submit, nonce, Some(joined.as_deref().unwrap_or(text)));
        encoded.push_str(&fill(&self.sentinel, nonce, None));
        Ok(encoded)
    }
}

/// Fills a template in one pass, so that a prompt that contains `{nonce}` stays what it is.
pub(super) fn fill(template: &str, nonce: &str, text: Option<&str>) -> String {
    let mut filled = String::with_capacity(
        template.len() + text.map_or(0, |text| text.len() + 16) + nonce.len(),
    );
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{nonce}") {
            filled.push_str(nonce);
            rest = after;
        } else if let (Some(after), Some(text)) = (rest.strip_prefix("{text}"), text) {
            filled.push_str(text);
            rest = after;
        } else if let (Some(after), Some(text)) = (rest.strip_prefix("{json}"), text) {
            // U+2028 and U+2029 end lines for some readers although JSON allows them; escaped they are the same text.
            let json = serde_json::Value::from(text).to_string();
            filled.push_str(
                &json
                    .replace('\u{2028}', "\\u2028")
                    .replace('\u{2029}', "\\u2029"),
            );
            rest = after;
        } else {
            filled.push('{');
            rest = &rest[1..];
        }
    }
    filled.push_str(rest);
    filled
}
