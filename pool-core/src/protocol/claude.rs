//! Claude Code on plain pipes, in its stream-json form.
//!
//! Owns how Claude Code is made ready, prompted, interrupted, asked and read. Must not know processes, profiles or the
//! model behind it. Invariant: a turn ends only with a `result` that answers the message we sent: by the message's id
//! where Claude says it, as 2.1.330 does; 2.1.197 does not, and there one message at a time makes it safe.
//!
//! Nothing is printed until something is written, so a control request asks whether Claude is ready. A fresh turn takes
//! two messages: `/clear`, which answers with a `result` of its own, and the prompt. Text comes in pieces as the model
//! writes it; the exact answer is in the `result`. All facts about Claude Code in this module were measured with 2.1.197
//! and 2.1.330.

mod encode;
mod message;
mod outcome;
mod permission;
mod print;
#[cfg(test)]
mod tests;
mod turn;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(in crate::protocol) use self::print::PrintReading;

use self::message::{Ended, Message};
use self::permission::Permission;
use self::turn::{Cancel, Step, Turn};
use super::json_rpc::{LineSplitter, MAX_LINE_BYTES};
use crate::outcome::{Attribution, Grade, Outcome, Usage};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};
use crate::protocol::{Answer, Outbox, Protocol, RequestId, Stream, TurnEvent};

/// The id of the request that asks whether Claude is ready.
const HELLO: &str = "hello";
/// What the ids of interrupts begin with.
const INTERRUPT: &str = "interrupt-";
/// How long Claude may take from an interrupt to the end of the turn before it is asked once more; measured: 3 to 20 ms,
/// and 0.3 s while a command runs. An interrupt that comes before Claude has taken the prompt up is lost.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(1);

const BY_ID: Attribution = Attribution {
    grade: Grade::A,
    by: "turn id",
};
const BY_RESULT: Attribution = Attribution {
    grade: Grade::B,
    by: "result",
};

/// What the profile says about Claude Code.
#[derive(Clone, Debug)]
pub struct ClaudeConfig {
    /// The commands that callers may send, with or without arguments: `/compact`.
    pub commands: Vec<String>,
    /// The commands that callers may send only without arguments.
    pub bare_commands: Vec<String>,
    /// The longest text of a prompt, in bytes.
    pub max_prompt_bytes: usize,
}

/// The protocol of one Claude Code process.
pub struct Claude {
    config: ClaudeConfig,
    ids: Box<dyn FnMut() -> u128 + Send>,
    lines: LineSplitter,
    state: State,
    /// Claude's name for the conversation.
    session: Option<String>,
    /// The conversation that the process was started to go on with, until a turn has shown that it does.
    left: Option<String>,
    /// What Claude says to have spent so far.
    spent_usd: f64,
    /// Whether Claude has shown that it knows the ids of messages, so that a result without one is not ours.
    knows_ids: bool,
    interrupts: u64,
}

enum State {
    New,
    Starting,
    Idle,
    Running(Box<Turn>),
    Broken,
}

impl Claude {
    /// A protocol for a process that has just been started.
    pub fn new(config: ClaudeConfig) -> Self {
        let mut rng = StdRng::from_os_rng();
        Self::with_ids(config, move || rng.random())
    }

    /// As [`Claude::new`], with the caller's ids of messages, so that recorded lines can be replayed. Each must be new.
    pub fn with_ids(config: ClaudeConfig, ids: impl FnMut() -> u128 + Send + 'static) -> Self {
        Self {
            config,
            ids: Box::new(ids),
            lines: LineSplitter::new(MAX_LINE_BYTES),
            state: State::New,
            session: None,
            left: None,
            spent_usd: 0.0,
            knows_ids: false,
            interrupts: 0,
        }
    }

    fn fault(&mut self, why: String, out: &mut Outbox) {
        self.state = State::Broken;
        out.wake_at(None);
        out.emit(TurnEvent::Fault(why));
    }

