//! The words in double brackets by which a prompt orders a session.
//!
//! Owns their syntax. Must not know how they are obeyed. Invariant: a word that is not understood is an error, so a test
//! with a misspelled order fails instead of passing for nothing.

use crate::orders::{self, number};

const OPEN: &str = "[[jules:";

/// How a session stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Completed,
    Failed,
    Feedback,
    Plan,
    Never,
}

/// Which request something goes wrong with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum At {
    #[default]
    Create,
    Look,
    Activities,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Status { code: u16, retry_after: Option<u64> },
    Drop,
    Hang,
}

/// What a session changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    New { path: String, text: String },
    Misfit,
}

/// All orders of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) looks: u32,
    pub(super) end: End,
    pub(super) quiet: bool,
    pub(super) pages: usize,
    pub(super) pull_request: bool,
    pub(super) late: u32,
    pub(super) change: Option<Change>,
    fault: Option<Fault>,
    at: At,
    times: Option<u32>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            looks: 2,
            end: End::default(),
            quiet: false,
            pages: 1,
            pull_request: false,
            late: 0,
            change: None,
            fault: None,
            at: At::default(),
            times: None,
        }
    }
}

impl Directives {
    /// Reads the orders in a prompt.
    pub(super) fn parse(prompt: &str) -> Result<Self, String> {
        let mut directives = Self::default();
        orders::read_each(prompt, OPEN, |words| directives.read(words))?;
        Ok(directives)
    }

    /// What goes wrong with the Nth request of that kind, counted from 1.
    pub(super) fn fault(&self, at: At, number: u32) -> Option<Fault> {
        self.fault
            .filter(|_| self.at == at && self.times.is_none_or(|times| number <= times))
    }

    fn read(&mut self, words: &str) -> Result<(), String> {
        let (words, text) = match words.split_once("text=") {
            Some((words, text)) => (words, Some(text.trim())),
            None => (words, None),
        };
        let mut new = None;
        let mut retry_after = None;
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "looks" => self.looks = number(value)?,
                "quiet" => self.quiet = true,
                "pages" => self.pages = number::<usize>(value)?.max(1),
                "pr" => self.pull_request = true,
                "late" => self.late = number(value)?,
                "new" => new = Some(value),
                "misfit" => self.change = Some(Change::Misfit),
                "status" => {
                    self.fault = Some(Fault::Status {
                        code: number(value)?,
                        retry_after: None,
                    });
                }
                "retry-after" => retry_after = Some(number(value)?),
                "drop" => self.fault = Some(Fault::Drop),
                "hang" => self.fault = Some(Fault::Hang),
                "times" => self.times = Some(number(value)?),
                "end" => {
                    self.end = match value {
                        "completed" => End::Completed,
                        "failed" => End::Failed,
                        "feedback" => End::Feedback,
                        "plan" => End::Plan,
                        "never" => End::Never,
                        _ => return Err(format!("`{word}` is no end")),
                    };
                }
                "at" => {
                    self.at = match value {
                        "create" => At::Create,
                        "look" => At::Look,
                        "activities" => At::Activities,
                        _ => return Err(format!("`{word}` is no place")),
                    };
                }
                _ => return Err(format!("`{word}` is unknown")),
            }
        }
        if let (
            Some(Fault::Status {
                retry_after: place, ..
            }),
            Some(_),
        ) = (&mut self.fault, retry_after)
        {
            *place = retry_after;
        }
        match (new, text) {
            (None, None) => Ok(()),
            (Some(path), Some(text)) if !path.is_empty() => {
                self.change = Some(Change::New {
                    path: path.to_owned(),
                    text: text.to_owned(),
                });
                Ok(())
            }
            _ => Err("a new file needs both: new=PATH text=TEXT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_wherever_they_stand() {
        let read = |prompt| Directives::parse(prompt).expect("valid");
        assert_eq!(read("do it"), Directives::default());
        let orders = read("a [[jules: looks=0 end=failed]] b [[jules: new=a.txt text=x y ]]");
        assert_eq!((orders.looks, orders.end), (0, End::Failed));
        let (path, text) = ("a.txt".to_owned(), "x y".to_owned());
        assert_eq!(orders.change, Some(Change::New { path, text }));
        let orders = read("[[jules: retry-after=7 status=429 at=look times=2]]");
        let fault = Fault::Status {
            code: 429,
            retry_after: Some(7),
        };
        let seen = [1, 2, 3].map(|number| orders.fault(At::Look, number));
        assert_eq!(seen, [Some(fault), Some(fault), None]);
        assert_eq!(orders.fault(At::Create, 1), None);
    }

    #[test]
    fn an_order_that_is_not_understood_is_an_error() {
        for wrong in [
            "stauts=429",
            "end=soon",
            "at=home",
            "looks=many",
            "new=a",
            "text=a",
        ] {
            let prompt = format!("[[jules: {wrong}]]");
            assert!(Directives::parse(&prompt).is_err(), "{prompt}");
        }
    }
}
