//! Tools of one process for each prompt, behind a turn runner that stays.
//!
//! Owns what is said to the runner, and what the end of a command means. Must not know how the runner starts and ends
//! commands. Invariant: a turn ends when the runner says that its command and everything below it has ended, and with
//! nothing that a command writes; between turns there is no process but the runner.
//!
//! The exit code alone is not believed where a tool says more: `aider --message` exits with 0 when its model refused the
//! key, and gemini when its model answered nothing (measured with aider 0.86.2 and gemini-cli 0.61.0).

mod codex;
mod config;
pub(crate) mod frame;
mod gemini;
mod reading;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use config::{OneshotConfig, OneshotFile, Output};
pub(crate) use config::{PROMPT, PROMPT_FILE};
pub(in crate::protocol) use reading::{Reading, Verdict};

use self::frame::{Ended, Frames};
use super::json_rpc::{LineSplitter, MAX_LINE_BYTES};
use super::{Outbox, Protocol, SideFile, Stream, TurnEvent};
use crate::outcome::{Attribution, Doubt, DoubtCause, Failure, FailureClass, Grade, Outcome};
use crate::prompt::{Prompt, Refusal, TurnId};
use crate::tail::Tail;

/// The runner passes on at most one read of a pipe at a time, and reasons in a line.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// How long a command may take to end before it is interrupted again: a shell that is just starting a program loses a
/// SIGINT (measured with dash).
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(1);

/// So many of a command's last lines go into the message of a failure.
const MESSAGE_LINES: usize = 5;

const BY_EXIT: Attribution = Attribution {
    grade: Grade::B,
    by: "exit",
};

/// The `oneshot` protocol for one turn runner.
pub struct Oneshot {
    config: OneshotConfig,
    max_prompt_bytes: usize,
    frames: Frames,
    state: State,
}

enum State {
    New,
    Idle,
    Running(Box<Turn>),
    Broken,
}

struct Turn {
    id: TurnId,
    lines: LineSplitter,
    reading: Box<dyn Reading>,
    stdout: Tail,
    stderr: Tail,
    interrupted: bool,
    /// How the command ended, while files that it has left are read.
    ended: Option<Ended>,
    /// How many of them are still to come.
    files: usize,
}

impl Oneshot {
    /// A protocol for a turn runner that has just been started.
    pub fn new(config: OneshotConfig, max_prompt_bytes: usize) -> Self {
        Self {
            config,
            max_prompt_bytes,
            frames: Frames::new(MAX_FRAME_BYTES),
            state: State::New,
        }
    }

