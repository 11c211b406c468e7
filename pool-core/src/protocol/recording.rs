//! Recorded sessions of tools, for the tests that play them again.
//!
//! Owns the form of a record: lines of JSON, each what the caller did, what was written and read, or what the protocol told.
//! Must not know a protocol. Invariant: what was recorded is done again as it was.

use serde_json::Value;

use super::{Answer, Outbox, Protocol, RequestId};
use crate::prompt::{Prompt, PromptKind, TurnId};

/// What the caller did, and what followed until it did something again.
#[derive(Default)]
pub(crate) struct Scene {
    pub(crate) call: Value,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) events: Vec<Value>,
}

pub(crate) fn scenes(record: &str) -> Vec<Scene> {
    let mut scenes: Vec<Scene> = Vec::new();
    for line in record.lines() {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        if entry.get("do").is_some() {
            scenes.push(Scene {
                call: entry,
                ..Scene::default()
            });
            continue;
        }
        let scene = scenes.last_mut().expect("a record begins with a call");
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        match (text("stdin"), text("stdout")) {
            (Some(stdin), _) => scene.stdin.push_str(stdin),
            (_, Some(stdout)) => scene.stdout.push_str(stdout),
            _ => scene.events.push(entry),
        }
    }
    scenes
}

/// Does what the caller did.
pub(crate) fn call(protocol: &mut impl Protocol, call: &Value, turn: &mut u64, out: &mut Outbox) {
    match call["do"].as_str() {
        Some("resume") => protocol.resume(call["session"].as_str().expect("a name")),
        Some("start") => protocol.start(out),
        Some("interrupt") => protocol.interrupt(out),
        Some("answer") => {
            let request = RequestId(call["request"].as_str().expect("an id").to_owned());
            let answer = match call["allow"].as_bool() {
                Some(true) => Answer::Allow,
                _ => Answer::Deny,
            };
            protocol.answer(&request, answer, out);
        }
        _ => {
            *turn += 1;
            let files = call["files"].as_array().into_iter().flatten();
            let prompt = Prompt {
                text: call["text"].as_str().expect("a text").to_owned(),
                kind: if call["command"] == true {
                    PromptKind::Command
                } else {
                    PromptKind::Text
                },
                fresh: call["fresh"] == true,
                files: files.filter_map(Value::as_str).map(Into::into).collect(),
            };
            protocol
                .submit(TurnId(*turn), &prompt, out)
                .expect("accepted when recorded");
        }
    }
}
