//! The language of the rules: text in, [`Rule`]s or a sentence about what is wrong out.
//!
//! Owns the words. Must not know how anything is performed. Invariant: a rule that makes no sense, such as a reply at
//! the start, is refused here, so the tool never meets one.

use std::time::Duration;

use rustix::process::Signal;

use super::script::{Action, Deed, Moment, Rule, Shape, Sleeper, When};
use crate::units::{duration, size};

const TRIGGERS: &str = "start, turn N, turn N-M, every K, prompt ~TEXT, byte B, signal NAME";
const ACTIONS: &str = "exit, signal, delay, hang, never-ready, flood, flood-stderr, ignore, fork, close-stdout, \
                       close-stdin, stop-reading, await-input, read, read-slowly, nest, grow, ask, unsolicited, late, reply, \
                       report, repeat, bytes, forge, stream, cut, double-end, end";
const SIGNALS: [(&str, Signal); 21] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
];

/// Reads a script: one rule a line, empty lines and lines that begin with `#` do not count.
pub(super) fn parse_script(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            rules.push(
                parse_rule(line).map_err(|problem| format!("line {}: {problem}", index + 1))?,
            );
        }
    }
    Ok(rules)
}

/// Reads one rule. The error names the rule, what is wrong and what would be accepted.
pub(super) fn parse_rule(text: &str) -> Result<Rule, String> {
    let mut words = Words(text.trim());
    rule(&mut words).map_err(|problem| format!("rule `{}`: {problem}", text.trim()))
}

/// Reads what follows `fork N`.
pub(super) fn parse_sleeper(text: &str) -> Result<Sleeper, String> {
    let mut words = Words(text);
    let sleeper = sleeper(&mut words)?;
    if words.0.is_empty() {
        Ok(sleeper)
    } else {
        Err(format!("`{}` is unexpected", words.0))
    }
}

fn rule(words: &mut Words<'_>) -> Result<Rule, String> {
    words.expect("on")?;
    let (when, byte) = trigger(words)?;
    let (action, takes_rest) = action(words)?;
    let mut moment = byte.map_or(Moment::Before, Moment::Byte);
    let is_turn = !matches!(when, When::Start | When::Signal(_));
    match (&action, &when) {
        (Action::End, When::Signal(_)) => {}
        (Action::End, _) => return Err("`end` goes with `on signal` only".to_owned()),
        (Action::Shape(_), _) if !is_turn || byte.is_some() => {
            return Err(
                "this action makes a reply, so it goes with turn, every and prompt only".to_owned(),
            );
        }
        (Action::Deed(Deed::Say { .. }), _) if is_turn && byte.is_none() => moment = Moment::After,
        _ => {}
    }
    if !takes_rest && words.take("after") {
        words.expect(if is_turn { "end" } else { "ready" })?;
        if byte.is_some() || matches!(when, When::Signal(_)) || !matches!(action, Action::Deed(_)) {
            return Err(
                "`after` does not go with byte, with signal, or with an action that makes a reply"
                    .to_owned(),
            );
        }
        moment = Moment::After;
    }
    if !words.0.is_empty() {
        return Err(format!(
            "there is more than expected at the end: `{}`",
            words.0
        ));
    }
    Ok(Rule {
        when,
        moment,
        action,
    })
}

fn trigger(words: &mut Words<'_>) -> Result<(When, Option<u64>), String> {
    let when = match words.next() {
        Some("start") => return Ok((When::Start, None)),
        Some("signal") => {
            let signal = catchable(words.word("the name of a signal")?)?;
            return Ok((When::Signal(signal), None));
        }
        Some("byte") => {
            return Ok((
                When::Every(1),
                Some(number(words.word("a number of bytes")?)?),
            ));
        }
        Some("turn") => {
            let range = words.word("a turn N or turns N-M, counted from 1")?;
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first {
                return Err(format!(
                    "`{range}` names no turn; turns are counted from 1, as in 3 or 3-5"
                ));
            }
            When::Turns { first, last }
        }
        Some("every") => match number(words.word("a number of turns")?)? {
            0 => return Err("`every 0` names no turn; the smallest is `every 1`".to_owned()),
            count => When::Every(count),
        },
        Some("prompt") => When::Prompt(words.tilde_text()?),
        other => return Err(unknown("trigger", other, TRIGGERS)),
    };
    let byte = if words.take("byte") {
        Some(number(words.word("a number of bytes")?)?)
    } else {
        None
    };
    Ok((when, byte))
}

