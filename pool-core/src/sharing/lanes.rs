//! Who of several speaks and is spoken to on one process's pipes.
//!
//! Owns the numbers of requests, the questions and the conversations of every lane. Must not know processes or tasks:
//! lines go in, lines and their addressees come out. Invariant: a message that names a conversation or answers a request
//! reaches the lane that it belongs to and no other; one that belongs to nobody reaches nobody.
//!
//! One table serves both protocols that can do it. codex names a conversation `threadId`, and the response that opens
//! one says `thread.id`; agents of the Agent Client Protocol say `sessionId` in both places. (Measured with codex 0.169.0,
//! gemini-cli 0.61.0 and opencode 1.18.33.)

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::protocol::json_rpc::METHOD_NOT_FOUND;

/// Names a lane; never used again after its end.
pub(super) type Lane = u64;

/// The handshake, which a process has once and every lane's protocol asks for.
const HANDSHAKE: &str = "initialize";
/// What codex is told behind it.
const HANDSHAKE_DONE: &str = "initialized";
/// The requests that begin a turn. codex answers its own at once and tells of the end; an agent answers at the end.
const CODEX_TURN: &str = "turn/start";
const AGENT_TURN: &str = "session/prompt";
/// How codex tells that a turn is over.
const CODEX_TURN_ENDED: &str = "turn/completed";

/// A line, with its newline, and whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delivery {
    Process(Vec<u8>),
    Lane(Lane, Vec<u8>),
    /// To every lane.
    All(Vec<u8>),
}

/// What is known of all lanes of one process.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, State>,
    handshake: Handshake,
    /// The process was told that the handshake is over.
    handshake_done: bool,
    last_request: i64,
    /// What the process has not answered yet, by the number that it was given here.
    requests: HashMap<i64, Request>,
    /// What the process has asked and nobody has answered yet, by its own id as JSON.
    questions: HashMap<String, Lane>,
}

#[derive(Debug, Default)]
struct State {
    /// The conversation that was opened last; what comes of earlier ones is for nobody.
    conversation: Option<String>,
    in_turn: bool,
}

#[derive(Debug)]
struct Request {
    lane: Lane,
    /// The lane's own id of it.
    id: Value,
    method: String,
}

#[derive(Debug, Default)]
enum Handshake {
    #[default]
    NotBegun,
    /// These wait for what the process answers, each with its own id of the request.
    Begun(Vec<(Lane, Value)>),
    /// The response without its id.
    Done(Map<String, Value>),
}

