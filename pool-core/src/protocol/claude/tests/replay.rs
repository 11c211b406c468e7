//! Sessions recorded with Claude Code 2.1.197 and 2.1.330 and a model server on loopback, cut in every way. In the
//! records, long lists and texts of the messages that greet and describe are shortened, and paths are replaced.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::counting;
use crate::outcome::Outcome;
use crate::prompt::TurnId;
use crate::protocol::recording::{call, scenes};
use crate::protocol::{Outbox, Protocol, Stream, TurnEvent};

/// What a person read off the recordings: the outcomes, the same for both versions.
const CONVERSATION: &str = "completed completed completed completed completed completed completed completed empty_answer \
                            completed completed";
const TOOLS: &str = "completed completed completed cancelled completed";
const ERRORS: &str = "bad_request auth auth bad_request context_too_large rate_limit overloaded overloaded network \
                      completed completed completed";
const INTERRUPTS: &str = "cancelled cancelled cancelled cancelled completed cancelled completed cancelled completed \
                          cancelled completed";

const SESSIONS: [(&str, &str, &str); 12] = [
    (
        "conversation, new",
        include_str!("../transcripts/conversation-2.1.330.jsonl"),
        CONVERSATION,
    ),
    (
        "conversation, old",
        include_str!("../transcripts/conversation-2.1.197.jsonl"),
        CONVERSATION,
    ),
    (
        "tools, new",
        include_str!("../transcripts/tools-2.1.330.jsonl"),
        TOOLS,
    ),
    (
        "tools, old",
        include_str!("../transcripts/tools-2.1.197.jsonl"),
        TOOLS,
    ),
    (
        "errors, new",
        include_str!("../transcripts/errors-2.1.330.jsonl"),
        ERRORS,
    ),
    (
        "errors, old",
        include_str!("../transcripts/errors-2.1.197.jsonl"),
        ERRORS,
    ),
    (
        "interrupts, new",
        include_str!("../transcripts/interrupts-2.1.330.jsonl"),
        INTERRUPTS,
    ),
    (
        "interrupts, old",
        include_str!("../transcripts/interrupts-2.1.197.jsonl"),
        INTERRUPTS,
    ),
    (
        "no login, new",
        include_str!("../transcripts/nologin-2.1.330.jsonl"),
        "auth",
    ),
    (
        "no login, old",
        include_str!("../transcripts/nologin-2.1.197.jsonl"),
        "auth",
    ),
    (
        "refused, new",
        include_str!("../transcripts/refused-2.1.330.jsonl"),
        "network",
    ),
    (
        "refused, old",
        include_str!("../transcripts/refused-2.1.197.jsonl"),
        "network",
    ),
];

/// An event in the record's form.
fn recorded(event: TurnEvent) -> Value {
    match event {
        TurnEvent::Ready => json!({"ready": true}),
        TurnEvent::Chunk { bytes, .. } => {
            json!({"chunk": String::from_utf8(bytes).expect("JSON is UTF-8")})
        }
        TurnEvent::Retrying { message, .. } => json!({"retrying": message}),
        TurnEvent::Waiting {
            request,
            question,
            act,
            ..
        } => json!({"waiting": request.0, "question": question, "act": format!("{act:?}")}),
        TurnEvent::Withdrawn { request } => json!({"withdrawn": request.0}),
        TurnEvent::SessionChanged(session) => json!({"session": session}),
        TurnEvent::TurnEnded {
            turn,
            outcome,
            attribution,
            answer,
            usage,
        } => {
            let mut ended = json!({"ended": outcome.word(), "turn": turn.0, "by": attribution.by});
            if let Outcome::Failed(failure) = outcome {
                ended["class"] = failure.class.word().into();
                ended["message"] = failure.message.into();
            }
            if let Some(answer) = answer {
                ended["answer"] = answer.into();
            }
            if let Some(usage) = usage {
                ended["usage"] = json!([usage.input_tokens, usage.output_tokens, usage.cost_usd]);
            }
            ended
        }
        other => panic!("{other:?}"),
    }
}

/// Plays a session, with Claude's output in the pieces whose lengths `cut` says, and checks everything that the protocol
/// does against the record. Returns how the turns ended.
fn play(name: &str, record: &str, mut cut: impl FnMut(&str) -> Vec<usize>) -> String {
    let start = Instant::now();
    let mut claude = counting();
    let mut out = Outbox::new(start);
    let (mut turn, mut words) = (0, Vec::new());
    for scene in scenes(record) {
        let at = Duration::from_millis(scene.call["at_ms"].as_u64().unwrap_or(0));
        out.set_now((start + at).max(out.now()));
        call(&mut claude, &scene.call, &mut turn, &mut out);
        let mut events: Vec<Value> = Vec::new();
        let mut rest = scene.stdout.as_bytes();
        for length in cut(&scene.stdout) {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            claude.receive(Stream::Stdout, piece, &mut out);
            let more: Vec<Value> = std::iter::from_fn(|| out.next_event())
                .map(recorded)
                .collect();
            assert!(
                more.is_empty() || piece.contains(&b'\n'),
                "{name}: before the end of a line: {more:?}"
            );
            events.extend(more);
        }
        assert_eq!(rest, b"", "{name}");
        events.extend(std::iter::from_fn(|| out.next_event()).map(recorded));
        assert_eq!(events, scene.events, "{name}: {}", scene.call);
        let stdin = String::from_utf8(out.take_write()).expect("UTF-8");
        assert_eq!(stdin, scene.stdin, "{name}: {}", scene.call);
        for event in events.iter().filter(|event| event.get("ended").is_some()) {
            let word = event.get("class").unwrap_or(&event["ended"]);
            words.push(word.as_str().expect("a word").to_owned());
        }
    }
    words.join(" ")
}

