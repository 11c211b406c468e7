//! The protocol for any line-oriented program: submit by a template, end by a mark that the program prints.
//!
//! Owns the framing of prompts and the search for the end. Must not know which program it speaks to: all of that is the
//! profile's data. Invariant: with `end`, only a whole line that carries this turn's own 128-bit nonce ends a turn, so
//! nothing that was said before can end it; with `end_pattern` an end is believed only after a quiet time.

mod config;

use std::time::Instant;

use memchr::memmem;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use config::{End, fill};
pub use config::{LinesConfig, LinesFile, Multiline};

use super::{Outbox, Protocol, Stream, TurnEvent};
use crate::outcome::{Attribution, Grade, Outcome};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

/// This much of an unfinished line is looked at for readiness.
const READY_WINDOW: usize = 64 << 10;

/// A program's own prompt is shorter than this many bytes; a longer unfinished line is passed on.
const LONGEST_PROMPT_LINE: usize = 4 << 10;

/// The `lines` protocol for one process.
pub struct Lines {
    config: LinesConfig,
    max_prompt_bytes: usize,
    nonces: StdRng,
    state: State,
    /// Output not yet passed on: the part that may turn out to be the end mark.
    held: Vec<u8>,
    /// The framing around this turn's end: the mark without its line ends.
    mark: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Starting,
    Idle,
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
            mark: Vec::new(),
        }
    }

    fn nonce(&mut self) -> String {
        format!(
            "{:016x}{:016x}",
            self.nonces.next_u64(),
            self.nonces.next_u64()
        )
    }

    /// Sets the mark that ends what is now begun.
    fn arm(&mut self, nonce: &str) {
        self.held.clear();
        self.mark.clear();
        if let End::Mark(template) = &self.config.end {
            self.mark = fill(template, nonce, None).into_bytes();
        }
    }

    fn receive_starting(&mut self, out: &mut Outbox) {
        let ready = match &self.config.ready {
            Some(pattern) => {
                let text = String::from_utf8_lossy(&self.held);
                text.split('\n')
                    .any(|line| pattern.is_match(line.trim_end_matches('\r')))
            }
            None => find_mark(&self.held, &self.mark, true).is_some(),
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

    fn receive_busy(&mut self, turn: TurnId, at_start: bool, out: &mut Outbox) {
        match &self.config.end {
            End::Mark(_) => match find_mark(&self.held, &self.mark, at_start) {
                Some(end) => {
                    self.held.truncate(end);
                    self.finish(turn, "sentinel", out);
                }
                None => {
                    let keep = unfinished_mark(&self.held, &self.mark, at_start);
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
    fn finish(&mut self, turn: TurnId, by: &'static str, out: &mut Outbox) {
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
            outcome: Outcome::Completed,
            attribution: Attribution {
                grade: Grade::C,
                by,
            },
            answer: None,
            usage: None,
        });
    }
}

impl Protocol for Lines {
    fn start(&mut self, out: &mut Outbox) {
        if self.config.ready.is_none() {
            let nonce = self.nonce();
            self.arm(&nonce);
            out.write(fill(&self.config.sentinel, &nonce, None).as_bytes());
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
        self.arm(&nonce);
        out.write(encoded.as_bytes());
        self.state = State::Busy {
            turn,
            at_start: true,
            matched_at: None,
        };
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
            State::Busy { turn, at_start, .. } => {
                self.held.extend_from_slice(bytes);
                self.receive_busy(turn, at_start, out);
            }
        }
    }

    fn tick(&mut self, out: &mut Outbox) {
        if let State::Busy {
            turn,
            matched_at: Some(quiet_at),
            ..
        } = self.state
            && out.now() >= quiet_at
        {
            // The prompt itself is not part of the answer.
            let line = memchr::memrchr(b'\n', &self.held).map_or(0, |at| at + 1);
            self.held.truncate(line);
            self.finish(turn, "end pattern", out);
        }
    }
}

/// Where the reply ends, if `mark` stands in `bytes` as a line of its own. The `\n` before the mark belongs to the
/// framing. `at_start`: the first byte begins a line.
fn find_mark(bytes: &[u8], mark: &[u8], at_start: bool) -> Option<usize> {
    memmem::find_iter(bytes, mark).find_map(|at| {
        let ended = bytes[at + mark.len()..].starts_with(b"\n")
            || bytes[at + mark.len()..].starts_with(b"\r\n");
        match at.checked_sub(1).map(|before| bytes[before]) {
            _ if !ended => None,
            None => at_start.then_some(0),
            Some(b'\n') => Some(at - 1),
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
