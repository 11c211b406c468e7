//! codex through its app-server: JSON-RPC, one conversation ("thread") at a time, one turn at a time.
//!
//! Owns how codex is made ready, prompted, interrupted, answered and read. Must not know processes, profiles or the model
//! behind codex. Invariant: a turn ends only at the `turn/completed` that carries the id which codex gave to it, so
//! nothing that a model writes can end it.
//!
//! The working folder is never named to codex: it is the process's own. A `thread/start` with a `cwd` and a sandbox that
//! may write makes codex *trust* that folder, that is, start the servers that its `.codex/config.toml` names. A leading
//! `/` is no command here. All facts about codex in this module were measured with codex 0.169.0.

mod answer;
mod approvals;
mod failure;
#[cfg(test)]
mod tests;
mod turn;

use serde_json::{Value, json};

pub use self::approvals::Approvals;
use self::turn::{Phase, Turn};
use super::json_rpc::{
    Id, LineSplitter, MAX_LINE_BYTES, METHOD_NOT_FOUND, Message, RpcError, write_error,
    write_notification, write_request,
};
use super::{Answer, Outbox, Protocol, RequestId, Stream, TurnEvent, files};
use crate::outcome::{Attribution, Grade, Outcome};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};

const BY_TURN_ID: Attribution = Attribution {
    grade: Grade::A,
    by: "turn id",
};

/// What codex need not tell: nobody here reads it.
const UNHEARD: &[&str] = &[
    "account/rateLimits/updated",
    "item/commandExecution/outputDelta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "remoteControl/status/changed",
    "thread/readState/changed",
    "thread/started",
    "thread/status/changed",
    "turn/diff/updated",
];

/// Tells what a conversation has cost so far.
const USAGE: &str = "thread/tokenUsage/updated";

/// What the profile says about codex.
#[derive(Clone, Debug)]
pub struct CodexConfig {
    /// Whether codex asks before it acts.
    pub approvals: Approvals,
    /// The longest prompt in bytes, the names of its files included. codex itself takes 1,048,576 characters.
    pub max_prompt_bytes: usize,
}

/// The protocol of one codex process.
pub struct Codex {
    config: CodexConfig,
    lines: LineSplitter,
    requests: Requests,
    state: State,
    /// The conversation to go on with, until it was asked for.
    left: Option<String>,
}

enum State {
    New,
    /// Waits for the response with this id to `initialize`.
    Initializing(i64),
    /// Waits for the response with this id to `thread/resume` with this name.
    Resuming(i64, String),
    /// Waits for the response with this id to the first `thread/start`.
    Opening(i64),
    Idle(Thread),
    Running(Box<Turn>),
    Broken,
}

/// A conversation of codex's.
struct Thread {
    id: String,
    /// It has had a turn, so it is not empty any more.
    used: bool,
    /// What the conversation has cost, as last told: tokens sent, tokens received.
    tokens: (u64, u64),
}

impl Thread {
    /// Reads the response to `thread/start`.
    fn open(response: &Value, out: &mut Outbox) -> Result<Self, String> {
        let id = response["thread"]["id"]
            .as_str()
            .ok_or_else(|| nameless("thread/start"))?
            .to_owned();
        out.emit(TurnEvent::SessionChanged(id.clone()));
        Ok(Self {
            id,
            used: false,
            tokens: (0, 0),
        })
    }
}

/// Numbers the requests of one process.
#[derive(Default)]
struct Requests {
    last: i64,
}

impl Requests {
    fn send(&mut self, method: &str, params: &Value, out: &mut Outbox) -> i64 {
        self.last += 1;
        write_request(out, self.last, method, params);
        self.last
    }

    /// Without its turns, which nobody here reads. The policies are not part of what codex has kept.
    fn resume_thread(&mut self, name: &str, approvals: Approvals, out: &mut Outbox) -> i64 {
        let params = json!({
            "threadId": name,
            "excludeTurns": true,
            "approvalPolicy": approvals.policy(),
            "sandbox": "workspace-write",
        });
        self.send("thread/resume", &params, out)
    }

