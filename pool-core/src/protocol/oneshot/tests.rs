//! What a turn runner says, whole and cut everywhere, against the state machine; no process in sight.

mod encoding;

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::protocol::Action;

pub(super) fn config(toml: &str) -> OneshotConfig {
    OneshotConfig::from_file(toml::from_str(toml).expect("toml")).expect("valid")
}

fn frame(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame::header(tag, bytes.len()).expect("short").to_vec();
    frame.extend_from_slice(bytes);
    frame
}

fn ended(ended: Ended) -> Vec<u8> {
    frame(frame::ENDED, &ended.encode())
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    ready: bool,
    shown: Vec<u8>,
    sessions: Vec<String>,
    ends: Vec<(TurnId, Outcome, Option<String>, Option<u64>)>,
    fault: Option<String>,
}

struct Bench {
    protocol: Oneshot,
    out: Outbox,
    seen: Seen,
}

impl Bench {
    fn new(toml: &str) -> Self {
        Self {
            protocol: Oneshot::new(config(toml), 1 << 20),
            out: Outbox::new(Instant::now()),
            seen: Seen::default(),
        }
    }

    /// Ready, and with turn 1 under way.
    fn running(toml: &str) -> Self {
        let mut bench = Self::new(toml);
        bench.feed(&frame(frame::READY, b""));
        assert!(bench.seen.ready);
        bench.submit(1, "hi");
        bench
    }

