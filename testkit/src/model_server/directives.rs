//! The words in double brackets by which a prompt orders an answer.
//!
//! Owns their syntax. Must not know how they are obeyed. Invariant: a word that is not understood is an error, so a test
//! with a misspelled order fails instead of passing for nothing.

use std::time::Duration;

use crate::orders::{self, number};
use crate::units;

const OPEN: &str = "[[model:";
const WORDS: &str = "status=CODE, retry-after=SECONDS, delay=TIME, hang, hang-mid, drop, times=N, slow=SIZE/TIME, \
                     answer-bytes=N, edit=PATH text=TEXT, tool=shell cmd=COMMAND, recall=WORD, quote, empty";

/// What goes wrong instead of, or during, an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<u64>,
    pub(super) delay: Option<Duration>,
    pub(super) hang: bool,
    pub(super) cut: Option<Cut>,
}

/// What comes after the first half of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Hang,
    Drop,
}

/// What the text of the answer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Hash,
    Bytes(usize),
    Edit {
        path: String,
        text: String,
    },
    Shell(String),
    /// Whether an earlier message has this word.
    Recall(String),
    Quote,
    Empty,
}

/// All orders of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    faults: Faults,
    times: Option<u64>,
    pub(super) slow: Option<(usize, Duration)>,
    pub(super) kind: Kind,
}

impl Directives {
    /// Reads the orders in a prompt.
    pub(super) fn parse(prompt: &str) -> Result<Self, String> {
        let mut directives = Self::default();
        orders::read_each(prompt, OPEN, |words| directives.read(words))?;
        Ok(directives)
    }

    /// What goes wrong with the Nth request with this prompt, counted from 1.
    pub(super) fn faults(&self, number: u64) -> Faults {
        if self.times.is_some_and(|times| number > times) {
            Faults::default()
        } else {
            self.faults.clone()
        }
    }

    fn read(&mut self, words: &str) -> Result<(), String> {
        // Either takes the rest; whichever comes first is the key, and the other a part of its value.
        let (words, rest) = ["text=", "cmd="]
            .into_iter()
            .filter_map(|key| Some((words.find(key)?, key)))
            .min()
            .map_or((words, None), |(at, key)| {
                let value = words[at + key.len()..].trim();
                (&words[..at], Some((key, value)))
            });
        let (mut path, mut tool) = (None, None);
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "status" => self.faults.status = Some(status(value)?),
                "retry-after" => self.faults.retry_after = Some(number(value)?),
                "delay" => self.faults.delay = Some(units::duration(value)?),
                "hang" => self.faults.hang = true,
                "hang-mid" => self.faults.cut = Some(Cut::Hang),
                "drop" => self.faults.cut = Some(Cut::Drop),
                "times" => self.times = Some(number(value)?),
                "slow" => self.slow = Some(slow(value)?),
                "answer-bytes" => self.kind = Kind::Bytes(number(value)?),
                "edit" => path = Some(value),
                "tool" => tool = Some(value),
                "recall" if !value.is_empty() => self.kind = Kind::Recall(value.to_owned()),
                "quote" => self.kind = Kind::Quote,
                "empty" => self.kind = Kind::Empty,
                _ => return Err(format!("`{word}` is unknown; accepted are: {WORDS}")),
            }
        }
        match (path, tool, rest) {
            (None, None, None) => Ok(()),
            (Some(path), None, Some(("text=", text))) if !path.is_empty() => {
                self.kind = Kind::Edit {
                    path: path.to_owned(),
                    text: text.to_owned(),
                };
                Ok(())
            }
            (None, Some("shell"), Some(("cmd=", command))) if !command.is_empty() => {
                self.kind = Kind::Shell(command.to_owned());
                Ok(())
            }
            (None, Some(_), _) | (None, None, Some(("cmd=", _))) => {
                Err("a tool needs both: tool=shell cmd=COMMAND".to_owned())
            }
            _ => Err("an edit needs both: edit=PATH text=TEXT".to_owned()),
        }
    }
}

fn status(value: &str) -> Result<u16, String> {
    match number(value)? {
        code @ 400..=599 => Ok(code),
        code => Err(format!(
            "{code} is no error status; it must be from 400 to 599"
        )),
    }
}

