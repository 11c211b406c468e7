//! Sessions recorded with aider 0.86.2 and a model server on loopback, cut in every way.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::counting;
use crate::outcome::{Attribution, Grade, Outcome, Usage};
use crate::prompt::{Prompt, PromptKind, TurnId};
use crate::protocol::{Action, Outbox, Protocol, Stream, TurnEvent};

/// Name, record, and the outcomes that a person read off the recording.
const SESSIONS: [(&str, &str, &str); 5] = [
    (
        "conversation",
        include_str!("../transcripts/conversation.jsonl"),
        "completed completed completed completed completed completed completed completed empty_answer completed \
         completed completed completed",
    ),
    (
        "files",
        include_str!("../transcripts/files.jsonl"),
        "completed bad_request completed bad_request completed completed completed completed completed completed \
         completed completed completed",
    ),
    (
        "errors",
        include_str!("../transcripts/errors.jsonl"),
        "auth bad_request context_too_large completed cancelled completed cancelled cancelled context_too_large",
    ),
    (
        "cut_stream",
        include_str!("../transcripts/cut_stream.jsonl"),
        "network",
    ),
    (
        "unreachable",
        include_str!("../transcripts/unreachable.jsonl"),
        "network",
    ),
];

/// A string, or pieces of which some are repeated: `["a", ["b", 3]]` is `abbb`.
fn text(value: &Value) -> String {
    match value {
        Value::Array(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                Value::Array(repeated) => {
                    let times = repeated[1].as_u64().expect("a number of times");
                    text(&repeated[0]).repeat(times as usize)
                }
                piece => text(piece),
            })
            .collect(),
        value => value.as_str().expect("a string").to_owned(),
    }
}

/// The words for the outcomes, and all chunks of each turn.
type Played = Vec<(String, String)>;

/// Plays a session, with aider's output in the pieces whose lengths `cut` says, and checks everything that the protocol
/// does against the record. A turn that ends a byte too early fails.
fn play(record: &str, mut cut: impl FnMut(usize) -> Vec<usize>) -> Played {
    let start = Instant::now();
    let mut aider = counting();
    let mut out = Outbox::new(start);
    let mut played = Played::new();
    let (mut chunks, mut turn, mut ended) = (Vec::new(), 0, None);
    let mut ready = false;
    let mut actions = Vec::new();
    for line in record.lines() {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let key = |name: &str| entry.get(name);
        if let Some(at) = key("at_ms").and_then(Value::as_u64) {
            out.set_now((start + Duration::from_millis(at)).max(out.now()));
        }
        if let Some(call) = key("do").and_then(Value::as_str) {
            assert_eq!(out.take_write(), b"", "written before {line}");
            match call {
                "start" => aider.start(&mut out),
                "interrupt" => aider.interrupt(&mut out),
                _ => {
                    turn += 1;
                    let files = key("files")
                        .and_then(Value::as_array)
                        .cloned()
                        .unwrap_or_default();
                    let prompt = Prompt {
                        text: text(&entry["text"]),
                        kind: if key("command").is_some() {
                            PromptKind::Command
                        } else {
                            PromptKind::Text
                        },
                        fresh: key("fresh").is_some(),
                        files: files.iter().map(|file| text(file).into()).collect(),
                    };
                    aider
                        .submit(TurnId(turn), &prompt, &mut out)
                        .expect("accepted when recorded");
                }
            }
        } else if let Some(stdin) = key("stdin") {
            assert_eq!(
                String::from_utf8(out.take_write()).expect("UTF-8"),
                text(stdin)
            );
        } else if let Some(stdout) = key("stdout") {
            let stdout = text(stdout).into_bytes();
            let mut rest = stdout.as_slice();
            for length in cut(stdout.len()) {
                assert!(
                    ended.is_none() && actions.is_empty(),
                    "too early, {} bytes before: {line}",
                    rest.len()
                );
                let (piece, more) = rest.split_at(length.min(rest.len()));
                rest = more;
                aider.receive(Stream::Stdout, piece, &mut out);
                actions.append(&mut out.take_actions());
                collect(&mut out, &mut chunks, &mut ended, &mut ready);
            }
            assert_eq!(rest, b"");
        } else if key("sigint").is_some() {
            assert_eq!(std::mem::take(&mut actions), [Action::Interrupt]);
        } else if key("tick").is_some() {
            out.set_now(out.wakes_at().expect("a tick was wanted").max(out.now()));
            aider.tick(&mut out);
        } else if key("truncate").is_some() {
            let action = actions.remove(0);
            assert!(matches!(action, Action::TruncateFile(name) if entry["truncate"] == name));
        } else if key("read").is_some() {
            let Action::ReadFile(name) = actions.remove(0) else {
                panic!("no file was asked for: {line}")
            };
            assert_eq!(entry["read"], name);
            aider.file(name, text(&entry["contents"]).as_bytes(), &mut out);
        } else {
            let (id, outcome, answer, usage) = ended
                .take()
                .unwrap_or_else(|| panic!("the turn did not end: {line}"));
            assert_eq!(id, TurnId(turn));
            let word = check_end(&entry, &outcome, answer, usage);
            played.push((
                word,
                String::from_utf8(std::mem::take(&mut chunks)).expect("UTF-8"),
            ));
        }
        actions.append(&mut out.take_actions());
        collect(&mut out, &mut chunks, &mut ended, &mut ready);
    }
    assert!(ready && ended.is_none());
    played
}

