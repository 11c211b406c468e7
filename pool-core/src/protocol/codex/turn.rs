//! One turn: from the request for it to the news of its end.
//!
//! Owns what is known of the running turn. Must not know how messages are read. Invariant: `take` gives an outcome at
//! most once, and only for the `turn/completed` with the id that the response to `turn/start` carried, or for a refusal
//! of that request.

use std::mem;

use serde_json::{Value, json};

use super::answer::Messages;
use super::approvals::Open;
use super::{Requests, Thread, USAGE, decline, failure, nameless, refused, unreadable};
use crate::outcome::{Failure, FailureClass, Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::json_rpc::{Id, Message, RpcError};
use crate::protocol::{Outbox, TurnEvent};

/// The response to `turn/start` and the first news of the turn may race. More news than this cannot be before it.
const MOST_EARLY_NEWS: usize = 4096;

/// The items of a turn that are no work of codex's.
const TALK: [&str; 3] = ["userMessage", "agentMessage", "reasoning"];

/// What a conversation has cost so far: tokens sent, tokens received.
pub(super) fn tokens(params: &Value) -> (u64, u64) {
    let total = &params["tokenUsage"]["total"];
    let count = |key: &str| total[key].as_u64().unwrap_or_default();
    (count("inputTokens"), count("outputTokens"))
}

/// The running turn.
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) thread: Thread,
    pub(super) approvals: Open,
    phase: Phase,
    messages: Messages,
    /// codex ran something or changed something.
    worked: bool,
    /// The caller wants it to end.
    interrupted: bool,
    /// What the conversation had cost before this turn.
    tokens_before: (u64, u64),
}

/// How far a turn is.
pub(super) enum Phase {
    /// Waits for a fresh conversation; nothing of the prompt is written.
    Opening { request: i64, input: Value },
    /// Waits for codex's id of the turn.
    Starting { request: i64, early: Vec<Message> },
    /// Runs. `begun`: codex has told so; before that it would refuse to interrupt it.
    Active { id: String, begun: bool },
    /// codex has stopped; what it had started is being stopped.
    Cleaning { request: i64, outcome: Outcome },
}

impl Phase {
    /// Sends the prompt.
    pub(super) fn start(
        thread: &Thread,
        input: &Value,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Self {
        let params = json!({"threadId": thread.id, "input": input});
        Self::Starting {
            request: requests.send("turn/start", &params, out),
            early: Vec::new(),
        }
    }

    /// The id of the request whose response this phase waits for.
    fn awaits(&self) -> Option<i64> {
        match self {
            Self::Opening { request, .. }
            | Self::Starting { request, .. }
            | Self::Cleaning { request, .. } => Some(*request),
            Self::Active { .. } => None,
        }
    }
}

impl Turn {
    pub(super) fn new(id: TurnId, thread: Thread, phase: Phase) -> Self {
        Self {
            id,
            tokens_before: thread.tokens,
            thread,
            approvals: Open::default(),
            phase,
            messages: Messages::default(),
            worked: false,
            interrupted: false,
        }
    }

