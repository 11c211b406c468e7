//! Rehearses the protocol without Claude: what the real one wrote and read, replayed in every way of cutting it, and
//! inputs made to mislead it.

mod interrupts;
mod misleading;
mod permissions;
mod replay;

use std::time::Instant;

use serde_json::{Value, json};

use super::{Claude, ClaudeConfig};
use crate::outcome::{Attribution, Outcome};
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Outbox, Protocol, Stream, TurnEvent};

/// A protocol whose ids count up from one.
fn counting() -> Claude {
    let list = |words: &str| words.split(' ').map(str::to_owned).collect();
    let mut last = 0;
    let config = ClaudeConfig {
        commands: list("/compact"),
        bare_commands: list("/cost /clear /context"),
        max_prompt_bytes: 1 << 20,
    };
    Claude::with_ids(config, move || {
        last += 1;
        last
    })
}

/// The id of the message with this number.
fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn init(session: &str) -> Value {
    json!({"type": "system", "subtype": "init", "session_id": session})
}

/// The end of a turn whose message had this number, with an answer.
fn result(number: u32, answer: &str) -> Value {
    json!({"type": "result", "subtype": "success", "is_error": false, "result": answer, "session_id": "s",
           "user_message_uuid": id(number), "terminal_reason": "completed"})
}

/// The end of a turn that was interrupted.
fn aborted(number: u32) -> Value {
    json!({"type": "result", "subtype": "error_during_execution", "is_error": true, "session_id": "s",
           "user_message_uuid": id(number), "terminal_reason": "aborted_streaming", "errors": ["diagnostic"]})
}

/// The answer to a control request of ours.
fn reply(id: &str) -> Value {
    json!({"type": "control_response", "response": {"subtype": "success", "request_id": id, "response": {}}})
}

/// A protocol at work, with its outbox.
struct Rehearsal {
    claude: Claude,
    out: Outbox,
}

impl Rehearsal {
    fn started() -> Self {
        let mut rehearsal = Self {
            claude: counting(),
            out: Outbox::new(Instant::now()),
        };
        rehearsal.claude.start(&mut rehearsal.out);
        rehearsal.written();
        rehearsal
    }

    fn ready() -> Self {
        let mut rehearsal = Self::started();
        assert_eq!(rehearsal.print(&[reply("hello")]), [TurnEvent::Ready]);
        rehearsal
    }

    /// With a turn that Claude has taken up.
    fn running() -> Self {
        let mut rehearsal = Self::ready();
        rehearsal.submit(&Prompt::text("hi"));
        let changed = TurnEvent::SessionChanged("s".to_owned());
        assert_eq!(rehearsal.print(&[init("s")]), [changed]);
        rehearsal
    }

    /// Submits turn 7; returns the messages that are written.
    fn submit(&mut self, prompt: &Prompt) -> Vec<Value> {
        self.claude
            .submit(TurnId(7), prompt, &mut self.out)
            .expect("the prompt is acceptable");
        self.written()
    }

    fn written(&mut self) -> Vec<Value> {
        let written = String::from_utf8(self.out.take_write()).expect("JSON is UTF-8");
        assert!(written.is_empty() || written.ends_with('\n'));
        let lines = written.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }

    /// Lets Claude write some messages; returns what the protocol says about them.
    fn print(&mut self, messages: &[Value]) -> Vec<TurnEvent> {
        let lines: String = messages
            .iter()
            .map(|message| format!("{message}\n"))
            .collect();
        self.print_raw(lines.as_bytes())
    }

    fn print_raw(&mut self, bytes: &[u8]) -> Vec<TurnEvent> {
        self.claude.receive(Stream::Stdout, bytes, &mut self.out);
        self.events()
    }

    fn events(&mut self) -> Vec<TurnEvent> {
        std::iter::from_fn(|| self.out.next_event()).collect()
    }
}

/// The one end among the events, and how it was known.
fn end_of(events: &[TurnEvent]) -> (&Outcome, Attribution, Option<&str>) {
    let mut ends = events.iter().filter_map(|event| match event {
        TurnEvent::TurnEnded {
            turn: TurnId(7),
            outcome,
            attribution,
            answer,
            ..
        } => Some((outcome, *attribution, answer.as_deref())),
        _ => None,
    });
    match (ends.next(), ends.next()) {
        (Some(end), None) => end,
        _ => panic!("expected one end, got {events:?}"),
    }
}

fn fault_of(events: &[TurnEvent]) -> &str {
    match events {
        [.., TurnEvent::Fault(why)] => why,
        other => panic!("expected a fault, got {other:?}"),
    }
}

fn chunks_of(events: &[TurnEvent]) -> String {
    let chunks = events.iter().filter_map(|event| match event {
        TurnEvent::Chunk { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    chunks.collect()
}
