//! The protocol for programs that need a terminal: what is typed, and what the screen shows.
//!
//! Owns the turn: typing, submitting, the search for the next prompt and the reply's rows. Must not know which program it
//! speaks to: all of that is the profile's data. Invariant: a turn ends only when the program's prompt stands at the
//! cursor *and* nothing has come for the quiet time; a program that leaves its prompt unasked gets no prompt any more.
//!
//! A screen can be forged: a program that prints its own prompt and then rests looks like one that has finished. That is
//! grade D. Rows that leave the screen at its top are passed on at once, since nothing can change them any more; the last
//! screenful comes at the end.

mod config;
mod emulator;
mod keys;
mod reply;

use std::collections::VecDeque;
use std::time::Instant;

pub use config::{ScreenConfig, ScreenFile};
use emulator::{Emulator, Place, Row};
use regex::Regex;
use reply::Reply;

use super::{Outbox, Protocol, Stream, TurnEvent, commands};
use crate::outcome::{Attribution, Grade, Outcome};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

/// The terminal's key for an interrupt, Ctrl-C. The terminal makes it SIGINT for whatever runs in the foreground, unless
/// the program reads keys itself.
const INTERRUPT: &[u8] = b"\x03";

/// A prompt may be drawn over this many rows.
const PROMPT_ROWS: u64 = 4;

/// What the profile says besides the `[screen]` table.
#[derive(Clone, Debug, Default)]
pub struct ScreenLimits {
    /// The tool's own commands that callers may send, with any arguments.
    pub commands: Vec<String>,
    /// Commands that callers may send only without arguments.
    pub bare_commands: Vec<String>,
    /// Longest prompt, in bytes.
    pub max_prompt_bytes: usize,
}

/// The `screen` protocol for one process.
pub struct ScreenText {
    config: ScreenConfig,
    limits: ScreenLimits,
    emulator: Emulator,
    state: State,
    reply: Reply,
    /// When the screen will have rested long enough for the next step.
    quiet_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Starting,
    Idle,
    /// The prompt waits, unwritten, since something was drawn after the program had become idle.
    Held {
        turn: TurnId,
        text: String,
    },
    /// The prompt is typed and not yet submitted. `at`: where the cursor was.
    Typing {
        turn: TurnId,
        at: Place,
    },
    Running(Running),
}

#[derive(Clone, Copy, Debug)]
struct Running {
    turn: TurnId,
    /// Where the cursor was when the prompt was submitted. The program's next prompt stands below: editors draw a line
    /// anew when it is submitted, and for a moment it looks empty.
    at: Place,
    /// Whether the program took pastes then. Editors switch it off while a command runs, so output that looks like the
    /// program's prompt does not end the turn.
    pastes: bool,
    cancelled: bool,
}

impl ScreenText {
    /// A protocol for one process.
    pub fn new(config: ScreenConfig, limits: ScreenLimits) -> Self {
        Self {
            emulator: Emulator::new(config.size),
            config,
            limits,
            state: State::Starting,
            reply: Reply::default(),
            quiet_at: None,
        }
    }

    /// Where the program's prompt begins that stands at the cursor: the row, and the bytes before it in that row.
    fn prompt_at(&self, pattern: &Regex) -> Option<(u64, usize)> {
        if self.emulator.shows_other_screen() {
            return None;
        }
        let (row, _) = self.emulator.cursor();
        let first = row.saturating_sub(PROMPT_ROWS - 1).max(self.emulator.top());
        let mut text = String::new();
        let mut begins = Vec::new();
        for number in first..row {
            begins.push((text.len(), number));
            text.push_str(&self.emulator.row(number).text);
            text.push('\n');
        }
        begins.push((text.len(), row));
        text.push_str(&self.emulator.up_to_cursor());
        let at = pattern.find(&text)?.start();
        let (begin, number) = begins.into_iter().rfind(|(begin, _)| *begin <= at)?;
        Some((number, at - begin))
    }

    fn is_at_prompt(&self) -> bool {
        self.prompt_at(&self.config.end).is_some()
    }

    /// Where the running turn's end stands, if it does.
    fn end_at(&self, running: Running) -> Option<(u64, usize)> {
        let edits = self.emulator.takes_pastes() == running.pastes;
        let below = |row| row > running.at.0 || self.reply.is_drawn_anew();
        self.prompt_at(&self.config.end)
            .filter(|(row, _)| edits && below(*row) && *row >= self.reply.from())
    }

    /// After output or a step of our own: what a quiet time from now on would mean.
    fn wait_for_quiet(&mut self, out: &mut Outbox) {
        let waits = match &self.state {
            State::Starting => self.prompt_at(&self.config.ready).is_some(),
            State::Idle => !self.is_at_prompt(),
            State::Held { .. } => true,
            State::Typing { at, .. } => !self.config.echo || self.emulator.cursor() != *at,
            State::Running(running) => self.end_at(*running).is_some(),
        };
        self.quiet_at = waits.then(|| out.now() + self.config.quiet);
        out.wake_at(self.quiet_at);
    }

    /// Types a prompt at the program's own one.
    ///
    /// # Errors
    /// If the program would not get it as it is; nothing was written then.
    fn type_in(&mut self, turn: TurnId, text: &str, out: &mut Outbox) -> Result<(), Refusal> {
        let keys = keys::encode(text, self.emulator.takes_pastes(), &self.config)?;
        out.write(&keys);
        let at = self.emulator.cursor();
        self.reply = Reply::new(at.0);
        self.state = State::Typing { turn, at };
        Ok(())
    }

