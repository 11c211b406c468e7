//! The person at the terminal, who is asked what a tool may do.
//!
//! Owns the terminal's line and the questions that wait for it. Must not know why a tool asks. Invariant: only a line that
//! was typed after its question was shown is an answer, and only a clear yes is a yes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _};

use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc;
use toolpool::{Answer, Event, EventKind, PermissionId};

use crate::console::{Tone, write_stderr};
use crate::duration;

/// Lines that may wait to be looked at; only the newest can matter.
const LINES: usize = 16;

/// Whoever answers, if there is a terminal.
pub(crate) struct Person {
    terminal: Option<File>,
    /// What is typed, once somebody was asked.
    lines: Option<mpsc::Receiver<String>>,
    questions: Questions,
}

/// The questions, one of which is shown at a time.
#[derive(Default)]
struct Questions {
    waiting: VecDeque<(PermissionId, String)>,
    turn: Turn,
}

/// Whose turn it is to say something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// Nothing is asked.
    #[default]
    Nobodys,
    /// This question is shown.
    Persons(PermissionId),
    /// This one was answered; the cluster has not said what came of it.
    Clusters(PermissionId),
}

/// Whether somebody can be asked: there is a terminal to read from, and questions show on it.
pub(crate) fn has_terminal() -> bool {
    terminal().is_some()
}

fn terminal() -> Option<File> {
    if !io::stderr().is_terminal() {
        return None;
    }
    // Standard input may be a pipe that brings the prompt.
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    terminal.ok().filter(|terminal| terminal.is_terminal())
}

impl Person {
    /// Looks for a terminal, if somebody may have to be asked.
    pub(crate) fn new(is_needed: bool) -> Self {
        Self {
            terminal: if is_needed { terminal() } else { None },
            lines: None,
            questions: Questions::default(),
        }
    }

    /// Takes what happened, and gives the lines to be told about it.
    pub(crate) fn hear(&mut self, event: &Event) -> Vec<(Tone, String)> {
        match &event.kind {
            EventKind::PermissionAsked {
                permission,
                turn,
                instance,
                question,
                timeout,
                ..
            } => {
                let asks = format!("{instance} · {turn} · asks: {}", visible(question));
                let within = duration::show(*timeout);
                if self.terminal.is_none() {
                    let line = format!(
                        "{asks}\n  there is no terminal to ask on, so the answer is no in {within}; \
                         `--approvals` none, reads, edits or all decides without asking"
                    );
                    return vec![(Tone::Question, line)];
                }
                let line = format!("{asks}\n  allow it? y or n, within {within}");
                self.questions.waiting.push_back((*permission, line));
                self.show_next()
            }
            EventKind::PermissionAnswered { permission, .. }
            | EventKind::PermissionWithdrawn { permission, .. }
            | EventKind::AnswerRefused { permission } => {
                let unanswered = self.questions.close(*permission);
                let mut lines = Vec::new();
                if unanswered {
                    let line = "the question needs no answer any more".to_owned();
                    lines.push((Tone::Plain, line));
                }
                lines.extend(self.show_next());
                lines
            }
            _ => Vec::new(),
        }
    }

    fn show_next(&mut self) -> Vec<(Tone, String)> {
        let Some(line) = self.questions.next() else {
            return Vec::new();
        };
        if let Some(terminal) = &self.terminal {
            // What was typed before cannot be meant for this question. A terminal that refuses has nothing waiting.
            tcflush(terminal, QueueSelector::IFlush).ok();
            match &mut self.lines {
                Some(lines) => while lines.try_recv().is_ok() {},
                None => self.lines = terminal.try_clone().ok().map(read_lines),
            }
        }
        vec![(Tone::Question, line)]
    }