    fn open_thread(&mut self, approvals: Approvals, out: &mut Outbox) -> i64 {
        let params = json!({
            "approvalPolicy": approvals.policy(),
            "sandbox": "workspace-write",
            "ephemeral": false,
        });
        self.send("thread/start", &params, out)
    }
}

impl Codex {
    /// A protocol for a process that has just been started.
    pub fn new(config: CodexConfig) -> Self {
        Self {
            config,
            lines: LineSplitter::new(MAX_LINE_BYTES),
            requests: Requests::default(),
            state: State::New,
            left: None,
        }
    }

    fn fault(&mut self, why: String, out: &mut Outbox) {
        self.state = State::Broken;
        out.emit(TurnEvent::Fault(why));
    }

    fn take(&mut self, message: Message, out: &mut Outbox) {
        let next = match std::mem::replace(&mut self.state, State::Broken) {
            State::Running(turn) => self.take_in_turn(turn, message, out),
            state => self.take_between_turns(state, message, out),
        };
        match next {
            Ok(state) => self.state = state,
            Err(why) => self.fault(why, out),
        }
    }

    fn take_in_turn(
        &mut self,
        mut turn: Box<Turn>,
        message: Message,
        out: &mut Outbox,
    ) -> Result<State, String> {
        Ok(match turn.take(message, &mut self.requests, out)? {
            None => State::Running(turn),
            Some(outcome) => end(*turn, outcome, out),
        })
    }

    fn take_between_turns(
        &mut self,
        mut state: State,
        message: Message,
        out: &mut Outbox,
    ) -> Result<State, String> {
        match (&mut state, message) {
            (State::Initializing(wanted), Message::Response { id, result })
                if id == Id::Number(*wanted) =>
            {
                result.map_err(|error| refused("initialize", &error))?;
                write_notification(out, "initialized", None);
                let approvals = self.config.approvals;
                return Ok(match self.left.take() {
                    Some(name) => {
                        let request = self.requests.resume_thread(&name, approvals, out);
                        State::Resuming(request, name)
                    }
                    None => State::Opening(self.requests.open_thread(approvals, out)),
                });
            }
            (State::Resuming(wanted, name), Message::Response { id, result })
                if id == Id::Number(*wanted) =>
            {
                // codex refuses what it does not know; a conversation of another name is not the one that was left.
                let resumed = result.is_ok_and(|response| response["thread"]["id"] == **name);
                if !resumed {
                    let request = self.requests.open_thread(self.config.approvals, out);
                    return Ok(State::Opening(request));
                }
                out.emit(TurnEvent::SessionChanged(name.clone()));
                out.emit(TurnEvent::Ready);
                return Ok(State::Idle(Thread {
                    id: name.clone(),
                    used: true,
                    tokens: (0, 0),
                }));
            }
            (State::Opening(wanted), Message::Response { id, result })
                if id == Id::Number(*wanted) =>
            {
                let response = result.map_err(|error| refused("thread/start", &error))?;
                let thread = Thread::open(&response, out)?;
                out.emit(TurnEvent::Ready);
                return Ok(State::Idle(thread));
            }
            (State::Idle(thread), Message::Notification { method, params })
                if method == "turn/started" && params["threadId"] == thread.id.as_str() =>
            {
                return Err("codex began a turn that nobody asked for".to_owned());
            }
            (State::Idle(thread), Message::Notification { method, params })
                if method == USAGE && params["threadId"] == thread.id.as_str() =>
            {
                // What a resumed conversation has cost is told now, or at the beginning of its next turn.
                thread.tokens = turn::tokens(&params);
            }
            (_, Message::Request { id, method, .. }) => decline(&id, &method, out),
            (_, Message::Unreadable(error)) => return Err(unreadable(&error)),
            // Responses to what did not matter, and news of what is over.
            (_, Message::Response { .. } | Message::Notification { .. }) => {}
        }
        Ok(state)
    }
}

impl Protocol for Codex {
    fn resume(&mut self, conversation: &str) {
        self.left = Some(conversation.to_owned());
    }

