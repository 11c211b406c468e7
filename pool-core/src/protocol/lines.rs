//! The protocol for any line-oriented program: submit by a template, begin and end by marks that the program prints.
//!
//! Owns the framing of prompts and the search for the marks. Must not know which program it speaks to: all of that is
//! the profile's data. Invariant: with `end`, only a whole line that carries this turn's own 128-bit nonce ends a turn, so
//! nothing that was said before can end it; with `end_pattern` an end is believed only after a quiet time.
//!
//! Where there is a `sentinel`, it is written before the prompt too, with a nonce of its own: what the program prints
//! before that mark, such as the late words of a background job, is no part of the reply. A job that speaks in the middle
//! of a turn cannot be told from the turn. An interrupted turn ends at the mark of a sentinel that was written after the
//! last SIGINT, which proves that no signal is left to hit the next turn.

mod config;

use std::ops::Range;
use std::time::{Duration, Instant};

use memchr::memmem;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use config::{End, fill};
pub use config::{Interrupt, LinesConfig, LinesFile, Multiline};

use super::{Outbox, Protocol, Stream, TurnEvent};
use crate::outcome::{Attribution, Grade, Outcome};
use crate::planted::planted;
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

/// This much of an unfinished line is looked at for readiness.
const READY_WINDOW: usize = 64 << 10;

/// A program's own prompt is shorter than this many bytes; a longer unfinished line is passed on.
const LONGEST_PROMPT_LINE: usize = 4 << 10;

/// A signal may come too early, before the program works on the prompt, or stop only a part of it; so it is sent again.
const SIGINT_SPACING: Duration = Duration::from_secs(1);

/// How long a nonce is as text.
const NONCE_DIGITS: usize = 32;

/// The `lines` protocol for one process.
pub struct Lines {
    config: LinesConfig,
    max_prompt_bytes: usize,
    nonces: StdRng,
    state: State,
    /// Output not yet passed on: the part that may turn out to be a mark.
    held: Vec<u8>,
    /// The mark before this turn's reply, without its line ends.
    start: Vec<u8>,
    /// The mark behind it.
    end: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Starting,
    Idle,
    /// The reply has not begun, or (`cancelled`) does not matter any more: output is dropped up to a mark.
    Deaf {
        turn: TurnId,
        cancelled: bool,
        /// The held bytes begin a line.
        at_start: bool,
    },
    Busy {
        turn: TurnId,
        /// The held bytes begin a line whose beginning was not passed on.
        at_start: bool,
        /// When the last byte came, if an end pattern waits to be believed.
        matched_at: Option<Instant>,
    },
}

impl Lines {
    /// A protocol for one process, with nonces from the operating system's randomness.
    pub fn new(config: LinesConfig, max_prompt_bytes: usize) -> Self {
        Self::with_nonces(config, max_prompt_bytes, StdRng::from_os_rng())
    }

    /// The same with nonces that a test can foretell.
    pub fn with_nonces(config: LinesConfig, max_prompt_bytes: usize, nonces: StdRng) -> Self {
        Self {
            config,
            max_prompt_bytes,
            nonces,
            state: State::Starting,
            held: Vec::new(),
            start: Vec::new(),
            end: Vec::new(),
        }
    }

    fn nonce(&mut self) -> String {
        format!(
            "{:016x}{:016x}",
            self.nonces.next_u64(),
            self.nonces.next_u64()
        )
    }

    /// The mark that carries this nonce; empty where the program prints none.
    fn mark(&self, nonce: &str) -> Vec<u8> {
        match &self.config.end {
            End::Mark(template) => fill(template, nonce, None).into_bytes(),
            End::Pattern(_) => Vec::new(),
        }
    }

    /// Makes the program print a mark, and answers it.
    fn ask_for_mark(&mut self, out: &mut Outbox) -> Vec<u8> {
        let nonce = self.nonce();
        out.write(fill(&self.config.sentinel, &nonce, None).as_bytes());
        self.mark(&nonce)
    }