fn whole(text: &str) -> Vec<usize> {
    vec![text.len()]
}

fn by_line(text: &str) -> Vec<usize> {
    text.split_inclusive('\n').map(str::len).collect()
}

#[test]
fn recorded_sessions_come_out_as_a_person_read_them() {
    for (name, record, expected) in SESSIONS {
        assert_eq!(play(name, record, whole), expected, "{name}");
        assert_eq!(play(name, record, by_line), expected, "{name}, by line");
    }
}

#[test]
fn byte_by_byte_nothing_happens_before_the_end_of_its_line() {
    for (name, record, expected) in SESSIONS {
        assert_eq!(
            play(name, record, |text| vec![1; text.len()]),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for (name, record, expected) in &SESSIONS[8..] {
        let longest = scenes(record).iter().map(|scene| scene.stdout.len()).max();
        for at in 1..longest.expect("a scene") {
            let played = play(name, record, |text| match text.len().checked_sub(at) {
                Some(rest @ 1..) => vec![at, rest],
                _ => whole(text),
            });
            assert_eq!(played, *expected, "{name}, cut at {at}");
        }
    }
}

#[test]
fn output_that_breaks_off_anywhere_never_ends_a_turn_early() {
    for (name, record, _) in SESSIONS {
        let scenes = scenes(record);
        // The last turn's output, up to the line that ends it.
        let (last, before) = scenes.split_last().expect("a scene");
        let lines: Vec<&str> = last.stdout.split_inclusive('\n').collect();
        let end = lines
            .iter()
            .position(|line| line.contains("\"type\":\"result\""))
            .expect("a result");
        let until_end = lines[..=end].concat();
        for length in 0..until_end.len() {
            // Every byte of the last message's end, and one in 64 before it.
            if !length.is_multiple_of(64) && length + 64 < until_end.len() {
                continue;
            }
            let mut claude = counting();
            let mut out = Outbox::new(Instant::now());
            let mut turn = 0;
            for scene in before {
                call(&mut claude, &scene.call, &mut turn, &mut out);
                claude.receive(Stream::Stdout, scene.stdout.as_bytes(), &mut out);
            }
            while out.next_event().is_some() {}
            call(&mut claude, &last.call, &mut turn, &mut out);
            claude.receive(Stream::Stdout, &until_end.as_bytes()[..length], &mut out);
            let mut events = std::iter::from_fn(|| out.next_event());
            assert!(
                !events.any(|event| matches!(event, TurnEvent::TurnEnded { .. })),
                "{name}: the turn ended at {length} of {}",
                until_end.len()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_pieces_change_nothing(lengths in prop::collection::vec(1_usize..700, 1..60), session in 0..SESSIONS.len()) {
        let (name, record, expected) = SESSIONS[session];
        let mut next = lengths.iter().cycle();
        let played = play(name, record, |text| {
            let mut left = text.len();
            let mut pieces = Vec::new();
            while left > 0 {
                let piece = next.next().map_or(left, |&piece| piece.min(left));
                pieces.push(piece);
                left -= piece;
            }
            pieces
        });
        prop_assert_eq!(played, expected);
    }

    #[test]
    fn lines_in_another_order_end_each_turn_at_most_once(seed in any::<u64>(), session in 0..SESSIONS.len()) {
        let (_, record, _) = SESSIONS[session];
        let mut claude = counting();
        let mut out = Outbox::new(Instant::now());
        let (mut turn, mut ended) = (0, 0);
        let mut random = seed;
        for scene in scenes(record) {
            if scene.call["do"] == "submit" && ended < turn {
                break;
            }
            call(&mut claude, &scene.call, &mut turn, &mut out);
            let mut lines: Vec<&str> = scene.stdout.split_inclusive('\n').collect();
            while !lines.is_empty() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Often the next one, so that it does not come to an end at once.
                let place = if random >> 62 == 0 { (random >> 33) as usize % lines.len() } else { 0 };
                claude.receive(Stream::Stdout, lines.remove(place).as_bytes(), &mut out);
            }
            for event in std::iter::from_fn(|| out.next_event()) {
                match event {
                    TurnEvent::TurnEnded { turn: which, .. } => {
                        ended += 1;
                        prop_assert_eq!((which, ended), (TurnId(turn), turn));
                    }
                    TurnEvent::Fault(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}
