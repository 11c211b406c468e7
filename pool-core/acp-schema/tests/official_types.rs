//! Everything that was written to agents in the recorded sessions, read with the protocol's official types. The tests of
//! the protocol itself see to it that the records and what is written are the same.

use std::collections::BTreeSet;
use std::path::Path;

use agent_client_protocol_schema::v1::{
    CancelNotification, CloseSessionRequest, InitializeRequest, NewSessionRequest, PromptRequest,
    RequestPermissionResponse, ResumeSessionRequest, SetSessionModeRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a value as the official type, and sees that the type knows all of it.
fn check<T: DeserializeOwned + Serialize>(value: &Value) {
    let read: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    let known = serde_json::to_value(&read).expect("JSON");
    assert!(holds(&known, value), "{value} is read as {known}");
}

/// Whether everything in `part` is in `whole`. What a type leaves out because it is the default is not missed.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| match whole.get(key) {
                Some(found) => holds(found, value),
                None => *value == Value::Bool(false) || *value == Value::Array(Vec::new()),
            })
        }
        (Value::Array(whole), Value::Array(part)) => {
            let mut pairs = whole.iter().zip(part);
            whole.len() == part.len() && pairs.all(|(whole, part)| holds(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn check_message(message: &Value) -> &str {
    assert_eq!(message["jsonrpc"], "2.0");
    let params = &message["params"];
    let method = message["method"].as_str().unwrap_or("a response");
    match method {
        "initialize" => check::<InitializeRequest>(params),
        "session/new" => check::<NewSessionRequest>(params),
        "session/resume" => check::<ResumeSessionRequest>(params),
        "session/set_mode" => check::<SetSessionModeRequest>(params),
        "session/prompt" => check::<PromptRequest>(params),
        "session/cancel" => check::<CancelNotification>(params),
        "session/close" => check::<CloseSessionRequest>(params),
        // Requests of an agent's own invention are declined.
        "a response" if message.get("error").is_some() => {
            assert_eq!(message["error"]["code"], -32601);
        }
        "a response" => check::<RequestPermissionResponse>(&message["result"]),
        other => panic!("{other} is not in the protocol"),
    }
    method
}

#[test]
fn every_message_that_was_written_is_one_of_the_official_protocol() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/protocol/acp/transcripts");
    let mut methods = BTreeSet::new();
    let mut count = 0;
    for record in std::fs::read_dir(records).expect("the records") {
        let record = std::fs::read_to_string(record.expect("a record").path()).expect("text");
        for entry in record.lines() {
            let entry: Value = serde_json::from_str(entry).expect("JSON");
            for line in entry["stdin"].as_str().unwrap_or_default().lines() {
                let message: Value = serde_json::from_str(line).expect("JSON");
                methods.insert(check_message(&message).to_owned());
                count += 1;
            }
        }
    }
    assert!(count > 200, "only {count} messages");
    let all = [
        "a response",
        "initialize",
        "session/cancel",
        "session/close",
        "session/new",
        "session/prompt",
        "session/resume",
        "session/set_mode",
    ];
    assert_eq!(methods, all.map(str::to_owned).into());
}
