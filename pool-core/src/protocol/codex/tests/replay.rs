//! Sessions recorded with codex 0.169.0 and a model server on loopback, cut in every way.
//!
//! In a record `#` is a call into the protocol or, as `# ended`, what the turn came to; `>` is a line that was written
//! to codex, `<` a line that it wrote. Paths of the recording machine are replaced.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Approvals, BY_TURN_ID, Codex, CodexConfig};
use crate::outcome::Outcome;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Act, Answer, Outbox, Protocol, RequestId, Stream, TurnEvent};

/// Name, whether codex asks, record, and the outcomes that a person read off the recording.
const SESSIONS: [(&str, Approvals, &str, &str); 7] = [
    (
        "conversation",
        Approvals::None,
        include_str!("../transcripts/conversation.txt"),
        "completed completed completed completed completed completed completed completed completed empty_answer \
         completed completed completed",
    ),
    (
        "work",
        Approvals::None,
        include_str!("../transcripts/work.txt"),
        "completed completed completed",
    ),
    (
        "ask",
        Approvals::Ask,
        include_str!("../transcripts/ask.txt"),
        "completed completed completed completed completed cancelled completed",
    ),
    (
        "failures",
        Approvals::None,
        include_str!("../transcripts/failures.txt"),
        "rate_limit overloaded overloaded auth auth bad_request bad_request network bad_request completed",
    ),
    (
        "interrupts",
        Approvals::None,
        include_str!("../transcripts/interrupts.txt"),
        "cancelled completed cancelled completed cancelled completed cancelled completed",
    ),
    (
        "retries",
        Approvals::None,
        include_str!("../transcripts/retries.txt"),
        "completed completed completed",
    ),
    (
        "resume",
        Approvals::None,
        include_str!("../transcripts/resume.txt"),
        "completed completed",
    ),
];

/// What a session came to.
#[derive(Debug, Default, PartialEq)]
struct Played {
    /// The outcomes' words, or the failures'.
    words: Vec<String>,
    /// All chunks of each turn.
    chunks: Vec<String>,
    /// The answer of each turn.
    answers: Vec<Option<String>>,
    acts: Vec<Act>,
    withdrawn: usize,
    retries: usize,
    conversations: usize,
}

/// A session being played.
struct Player {
    codex: Codex,
    out: Outbox,
    /// What should have been written since the last end.
    expected: String,
    /// What codex wrote since the last call.
    stretch: Vec<u8>,
    /// An end that the record has not told of yet.
    ended: Option<Value>,
    turn: u64,
    chunks: Vec<u8>,
    played: Played,
}

/// Plays a session, with codex's output in the pieces whose lengths `cut` says, and checks everything that the protocol
/// does against the record.
fn play(approvals: Approvals, record: &str, mut cut: impl FnMut(usize) -> Vec<usize>) -> Played {
    let config = CodexConfig {
        approvals,
        max_prompt_bytes: 1 << 20,
    };
    let mut player = Player {
        codex: Codex::new(config),
        out: Outbox::new(Instant::now()),
        expected: String::new(),
        stretch: Vec::new(),
        ended: None,
        turn: 0,
        chunks: Vec::new(),
        played: Played::default(),
    };
    for line in record.lines() {
        let (mark, rest) = line.split_at(2);
        match mark {
            "< " => player
                .stretch
                .extend_from_slice(format!("{rest}\n").as_bytes()),
            "> " => player.expected.push_str(&format!("{rest}\n")),
            _ => {
                player.feed(&mut cut);
                player.call(rest);
            }
        }
    }
    player.feed(&mut cut);
    player.check_written();
    assert_eq!(player.ended, None);
    player.played
}

impl Player {
    /// Feeds what codex wrote. A turn that ends anywhere but at the last byte of a line that can end it fails.
    fn feed(&mut self, cut: &mut impl FnMut(usize) -> Vec<usize>) {
        let stretch = std::mem::take(&mut self.stretch);
        let mut fed = 0;
        for length in cut(stretch.len()) {
            let piece = &stretch[fed..(fed + length).min(stretch.len())];
            fed += piece.len();
            let before = self.ended.is_some();
            self.codex.receive(Stream::Stdout, piece, &mut self.out);
            self.collect();
            if !before && self.ended.is_some() {
                let whole_lines =
                    memchr::memrchr(b'\n', &stretch[..fed]).expect("an end is a line");
                let seen = String::from_utf8_lossy(&stretch[..whole_lines]);
                let last = seen.lines().last().expect("a line");
                let can_end = last.contains("\"turn/completed\"") || last.starts_with("{\"id\":");
                // A longer piece may hold lines behind the end.
                assert!(can_end || piece.len() > 1, "ended by {last}");
            }
        }
        assert_eq!(fed, stretch.len());
    }

    /// Compares what was written with what was written when recorded.
    fn check_written(&mut self) {
        let written = String::from_utf8(self.out.take_write()).expect("UTF-8");
        assert_eq!(written, std::mem::take(&mut self.expected));
    }