    fn fault(&mut self, why: impl Into<String>, out: &mut Outbox) {
        self.state = State::Broken;
        out.wake_at(None);
        out.emit(TurnEvent::Fault(why.into()));
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// Why the protocol cannot go on.
    fn take(&mut self, tag: u8, bytes: &[u8], out: &mut Outbox) -> Result<(), String> {
        match (&mut self.state, tag) {
            (State::New, frame::READY) => {
                self.state = State::Idle;
                out.emit(TurnEvent::Ready);
            }
            (State::Running(turn), frame::STDOUT) if turn.ended.is_none() => {
                turn.take_output(bytes, out)?;
            }
            (State::Running(turn), frame::STDERR) if turn.ended.is_none() => {
                turn.stderr.push(bytes);
                turn.reading.stderr(bytes);
            }
            (State::Running(turn), frame::ENDED) if turn.ended.is_none() => {
                turn.ended = Some(Ended::decode(bytes).ok_or("the turn runner tells no end")?);
                let files = turn.reading.files();
                turn.files = files.len();
                for file in files {
                    out.read_file(file);
                }
                self.end_if_known(out);
            }
            (State::Running(turn), frame::NOT_STARTED) if turn.ended.is_none() => {
                let failure = Failure {
                    class: FailureClass::Unknown,
                    message: String::from_utf8_lossy(bytes).into_owned(),
                    retry_after: None,
                };
                let (id, verdict) = (turn.id, Verdict::of(Outcome::Failed(failure)));
                self.end(id, verdict, out);
            }
            _ => return Err("the turn runner says something out of turn".to_owned()),
        }
        Ok(())
    }

    /// Ends the turn if its command has ended and all files have been read.
    fn end_if_known(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && turn.files == 0
            && let Some(ended) = turn.ended
        {
            let (id, verdict) = (turn.id, turn.verdict(ended));
            self.end(id, verdict, out);
        }
    }

    fn end(&mut self, turn: TurnId, verdict: Verdict, out: &mut Outbox) {
        self.state = State::Idle;
        out.wake_at(None);
        out.emit(TurnEvent::TurnEnded {
            turn,
            outcome: verdict.outcome,
            attribution: BY_EXIT,
            answer: verdict.answer,
            usage: verdict.usage,
        });
    }
}

impl Protocol for Oneshot {
    fn start(&mut self, _out: &mut Outbox) {}

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if !matches!(self.state, State::Idle) {
            return Err(Refusal::Unsupported(
                "the turn runner is not idle; send one prompt at a time".to_owned(),
            ));
        }
        let text = self.config.encode(prompt, self.max_prompt_bytes)?;
        let header = frame::header(frame::PROMPT, text.len()).map_err(|_| Refusal::TooLarge {
            bytes: text.len(),
            limit: self.max_prompt_bytes,
        })?;
        let reading = self.config.output.reading(turn);
        for file in reading.files() {
            out.truncate_file(file);
        }
        out.write(&header);
        out.write(text.as_bytes());
        self.state = State::Running(Box::new(Turn {
            id: turn,
            lines: LineSplitter::new(MAX_LINE_BYTES),
            reading,
            stdout: Tail::default(),
            stderr: Tail::default(),
            interrupted: false,
            ended: None,
            files: 0,
        }));
        Ok(())
    }

    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox) {
        // What the runner itself writes there is evidence for the shell.
        if from == Stream::Stderr || matches!(self.state, State::Broken) {
            return;
        }
        self.frames.push(bytes);
        loop {
            let taken = match self.frames.next() {
                Ok(Some((tag, bytes))) => self.take(tag, &bytes, out),
                Ok(None) => return,
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = taken {
                return self.fault(why, out);
            }
        }
    }

    fn file(&mut self, name: SideFile, contents: &[u8], out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && turn.files > 0
        {
            turn.files -= 1;
            turn.reading.file(name, contents);
            self.end_if_known(out);
        }
    }

    /// Through the runner, not by a signal of ours: the runner knows whether the command has been started.
    fn interrupt(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && !turn.interrupted
        {
            turn.interrupted = true;
            write_interrupt(out);
        }
    }

    fn tick(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &self.state
            && turn.interrupted
            && turn.ended.is_none()
        {
            write_interrupt(out);
        }
    }
}

fn write_interrupt(out: &mut Outbox) {
    if let Ok(header) = frame::header(frame::INTERRUPT, 0) {
        out.write(&header);
        out.wake_at(Some(out.now() + INTERRUPT_PATIENCE));
    }
}

impl Turn {
    fn take_output(&mut self, mut bytes: &[u8], out: &mut Outbox) -> Result<(), String> {
        self.stdout.push(bytes);
        if !self.reading.wants_lines() {
            self.reading.bytes(bytes, out);
            return Ok(());
        }
        loop {
            match self.lines.next_line(&mut bytes) {
                Ok(Some(line)) => self.reading.line(&line, out),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// What the turn came to, from what the tool said and how its process ended.
    fn verdict(&mut self, ended: Ended) -> Verdict {
        let said = self.reading.verdict(ended);
        let is_complete = |said: &Verdict| said.outcome == Outcome::Completed;
        let seen = !self.interrupted || self.reading.knows_the_end();
        match (ended, said) {
            (Ended::Code(0), Some(said)) if is_complete(&said) && seen => said,
            _ if self.interrupted => Verdict::of(Outcome::Cancelled),
            (Ended::Code(_), Some(said)) if !is_complete(&said) => Verdict {
                answer: None,
                ..said
            },
            (Ended::Code(0), _) => Verdict::of(Outcome::Failed(Failure {
                class: FailureClass::Protocol,
                message: self.message("it ended without saying what came of the prompt"),
                retry_after: None,
            })),
            (Ended::Code(_), _) => Verdict::of(Outcome::Failed(Failure {
                class: FailureClass::Unknown,
                message: self.message(&ended.to_string()),
                retry_after: None,
            })),
            // Nobody here sent it.
            (Ended::Signal(_), _) => Verdict::of(Outcome::Indeterminate(Doubt {
                cause: DoubtCause::Crashed,
                detail: self.message(&ended.to_string()),
            })),
        }
    }

    /// What happened, and the command's last lines.
    fn message(&mut self, what: &str) -> String {
        let mut lines = self.stderr.lines(MESSAGE_LINES);
        if lines.is_empty() {
            lines = self.stdout.lines(MESSAGE_LINES);
        }
        if lines.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {}", lines.join("\n"))
        }
    }
}