/// The action, and whether it took the rest of the line as its text.
fn action(words: &mut Words<'_>) -> Result<(Action, bool), String> {
    let name = words.next();
    let deed = match name {
        Some("exit") => {
            let code = words.word("an exit code from 0 to 255")?;
            Deed::Exit(
                code.parse()
                    .map_err(|_| format!("`{code}` is no exit code from 0 to 255"))?,
            )
        }
        Some("signal") => Deed::Signal(signal(words.word("the name or number of a signal")?)?),
        Some("delay") => Deed::Delay(duration(words.word("a time such as 200ms")?)?),
        Some("hang" | "never-ready") => Deed::Hang,
        Some("flood") => Deed::Flood(size(words.word("a size such as 10MiB")?)?),
        Some("flood-stderr") => Deed::FloodStderr(size(words.word("a size such as 10MiB")?)?),
        Some("ignore") => Deed::Ignore(words.signals()?),
        Some("fork") => {
            let count = number(words.word("a number of processes")?)?;
            Deed::Fork {
                count,
                sleeper: sleeper(words)?,
            }
        }
        Some("close-stdout") => Deed::CloseStdout,
        Some("close-stdin") => Deed::CloseStdin,
        Some("stop-reading") => Deed::StopReading,
        Some("await-input") => Deed::AwaitInput,
        Some("read") => Deed::Read(size(words.word("a size such as 1B")?)?),
        Some("read-slowly") => {
            let (piece, every) = pieces(words)?;
            Deed::ReadSlowly { piece, every }
        }
        Some("grow") => Deed::Grow(size(words.word("a size")?)?),
        Some("nest") => Deed::Nest(number(words.word("a number of brackets")?)?),
        Some("ask") => return Ok((Action::Deed(Deed::Ask(words.text()?)), true)),
        Some("unsolicited") => {
            return Ok((
                Action::Deed(Deed::Say {
                    after: Duration::ZERO,
                    text: words.text()?,
                }),
                true,
            ));
        }
        Some("late") => {
            let after = duration(words.word("a time such as 200ms")?)?;
            return Ok((
                Action::Deed(Deed::Say {
                    after,
                    text: words.text()?,
                }),
                true,
            ));
        }
        Some("reply") => return Ok((Action::Shape(Shape::Reply(words.text()?)), true)),
        Some("end") => return Ok((Action::End, false)),
        _ => return Ok((Action::Shape(shape(name, words)?), false)),
    };
    Ok((Action::Deed(deed), false))
}

fn sleeper(words: &mut Words<'_>) -> Result<Sleeper, String> {
    let orphan = words.take("orphan");
    let setsid = words.take("setsid");
    let ignore = if words.take("ignore") {
        words.signals()?
    } else {
        Vec::new()
    };
    Ok(Sleeper {
        orphan,
        setsid,
        ignore,
    })
}

fn shape(name: Option<&str>, words: &mut Words<'_>) -> Result<Shape, String> {
    Ok(match name {
        Some("report") => Shape::Report,
        Some("forge") => Shape::Forge,
        Some("double-end") => Shape::DoubleEnd,
        Some("bytes") => {
            let mut bytes = Vec::new();
            while let Some(word) = words.next() {
                bytes.push(
                    u8::from_str_radix(word, 16)
                        .map_err(|_| format!("`{word}` is no byte in hex such as ff"))?,
                );
            }
            Shape::Bytes(bytes)
        }
        Some("repeat") => match number(words.word("how many times")?)?.try_into() {
            Ok(times) if times > 0 => Shape::Repeat(times),
            _ => return Err("a reply is repeated once at least".to_owned()),
        },
        Some("cut") => Shape::Cut(duration(words.word("a time such as 5ms")?)?),
        Some("stream") => {
            let (piece, every) = pieces(words)?;
            Shape::Stream { piece, every }
        }
        other => return Err(unknown("action", other, ACTIONS)),
    })
}

