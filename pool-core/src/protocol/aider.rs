//! aider on plain pipes: every turn is ended by a random command that only we know.
//!
//! Owns how aider is made ready, prompted, interrupted and read. Must not know processes, profiles or the model behind
//! aider. Invariant: a turn ends only when aider has answered a mark with a fresh 128-bit nonce that the model cannot
//! have seen; the prompt `> ` alone proves nothing, because models quote it.
//!
//! After the prompt, one more line `/=<nonce>` is written. aider handles it when the turn is over and answers
//! `Invalid command: /=<nonce>` without asking the model. What the turn came to is not on the screen but in the two
//! files that aider writes beside it; they are made empty at the start of a turn and read at its end. All facts about
//! aider in this module were measured with aider 0.86.2.

mod answer;
mod encode;
mod message;
mod outcome;
mod screen;
#[cfg(test)]
mod tests;
mod turn;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(in crate::protocol) use self::message::MessageReading;

use self::encode::Step;
use self::screen::{Finder, Frame, Retries, Screen, Seen, Shown, excerpt};
use self::turn::{Cancel, End, SideFiles, Turn};
use crate::outcome::{Attribution, Grade, Outcome};
use crate::prompt::{Prompt, Refusal, TurnId};
use crate::protocol::{Outbox, Protocol, SideFile, Stream, TurnEvent};

/// aider's `--analytics-log`: one JSON object per line, one line per thing that happened.
const EVENTS: SideFile = "events.jsonl";
/// aider's `--llm-history-file`: every request and every answer, word for word.
const LLM_LOG: SideFile = "llm.log";

/// Two SIGINTs that aider handles within 2 s make it exit.
const SIGINT_SPACING: Duration = Duration::from_millis(2500);
/// How long aider may take to acknowledge a SIGINT; measured: 5 to 50 ms, at most 0.5 s.
const SIGINT_PATIENCE: Duration = Duration::from_secs(3);
/// About one SIGINT in a hundred is lost in a destructor of aider's interpreter, so it is worth sending again.
const SIGINT_TRIES: u8 = 3;
/// How long aider may take from the acknowledgement to the answer to the next mark.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// What aider prints when it has stopped a turn.
const ACKNOWLEDGEMENT: &[u8] = b"\n^C again to exit\n";

const BY_SENTINEL: Attribution = Attribution {
    grade: Grade::C,
    by: "sentinel",
};

/// What the profile says about aider.
#[derive(Clone, Debug)]
pub struct AiderConfig {
    /// The commands that callers may send, with or without arguments: `/tokens`.
    pub commands: Vec<String>,
    /// The commands that callers may send only without arguments: `/help` alone is harmless, `/help me` installs
    /// packages.
    pub bare_commands: Vec<String>,
    /// The longest text of a prompt, in bytes.
    pub max_prompt_bytes: usize,
}

/// The protocol of one aider process.
pub struct Aider {
    config: AiderConfig,
    nonces: Box<dyn FnMut() -> u128 + Send>,
    state: State,
    /// The prompt that aider shows while it is idle.
    shown: Shown,
    acknowledged: Option<Instant>,
}

enum State {
    New,
    Starting(Frame),
    Idle,
    Running(Box<Turn>),
    Broken,
}

impl Aider {
    /// A protocol for a process that has just been started.
    pub fn new(config: AiderConfig) -> Self {
        let mut rng = StdRng::from_os_rng();
        Self::with_nonces(config, move || rng.random())
    }

    /// As [`Aider::new`], with the caller's nonces, so that recorded bytes can be replayed. Each must be new.
    pub fn with_nonces(config: AiderConfig, nonces: impl FnMut() -> u128 + Send + 'static) -> Self {
        Self {
            config,
            nonces: Box::new(nonces),
            state: State::New,
            shown: Shown::default(),
            acknowledged: None,
        }
    }

    fn nonce(&mut self) -> String {
        format!("{:032x}", (self.nonces)())
    }

    /// Writes a step and its mark in one go: should aider crash, its question about a report reads the mark as "no"
    /// instead of waiting for ever.
    fn begin(&mut self, step: &mut Step, out: &mut Outbox) -> Frame {
        let (tag, mark) = (self.nonce(), self.nonce());
        let echoes = step.write(&tag, out);
        write_mark(&mark, out);
        Frame::new(&mark, &self.shown, echoes)
    }

