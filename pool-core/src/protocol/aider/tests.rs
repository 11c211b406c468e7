//! Rehearses the protocol without aider: what the real one wrote and read, replayed in every way of cutting it, and
//! inputs made to mislead it.

mod interrupts;
mod misleading;
mod replay;

use std::time::Instant;

use super::{Aider, AiderConfig};
use crate::outcome::Outcome;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Action, Outbox, Protocol, Stream, TurnEvent};

/// The end of what aider prints at its start, with the answer to the first mark.
const START: &str =
    "Aider v0.86.2\n\n> \nInvalid command: /=00000000000000000000000000000001\n\n> ";

fn config() -> AiderConfig {
    let list = |words: &str| words.split(' ').map(str::to_owned).collect();
    AiderConfig {
        commands: list("/tokens /ls /drop /map /ask /code /undo"),
        bare_commands: list("/help"),
        max_prompt_bytes: 1 << 20,
    }
}

/// A protocol whose nonces count up from one.
fn counting() -> Aider {
    let mut last = 0;
    Aider::with_nonces(config(), move || {
        last += 1;
        last
    })
}

fn nonce(number: u32) -> String {
    format!("{number:032x}")
}

/// What aider prints to end a step: the prompt, the answer to the mark, the prompt.
fn end_of_step(mark: u32) -> String {
    format!("\n> \nInvalid command: /={}\n\n> ", nonce(mark))
}

/// A protocol at work, with its outbox.
struct Rehearsal {
    aider: Aider,
    out: Outbox,
}

impl Rehearsal {
    fn ready() -> Self {
        let mut rehearsal = Self {
            aider: counting(),
            out: Outbox::new(Instant::now()),
        };
        rehearsal.aider.start(&mut rehearsal.out);
        assert_eq!(rehearsal.print(START), [TurnEvent::Ready]);
        rehearsal.out.take_write();
        rehearsal
    }

    fn submit(&mut self, prompt: &Prompt) -> String {
        self.aider
            .submit(TurnId(7), prompt, &mut self.out)
            .expect("the prompt is acceptable");
        self.out.take_actions();
        self.written()
    }

    fn written(&mut self) -> String {
        String::from_utf8(self.out.take_write()).expect("prompts are UTF-8")
    }

    /// Lets aider print something; returns what the protocol says about it, without the chunks.
    fn print(&mut self, text: &str) -> Vec<TurnEvent> {
        self.aider
            .receive(Stream::Stdout, text.as_bytes(), &mut self.out);
        self.events()
    }

    fn events(&mut self) -> Vec<TurnEvent> {
        std::iter::from_fn(|| self.out.next_event())
            .filter(|event| !matches!(event, TurnEvent::Chunk { .. }))
            .collect()
    }

    /// Whether the protocol has just asked for SIGINT.
    fn interrupts(&mut self) -> bool {
        self.out.take_actions().contains(&Action::Interrupt)
    }

    /// Whether the protocol has just asked for the side files, which it does at the end of a turn.
    fn wants_files(&mut self) -> bool {
        let actions = self.out.take_actions();
        actions.contains(&Action::ReadFile("events.jsonl"))
            && actions.contains(&Action::ReadFile("llm.log"))
    }

    /// Hands over the side files; returns the outcome and the answer.
    fn end(&mut self, events: &str, log: &str) -> (Outcome, Option<String>) {
        assert!(self.wants_files(), "the turn is not over");
        self.aider
            .file("events.jsonl", events.as_bytes(), &mut self.out);
        assert_eq!(self.events(), [], "one of the files is missing");
        self.aider.file("llm.log", log.as_bytes(), &mut self.out);
        let mut events = self.events();
        match (events.pop(), events.is_empty()) {
            (
                Some(TurnEvent::TurnEnded {
                    outcome,
                    answer,
                    turn: TurnId(7),
                    ..
                }),
                true,
            ) => (outcome, answer),
            other => panic!("expected the end of the turn, got {other:?} after {events:?}"),
        }
    }
}

const ANSWERED: &str = r#"{"event":"message_send_starting","properties":{}}
{"event":"message_send","properties":{"prompt_tokens":10,"completion_tokens":2,"cost":0}}
"#;
const LOG: &str = "TO LLM 2026-01-01T00:00:00\n-------\nUSER hi\nLLM RESPONSE 2026-01-01T00:00:00\nASSISTANT Hello.\n";

fn fault_of(events: &[TurnEvent]) -> &str {
    match events {
        [TurnEvent::Fault(why)] => why,
        other => panic!("expected a fault, got {other:?}"),
    }
}
