//! Sessions recorded with gemini-cli 0.61.0, qwen-code 0.24.4 and opencode 1.18.33 and a model server on loopback, cut in
//! every way. In the records, long lists and texts of what the protocol passes over are shortened, and paths replaced.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::protocol::acp::{Acp, AcpConfig, AcpQuirks};
use crate::protocol::recording::{call, scenes};
use crate::protocol::{Outbox, Protocol, Stream, TurnEvent};

/// Tool, record, and what a person read off it.
type Session = (&'static str, &'static str, &'static str);

const CONVERSATION: &str = "completed completed completed completed completed completed completed completed completed \
                            completed completed completed completed completed empty_answer completed";
/// With two commands of its own.
const GEMINI_CONVERSATION: &str = "completed completed completed completed completed completed completed completed \
                                   completed completed completed completed completed completed empty_answer completed \
                                   completed completed";
const INTERRUPTS: &str = "cancelled completed cancelled completed cancelled completed cancelled completed cancelled \
                          completed";

macro_rules! record {
    ($name:literal) => {
        include_str!(concat!("../transcripts/", $name, ".jsonl"))
    };
}

const SESSIONS: [Session; 14] = [
    (
        "gemini",
        record!("gemini-conversation"),
        GEMINI_CONVERSATION,
    ),
    (
        "gemini",
        record!("gemini-tools"),
        "completed completed completed completed completed cancelled completed cancelled completed",
    ),
    ("gemini", record!("gemini-interrupts"), INTERRUPTS),
    (
        "gemini",
        record!("gemini-errors"),
        "bad_request auth overloaded network rate_limit rate_limit overloaded overloaded completed",
    ),
    ("qwen", record!("qwen-conversation"), CONVERSATION),
    (
        "qwen",
        record!("qwen-tools"),
        "completed empty_answer completed empty_answer completed cancelled completed cancelled completed",
    ),
    ("qwen", record!("qwen-interrupts"), INTERRUPTS),
    (
        "qwen",
        record!("qwen-errors"),
        "bad_request auth bad_request completed rate_limit overloaded completed",
    ),
    ("qwen", record!("qwen-resume"), "completed"),
    ("opencode", record!("opencode-resume"), "completed"),
    ("opencode", record!("opencode-conversation"), CONVERSATION),
    (
        "opencode",
        record!("opencode-tools"),
        "completed empty_answer completed empty_answer completed cancelled completed cancelled completed",
    ),
    ("opencode", record!("opencode-interrupts"), INTERRUPTS),
    (
        "opencode",
        record!("opencode-errors"),
        "bad_request auth bad_request network rate_limit overloaded completed",
    ),
];

/// The quirks of a built-in profile.
fn quirks(tool: &str) -> AcpQuirks {
    let profile = match tool {
        "gemini" => include_str!("../../../../profiles/gemini.toml"),
        "qwen" => include_str!("../../../../profiles/qwen.toml"),
        _ => include_str!("../../../../profiles/opencode.toml"),
    };
    let mut table: toml::Table = profile.parse().expect("TOML");
    let quirks = table
        .remove("acp")
        .unwrap_or_else(|| toml::Table::new().into());
    quirks.try_into().expect("quirks")
}

fn agent(tool: &str) -> Acp {
    Acp::new(AcpConfig {
        cwd: "/repo".into(),
        commands: Vec::new(),
        bare_commands: vec!["/about".to_owned(), "/memory".to_owned()],
        max_prompt_bytes: 1 << 20,
        quirks: quirks(tool),
    })
}

/// An event in the record's form. The reply is told at its end, in one piece.
fn recorded(event: TurnEvent, reply: &mut String) -> Option<Value> {
    Some(match event {
        TurnEvent::Ready => json!({"ready": true}),
        TurnEvent::Chunk { bytes, .. } => {
            reply.push_str(std::str::from_utf8(&bytes).expect("JSON is UTF-8"));
            return None;
        }
        TurnEvent::Waiting {
            request,
            question,
            act,
            ..
        } => json!({"waiting": request.0, "question": question, "act": act.word()}),
        TurnEvent::Withdrawn { request } => json!({"withdrawn": request.0}),
        TurnEvent::SessionChanged(session) => json!({"session": session}),
        TurnEvent::TurnEnded { outcome, usage, .. } => {
            let mut ended = json!({"ended": outcome.word(), "text": std::mem::take(reply)});
            if let Outcome::Failed(failure) = outcome {
                ended["class"] = failure.class.word().into();
                ended["message"] = failure.message.into();
            }
            if let Some(usage) = usage {
                let cost = usage.cost_usd.map(Value::from);
                let tokens = [
                    ("input_tokens", usage.input_tokens),
                    ("output_tokens", usage.output_tokens),
                ];
                let tokens = tokens.map(|(key, count)| (key, count.map(Value::from)));
                for (key, value) in tokens.into_iter().chain([("cost_usd", cost)]) {
                    if let Some(value) = value {
                        ended[key] = value;
                    }
                }
            }
            ended
        }
        other => panic!("{other:?}"),
    })
}

/// Plays a session, with the agent's output in the pieces whose lengths `cut` says, and checks everything that the
/// protocol does against the record. Returns how the turns ended.
fn play((tool, record, _): Session, mut cut: impl FnMut(&str) -> Vec<usize>) -> String {
    let mut agent = agent(tool);
    let mut out = Outbox::new(Instant::now());
    let (mut turn, mut words, mut reply) = (0, Vec::new(), String::new());
    for scene in scenes(record) {
        call(&mut agent, &scene.call, &mut turn, &mut out);
        let more: Vec<TurnEvent> = std::iter::from_fn(|| out.next_event()).collect();
        let mut events: Vec<Value> = more
            .into_iter()
            .filter_map(|event| recorded(event, &mut reply))
            .collect();
        let mut rest = scene.stdout.as_bytes();
        for length in cut(&scene.stdout) {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            agent.receive(Stream::Stdout, piece, &mut out);
            let more: Vec<TurnEvent> = std::iter::from_fn(|| out.next_event()).collect();
            assert!(
                more.is_empty() || piece.contains(&b'\n'),
                "{tool}: before the end of a line: {more:?}"
            );
            events.extend(
                more.into_iter()
                    .filter_map(|event| recorded(event, &mut reply)),
            );
        }
        assert_eq!(rest, b"", "{tool}");
        assert_eq!(events, scene.events, "{tool}: {}", scene.call);
        let stdin = String::from_utf8(out.take_write()).expect("UTF-8");
        assert_eq!(
            messages(&stdin),
            messages(&scene.stdin),
            "{tool}: {}",
            scene.call
        );
        for event in events.iter().filter(|event| event.get("ended").is_some()) {
            let word = event.get("class").unwrap_or(&event["ended"]);
            words.push(word.as_str().expect("a word").to_owned());
        }
    }
    words.join(" ")
}

/// What was written: whole lines of JSON.
fn messages(written: &str) -> Vec<Value> {
    assert!(written.is_empty() || written.ends_with('\n'));
    let lines = written
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

fn whole(text: &str) -> Vec<usize> {
    vec![text.len()]
}

#[test]
fn recorded_sessions_come_out_as_a_person_read_them() {
    for session in SESSIONS {
        assert_eq!(play(session, whole), session.2, "{}", session.0);
        let by_line = |text: &str| text.split_inclusive('\n').map(str::len).collect();
        assert_eq!(play(session, by_line), session.2, "{}, by line", session.0);
    }
}

#[test]
fn byte_by_byte_nothing_happens_before_the_end_of_its_line() {
    for session in SESSIONS {
        let played = play(session, |text| vec![1; text.len()]);
        assert_eq!(played, session.2, "{}", session.0);
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for session in SESSIONS {
        for at in (1..2000).step_by(41) {
            let played = play(session, |text| match text.len().checked_sub(at) {
                Some(rest @ 1..) => vec![at, rest],
                _ => whole(text),
            });
            assert_eq!(played, session.2, "{}, cut at {at}", session.0);
        }
    }
}

#[test]
fn output_that_breaks_off_anywhere_never_ends_a_turn_early() {
    for (tool, record, _) in SESSIONS {
        let scenes = scenes(record);
        let (last, before) = scenes.split_last().expect("a scene");
        // The last turn's output, up to the line that ends it.
        let end = last.stdout.find("\"stopReason\"").expect("an end");
        let end = end + last.stdout[end..].find('\n').expect("the end of its line");
        for length in 0..=end {
            // Every byte of the last line, and one in 64 before it.
            if !length.is_multiple_of(64) && length + 200 < end {
                continue;
            }
            let mut agent = agent(tool);
            let mut out = Outbox::new(Instant::now());
            let mut turn = 0;
            for scene in before {
                call(&mut agent, &scene.call, &mut turn, &mut out);
                agent.receive(Stream::Stdout, scene.stdout.as_bytes(), &mut out);
            }
            while out.next_event().is_some() {}
            call(&mut agent, &last.call, &mut turn, &mut out);
            agent.receive(Stream::Stdout, &last.stdout.as_bytes()[..length], &mut out);
            let mut events = std::iter::from_fn(|| out.next_event());
            assert!(
                !events.any(|event| matches!(event, TurnEvent::TurnEnded { .. })),
                "{tool}: the turn ended at {length} of {end}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_pieces_change_nothing(lengths in prop::collection::vec(1_usize..700, 1..60), session in 0..SESSIONS.len()) {
        let session = SESSIONS[session];
        let mut next = lengths.iter().cycle();
        let played = play(session, |text| {
            let mut left = text.len();
            let mut pieces = Vec::new();
            while left > 0 {
                let piece = next.next().map_or(left, |&piece| piece.min(left));
                pieces.push(piece);
                left -= piece;
            }
            pieces
        });
        prop_assert_eq!(played, session.2);
    }
}