    fn receive_starting(&mut self, out: &mut Outbox) {
        let ready = match &self.config.ready {
            Some(pattern) => {
                let text = String::from_utf8_lossy(&self.held);
                text.split('\n')
                    .any(|line| pattern.is_match(line.trim_end_matches('\r')))
            }
            None => find_mark(&self.held, &self.end, true).is_some(),
        };
        if ready {
            self.held.clear();
            self.state = State::Idle;
            out.emit(TurnEvent::Ready);
        } else {
            // A finished line has been looked at; an unfinished one may go on, but not for ever.
            let line = memchr::memrchr(b'\n', &self.held).map_or(0, |at| at + 1);
            let surplus = line.max(self.held.len().saturating_sub(READY_WINDOW));
            self.held.drain(..surplus);
        }
    }

    fn receive_deaf(&mut self, turn: TurnId, cancelled: bool, at_start: bool, out: &mut Outbox) {
        let mark = if cancelled { &self.end } else { &self.start };
        match find_mark(&self.held, mark, at_start) {
            Some(_) if cancelled => {
                self.held.clear();
                self.finish(turn, Outcome::Cancelled, "sentinel", out);
            }
            Some(framing) => {
                self.held.drain(..framing.end);
                self.state = begun(turn);
                self.receive_busy(turn, true, out);
            }
            None => {
                let drop = unfinished_mark(&self.held, mark, at_start);
                self.held.drain(..drop);
                self.state = State::Deaf {
                    turn,
                    cancelled,
                    at_start: at_start && drop == 0,
                };
            }
        }
    }

    fn receive_busy(&mut self, turn: TurnId, at_start: bool, out: &mut Outbox) {
        match &self.config.end {
            End::Mark(_) => match find_mark(&self.held, &self.end, at_start) {
                Some(framing) => {
                    self.held.truncate(framing.start);
                    self.finish(turn, Outcome::Completed, "sentinel", out);
                }
                None => {
                    let keep = unfinished_mark(&self.held, &self.end, at_start);
                    self.pass_on(turn, at_start && keep == 0, keep, out);
                }
            },
            End::Pattern(pattern) => {
                // The prompt is an unfinished line and may come in pieces, so the last line is held until it ends.
                let line = memchr::memrchr(b'\n', &self.held).map_or(0, |at| at + 1);
                let begins_line = line > 0 || at_start;
                let last = &self.held[line..];
                let matched = begins_line && pattern.is_match(&String::from_utf8_lossy(last));
                let holds = matched || (begins_line && last.len() <= LONGEST_PROMPT_LINE);
                let count = if holds { line } else { self.held.len() };
                self.pass_on(turn, holds, count, out);
                if matched {
                    let quiet_at = out.now() + self.config.quiet;
                    out.wake_at(Some(quiet_at));
                    self.state = State::Busy {
                        turn,
                        at_start: true,
                        matched_at: Some(quiet_at),
                    };
                } else {
                    out.wake_at(None);
                }
            }
        }
    }

    /// Hands the first `count` held bytes to the caller. `at_start`: what stays held begins a line.
    fn pass_on(&mut self, turn: TurnId, at_start: bool, count: usize, out: &mut Outbox) {
        if count > 0 {
            out.emit(TurnEvent::Chunk {
                turn,
                bytes: self.held.drain(..count).collect(),
            });
        }
        self.state = State::Busy {
            turn,
            at_start,
            matched_at: None,
        };
    }

    /// Ends the turn; the held bytes are the rest of the reply.
    fn finish(&mut self, turn: TurnId, outcome: Outcome, by: &'static str, out: &mut Outbox) {
        if !self.held.is_empty() {
            out.emit(TurnEvent::Chunk {
                turn,
                bytes: std::mem::take(&mut self.held),
            });
        }
        self.state = State::Idle;
        out.wake_at(None);
        out.emit(TurnEvent::TurnEnded {
            turn,
            outcome,
            attribution: Attribution {
                grade: Grade::C,
                by,
            },
            answer: None,
            usage: None,
        });
    }

    /// Sends SIGINT. The turn is over when the program answers what is written behind it.
    fn stop(&mut self, turn: TurnId, out: &mut Outbox) {
        out.interrupt();
        self.end = self.ask_for_mark(out);
        out.wake_at(Some(out.now() + SIGINT_SPACING));
        self.held.clear();
        self.state = State::Deaf {
            turn,
            cancelled: true,
            at_start: true,
        };
    }
}

/// A reply whose first byte has not come.
fn begun(turn: TurnId) -> State {
    State::Busy {
        turn,
        at_start: true,
        matched_at: None,
    }
}