fn slow(value: &str) -> Result<(usize, Duration), String> {
    let (size, every) = value
        .split_once('/')
        .ok_or("slow needs a size and a time, such as 10B/5ms")?;
    let size = usize::try_from(units::size(size)?).map_err(|error| error.to_string())?;
    Ok((size.max(1), units::duration(every)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_wherever_it_stands() {
        let plain = Directives::default;
        let faulty = |faults| Directives {
            faults,
            ..Directives::default()
        };
        let of_kind = |kind| Directives {
            kind,
            ..Directives::default()
        };
        let table = [
            ("hello", plain()),
            ("hello [[model: status=500", plain()),
            ("hello [[model:]] you", plain()),
            (
                "[[model: status=429]]",
                faulty(Faults {
                    status: Some(429),
                    ..Faults::default()
                }),
            ),
            (
                "a [[model: status=429 retry-after=3]]\nb",
                faulty(Faults {
                    status: Some(429),
                    retry_after: Some(3),
                    ..Faults::default()
                }),
            ),
            (
                "[[model: delay=2s]]",
                faulty(Faults {
                    delay: Some(Duration::from_secs(2)),
                    ..Faults::default()
                }),
            ),
            (
                "[[model: hang]]",
                faulty(Faults {
                    hang: true,
                    ..Faults::default()
                }),
            ),
            (
                "[[model: hang-mid]]",
                faulty(Faults {
                    cut: Some(Cut::Hang),
                    ..Faults::default()
                }),
            ),
            (
                "[[model: drop]]",
                faulty(Faults {
                    cut: Some(Cut::Drop),
                    ..Faults::default()
                }),
            ),
            (
                "[[model: slow=10B/5ms]]",
                Directives {
                    slow: Some((10, Duration::from_millis(5))),
                    ..plain()
                },
            ),
            ("[[model: answer-bytes=12]]", of_kind(Kind::Bytes(12))),
            (
                "[[model: edit=src/a.rs text=let a = 1; ]] please",
                of_kind(Kind::Edit {
                    path: "src/a.rs".to_owned(),
                    text: "let a = 1;".to_owned(),
                }),
            ),
            (
                "[[model: tool=shell cmd=echo text=1 > a]]",
                of_kind(Kind::Shell("echo text=1 > a".to_owned())),
            ),
            ("[[model: quote]]", of_kind(Kind::Quote)),
            ("[[model: empty]]", of_kind(Kind::Empty)),
            (
                "[[model: hang]] and [[model: quote]]",
                Directives {
                    kind: Kind::Quote,
                    ..faulty(Faults {
                        hang: true,
                        ..Faults::default()
                    })
                },
            ),
        ];
        for (prompt, directives) in table {
            assert_eq!(Directives::parse(prompt), Ok(directives), "{prompt}");
        }
    }

    #[test]
    fn faults_end_after_their_times() {
        let directives = Directives::parse("[[model: drop times=2]]").expect("valid");
        let cuts: Vec<_> = (1..=3)
            .map(|number| directives.faults(number).cut)
            .collect();
        assert_eq!(cuts, [Some(Cut::Drop), Some(Cut::Drop), None]);
        let for_ever = Directives::parse("[[model: drop]]").expect("valid");
        assert_eq!(for_ever.faults(u64::MAX).cut, Some(Cut::Drop));
    }

    #[test]
    fn an_order_that_is_not_understood_is_an_error() {
        for (prompt, problem) in [
            (
                "[[model: stauts=429]]",
                "`stauts=429` is unknown; accepted are: status=CODE",
            ),
            ("[[model: status=200]]", "from 400 to 599"),
            ("[[model: status=often]]", "no whole number"),
            ("[[model: delay=2]]", "no time"),
            ("[[model: slow=10B]]", "such as 10B/5ms"),
            ("[[model: edit=a.txt]]", "needs both"),
            ("[[model: text=a]]", "needs both"),
            ("[[model: tool=shell]]", "tool needs both"),
            ("[[model: cmd=ls]]", "tool needs both"),
            ("[[model: tool=hammer cmd=ls]]", "tool needs both"),
        ] {
            let error = Directives::parse(prompt).expect_err(prompt);
            assert!(error.contains(problem), "{error}");
        }
    }
}