    /// Does what the record says was done.
    fn call(&mut self, call: &str) {
        let (name, rest) = call.split_once(' ').unwrap_or((call, "null"));
        let entry: Value = serde_json::from_str(rest).expect("JSON");
        if name != "ended" {
            assert_eq!(self.ended, None, "ended before {call}");
        }
        match name {
            "resume" => self.codex.resume(entry.as_str().expect("a name")),
            "start" => self.codex.start(&mut self.out),
            "interrupt" => self.codex.interrupt(&mut self.out),
            "answer" => {
                let request = RequestId(entry["request"].as_str().expect("an id").to_owned());
                let answer = match entry["allow"] == true {
                    true => Answer::Allow,
                    false => Answer::Deny,
                };
                self.codex.answer(&request, answer, &mut self.out);
            }
            "submit" => {
                let files = entry["files"].as_array().cloned().unwrap_or_default();
                let prompt = Prompt {
                    fresh: entry["fresh"] == true,
                    files: files
                        .iter()
                        .map(|file| file.as_str().expect("a path").into())
                        .collect(),
                    ..Prompt::text(entry["text"].as_str().expect("a text"))
                };
                self.turn += 1;
                self.codex
                    .submit(TurnId(self.turn), &prompt, &mut self.out)
                    .expect("accepted when recorded");
            }
            "ended" => {
                self.check_written();
                assert_eq!(self.ended.take(), Some(entry.clone()));
                let word = entry["class"].as_str().or(entry["outcome"].as_str());
                self.played.words.push(word.expect("a word").to_owned());
                let answer = entry["answer"].as_str().map(str::to_owned);
                self.played.answers.push(answer);
                let chunks = std::mem::take(&mut self.chunks);
                self.played
                    .chunks
                    .push(String::from_utf8(chunks).expect("UTF-8"));
            }
            other => panic!("{other} is no call"),
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.out.next_event() {
            match event {
                TurnEvent::Ready => {}
                TurnEvent::SessionChanged(_) => self.played.conversations += 1,
                TurnEvent::Chunk { turn, bytes } => {
                    assert_eq!(turn, TurnId(self.turn));
                    self.chunks.extend(bytes);
                }
                TurnEvent::Retrying { .. } => self.played.retries += 1,
                TurnEvent::Waiting { act, .. } => self.played.acts.push(act),
                TurnEvent::Withdrawn { .. } => self.played.withdrawn += 1,
                TurnEvent::TurnEnded {
                    turn,
                    outcome,
                    attribution,
                    answer,
                    usage,
                } => {
                    assert_eq!((turn, attribution), (TurnId(self.turn), BY_TURN_ID));
                    assert_eq!(self.ended, None, "a turn ends once");
                    let class = match &outcome {
                        Outcome::Failed(failure) => Some(failure.class.word()),
                        _ => None,
                    };
                    let tokens = usage.map(|usage| [usage.input_tokens, usage.output_tokens]);
                    self.ended = Some(
                        json!({"outcome": outcome.word(), "class": class, "answer": answer,
                                             "tokens": tokens}),
                    );
                }
                TurnEvent::Fault(why) => panic!("{why}"),
                other @ TurnEvent::Elsewhere { .. } => panic!("{other:?}"),
            }
        }
    }
}

fn whole(length: usize) -> Vec<usize> {
    vec![length]
}

#[test]
fn recorded_sessions_come_out_as_a_person_read_them() {
    for (name, approvals, record, expected) in SESSIONS {
        assert_eq!(
            play(approvals, record, whole).words.join(" "),
            expected,
            "{name}"
        );
    }
}

#[test]
fn byte_by_byte_every_turn_ends_at_the_last_byte_of_its_last_line() {
    for (name, approvals, record, _) in SESSIONS {
        let expected = play(approvals, record, whole);
        assert_eq!(
            play(approvals, record, |length| vec![1; length]),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let (_, approvals, record, _) = SESSIONS[1];
    let expected = play(approvals, record, whole);
    for at in 1..3000 {
        let played = play(approvals, record, |length| match length.checked_sub(at) {
            Some(rest @ 1..) => vec![at, rest],
            _ => vec![length],
        });
        assert_eq!(played, expected, "cut at {at}");
    }
}

#[test]
fn the_chunks_of_a_turn_add_up_to_its_answer() {
    for (name, approvals, record, _) in SESSIONS {
        if name == "retries" {
            continue;
        }
        let played = play(approvals, record, whole);
        for (chunks, answer) in played.chunks.iter().zip(&played.answers) {
            if let Some(answer) = answer {
                assert_eq!(chunks, answer, "{name}");
            }
        }
    }
}

#[test]
fn an_answer_that_codex_asked_for_again_is_given_once() {
    let (_, approvals, record, _) = SESSIONS[5];
    let played = play(approvals, record, whole);
    assert_eq!(played.retries, 2, "the third is codex's secret");
    let answer = played.answers[1].as_ref().expect("completed");
    assert!(
        played.chunks[1].ends_with(answer.as_str()) && played.chunks[1].len() > answer.len(),
        "the first half was seen: {}",
        played.chunks[1]
    );
}

#[test]
fn questions_come_with_their_acts_and_an_interrupt_withdraws_them() {
    let (_, approvals, record, _) = SESSIONS[2];
    let played = play(approvals, record, whole);
    use Act::{Edit, Execute};
    assert_eq!(
        played.acts,
        [Execute, Execute, Edit, Edit, Execute, Execute]
    );
    assert_eq!(played.withdrawn, 1);
}

#[test]
fn a_fresh_prompt_has_a_conversation_of_its_own() {
    let (_, approvals, record, _) = SESSIONS[0];
    assert_eq!(play(approvals, record, whole).conversations, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_pieces_change_nothing(lengths in prop::collection::vec(1_usize..900, 1..60), session in 0..SESSIONS.len()) {
        let (_, approvals, record, _) = SESSIONS[session];
        let mut next = lengths.iter().cycle();
        let played = play(approvals, record, |length| {
            let mut left = length;
            let mut pieces = Vec::new();
            while left > 0 {
                let piece = next.next().map_or(left, |&piece| piece.min(left));
                pieces.push(piece);
                left -= piece;
            }
            pieces
        });
        prop_assert_eq!(played, play(approvals, record, whole));
    }
}