impl Protocol for Lines {
    fn start(&mut self, out: &mut Outbox) {
        if self.config.ready.is_none() {
            self.end = self.ask_for_mark(out);
        }
    }

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if prompt.kind == PromptKind::Command {
            return Err(Refusal::Unsupported(
                "this tool has no commands apart from its prompts; send the text as a prompt"
                    .to_owned(),
            ));
        }
        if prompt.text.is_empty() {
            return Err(Refusal::Empty);
        }
        if prompt.text.len() > self.max_prompt_bytes {
            return Err(Refusal::TooLarge {
                bytes: prompt.text.len(),
                limit: self.max_prompt_bytes,
            });
        }
        let nonce = self.nonce();
        let encoded = self.config.encode(&prompt.text, &nonce)?;
        self.held.clear();
        self.state = if self.config.marks_start() {
            self.start = self.ask_for_mark(out);
            State::Deaf {
                turn,
                cancelled: false,
                at_start: true,
            }
        } else {
            begun(turn)
        };
        self.end = self.mark(&nonce);
        out.write(encoded.as_bytes());
        Ok(())
    }

    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox) {
        // Standard error is evidence for the shell; profiles that want it in the reply merge it into stdout.
        if from == Stream::Stderr {
            return;
        }
        match self.state {
            State::Idle => {}
            State::Starting => {
                self.held.extend_from_slice(bytes);
                self.receive_starting(out);
            }
            State::Deaf {
                turn,
                cancelled,
                at_start,
            } => {
                self.held.extend_from_slice(bytes);
                self.receive_deaf(turn, cancelled, at_start, out);
            }
            State::Busy { turn, at_start, .. } => {
                self.held.extend_from_slice(bytes);
                self.receive_busy(turn, at_start, out);
            }
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        if let State::Deaf { turn, .. } | State::Busy { turn, .. } = self.state
            && self.config.interrupt == Some(Interrupt::Sigint)
        {
            self.stop(turn, out);
        }
    }

    fn tick(&mut self, out: &mut Outbox) {
        match self.state {
            State::Busy {
                turn,
                matched_at: Some(quiet_at),
                ..
            } if out.now() >= quiet_at => {
                // The prompt itself is not part of the answer.
                let line = memchr::memrchr(b'\n', &self.held).map_or(0, |at| at + 1);
                self.held.truncate(line);
                self.finish(turn, Outcome::Completed, "end pattern", out);
            }
            State::Deaf {
                turn,
                cancelled: true,
                ..
            } => self.stop(turn, out),
            _ => {}
        }
    }
}

/// Where `mark` stands in `bytes` as a line of its own, with its line end and the `\n` before it, which belongs to the
/// framing. `at_start`: the first byte begins a line.
fn find_mark(bytes: &[u8], mark: &[u8], at_start: bool) -> Option<Range<usize>> {
    if planted("mark_anywhere") {
        let words = &mark[mark.len().min(NONCE_DIGITS)..];
        let from = |at: usize| at.saturating_sub(NONCE_DIGITS + 1);
        return memmem::find(bytes, words).map(|at| from(at)..at + words.len());
    }
    memmem::find_iter(bytes, mark).find_map(|at| {
        let after = at + mark.len();
        let end = match &bytes[after..] {
            [b'\n', ..] => after + 1,
            [b'\r', b'\n', ..] => after + 2,
            _ => return None,
        };
        match at.checked_sub(1).map(|before| bytes[before]) {
            None => at_start.then_some(0..end),
            Some(b'\n') => Some(at - 1..end),
            Some(_) => None,
        }
    })
}

/// How many bytes can be passed on, since what follows them may still become the end mark's line.
fn unfinished_mark(bytes: &[u8], mark: &[u8], at_start: bool) -> usize {
    let could_become = |rest: &[u8]| {
        let seen = rest.len().min(mark.len());
        rest[..seen] == mark[..seen] && matches!(&rest[seen..], b"" | b"\r")
    };
    // Only a line end near the end can begin an unfinished mark.
    let window = bytes.len().saturating_sub(mark.len() + 4);
    for at in memchr::memchr_iter(b'\n', &bytes[window..]) {
        let at = window + at;
        if could_become(&bytes[at + 1..]) {
            return at;
        }
    }
    if at_start && could_become(bytes) {
        0
    } else {
        bytes.len()
    }
}

#[cfg(test)]
mod tests;