    /// Does something to the running turn, if one is running and its end has not been seen.
    fn with_turn(
        &mut self,
        out: &mut Outbox,
        act: impl FnOnce(&mut Self, &mut Turn, &mut Outbox) -> Result<(), String>,
    ) {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Running(mut turn) if turn.files.is_none() => match act(self, &mut turn, out) {
                Ok(()) => self.state = State::Running(turn),
                Err(why) => self.fault(why, out),
            },
            other => self.state = other,
        }
    }

    fn fault(&mut self, why: String, out: &mut Outbox) {
        self.state = State::Broken;
        out.wake_at(None);
        out.emit(TurnEvent::Fault(why));
    }

    fn receive_at_start(&mut self, mut frame: Frame, mut bytes: &[u8], out: &mut Outbox) {
        while !bytes.is_empty() {
            match frame.feed(&mut bytes) {
                Err(why) => return self.fault(why, out),
                Ok(Seen::Prompt { shown, .. }) => {
                    self.shown = shown;
                    self.state = State::Idle;
                    return out.emit(TurnEvent::Ready);
                }
                Ok(_) => {}
            }
        }
        self.state = State::Starting(frame);
    }

    fn receive_in_turn(&mut self, mut turn: Box<Turn>, mut bytes: &[u8], out: &mut Outbox) {
        while !bytes.is_empty() {
            if turn.files.is_some() {
                return self.fault(unasked(bytes), out);
            }
            let piece = bytes;
            let seen = match turn.frame.feed(&mut bytes) {
                Ok(seen) => seen,
                Err(why) => return self.fault(why, out),
            };
            if turn.acknowledges(&piece[..piece.len() - bytes.len()]) {
                self.acknowledged = Some(out.now());
                self.drain(&mut turn, out);
                continue;
            }
            match seen {
                Seen::Nothing => {}
                Seen::Accepted => self.signal_if_wanted(&mut turn, out),
                Seen::Body(text) => turn.take(&text, out),
                Seen::Mark => turn.note_end(&self.shown, out),
                Seen::Prompt { held, shown } => {
                    turn.take_last(held, &shown, out);
                    self.shown = shown;
                    match self.end_step(turn, out) {
                        Some(next) => turn = next,
                        None => return,
                    }
                }
            }
        }
        self.state = State::Running(turn);
    }

    /// Goes on to the next step, or begins to work out the outcome. Returns the turn unless it is over.
    fn end_step(&mut self, mut turn: Box<Turn>, out: &mut Outbox) -> Option<Box<Turn>> {
        if !turn.step.prepares() {
            out.wake_at(None);
            out.read_file(EVENTS);
            out.read_file(LLM_LOG);
            turn.files = Some(SideFiles::default());
            return Some(turn);
        }
        let printed = turn.screen.text();
        if matches!(turn.step, Step::Reset) && !printed.contains("chat history cleared.") {
            let printed = excerpt(printed.as_bytes());
            self.fault(format!("aider did not reset: {printed}"), out);
            return None;
        }
        let outcome = match (turn.missing_file(), &turn.cancel) {
            (Some(failure), _) => Outcome::Failed(failure),
            (None, Cancel::Wanted) => Outcome::Cancelled,
            (None, _) => {
                let step = turn.rest.pop_front();
                turn.step = step.expect("a plan ends with what the caller sends");
                turn.frame = self.begin(&mut turn.step, out);
                turn.screen = Screen::default();
                return Some(turn);
            }
        };
        self.end_turn(turn.id, End::without_answer(outcome), out);
        None
    }

    fn end_turn(&mut self, turn: TurnId, end: End, out: &mut Outbox) {
        self.state = State::Idle;
        out.wake_at(None);
        out.emit(TurnEvent::TurnEnded {
            turn,
            outcome: end.outcome,
            attribution: BY_SENTINEL,
            answer: end.answer,
            usage: end.usage,
        });
    }

    /// Sends SIGINT if it is wanted and does no harm. While aider still reads the prompt it could lose a part of it and
    /// take the rest for prompts of their own; behind the mark it would hit the next turn.
    fn signal_if_wanted(&mut self, turn: &mut Turn, out: &mut Outbox) {
        if !matches!(turn.cancel, Cancel::Wanted)
            || turn.step.prepares()
            || !turn.frame.is_in_body()
        {
            return;
        }
        match self.acknowledged.map(|last| last + SIGINT_SPACING) {
            Some(earliest) if earliest > out.now() => out.wake_at(Some(earliest)),
            _ => {
                let deadline = out.now() + SIGINT_PATIENCE;
                out.interrupt();
                out.wake_at(Some(deadline));
                turn.cancel = Cancel::Sent {
                    tries: 1,
                    deadline,
                    acknowledgement: Finder::new(ACKNOWLEDGEMENT),
                    over: false,
                };
            }
        }
    }

    /// Asks aider to answer a fresh mark: the first one may have been lost with the signal.
    fn drain(&mut self, turn: &mut Turn, out: &mut Outbox) {
        let over = matches!(turn.cancel, Cancel::Sent { over: true, .. });
        let mark = self.nonce();
        write_mark(&mark, out);
        turn.frame = Frame::in_the_middle(&mark, &self.shown);
        let deadline = out.now() + DRAIN_PATIENCE;
        out.wake_at(Some(deadline));
        turn.cancel = Cancel::Draining { deadline, over };
    }
}