/// A size and a time: how much at once, and how long between.
fn pieces(words: &mut Words<'_>) -> Result<(usize, Duration), String> {
    let piece = size(words.word("a size such as 10B")?)?;
    let every = duration(words.word("a time such as 5ms")?)?;
    match usize::try_from(piece) {
        Ok(piece) if piece > 0 => Ok((piece, every)),
        _ => Err("there are no pieces of no bytes; the smallest is 1B".to_owned()),
    }
}

/// The part of the rule that is not read yet, without spaces around it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        Some(word)
    }

    fn word(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.next()
            .ok_or_else(|| format!("expected {wanted}, but the rule ends"))
    }

    fn take(&mut self, word: &str) -> bool {
        let before = self.0;
        let taken = self.next() == Some(word);
        if !taken {
            self.0 = before;
        }
        taken
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) {
            Ok(())
        } else {
            Err(format!("expected `{word}` before `{}`", self.0))
        }
    }

    /// At least one signal, up to the end or to `after`.
    fn signals(&mut self) -> Result<Vec<Signal>, String> {
        let mut signals = vec![catchable(self.word("the name of a signal")?)?];
        while !self.0.is_empty() && self.0.split_whitespace().next() != Some("after") {
            signals.push(catchable(self.word("the name of a signal")?)?);
        }
        Ok(signals)
    }

    /// The rest as it stands, or decoded if it is a JSON string.
    fn text(&mut self) -> Result<String, String> {
        let text = std::mem::take(&mut self.0);
        if text.starts_with('"') {
            return serde_json::from_str(text)
                .map_err(|error| format!("`{text}` is no JSON string: {error}"));
        }
        Ok(text.to_owned())
    }

    /// A word after a tilde, or a JSON string after a tilde.
    fn tilde_text(&mut self) -> Result<String, String> {
        let Some(rest) = self.0.strip_prefix('~') else {
            return Err(format!("expected ~TEXT after `prompt`, found `{}`", self.0));
        };
        self.0 = rest;
        let text = if rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let value = values.next().unwrap_or_else(|| Ok(String::new()));
            let text = value
                .map_err(|error| format!("`{rest}` does not begin with a JSON string: {error}"))?;
            self.0 = rest[values.byte_offset()..].trim_start();
            text
        } else {
            self.word("a text after the tilde")?.to_owned()
        };
        if text.is_empty() {
            Err("an empty text is in every prompt; say `every 1`".to_owned())
        } else {
            Ok(text)
        }
    }
}

fn unknown(what: &str, found: Option<&str>, accepted: &str) -> String {
    match found {
        Some(word) => format!("`{word}` is no {what}; accepted are: {accepted}"),
        None => format!("the {what} is missing; accepted are: {accepted}"),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no whole number"))
}

/// A signal by name, with or without `SIG`, or by number.
fn signal(text: &str) -> Result<Signal, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, signal)| *signal);
    let known = named.or_else(|| text.parse().ok().and_then(Signal::from_named_raw));
    known.ok_or_else(|| {
        let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
        format!(
            "`{text}` is no signal; accepted are a number and: {}",
            names.join(", ")
        )
    })
}

/// A signal that a program can catch and survive.
fn catchable(text: &str) -> Result<Signal, String> {
    match signal(text)? {
        Signal::KILL | Signal::STOP | Signal::SEGV | Signal::ILL | Signal::FPE => {
            Err(format!("`{text}` cannot be caught or ignored"))
        }
        signal => Ok(signal),
    }
}

#[cfg(test)]
#[path = "grammar_tests.rs"]
mod tests;