    /// Takes a message. `Some` when the turn is over; an error when codex cannot be followed any more.
    pub(super) fn take(
        &mut self,
        message: Message,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, String> {
        match message {
            Message::Unreadable(error) => Err(unreadable(&error)),
            Message::Response { id, result } => {
                let awaited = self.phase.awaits().map(Id::Number);
                if awaited == Some(id) {
                    self.take_response(result, requests, out)
                } else {
                    // Of an interrupt, whose success shows in the turn's end, or of what did not matter.
                    Ok(None)
                }
            }
            message => match &mut self.phase {
                Phase::Starting { early, .. } if early.len() < MOST_EARLY_NEWS => {
                    early.push(message);
                    Ok(None)
                }
                Phase::Starting { .. } => {
                    Err("codex does not say which turn it has begun".to_owned())
                }
                _ => self.take_unasked(message, requests, out),
            },
        }
    }

    fn take_response(
        &mut self,
        result: Result<Value, RpcError>,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, String> {
        let response = match (result, &self.phase) {
            (Ok(response), _) => response,
            (Err(error), Phase::Cleaning { .. }) => {
                return Err(refused("thread/backgroundTerminals/clean", &error));
            }
            (Err(error), _) => return Ok(Some(Outcome::Failed(failure::of_refusal(&error)))),
        };
        match &mut self.phase {
            Phase::Opening { input, .. } => {
                let input = mem::take(input);
                let left = mem::replace(&mut self.thread, Thread::open(&response, out)?);
                self.tokens_before = self.thread.tokens;
                // Otherwise codex keeps it in memory, 1 MB each. (`thread/unsubscribe` does not help.)
                requests.send("thread/archive", &json!({"threadId": left.id}), out);
                if self.interrupted {
                    return Ok(Some(Outcome::Cancelled));
                }
                self.phase = Phase::start(&self.thread, &input, requests, out);
            }
            Phase::Starting { early, .. } => {
                let early = mem::take(early);
                let id = response["turn"]["id"]
                    .as_str()
                    .ok_or_else(|| nameless("turn/start"))?
                    .to_owned();
                self.thread.used = true;
                self.phase = Phase::Active { id, begun: false };
                for message in early {
                    let end = self.take_unasked(message, requests, out)?;
                    if end.is_some() {
                        return Ok(end);
                    }
                }
            }
            Phase::Cleaning { outcome, .. } => return Ok(Some(outcome.clone())),
            Phase::Active { .. } => {}
        }
        Ok(None)
    }

    /// Takes a question or news.
    fn take_unasked(
        &mut self,
        message: Message,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, String> {
        match message {
            Message::Notification { method, params } => {
                return self.take_news(&method, &params, requests, out);
            }
            Message::Request { id, method, params } => {
                let runs = matches!(self.phase, Phase::Active { .. }) && !self.interrupted;
                if !(runs && self.approvals.ask(self.id, &id, &method, &params, out)) {
                    decline(&id, &method, out);
                }
            }
            Message::Response { .. } | Message::Unreadable(_) => {}
        }
        Ok(None)
    }

    fn take_news(
        &mut self,
        method: &str,
        params: &Value,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, String> {
        if method == "serverRequest/resolved" {
            self.approvals.settle(&params["requestId"], out);
        }
        // A helper of codex's has a conversation of its own.
        if params["threadId"] != self.thread.id.as_str() {
            return Ok(None);
        }
        if method == USAGE {
            self.thread.tokens = tokens(params);
        }
        let Phase::Active { id, begun } = &mut self.phase else {
            return Ok(None);
        };
        let named = params.get("turnId").unwrap_or(&params["turn"]["id"]);
        if *named != id.as_str() {
            if method == USAGE {
                // What a resumed conversation has cost before.
                self.tokens_before = self.thread.tokens;
            }
            return match (method, named) {
                ("turn/completed", Value::Null) => Err(nameless("turn/completed")),
                _ => Ok(None),
            };
        }
        let item = &params["item"];
        match method {
            "turn/started" => {
                *begun = true;
                self.stop_if_wanted(requests, out);
            }
            "item/agentMessage/delta" => {
                let (id, delta) = (text(&params["itemId"]), text(&params["delta"]));
                let piece = self.messages.add(id, delta);
                self.chunk(piece, out);
            }
            "item/completed" if item["type"] == "agentMessage" => {
                let piece = self
                    .messages
                    .complete(text(&item["id"]), text(&item["text"]));
                self.chunk(piece, out);
            }
            "item/started" => {
                self.worked |= !TALK.contains(&text(&item["type"]));
                self.approvals.note_item(item);
            }
            "error" if params["willRetry"] == true => out.emit(TurnEvent::Retrying {
                turn: self.id,
                message: failure::described(&params["error"]),
            }),
            "turn/completed" => return self.take_end(&params["turn"], requests, out),
            _ => {}
        }
        Ok(None)
    }

    fn chunk(&self, piece: String, out: &mut Outbox) {
        if !piece.is_empty() {
            out.emit(TurnEvent::Chunk {
                turn: self.id,
                bytes: piece.into_bytes(),
            });
        }
    }

    fn take_end(
        &mut self,
        turn: &Value,
        requests: &mut Requests,
        out: &mut Outbox,
    ) -> Result<Option<Outcome>, String> {
        let failed = |class, message: &str| {
            Outcome::Failed(Failure {
                class,
                message: message.to_owned(),
                retry_after: None,
            })
        };
        let outcome = match text(&turn["status"]) {
            "completed" if self.messages.text().is_empty() && !self.worked => {
                failed(FailureClass::EmptyAnswer, "the model answered nothing")
            }
            "completed" => Outcome::Completed,
            "failed" => Outcome::Failed(failure::of_turn(&turn["error"])),
            "interrupted" => {
                let outcome = if self.interrupted {
                    Outcome::Cancelled
                } else {
                    failed(
                        FailureClass::Unknown,
                        "codex interrupted the turn by itself",
                    )
                };
                // A command that ran survives the end of its turn.
                let params = json!({"threadId": self.thread.id});
                let request = requests.send("thread/backgroundTerminals/clean", &params, out);
                self.phase = Phase::Cleaning { request, outcome };
                return Ok(None);
            }
            other => return Err(format!("codex ended a turn as {other:?}")),
        };
        Ok(Some(outcome))
    }

    /// Ends the turn as soon as codex can.
    pub(super) fn interrupt(&mut self, requests: &mut Requests, out: &mut Outbox) {
        if !mem::replace(&mut self.interrupted, true) {
            self.stop_if_wanted(requests, out);
        }
    }

    fn stop_if_wanted(&self, requests: &mut Requests, out: &mut Outbox) {
        if let Phase::Active { id, begun: true } = &self.phase
            && self.interrupted
        {
            let params = json!({"threadId": self.thread.id, "turnId": id});
            requests.send("turn/interrupt", &params, out);
        }
    }

    /// The answer of a turn that ended so.
    pub(super) fn text(&self, outcome: &Outcome) -> Option<String> {
        matches!(outcome, Outcome::Completed).then(|| self.messages.text())
    }

    /// What this turn cost, if codex has told.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (now, before) = (self.thread.tokens, self.tokens_before);
        (now != before).then(|| Usage {
            input_tokens: Some(now.0.saturating_sub(before.0)),
            output_tokens: Some(now.1.saturating_sub(before.1)),
            cost_usd: None,
        })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