impl Protocol for Aider {
    /// Sends `/tokens`, which makes aider load its model library now rather than in the first turn, and a mark.
    fn start(&mut self, out: &mut Outbox) {
        let mark = self.nonce();
        out.write(b"/tokens\n");
        write_mark(&mark, out);
        self.state = State::Starting(Frame::in_the_middle(&mark, &self.shown));
    }

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if !matches!(self.state, State::Idle) {
            return Err(Refusal::Unsupported(
                "aider is not idle; send one prompt at a time".to_owned(),
            ));
        }
        let mut rest = Step::plan(prompt, &self.config)?;
        let Some(mut step) = rest.pop_front() else {
            return Err(Refusal::Empty);
        };
        out.truncate_file(EVENTS);
        out.truncate_file(LLM_LOG);
        let frame = self.begin(&mut step, out);
        self.state = State::Running(Box::new(Turn {
            id: turn,
            step,
            rest,
            frame,
            screen: Screen::default(),
            retries: Retries::default(),
            cancel: Cancel::No,
            files: None,
        }));
        Ok(())
    }

    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox) {
        if from == Stream::Stderr || bytes.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Starting(frame) => self.receive_at_start(frame, bytes, out),
            State::Running(turn) => self.receive_in_turn(turn, bytes, out),
            State::Idle => self.fault(unasked(bytes), out),
            State::New => self.state = State::New,
            State::Broken => {}
        }
    }

    fn file(&mut self, name: SideFile, contents: &[u8], out: &mut Outbox) {
        let State::Running(turn) = &mut self.state else {
            return;
        };
        let id = turn.id;
        match turn.take_file(name, contents) {
            Some(Ok(end)) => self.end_turn(id, end, out),
            Some(Err(why)) => self.fault(why, out),
            None => {}
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        self.with_turn(out, |aider, turn, out| {
            if matches!(turn.cancel, Cancel::No) {
                turn.cancel = Cancel::Wanted;
                aider.signal_if_wanted(turn, out);
            }
            Ok(())
        });
    }

    fn tick(&mut self, out: &mut Outbox) {
        self.with_turn(out, |aider, turn, out| {
            let now = out.now();
            match &mut turn.cancel {
                Cancel::Wanted => aider.signal_if_wanted(turn, out),
                Cancel::Sent {
                    tries, deadline, ..
                } if now >= *deadline => {
                    if *tries == SIGINT_TRIES {
                        return Err(format!("aider did not react to {SIGINT_TRIES} interrupts"));
                    }
                    *tries += 1;
                    *deadline = now + SIGINT_PATIENCE;
                    out.wake_at(Some(*deadline));
                    out.interrupt();
                }
                Cancel::Draining { deadline, .. } if now >= *deadline => {
                    return Err("aider acknowledged the interrupt and then fell silent".to_owned());
                }
                Cancel::No | Cancel::Sent { .. } | Cancel::Draining { .. } => {}
            }
            Ok(())
        });
    }
}

fn write_mark(nonce: &str, out: &mut Outbox) {
    out.write(format!("/={nonce}\n").as_bytes());
}

fn unasked(bytes: &[u8]) -> String {
    format!("aider wrote without being asked: {}", excerpt(bytes))
}
