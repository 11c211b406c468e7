//! Rehearses the protocol without codex: what the real one wrote and read, replayed in every way of cutting it, and
//! messages made to mislead it.

mod misleading;
mod questions;
mod refusals;
mod replay;
mod resuming;

use std::time::Instant;

use serde_json::{Value, json};

use super::{Approvals, Codex, CodexConfig};
use crate::outcome::Outcome;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Outbox, Protocol, Stream, TurnEvent};

/// A protocol at work, with its outbox. The conversation is called `thread`, and the turns `turn-1`, `turn-2` and so on.
struct Rehearsal {
    codex: Codex,
    out: Outbox,
    turns: u64,
}

impl Rehearsal {
    fn new() -> Self {
        let config = CodexConfig {
            approvals: Approvals::Ask,
            max_prompt_bytes: 1 << 20,
        };
        Self {
            codex: Codex::new(config),
            out: Outbox::new(Instant::now()),
            turns: 0,
        }
    }

    /// Ready for its first prompt; the ids 1 and 2 are used.
    fn ready() -> Self {
        let mut rehearsal = Self::new();
        rehearsal.codex.start(&mut rehearsal.out);
        assert_eq!(rehearsal.tell(json!({"id": 1, "result": {}})), []);
        let events = rehearsal.tell(json!({"id": 2, "result": {"thread": {"id": "thread"}}}));
        assert_eq!(
            events,
            [
                TurnEvent::SessionChanged("thread".to_owned()),
                TurnEvent::Ready
            ]
        );
        rehearsal.written();
        rehearsal
    }

    /// A turn that codex has begun.
    fn running() -> Self {
        let mut rehearsal = Self::ready();
        rehearsal.submit(&Prompt::text("hello"));
        rehearsal.begin("turn-1");
        rehearsal
    }

    /// Submits a prompt; returns the id of the request for it.
    fn submit(&mut self, prompt: &Prompt) -> i64 {
        self.turns += 1;
        let turn = TurnId(self.turns);
        self.codex
            .submit(turn, prompt, &mut self.out)
            .expect("the prompt is acceptable");
        self.written().last().expect("a request")["id"]
            .as_i64()
            .expect("an id")
    }

    /// codex accepts the turn and begins it.
    fn begin(&mut self, id: &str) {
        let request = self.codex.requests.last;
        self.tell(json!({"id": request, "result": {"turn": {"id": id, "status": "inProgress"}}}));
        self.tell(
            json!({"method": "turn/started", "params": {"threadId": "thread", "turn": {"id": id}}}),
        );
    }

    /// What was written, as messages.
    fn written(&mut self) -> Vec<Value> {
        String::from_utf8(self.out.take_write())
            .expect("UTF-8")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Lets codex say something; returns what the protocol says about it.
    fn tell(&mut self, message: Value) -> Vec<TurnEvent> {
        self.print(format!("{message}\n").as_bytes())
    }

    fn print(&mut self, bytes: &[u8]) -> Vec<TurnEvent> {
        self.codex.receive(Stream::Stdout, bytes, &mut self.out);
        std::iter::from_fn(|| self.out.next_event()).collect()
    }

    /// Lets codex end the turn; returns the outcome and the answer.
    fn complete(&mut self, id: &str, status: &str) -> (Outcome, Option<String>) {
        let events = self.tell(turn_completed("thread", id, status));
        ended(events).expect("the turn has ended")
    }
}

fn turn_completed(thread: &str, turn: &str, status: &str) -> Value {
    json!({"method": "turn/completed", "params": {"threadId": thread, "turn": {"id": turn, "status": status}}})
}

fn delta(turn: &str, text: &str) -> Value {
    json!({"method": "item/agentMessage/delta",
           "params": {"threadId": "thread", "turnId": turn, "itemId": "item", "delta": text}})
}

fn message(turn: &str, text: &str) -> Value {
    json!({"method": "item/completed", "params": {"threadId": "thread", "turnId": turn,
           "item": {"type": "agentMessage", "id": "item", "text": text}}})
}

fn ended(events: Vec<TurnEvent>) -> Option<(Outcome, Option<String>)> {
    events.into_iter().find_map(|event| match event {
        TurnEvent::TurnEnded {
            outcome, answer, ..
        } => Some((outcome, answer)),
        _ => None,
    })
}

fn is_fault(events: &[TurnEvent]) -> bool {
    matches!(events, [TurnEvent::Fault(_)])
}