    fn start(&mut self, out: &mut Outbox) {
        let params = json!({
            "clientInfo": {"name": "toolpool", "title": "toolpool", "version": env!("CARGO_PKG_VERSION")},
            // `thread/backgroundTerminals/clean` belongs to the experimental part.
            "capabilities": {"experimentalApi": true, "optOutNotificationMethods": UNHEARD},
        });
        self.state = State::Initializing(self.requests.send("initialize", &params, out));
    }

    fn submit(&mut self, turn: TurnId, prompt: &Prompt, out: &mut Outbox) -> Result<(), Refusal> {
        if prompt.kind == PromptKind::Command {
            return Err(Refusal::Unsupported(
                "codex has no commands here; send the text as a prompt".to_owned(),
            ));
        }
        let input = input(prompt, self.config.max_prompt_bytes)?;
        let thread = match std::mem::replace(&mut self.state, State::Broken) {
            State::Idle(thread) => thread,
            state => {
                self.state = state;
                return Err(Refusal::Unsupported(
                    "codex is not idle; send one prompt at a time".to_owned(),
                ));
            }
        };
        let phase = if prompt.fresh && thread.used {
            Phase::Opening {
                request: self.requests.open_thread(self.config.approvals, out),
                input,
            }
        } else {
            Phase::start(&thread, &input, &mut self.requests, out)
        };
        self.state = State::Running(Box::new(Turn::new(turn, thread, phase)));
        Ok(())
    }

    fn receive(&mut self, from: Stream, mut bytes: &[u8], out: &mut Outbox) {
        if from == Stream::Stderr {
            return;
        }
        while !matches!(self.state, State::Broken) {
            match self.lines.next_line(&mut bytes) {
                Ok(Some(line)) => {
                    if let Some(message) = Message::parse(&line) {
                        self.take(message, out);
                    }
                }
                Ok(None) => return,
                Err(error) => self.fault(error.to_string(), out),
            }
        }
    }

    fn interrupt(&mut self, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state {
            turn.interrupt(&mut self.requests, out);
        }
    }

    fn answer(&mut self, request: &RequestId, answer: Answer, out: &mut Outbox) {
        if let State::Running(turn) = &mut self.state {
            turn.approvals.answer(request, answer, out);
        }
    }
}

/// The parts of a turn's input. The text is a part of its own, so it reaches the model byte for byte.
fn input(prompt: &Prompt, limit: usize) -> Result<Value, Refusal> {
    if prompt.text.is_empty() {
        return Err(Refusal::Empty);
    }
    let mut names = String::new();
    for file in &prompt.files {
        names.push_str(&format!("- {}\n", files::name(file, "codex")?));
    }
    if !names.is_empty() {
        names.insert_str(0, "The files that this is about:\n");
        names.push('\n');
    }
    let bytes = names.len() + prompt.text.len();
    if bytes > limit {
        return Err(Refusal::TooLarge { bytes, limit });
    }
    let parts = [names.as_str(), &prompt.text]
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| json!({"type": "text", "text": text}));
    Ok(parts.collect())
}

fn end(mut turn: Turn, outcome: Outcome, out: &mut Outbox) -> State {
    turn.approvals.withdraw_all(out);
    let (answer, usage) = (turn.text(&outcome), turn.usage());
    out.emit(TurnEvent::TurnEnded {
        turn: turn.id,
        outcome,
        attribution: BY_TURN_ID,
        answer,
        usage,
    });
    State::Idle(turn.thread)
}

/// Answers a question that is not understood, or that comes too late. Without an answer codex would wait for ever.
fn decline(id: &Id, method: &str, out: &mut Outbox) {
    write_error(
        out,
        id,
        METHOD_NOT_FOUND,
        &format!("{method} is not offered here"),
    );
}

fn refused(method: &str, error: &RpcError) -> String {
    format!(
        "codex refused `{method}`: {} (code {}); is its version one that the profile was proven on?",
        error.message, error.code
    )
}

fn nameless(method: &str) -> String {
    format!(
        "codex answered `{method}` without an id; is its version one that the profile was proven on?"
    )
}

fn unreadable(error: &RpcError) -> String {
    format!("codex could not read a message: {}", error.message)
}