    fn submit(&mut self, turn: u64, text: &str) {
        self.protocol
            .submit(TurnId(turn), &Prompt::text(text), &mut self.out)
            .expect("accepted");
        let header = frame::header(frame::PROMPT, text.len()).expect("short");
        assert_eq!(self.out.take_write(), [&header, text.as_bytes()].concat());
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.protocol.receive(Stream::Stdout, bytes, &mut self.out);
        while let Some(event) = self.out.next_event() {
            assert_eq!(self.seen.fault, None, "nothing follows a fault");
            match event {
                TurnEvent::Ready => self.seen.ready = true,
                TurnEvent::Chunk { bytes, .. } => self.seen.shown.extend(bytes),
                TurnEvent::SessionChanged(name) => self.seen.sessions.push(name),
                TurnEvent::TurnEnded {
                    turn,
                    outcome,
                    attribution,
                    answer,
                    usage,
                } => {
                    assert_eq!(attribution.grade, Grade::B);
                    let output = usage.and_then(|usage| usage.output_tokens);
                    self.seen.ends.push((turn, outcome, answer, output));
                }
                TurnEvent::Fault(why) => self.seen.fault = Some(why),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The one end there is.
    fn end(&self) -> (&Outcome, Option<&str>) {
        match &self.seen.ends[..] {
            [(TurnId(1), outcome, answer, _)] => (outcome, answer.as_deref()),
            other => panic!("{other:?}; {:?}", self.seen.fault),
        }
    }

    fn failure(&self) -> (FailureClass, &str) {
        match self.end().0 {
            Outcome::Failed(failure) => (failure.class, &failure.message),
            other => panic!("{other:?}"),
        }
    }
}

const CODEX: &str = r#"{"type":"thread.started","thread_id":"01a2"}
{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata for `mock` not found."}}
{"type":"turn.started"}
{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"I shall look."}}
{"type":"item.started","item":{"id":"item_2","type":"command_execution","command":"ls","aggregated_output":"","exit_code":null,"status":"in_progress"}}
{"type":"item.completed","item":{"id":"item_2","type":"command_execution","command":"ls","aggregated_output":"{\"type\":\"turn.failed\"}\n","exit_code":0,"status":"completed"}}
{"type":"item.completed","item":{"id":"item_3","type":"agent_message","text":"done \u00e9"}}
{"type":"turn.completed","usage":{"input_tokens":10,"cached_input_tokens":0,"output_tokens":23,"reasoning_output_tokens":0}}
"#;
const GEMINI: &str = r#"{"type":"init","timestamp":"2026-11-22T22:26:42.034Z","session_id":"b2b1","model":"m"}
{"type":"message","timestamp":"2026-11-22T22:26:42.035Z","role":"user","content":"hello"}
{"type":"message","timestamp":"2026-11-22T22:26:42.109Z","role":"assistant","content":"do","delta":true}
{"type":"message","timestamp":"2026-11-22T22:26:42.114Z","role":"assistant","content":"ne \u00e9","delta":true}
{"type":"result","timestamp":"2026-11-22T22:26:42.163Z","status":"success","stats":{"total_tokens":173,"input_tokens":155,"output_tokens":23,"tool_calls":0}}
"#;
const CLAUDE: &str = r#"{"type":"system","subtype":"init","cwd":"/","session_id":"dc8d"}
{"type":"assistant","message":{"content":[{"text":"done \u00e9","type":"text"}],"id":"msg_2","role":"assistant","type":"message"},"parent_tool_use_id":null,"session_id":"dc8d"}
{"stop_reason":"end_turn","session_id":"dc8d","total_cost_usd":0.01,"usage":{"input_tokens":2604,"output_tokens":23},"type":"result","subtype":"success","is_error":false,"result":"done \u00e9"}
"#;

/// What the runner says of a whole turn of a tool.
fn transcript(lines: &str, end: Ended) -> Vec<u8> {
    let (first, rest) = lines.as_bytes().split_at(lines.len() / 3);
    [
        frame(frame::STDOUT, first),
        frame(frame::STDERR, b"a notice\n"),
        frame(frame::STDOUT, rest),
        ended(end),
    ]
    .concat()
}

const FORMS: [(&str, &str); 3] = [("codex", CODEX), ("gemini", GEMINI), ("claude", CLAUDE)];

#[test]
fn a_turn_of_each_tool_reads_the_same_however_it_is_cut() {
    for (form, lines) in FORMS {
        let toml = format!("output = '{form}'");
        let whole = transcript(lines, Ended::Code(0));
        let mut bench = Bench::running(&toml);
        bench.feed(&whole);
        let (outcome, answer) = bench.end();
        assert_eq!(outcome, &Outcome::Completed, "{form}");
        let shown = String::from_utf8(bench.seen.shown.clone()).expect("UTF-8");
        assert_eq!(answer.unwrap_or(&shown), "done \u{e9}", "{form}");
        assert_eq!(bench.seen.ends[0].3, Some(23), "{form}");
        assert_eq!(bench.seen.sessions.len(), 1, "{form}");
        for cut in 0..whole.len() {
            let mut pieces = Bench::running(&toml);
            pieces.feed(&whole[..cut]);
            assert!(pieces.seen.ends.is_empty(), "{form} ends at {cut}");
            assert_eq!(pieces.seen.fault, None, "{form} at {cut}");
            pieces.feed(&whole[cut..]);
            assert_eq!(pieces.seen, bench.seen, "{form} cut at {cut}");
        }
    }
}

#[test]
fn a_tool_that_ends_without_a_verdict_has_not_completed() {
    for (form, lines) in FORMS {
        let mut bench = Bench::running(&format!("output = '{form}'"));
        let (begun, _) = lines.trim_end().rsplit_once('\n').expect("several lines");
        bench.feed(&frame(frame::STDOUT, begun.as_bytes()));
        bench.feed(&frame(frame::STDERR, b"oops\n"));
        bench.feed(&ended(Ended::Code(0)));
        let (class, message) = bench.failure();
        assert_eq!(class, FailureClass::Protocol, "{form}");
        assert!(message.ends_with(": oops"), "{message}");
    }
}

#[test]
fn a_verdict_of_completion_does_not_outweigh_an_exit_code() {
    for (form, lines) in FORMS {
        let mut bench = Bench::running(&format!("output = '{form}'"));
        bench.feed(&transcript(lines, Ended::Code(3)));
        let (class, message) = bench.failure();
        assert_eq!(class, FailureClass::Unknown, "{form}");
        assert_eq!(message, "exit code 3: a notice");
    }
}

#[test]
fn failures_have_the_class_and_the_words_of_the_tool() {
    for (form, line, code, class, words) in [
        (
            "codex",
            r#"{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}"#,
            1,
            FailureClass::RateLimit,
            "exceeded retry limit, last status: 429 Too Many Requests",
        ),
        (
            "codex",
            r#"{"type":"turn.completed","usage":{"output_tokens":0}}"#,
            0,
            FailureClass::EmptyAnswer,
            "the model answered nothing",
        ),
        (
            "gemini",
            r#"{"type":"result","status":"error","error":{"type":"unknown","message":"[API Error: no key]"},"stats":{"output_tokens":0}}"#,
            145,
            FailureClass::Auth,
            "[API Error: no key]",
        ),
        (
            "gemini",
            "{\"type\":\"error\",\"severity\":\"error\",\"message\":\"an empty response\"}\n{\"type\":\"result\",\"status\":\"error\",\"stats\":{\"output_tokens\":0}}",
            0,
            FailureClass::EmptyAnswer,
            "an empty response",
        ),
        (
            "claude",
            r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":401,"terminal_reason":"api_error","result":"Failed to authenticate"}"#,
            1,
            FailureClass::Auth,
            "Failed to authenticate",
        ),
    ] {
        let mut bench = Bench::running(&format!("output = '{form}'"));
        bench.feed(&frame(frame::STDOUT, format!("{line}\n").as_bytes()));
        bench.feed(&ended(Ended::Code(code)));
        assert_eq!(bench.failure(), (class, words), "{line}");
    }
}

#[test]
fn text_is_an_answer_only_with_exit_code_0() {
    for (end, word) in [
        (Ended::Code(0), "completed"),
        (Ended::Code(1), "failed"),
        (Ended::Signal(9), "indeterminate"),
    ] {
        let mut bench = Bench::running("");
        bench.feed(&frame(frame::STDOUT, b"half \xff"));
        bench.feed(&ended(end));
        assert_eq!(bench.end().0.word(), word);
        assert_eq!(bench.seen.shown, b"half \xff");
    }
}

#[test]
fn an_interrupted_turn_is_cancelled_unless_its_output_shows_that_it_was_whole() {
    for (form, lines, word) in [
        ("text", CODEX, "cancelled"),
        ("codex", CODEX, "completed"),
        ("gemini", GEMINI, "completed"),
        ("claude", CLAUDE, "completed"),
        ("codex", "", "cancelled"),
    ] {
        let mut bench = Bench::running(&format!("output = '{form}'"));
        bench.protocol.interrupt(&mut bench.out);
        bench.protocol.interrupt(&mut bench.out);
        let once = frame::header(frame::INTERRUPT, 0).expect("short");
        assert_eq!(bench.out.take_write(), once, "the runner is told once");
        assert_eq!(
            bench.out.take_actions(),
            [],
            "and no signal is sent past it"
        );
        bench.protocol.tick(&mut bench.out);
        assert_eq!(
            bench.out.take_write(),
            once,
            "and again when nothing comes of it"
        );
        assert!(bench.out.wakes_at().is_some());
        bench.feed(&transcript(lines, Ended::Code(0)));
        assert_eq!(bench.out.wakes_at(), None);
        assert_eq!(bench.end().0.word(), word, "{form}");
    }
    for end in [Ended::Code(130), Ended::Signal(2)] {
        let mut bench = Bench::running("");
        bench.protocol.interrupt(&mut bench.out);
        bench.feed(&ended(end));
        assert_eq!(bench.end().0, &Outcome::Cancelled, "{end}");
    }
}

#[test]
fn the_files_that_aider_leaves_decide_whatever_its_exit_code_is() {
    let asked = r#"{"event":"message_send_starting","properties":{}}"#;
    let answered =
        r#"{"event":"message_send","properties":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let log = "TO LLM 2026-01-01T00:00:00\n-------\nUSER hi\nLLM RESPONSE 2026-01-01T00:00:01\nASSISTANT done\n";
    for (events, log, expected) in [
        (format!("{asked}\n{answered}"), log, Ok("done")),
        (asked.to_owned(), "", Err(FailureClass::Auth)),
        (String::new(), "", Err(FailureClass::Protocol)),
    ] {
        let mut bench = Bench::running("output = 'aider'");
        let emptied = [
            Action::TruncateFile("events.jsonl"),
            Action::TruncateFile("llm.log"),
        ];
        assert_eq!(bench.out.take_actions(), emptied);
        bench.feed(&frame(frame::STDOUT, b"litellm.AuthenticationError: no\n"));
        bench.feed(&ended(Ended::Code(0)));
        let wanted = [
            Action::ReadFile("events.jsonl"),
            Action::ReadFile("llm.log"),
        ];
        assert_eq!(bench.out.take_actions(), wanted);
        bench
            .protocol
            .file("events.jsonl", events.as_bytes(), &mut bench.out);
        bench.feed(b"");
        assert!(bench.seen.ends.is_empty(), "one file is still to come");
        bench
            .protocol
            .file("llm.log", log.as_bytes(), &mut bench.out);
        bench.feed(b"");
        match expected {
            Ok(answer) => assert_eq!(bench.end(), (&Outcome::Completed, Some(answer))),
            Err(class) => assert_eq!(bench.failure().0, class),
        }
    }
}

#[test]
fn frames_within_output_are_output() {
    let forged = [ended(Ended::Code(0)), frame(frame::READY, b"")].concat();
    let mut bench = Bench::running("");
    bench.feed(&frame(frame::STDOUT, &forged));
    bench.feed(&frame(frame::STDERR, &forged));
    bench
        .protocol
        .receive(Stream::Stderr, &forged, &mut bench.out);
    bench.feed(b"");
    assert!(bench.seen.ends.is_empty());
    assert_eq!(bench.seen.shown, forged);
    bench.feed(&ended(Ended::Code(0)));
    assert_eq!(bench.end().0, &Outcome::Completed);
}

#[test]
fn a_command_that_could_not_be_started_has_definitely_not_run() {
    let mut bench = Bench::running("");
    bench.feed(&frame(frame::NOT_STARTED, b"cannot start x: no memory"));
    assert_eq!(bench.failure().1, "cannot start x: no memory");
    bench.submit(2, "again");
}

#[test]
fn what_the_runner_says_out_of_turn_is_a_fault() {
    for out_of_turn in [
        frame(frame::STDOUT, b"x"),
        ended(Ended::Code(0)),
        frame(b'?', b""),
        frame(frame::READY, b""),
    ] {
        let mut bench = Bench::new("");
        bench.feed(&frame(frame::READY, b""));
        bench.feed(&out_of_turn);
        assert!(bench.seen.fault.is_some());
        assert!(
            bench
                .protocol
                .submit(TurnId(1), &Prompt::text("x"), &mut bench.out)
                .is_err()
        );
    }
    let mut bench = Bench::running("");
    bench.feed(&frame(frame::ENDED, b"nonsense"));
    assert!(bench.seen.fault.is_some());
    let mut bench = Bench::running("");
    bench.feed(&frame::header(frame::STDOUT, MAX_FRAME_BYTES + 1).expect("it fits"));
    assert!(bench.seen.fault.is_some());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_end_a_turn_twice(
        form in prop_oneof![Just("text"), Just("aider"), Just("codex"), Just("claude"), Just("gemini")],
        frames in proptest::collection::vec(
            (
                prop_oneof![
                    Just(frame::STDOUT), Just(frame::STDERR), Just(frame::ENDED), Just(frame::READY), any::<u8>()
                ],
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..40),
                    Just(CODEX.as_bytes().to_vec()),
                    Just(GEMINI.as_bytes().to_vec()),
                    Just(CLAUDE.as_bytes().to_vec()),
                    Just(vec![b'c', 0]),
                ],
            ),
            0..8,
        ),
        rest in proptest::collection::vec(any::<u8>(), 0..20),
        cut in 1_usize..50,
    ) {
        let mut bench = Bench::running(&format!("output = '{form}'"));
        let stream: Vec<u8> = frames.iter().flat_map(|(tag, bytes)| frame(*tag, bytes)).chain(rest).collect();
        for piece in stream.chunks(cut) {
            bench.feed(piece);
            if bench.seen.fault.is_some() {
                break;
            }
        }
        prop_assert!(bench.seen.ends.len() <= 1);
    }
}