    /// Submits what was typed. What the screen shows of it now is its echo.
    fn press_enter(&mut self, turn: TurnId, out: &mut Outbox) {
        let at = self.emulator.cursor();
        let from = self.reply.from().max(self.emulator.top());
        let mut echo: VecDeque<String> = (from..at.0)
            .map(|number| self.emulator.row(number).text)
            .collect();
        echo.push_back(self.emulator.up_to_cursor());
        self.reply.echoed(from, echo);
        out.write(self.config.submit.as_bytes());
        self.run(turn, at, false);
    }

    fn run(&mut self, turn: TurnId, at: Place, cancelled: bool) {
        self.state = State::Running(Running {
            turn,
            at,
            pastes: self.emulator.takes_pastes(),
            cancelled,
        });
    }

    /// Ends the running turn: the rows above the program's prompt are the rest of the reply.
    fn finish(&mut self, running: Running, (row, offset): (u64, usize), out: &mut Outbox) {
        for number in self.emulator.top().max(self.reply.from())..row {
            self.reply.take(number, self.emulator.row(number));
        }
        // A last line without an end has the prompt behind it.
        let mut unfinished = self.emulator.row(row).text;
        unfinished.truncate(offset);
        if !unfinished.trim().is_empty() {
            let wrapped = false;
            self.reply.take(
                row,
                Row {
                    text: unfinished,
                    wrapped,
                },
            );
        }
        let text = self.reply.finish();
        self.pass_on(running.turn, text, out);
        let outcome = if running.cancelled {
            Outcome::Cancelled
        } else {
            Outcome::Completed
        };
        self.end(running.turn, outcome, out);
    }

    fn end(&mut self, turn: TurnId, outcome: Outcome, out: &mut Outbox) {
        self.state = State::Idle;
        out.emit(TurnEvent::TurnEnded {
            turn,
            outcome,
            attribution: Attribution {
                grade: Grade::D,
                by: "prompt and quiet",
            },
            answer: None,
            usage: None,
        });
    }

    fn pass_on(&self, turn: TurnId, text: String, out: &mut Outbox) {
        if !text.is_empty() {
            out.emit(TurnEvent::Chunk {
                turn,
                bytes: text.into_bytes(),
            });
        }
    }

    fn fault(&self, out: &mut Outbox) {
        let shown: String = self.emulator.up_to_cursor().chars().take(80).collect();
        out.emit(TurnEvent::Fault(format!(
            "it left its prompt although nothing was asked; its cursor stands behind {shown:?}"
        )));
    }
}

impl Protocol for ScreenText {
    fn start(&mut self, _out: &mut Outbox) {}

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if prompt.text.len() > self.limits.max_prompt_bytes {
            return Err(Refusal::TooLarge {
                bytes: prompt.text.len(),
                limit: self.limits.max_prompt_bytes,
            });
        }
        let text = keys::check(&prompt.text)?;
        let prefixed = self
            .config
            .command_prefixes
            .iter()
            .any(|prefix| text.trim_start().starts_with(prefix.as_str()));
        let text = match prompt.kind {
            PromptKind::Text if prefixed => {
                return Err(Refusal::Unsupported(
                    "the prompt begins like one of this tool's own commands; put a word before it, or send it as a command"
                        .to_owned(),
                ));
            }
            PromptKind::Text => text,
            PromptKind::Command => {
                let line = commands::one_line(&text)?;
                commands::check(line, &self.limits.commands, &self.limits.bare_commands)?;
                line.to_owned()
            }
        };
        if self.is_at_prompt() {
            self.type_in(turn, &text, out)?;
        } else {
            self.state = State::Held { turn, text };
        }
        self.wait_for_quiet(out);
        Ok(())
    }

    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox) {
        // A terminal has one stream.
        if from == Stream::Stderr || bytes.is_empty() {
            return;
        }
        for &byte in bytes {
            self.emulator.take(byte);
            if !self.emulator.shows_other_screen() {
                self.reply.cursor_at(self.emulator.cursor());
            }
            while let Some((number, row)) = self.emulator.take_gone() {
                if matches!(self.state, State::Running(_)) {
                    self.reply.take(number, row);
                }
            }
        }
        out.write(&self.emulator.take_answers());
        if let State::Running(running) = self.state {
            let text = self.reply.take_text();
            self.pass_on(running.turn, text, out);
        }
        self.wait_for_quiet(out);
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        match &mut self.state {
            State::Starting | State::Idle => return,
            State::Held { turn, .. } => {
                let turn = *turn;
                self.end(turn, Outcome::Cancelled, out);
            }
            State::Typing { turn, .. } => {
                let turn = *turn;
                out.write(INTERRUPT);
                let at = self.emulator.cursor();
                self.run(turn, at, true);
            }
            State::Running(running) => {
                running.cancelled = true;
                out.write(INTERRUPT);
            }
        }
        self.wait_for_quiet(out);
    }

    fn tick(&mut self, out: &mut Outbox) {
        if self.quiet_at.is_none_or(|at| out.now() < at) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Starting => out.emit(TurnEvent::Ready),
            State::Idle => self.fault(out),
            State::Held { turn, text } => {
                if !self.is_at_prompt() {
                    self.fault(out);
                } else if let Err(refusal) = self.type_in(turn, &text, out) {
                    out.emit(TurnEvent::Fault(refusal.to_string()));
                }
            }
            State::Typing { turn, .. } => self.press_enter(turn, out),
            State::Running(running) => match self.end_at(running) {
                Some(end) => self.finish(running, end, out),
                None => self.state = State::Running(running),
            },
        }
        self.wait_for_quiet(out);
    }
}

#[cfg(test)]
mod tests;
