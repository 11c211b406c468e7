//! The Agent Client Protocol, version 1: JSON-RPC, one conversation ("session") at a time, one turn at a time.
//!
//! Owns how an agent is made ready, prompted, interrupted, answered and read. Must not know processes, profiles or the
//! model behind the agent; where agents differ, [`AcpQuirks`] says how. Invariant: a turn ends only at the response that
//! carries the id of its own request, so nothing that a model writes can end it.
//!
//! The agent works on the disk and runs its commands by itself: it is told that we have neither files nor terminals to
//! offer. All facts about agents in this module were measured with gemini-cli 0.61.0, qwen-code 0.24.4 and opencode
//! 1.18.33.

mod config;
mod encode;
mod outcome;
mod permission;
#[cfg(test)]
mod tests;
mod turn;

use serde_json::{Value, json};

pub use self::config::{AcpConfig, AcpQuirks};
use self::encode::blocks;
use self::turn::Turn;
use super::json_rpc::{
    Id, LineSplitter, MAX_LINE_BYTES, METHOD_NOT_FOUND, Message, RpcError, write_error,
    write_notification, write_request,
};
use super::{Answer, Outbox, Protocol, RequestId, Stream, TurnEvent};
use crate::outcome::{Attribution, Grade, Outcome, Usage};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

/// The only version that is spoken here. In the draft of the next one the response to a prompt means that it was
/// accepted, not that it was answered.
const VERSION: u64 = 1;

const BY_REQUEST_ID: Attribution = Attribution {
    grade: Grade::A,
    by: "request id",
};

/// The protocol of one agent's process.
pub struct Acp {
    config: AcpConfig,
    lines: LineSplitter,
    last_id: i64,
    /// The request whose response is awaited; there is never more than one.
    awaited: Option<(i64, Step)>,
    /// Whether the agent can close a session.
    closes: bool,
    /// The session to go on with, until it was asked for.
    left: Option<String>,
    session: Option<Session>,
    turn: Option<Box<Turn>>,
    broken: bool,
}

/// What a response is awaited to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Initialize,
    /// A session is to be opened.
    Open,
    /// The session with this id, which an earlier process has left, is to be taken up.
    Resume(String),
    /// The session with this id is to be given the profile's mode before its first prompt; `used`: it has had prompts.
    SetMode {
        id: String,
        used: bool,
    },
    /// The turn's prompt is to be answered.
    Prompt,
}

/// A conversation of the agent's.
struct Session {
    id: String,
    /// It has had a prompt, so it is not empty any more.
    used: bool,
    /// What it has cost so far, in US dollars, as far as the agent tells.
    cost: f64,
}

impl Acp {
    /// A protocol for a process that has just been started.
    pub fn new(config: AcpConfig) -> Self {
        Self {
            config,
            lines: LineSplitter::new(MAX_LINE_BYTES),
            last_id: 0,
            awaited: None,
            closes: false,
            left: None,
            session: None,
            turn: None,
            broken: false,
        }
    }

    fn fault(&mut self, why: String, out: &mut Outbox) {
        self.broken = true;
        self.turn = None;
        self.awaited = None;
        out.emit(TurnEvent::Fault(why));
    }

    fn request(&mut self, step: Step, method: &str, params: &Value, out: &mut Outbox) {
        self.last_id += 1;
        write_request(out, self.last_id, method, params);
        self.awaited = Some((self.last_id, step));
    }

    fn open_session(&mut self, out: &mut Outbox) {
        let params = json!({"cwd": self.config.cwd, "mcpServers": []});
        self.request(Step::Open, "session/new", &params, out);
    }

    /// Unlike `session/load` this does not send the whole conversation again, and gemini, whose `session/load` may destroy
    /// the session, does not offer it.
    fn resume_session(&mut self, id: String, out: &mut Outbox) {
        let params = json!({"sessionId": id, "cwd": self.config.cwd, "mcpServers": []});
        self.request(Step::Resume(id), "session/resume", &params, out);
    }

    fn set_mode(&mut self, id: String, used: bool, out: &mut Outbox) {
        let Some(mode) = &self.config.quirks.mode else {
            return self.begin_session(id, used, out);
        };
        let params = json!({"sessionId": id, "modeId": mode});
        let step = Step::SetMode { id, used };
        self.request(step, "session/set_mode", &params, out);
    }

