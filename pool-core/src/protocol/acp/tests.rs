//! Rehearses the protocol without an agent: what real ones wrote and read, replayed in every way of cutting it, and
//! inputs made to mislead it.

mod encoding;
mod misleading;
mod outcomes;
mod permissions;
mod replay;
mod sessions;

use std::time::Instant;

use serde_json::{Value, json};

use super::{Acp, AcpConfig, AcpQuirks};
use crate::outcome::{Failure, Outcome};
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Outbox, Protocol, Stream, TurnEvent};

fn config() -> AcpConfig {
    AcpConfig {
        cwd: "/repo".into(),
        commands: vec!["/compress".to_owned()],
        bare_commands: vec!["/about".to_owned()],
        max_prompt_bytes: 1 << 20,
        quirks: AcpQuirks::default(),
    }
}

/// An agent that has told its capabilities and is to go on with the session `s0`.
fn resuming(capabilities: &Value) -> Rehearsal {
    let mut acp = Acp::new(config());
    acp.resume("s0");
    let mut rehearsal = Rehearsal {
        acp,
        out: Outbox::new(Instant::now()),
    };
    rehearsal.acp.start(&mut rehearsal.out);
    rehearsal.written();
    rehearsal.result(
        1,
        json!({"protocolVersion": 1, "agentCapabilities": capabilities}),
    );
    rehearsal
}

/// A protocol at work, with its outbox.
struct Rehearsal {
    acp: Acp,
    out: Outbox,
}

impl Rehearsal {
    fn new(config: AcpConfig) -> Self {
        let mut rehearsal = Self {
            acp: Acp::new(config),
            out: Outbox::new(Instant::now()),
        };
        rehearsal.acp.start(&mut rehearsal.out);
        rehearsal
    }

    /// An agent that has opened the session `s1`.
    fn ready() -> Self {
        Self::ready_with(config(), &json!({}))
    }

    fn ready_with(config: AcpConfig, capabilities: &Value) -> Self {
        let mut rehearsal = Self::new(config);
        rehearsal.result(
            1,
            json!({"protocolVersion": 1, "agentCapabilities": capabilities}),
        );
        let events = rehearsal.result(2, json!({"sessionId": "s1"}));
        assert_eq!(
            events,
            [TurnEvent::SessionChanged("s1".to_owned()), TurnEvent::Ready]
        );
        rehearsal.written();
        rehearsal
    }

    /// A turn whose prompt has gone out with the id 3.
    fn running() -> Self {
        let mut rehearsal = Self::ready();
        rehearsal.submit(&Prompt::text("hi"));
        rehearsal
    }

    fn submit(&mut self, prompt: &Prompt) -> Vec<Value> {
        self.acp
            .submit(TurnId(7), prompt, &mut self.out)
            .expect("the prompt is acceptable");
        self.written()
    }

    fn interrupt(&mut self) -> Vec<Value> {
        self.acp.interrupt(&mut self.out);
        self.written()
    }

    /// The messages that were written.
    fn written(&mut self) -> Vec<Value> {
        let written = String::from_utf8(self.out.take_write()).expect("JSON is UTF-8");
        written
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Lets the agent write a line.
    fn line(&mut self, line: &str) -> Vec<TurnEvent> {
        self.acp.receive(
            Stream::Stdout,
            format!("{line}\n").as_bytes(),
            &mut self.out,
        );
        self.events()
    }

    fn result(&mut self, id: i64, result: Value) -> Vec<TurnEvent> {
        self.line(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
    }

    fn error(&mut self, id: i64, error: Value) -> Vec<TurnEvent> {
        self.line(&json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string())
    }

    fn update(&mut self, update: Value) -> Vec<TurnEvent> {
        let params = json!({"sessionId": "s1", "update": update});
        self.line(
            &json!({"jsonrpc": "2.0", "method": "session/update", "params": params}).to_string(),
        )
    }

    fn says(&mut self, text: &str) -> Vec<TurnEvent> {
        self.update(json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}))
    }

    fn events(&mut self) -> Vec<TurnEvent> {
        std::iter::from_fn(|| self.out.next_event()).collect()
    }
}

/// The outcome of a turn that has ended, and nothing else has happened.
fn outcome_of(events: &[TurnEvent]) -> &Outcome {
    match events {
        [
            TurnEvent::TurnEnded {
                turn: TurnId(7),
                outcome,
                ..
            },
        ] => outcome,
        other => panic!("expected the end of the turn, got {other:?}"),
    }
}

fn failure_of(events: &[TurnEvent]) -> &Failure {
    match outcome_of(events) {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn fault_of(events: &[TurnEvent]) -> &str {
    match events {
        [TurnEvent::Fault(why)] => why,
        other => panic!("expected a fault, got {other:?}"),
    }
}