type Ended = (TurnId, Outcome, Option<String>, Option<Usage>);

fn collect(out: &mut Outbox, chunks: &mut Vec<u8>, ended: &mut Option<Ended>, ready: &mut bool) {
    while let Some(event) = out.next_event() {
        match event {
            TurnEvent::Ready => *ready = true,
            TurnEvent::Chunk { bytes, .. } => chunks.extend(bytes),
            TurnEvent::Retrying { message, .. } => {
                assert!(message.contains("Retrying in "), "{message}")
            }
            TurnEvent::TurnEnded {
                turn,
                outcome,
                attribution,
                answer,
                usage,
            } => {
                assert_eq!(
                    attribution,
                    Attribution {
                        grade: Grade::C,
                        by: "sentinel"
                    }
                );
                *ended = Some((turn, outcome, answer, usage));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn check_end(
    entry: &Value,
    outcome: &Outcome,
    answer: Option<String>,
    usage: Option<Usage>,
) -> String {
    assert_eq!(entry["ended"], outcome.word());
    assert_eq!(entry.get("answer").map(text), answer);
    let usage = usage.unwrap_or_default();
    assert_eq!(entry["input_tokens"].as_u64(), usage.input_tokens);
    assert_eq!(entry["output_tokens"].as_u64(), usage.output_tokens);
    assert_eq!(entry["cost_usd"].as_f64(), usage.cost_usd);
    match outcome {
        Outcome::Failed(failure) => {
            assert_eq!(entry["message"], failure.message);
            let retry_after = failure.retry_after.map(|after| after.as_millis() as u64);
            assert_eq!(entry["retry_after_ms"].as_u64(), retry_after);
            failure.class.word().to_owned()
        }
        outcome => outcome.word().to_owned(),
    }
}

fn whole(length: usize) -> Vec<usize> {
    vec![length]
}

#[test]
fn recorded_sessions_come_out_as_a_person_read_them() {
    for (name, record, expected) in SESSIONS {
        let played = play(record, whole);
        let words: Vec<&str> = played.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words.join(" "), expected, "{name}");
    }
}

#[test]
fn byte_by_byte_every_turn_ends_at_its_last_byte_and_no_earlier() {
    for (name, record, _) in SESSIONS {
        assert_eq!(
            play(record, |length| vec![1; length]).len(),
            play(record, whole).len(),
            "{name}"
        );
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for (_, record, _) in SESSIONS {
        for at in 1..700 {
            play(record, |length| match length.checked_sub(at) {
                Some(rest @ 1..) => vec![at, rest],
                _ => vec![length],
            });
        }
    }
}

#[test]
fn the_chunks_of_a_conversation_are_the_same_however_they_are_cut() {
    let (_, record, _) = SESSIONS[0];
    let expected = play(record, whole);
    assert_eq!(play(record, |length| vec![1; length]), expected);
    assert_eq!(
        expected[0].1,
        "Hello from the model.\nSecond line.\nTokens: 1.8k sent, 8 received.\n"
    );
    for (turn, (_, chunks)) in expected.iter().enumerate() {
        assert!(
            !chunks.ends_with("> "),
            "turn {turn} shows aider's prompt: {chunks:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_pieces_change_nothing(lengths in prop::collection::vec(1_usize..90, 1..60), session in 0..SESSIONS.len()) {
        let mut next = lengths.iter().cycle();
        play(SESSIONS[session].1, |length| {
            let mut left = length;
            let mut pieces = Vec::new();
            while left > 0 {
                let piece = next.next().map_or(left, |&piece| piece.min(left));
                pieces.push(piece);
                left -= piece;
            }
            pieces
        });
    }
}