    fn receive_message(&mut self, message: Message, out: &mut Outbox) {
        match message {
            Message::Request { id, method, params } => {
                self.receive_request(&id, &method, &params, out)
            }
            Message::Notification { method, params } => {
                if method == "session/update" {
                    self.receive_update(&params, out);
                }
            }
            Message::Response { id, result } => {
                // A response to anything else, such as to the closing of a session, changes nothing.
                if let Some((_, step)) = self
                    .awaited
                    .take_if(|(awaited, _)| id == Id::Number(*awaited))
                {
                    self.receive_response(step, result, out);
                }
            }
            Message::Unreadable(error) => {
                if self.awaited.is_some() {
                    self.fault(
                        format!(
                            "the agent could not read what was written to it: {}",
                            outcome::told(&error)
                        ),
                        out,
                    );
                }
            }
        }
    }

    fn receive_response(&mut self, step: Step, result: Result<Value, RpcError>, out: &mut Outbox) {
        match (step, result) {
            (Step::Initialize, Ok(result)) => {
                let version = &result["protocolVersion"];
                if version.as_u64() != Some(VERSION) {
                    let why = format!(
                        "the agent speaks version {version} of the protocol and only {VERSION} is spoken here; use another version of the agent"
                    );
                    return self.fault(why, out);
                }
                let capabilities = &result["agentCapabilities"]["sessionCapabilities"];
                self.closes = capabilities["close"].is_object();
                let resumes = capabilities["resume"].is_object();
                match self.left.take().filter(|_| resumes) {
                    Some(id) => self.resume_session(id, out),
                    None => self.open_session(out),
                }
            }
            (Step::Initialize, Err(error)) => {
                self.fault(
                    format!("the agent did not start: {}", outcome::told(&error)),
                    out,
                );
            }
            (Step::Open, Ok(result)) => match result["sessionId"].as_str() {
                None => self.fault(
                    "the agent opened a session and did not name it".to_owned(),
                    out,
                ),
                Some(id) => self.set_mode(id.to_owned(), false, out),
            },
            // qwen goes on in its own mode, not in that which the session had.
            (Step::Resume(id), Ok(_)) => self.set_mode(id, true, out),
            (Step::Resume(_), Err(_)) => self.open_session(out),
            (Step::Open, Err(error)) => {
                let failure = outcome::of_error(&error);
                if self.turn.is_some() {
                    self.end_turn(Outcome::Failed(failure), None, out);
                } else {
                    self.fault(
                        format!("the agent opened no session: {}", failure.message),
                        out,
                    );
                }
            }
            (Step::SetMode { id, used }, Ok(_)) => self.begin_session(id, used, out),
            (Step::SetMode { .. }, Err(error)) => {
                // In another mode it might do without asking what it is meant to ask for.
                let mode = self.config.quirks.mode.as_deref().unwrap_or_default();
                let why = format!(
                    "the agent did not take the mode {mode:?}: {}",
                    outcome::told(&error)
                );
                self.fault(why, out);
            }
            (Step::Prompt, Ok(result)) => self.receive_end(&result, out),
            (Step::Prompt, Err(error)) => {
                let cancelled = self.turn.as_ref().is_some_and(|turn| turn.is_cancelled());
                let outcome = if cancelled {
                    Outcome::Cancelled
                } else {
                    Outcome::Failed(outcome::of_error(&error))
                };
                self.end_turn(outcome, None, out);
            }
        }
    }

    /// A session is open and in the right mode.
    fn begin_session(&mut self, id: String, used: bool, out: &mut Outbox) {
        out.emit(TurnEvent::SessionChanged(id.clone()));
        let old = self.session.replace(Session {
            id,
            used,
            cost: 0.0,
        });
        if let Some(old) = old
            && self.closes
        {
            // Nothing depends on the response.
            self.last_id += 1;
            let params = json!({"sessionId": old.id});
            write_request(out, self.last_id, "session/close", params);
        }
        if self.turn.is_some() {
            self.send_prompt(out);
        } else {
            out.emit(TurnEvent::Ready);
        }
    }

    /// Sends the turn's prompt to the session, or ends the turn if it was cancelled before that.
    fn send_prompt(&mut self, out: &mut Outbox) {
        let (Some(turn), Some(session)) = (&mut self.turn, &mut self.session) else {
            return;
        };
        if turn.is_cancelled() {
            return self.end_turn(Outcome::Cancelled, None, out);
        }
        session.used = true;
        let params = json!({"sessionId": session.id, "prompt": turn.begin(session.cost)});
        self.request(Step::Prompt, "session/prompt", &params, out);
    }