    /// Takes one message.
    ///
    /// # Errors
    /// Why the protocol cannot go on.
    fn take(&mut self, message: Message, out: &mut Outbox) -> Result<(), String> {
        match message {
            Message::Reply { id, result } => self.take_reply(&id, result, out)?,
            Message::Request { id, mut body } => self.take_request(id, &mut body, out),
            Message::Ended(ended) => self.take_end(ended, out)?,
            Message::Began { session } => {
                if let Some(left) = self.left.take()
                    && session.as_ref().is_some_and(|session| *session != left)
                {
                    return Err(format!(
                        "claude was to go on with the conversation {left} and has begun another"
                    ));
                }
                self.note_session(session, out);
                if let State::Running(turn) = &mut self.state {
                    turn.begun = true;
                    self.interrupt_if_wanted(out);
                }
            }
            message => {
                if let State::Running(turn) = &mut self.state {
                    self.knows_ids |= matches!(&message, Message::Lifecycle { message } if *message == turn.message);
                    turn.take(message, out);
                }
            }
        }
        Ok(())
    }

    fn take_reply(
        &mut self,
        id: &str,
        result: Result<serde_json::Value, String>,
        out: &mut Outbox,
    ) -> Result<(), String> {
        match (&mut self.state, result) {
            (State::Starting, Ok(_)) if id == HELLO => {
                self.state = State::Idle;
                // It would have ended if it did not know the name.
                self.note_session(self.left.clone(), out);
                out.emit(TurnEvent::Ready);
            }
            (State::Starting, Err(why)) if id == HELLO => {
                return Err(format!("claude refused to begin: {why}"));
            }
            (State::Running(turn), _) if id.starts_with(INTERRUPT) => {
                turn.unanswered = turn.unanswered.saturating_sub(1);
                if turn.unanswered == 0
                    && let Some(ended) = turn.ended.take()
                {
                    self.end_turn(*ended, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_request(&mut self, id: String, body: &mut serde_json::Value, out: &mut Outbox) {
        let Some(permission) = Permission::read(body) else {
            let subtype = body["subtype"].as_str().unwrap_or_default();
            return encode::write_not_understood(out, &id, subtype);
        };
        match &mut self.state {
            // After an interrupt the question is about to be withdrawn; nobody should be bothered with it.
            State::Running(turn) if turn.cancel == Cancel::No => {
                let request = RequestId(id);
                turn.questions.insert(request.clone(), permission.input);
                out.emit(TurnEvent::Waiting {
                    turn: turn.id,
                    request,
                    question: permission.question,
                    act: permission.act,
                });
            }
            // Nobody asked for what it does now.
            _ => encode::write_denied(out, &id),
        }
    }

    fn note_session(&mut self, session: Option<String>, out: &mut Outbox) {
        if let Some(session) = session
            && self.session.as_ref() != Some(&session)
        {
            self.session = Some(session.clone());
            out.emit(TurnEvent::SessionChanged(session));
        }
    }

    fn take_end(&mut self, ended: Box<Ended>, out: &mut Outbox) -> Result<(), String> {
        let State::Running(turn) = &mut self.state else {
            // Claude may run turns by itself.
            return Ok(());
        };
        let is_ours = ended.answers.contains(&turn.message);
        let may_be_ours = ended.answers.is_empty() && !self.knows_ids && !ended.by_itself;
        if turn.ended.is_some() || !(is_ours || may_be_ours) {
            return Ok(());
        }
        if matches!(turn.step, Step::Clear { .. }) {
            return self.end_clear(&ended, out);
        }
        turn.withdraw_all(out);
        if turn.unanswered > 0 {
            turn.ended = Some(ended);
        } else {
            self.end_turn(*ended, out);
        }
        Ok(())
    }

    /// Goes on from the new conversation to the prompt.
    fn end_clear(&mut self, ended: &Ended, out: &mut Outbox) -> Result<(), String> {
        let State::Running(turn) = &mut self.state else {
            return Ok(());
        };
        // An answer in words is never that of a reset, and a new conversation has a new name.
        let kept = turn
            .left()
            .is_some_and(|left| ended.session.as_ref() == Some(left));
        if ended.is_error || !ended.text.is_empty() || kept {
            return Err(format!(
                "claude did not forget the conversation: {}",
                ended.text
            ));
        }
        self.spent_usd = ended.total_cost_usd.unwrap_or(0.0);
        if turn.cancel == Cancel::No {
            let message = uuid((self.ids)());
            if let Some(text) = turn.ask(message) {
                encode::write_message(out, &turn.message, &text);
            }
        } else {
            let id = turn.id;
            self.state = State::Idle;
            out.wake_at(None);
            out.emit(TurnEvent::TurnEnded {
                turn: id,
                outcome: Outcome::Cancelled,
                attribution: attribution(ended),
                answer: None,
                usage: None,
            });
        }
        self.note_session(ended.session.clone(), out);
        Ok(())
    }

    fn end_turn(&mut self, ended: Ended, out: &mut Outbox) {
        let State::Running(turn) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        out.wake_at(None);
        self.note_session(ended.session.clone(), out);
        let outcome = outcome::outcome(&ended, turn.known());
        // Newer versions count from zero again after a new conversation.
        let cost_usd = ended.total_cost_usd.map(|total| {
            let before = std::mem::replace(&mut self.spent_usd, total);
            let spent = if total >= before {
                total - before
            } else {
                total
            };
            // The difference of two sums is not exact; a billionth of a dollar is below every price.
            (spent * 1e9).round() / 1e9
        });
        let attribution = attribution(&ended);
        let answer = (outcome == Outcome::Completed).then_some(ended.text);
        out.emit(TurnEvent::TurnEnded {
            turn: turn.id,
            outcome,
            attribution,
            answer,
            usage: Some(Usage {
                input_tokens: ended.input_tokens,
                output_tokens: ended.output_tokens,
                cost_usd,
            }),
        });
    }

    /// Asks Claude to stop, as soon as it has taken the prompt up.
    fn interrupt_if_wanted(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && turn.cancel == Cancel::Wanted
            && turn.begun
            && matches!(turn.step, Step::Ask)
        {
            self.send_interrupt(out);
        }
    }

    fn send_interrupt(&mut self, out: &mut Outbox) {
        let State::Running(turn) = &mut self.state else {
            return;
        };
        self.interrupts += 1;
        turn.cancel = Cancel::Sent;
        turn.unanswered += 1;
        encode::write_request(out, &format!("{INTERRUPT}{}", self.interrupts), "interrupt");
        out.wake_at(Some(out.now() + INTERRUPT_PATIENCE));
    }
}

impl Protocol for Claude {
    fn resume(&mut self, conversation: &str) {
        self.left = Some(conversation.to_owned());
    }

    fn start(&mut self, out: &mut Outbox) {
        encode::write_request(out, HELLO, "initialize");
        self.state = State::Starting;
    }

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if !matches!(self.state, State::Idle) {
            return Err(Refusal::Unsupported(
                "claude is not idle; send one prompt at a time".to_owned(),
            ));
        }
        let text = encode::message_text(prompt, &self.config)?;
        let message = uuid((self.ids)());
        let step = if prompt.fresh {
            encode::write_message(out, &message, encode::CLEAR);
            self.left = None;
            let left = self.session.clone();
            Step::Clear { text, left }
        } else {
            encode::write_message(out, &message, &text);
            Step::Ask
        };
        let is_command = prompt.kind == PromptKind::Command;
        self.state = State::Running(Box::new(Turn::new(turn, message, step, is_command)));
        Ok(())
    }

    fn receive(&mut self, from: Stream, mut bytes: &[u8], out: &mut Outbox) {
        if from == Stream::Stderr {
            return;
        }
        while !matches!(self.state, State::New | State::Broken) {
            let line = match self.lines.next_line(&mut bytes) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => return self.fault(error.to_string(), out),
            };
            let taken = Message::parse(&line).and_then(|message| self.take(message, out));
            if let Err(why) = taken {
                self.fault(why, out);
            }
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && turn.cancel == Cancel::No
        {
            turn.cancel = Cancel::Wanted;
            // Should Claude never say that it has begun, it is asked to stop all the same.
            out.wake_at(Some(out.now() + INTERRUPT_PATIENCE));
            self.interrupt_if_wanted(out);
        }
    }

    fn answer(&mut self, request: &RequestId, answer: Answer, out: &mut Outbox) {
        let State::Running(turn) = &mut self.state else {
            return;
        };
        if let Some(input) = turn.questions.remove(request) {
            match answer {
                Answer::Allow => encode::write_allowed(out, &request.0, input),
                Answer::Deny => encode::write_denied(out, &request.0),
            }
        }
    }

    fn tick(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state
            && turn.cancel != Cancel::No
            && turn.ended.is_none()
            && matches!(turn.step, Step::Ask)
        {
            self.send_interrupt(out);
        }
    }
}

fn attribution(ended: &Ended) -> Attribution {
    if ended.answers.is_empty() {
        BY_RESULT
    } else {
        BY_ID
    }
}

/// A random number as a UUID of version 4, the one form of id that Claude takes.
fn uuid(random: u128) -> String {
    let random = random & !(0xf << 76) & !(0x3 << 62);
    let bits = random | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