impl Lanes {
    pub(super) fn open(&mut self, lane: Lane) {
        self.lanes.insert(lane, State::default());
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether the process owes this lane something: the end of a turn, or any answer. It cannot be told then what the
    /// process still does for it.
    pub(super) fn is_busy(&self, lane: Lane) -> bool {
        let waits = |waiting: &Vec<(Lane, Value)>| waiting.iter().any(|(waits, _)| *waits == lane);
        self.lanes.get(&lane).is_some_and(|state| state.in_turn)
            || self.requests.values().any(|request| request.lane == lane)
            || matches!(&self.handshake, Handshake::Begun(waiting) if waits(waiting))
    }

    /// Forgets a lane that is not busy.
    pub(super) fn close(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
        self.questions.retain(|_, owner| *owner != lane);
    }

    /// Takes a line that a lane's protocol wrote. What a closed lane had still on its way is dropped.
    pub(super) fn said_by(&mut self, lane: Lane, line: &[u8]) -> Option<Delivery> {
        let mut message = self.lanes.contains_key(&lane).then(|| object(line))??;
        let id = message.get("id").cloned();
        let method = message.get("method").and_then(Value::as_str);
        match (method.map(str::to_owned), id) {
            (Some(method), Some(id)) if method == HANDSHAKE => self.shake_hands(lane, id, message),
            (Some(method), Some(id)) => {
                if [CODEX_TURN, AGENT_TURN].contains(&method.as_str()) {
                    self.lanes.get_mut(&lane)?.in_turn = true;
                }
                message.insert("id".to_owned(), self.number(lane, id, method).into());
                Some(Delivery::Process(line_of(&message)))
            }
            (Some(method), None) if method == HANDSHAKE_DONE => {
                let first = !std::mem::replace(&mut self.handshake_done, true);
                first.then(|| Delivery::Process(line_of(&message)))
            }
            (Some(_), None) => Some(Delivery::Process(line_of(&message))),
            (None, Some(id)) => {
                let owner = self.questions.remove(&id.to_string());
                (owner == Some(lane)).then(|| Delivery::Process(line_of(&message)))
            }
            (None, None) => None,
        }
    }

    fn shake_hands(
        &mut self,
        lane: Lane,
        id: Value,
        mut message: Map<String, Value>,
    ) -> Option<Delivery> {
        match &mut self.handshake {
            Handshake::Done(response) => {
                let mut response = response.clone();
                response.insert("id".to_owned(), id);
                Some(Delivery::Lane(lane, line_of(&response)))
            }
            Handshake::Begun(waiting) => {
                waiting.push((lane, id));
                None
            }
            Handshake::NotBegun => {
                self.handshake = Handshake::Begun(vec![(lane, id.clone())]);
                message.insert(
                    "id".to_owned(),
                    self.number(lane, id, HANDSHAKE.to_owned()).into(),
                );
                Some(Delivery::Process(line_of(&message)))
            }
        }
    }

    fn number(&mut self, lane: Lane, id: Value, method: String) -> i64 {
        self.last_request += 1;
        self.requests
            .insert(self.last_request, Request { lane, id, method });
        self.last_request
    }

    /// Takes a line that the process wrote.
    pub(super) fn said_by_process(&mut self, line: &[u8]) -> Vec<Delivery> {
        let Some(message) = object(line) else {
            return Vec::new();
        };
        let id = message.get("id").filter(|id| !id.is_null()).cloned();
        match (message.get("method").and_then(Value::as_str), id) {
            (Some(_), Some(id)) => {
                let owner = conversation_of(&message).and_then(|name| self.owner(name));
                vec![match owner {
                    Some(lane) => {
                        self.questions.insert(id.to_string(), lane);
                        Delivery::Lane(lane, line_of(&message))
                    }
                    // Without an answer the process would wait for ever.
                    None => Delivery::Process(declined(&id)),
                }]
            }
            (Some(method), None) => {
                let ended = method == CODEX_TURN_ENDED;
                let Some(name) = conversation_of(&message) else {
                    return vec![Delivery::All(line_of(&message))];
                };
                let Some(lane) = self.owner(name) else {
                    return Vec::new();
                };
                if ended && let Some(state) = self.lanes.get_mut(&lane) {
                    state.in_turn = false;
                }
                vec![Delivery::Lane(lane, line_of(&message))]
            }
            (None, Some(id)) => id
                .as_i64()
                .and_then(|id| self.requests.remove(&id))
                .map(|request| self.answer(request, message))
                .unwrap_or_default(),
            // The process could not read something, and does not say whose it was.
            (None, None) if message.contains_key("error") => {
                vec![Delivery::All(line_of(&message))]
            }
            (None, None) => Vec::new(),
        }
    }

    /// Hands a response to the lane that asked, under the lane's own id.
    fn answer(&mut self, request: Request, mut message: Map<String, Value>) -> Vec<Delivery> {
        if request.method == HANDSHAKE {
            message.remove("id");
            let waiting = std::mem::replace(&mut self.handshake, Handshake::Done(message.clone()));
            let Handshake::Begun(waiting) = waiting else {
                return Vec::new();
            };
            let to = |(lane, id): (Lane, Value)| {
                message.insert("id".to_owned(), id);
                Delivery::Lane(lane, line_of(&message))
            };
            return waiting.into_iter().map(to).collect();
        }
        let failed = message.contains_key("error");
        let Some(state) = self.lanes.get_mut(&request.lane) else {
            return Vec::new();
        };
        if request.method == AGENT_TURN || failed && request.method == CODEX_TURN {
            state.in_turn = false;
        }
        if let Some(name) = opened(message.get("result")) {
            state.conversation = Some(name.to_owned());
        }
        message.insert("id".to_owned(), request.id);
        vec![Delivery::Lane(request.lane, line_of(&message))]
    }

    fn owner(&self, conversation: &str) -> Option<Lane> {
        let owns = |state: &State| state.conversation.as_deref() == Some(conversation);
        let mut owners = self.lanes.iter().filter(|(_, state)| owns(state));
        owners.next().map(|(lane, _)| *lane)
    }
}

/// The members of a message; None for what is none, such as a notice between the messages.
fn object(line: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(line).ok()
}

fn line_of(message: &Map<String, Value>) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("JSON values can always be written");
    line.push(b'\n');
    line
}

fn declined(id: &Value) -> Vec<u8> {
    let error =
        json!({"code": METHOD_NOT_FOUND, "message": "no conversation of this client is named"});
    let message = json!({"jsonrpc": "2.0", "id": id, "error": error});
    format!("{message}\n").into_bytes()
}

/// The conversation that a request or a notification of the process is about.
fn conversation_of(message: &Map<String, Value>) -> Option<&str> {
    let params = message.get("params")?;
    ["threadId", "sessionId"]
        .iter()
        .find_map(|key| params[key].as_str())
}

/// The conversation that a response has opened.
fn opened(result: Option<&Value>) -> Option<&str> {
    let result = result?;
    let thread = result["thread"]["id"].as_str();
    thread.or_else(|| result["sessionId"].as_str())
}

#[cfg(test)]
mod tests;