    fn receive_end(&mut self, result: &Value, out: &mut Outbox) {
        let (Some(turn), Some(session)) = (&mut self.turn, &self.session) else {
            return;
        };
        match outcome::of_end(result, turn.seen(), self.config.quirks.model_use.as_deref()) {
            // What opencode says to have used in a cancelled turn is nothing, or what the turn before has used.
            Some(Outcome::Cancelled) => self.end_turn(Outcome::Cancelled, None, out),
            Some(outcome) => {
                let usage = turn.usage(result, session.cost);
                self.end_turn(outcome, usage, out);
            }
            None => self.fault(
                "the agent ended a turn and did not say why it stopped".to_owned(),
                out,
            ),
        }
    }

    fn end_turn(&mut self, outcome: Outcome, usage: Option<Usage>, out: &mut Outbox) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        turn.permissions.withdraw(out);
        out.emit(TurnEvent::TurnEnded {
            turn: turn.id,
            outcome,
            attribution: BY_REQUEST_ID,
            answer: None,
            usage,
        });
    }

    fn receive_update(&mut self, params: &Value, out: &mut Outbox) {
        let Some(session) = &mut self.session else {
            return;
        };
        if params["sessionId"] != session.id.as_str() {
            return;
        }
        let update = &params["update"];
        if update["sessionUpdate"] == "usage_update" && update["cost"]["currency"] == "USD" {
            session.cost = update["cost"]["amount"].as_f64().unwrap_or(session.cost);
        }
        if let (Some(turn), Some((_, Step::Prompt))) = (&mut self.turn, &self.awaited) {
            turn.receive(update, out);
        }
    }

    fn receive_request(&mut self, id: &Id, method: &str, params: &Value, out: &mut Outbox) {
        if method != "session/request_permission" {
            // qwen asks `craft/drainMidTurnQueue` after each use of a tool, and waits two seconds where nobody answers.
            return write_error(out, id, METHOD_NOT_FOUND, "this client does not do that");
        }
        let ours = self
            .session
            .as_ref()
            .is_some_and(|session| params["sessionId"] == session.id.as_str());
        match (&mut self.turn, &self.awaited) {
            (Some(turn), Some((_, Step::Prompt))) if ours && !turn.is_cancelled() => {
                turn.permissions
                    .ask(turn.id, id, params, &self.config.cwd, out);
            }
            _ => permission::write_cancelled(id, out),
        }
    }
}

impl Protocol for Acp {
    fn resume(&mut self, conversation: &str) {
        self.left = Some(conversation.to_owned());
    }

    fn start(&mut self, out: &mut Outbox) {
        let params = json!({
            "protocolVersion": VERSION,
            "clientInfo": {"name": "toolpool", "title": "toolpool", "version": env!("CARGO_PKG_VERSION")},
            "clientCapabilities": {"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false},
        });
        self.request(Step::Initialize, "initialize", &params, out);
    }

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        let Some(session) = &self.session else {
            return Err(Refusal::Unsupported(
                "the agent has no session yet; wait until it is ready".to_owned(),
            ));
        };
        if self.broken || self.turn.is_some() || self.awaited.is_some() {
            return Err(Refusal::Unsupported(
                "the agent is not idle; send one prompt at a time".to_owned(),
            ));
        }
        let blocks = blocks(prompt, &self.config)?;
        let renews = prompt.fresh && session.used;
        self.turn = Some(Box::new(Turn::new(
            turn,
            blocks,
            prompt.kind == PromptKind::Command,
        )));
        if renews {
            self.open_session(out);
        } else {
            self.send_prompt(out);
        }
        Ok(())
    }

    fn receive(&mut self, from: Stream, bytes: &[u8], out: &mut Outbox) {
        if from == Stream::Stderr {
            return;
        }
        let mut rest = bytes;
        while !self.broken {
            match self.lines.next_line(&mut rest) {
                Ok(Some(line)) => {
                    // Agents and what they start print notices between their messages.
                    if let Some(message) = Message::parse(&line) {
                        self.receive_message(message, out);
                    }
                }
                Ok(None) => break,
                Err(error) => self.fault(error.to_string(), out),
            }
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        let Some(turn) = &mut self.turn else {
            return;
        };
        if turn.is_cancelled() {
            return;
        }
        turn.cancel();
        if let (Some((_, Step::Prompt)), Some(session)) = (&self.awaited, &self.session) {
            let params = json!({"sessionId": session.id});
            write_notification(out, "session/cancel", Some(params));
            // gemini does not end the turn while a question of its is open.
            turn.permissions.cancel(out);
        }
    }

    fn answer(&mut self, request: &RequestId, answer: Answer, out: &mut Outbox) {
        if let Some(turn) = &mut self.turn {
            turn.permissions.answer(request, answer, out);
        }
    }
}