    /// Waits for an answer to the question that is shown.
    ///
    /// Cancel safe: nothing that was typed is lost.
    pub(crate) async fn answer(&mut self) -> (PermissionId, Answer) {
        loop {
            let line = match &mut self.lines {
                Some(lines) => lines.recv().await,
                None => std::future::pending().await,
            };
            match line {
                Some(line) => match self.questions.answer(&line) {
                    Some(answered) => return answered,
                    None if matches!(self.questions.turn, Turn::Persons(_)) => {
                        write_stderr("  y or n?\n");
                    }
                    None => {}
                },
                // Nobody is there any more: what is asked from now on times out.
                None => self.lines = None,
            }
        }
    }
}

impl Questions {
    /// The next question, if none is shown.
    fn next(&mut self) -> Option<String> {
        if self.turn != Turn::Nobodys {
            return None;
        }
        let (permission, line) = self.waiting.front()?;
        self.turn = Turn::Persons(*permission);
        Some(line.clone())
    }

    /// What a line means for the question that is shown.
    fn answer(&mut self, line: &str) -> Option<(PermissionId, Answer)> {
        let Turn::Persons(permission) = self.turn else {
            return None;
        };
        let answer = match line.trim().to_lowercase().as_str() {
            "y" | "yes" => Answer::Allow,
            "n" | "no" => Answer::Deny,
            _ => return None,
        };
        self.turn = Turn::Clusters(permission);
        Some((permission, answer))
    }

    /// It has its end. True if it was shown and not answered.
    fn close(&mut self, permission: PermissionId) -> bool {
        self.waiting.retain(|(waiting, _)| *waiting != permission);
        let unanswered = self.turn == Turn::Persons(permission);
        if unanswered || self.turn == Turn::Clusters(permission) {
            self.turn = Turn::Nobodys;
        }
        unanswered
    }
}

/// Reads in a thread that nobody waits for: a terminal cannot be made to give up a read.
fn read_lines(terminal: File) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(terminal).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The text with everything spelled out that would show it as something else: control characters, and those that turn
/// the direction of writing or take no space.
fn visible(text: &str) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if misleads(c) {
            visible.extend(c.escape_unicode());
        } else {
            visible.push(c);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(count: u64) -> Questions {
        let waiting =
            (1..=count).map(|number| (PermissionId(number), format!("question {number}")));
        Questions {
            waiting: waiting.collect(),
            turn: Turn::Nobodys,
        }
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for (line, answer) in [
            ("y", Some(Answer::Allow)),
            (" YES \n", Some(Answer::Allow)),
            ("n", Some(Answer::Deny)),
            ("No", Some(Answer::Deny)),
            ("", None),
            ("yy", None),
            ("yes, but", None),
            ("always", None),
        ] {
            let mut questions = asked(1);
            questions.next();
            let answered = questions.answer(line);
            assert_eq!(
                answered,
                answer.map(|answer| (PermissionId(1), answer)),
                "{line:?}"
            );
        }
    }

    #[test]
    fn one_question_is_shown_at_a_time_and_answered_once() {
        let mut questions = asked(2);
        assert_eq!(questions.answer("y"), None, "nothing is shown");
        assert_eq!(questions.next().as_deref(), Some("question 1"));
        assert_eq!(questions.next(), None, "one at a time");
        assert!(questions.answer("y").is_some());
        assert_eq!(questions.answer("y"), None, "once");
        assert_eq!(questions.next(), None, "not before the first is settled");
        assert!(!questions.close(PermissionId(1)));
        assert_eq!(questions.next().as_deref(), Some("question 2"));
        assert!(questions.close(PermissionId(2)), "it was shown");
        assert_eq!((questions.answer("y"), questions.next()), (None, None));
    }

    #[test]
    fn a_question_that_is_settled_before_it_was_shown_is_never_shown() {
        let mut questions = asked(3);
        questions.next();
        assert!(!questions.close(PermissionId(2)));
        questions.close(PermissionId(1));
        assert_eq!(questions.next().as_deref(), Some("question 3"));
    }

    #[test]
    fn a_question_cannot_look_like_another_one() {
        assert_eq!(visible("run npm test ✓"), "run npm test ✓");
        assert_eq!(visible("rm\r\u{1b}[2Kls"), "rm\\u{d}\\u{1b}[2Kls");
        assert_eq!(visible("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
    }
}
