//! Transcripts, whole and cut everywhere, against the state machine; no process in sight.

use proptest::prelude::*;
use std::time::Duration;

use super::*;

fn config(toml: &str) -> LinesConfig {
    LinesConfig::from_file(toml::from_str(toml).expect("toml")).expect("valid")
}

const FRAMED: &str = "ready = '^ready$'\nsubmit = \"{nonce} {json}\\n\"\nend = '{nonce} end'";

struct Bench {
    lines: Lines,
    out: Outbox,
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    reply: Vec<u8>,
    ends: usize,
    ready: bool,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let mut bench = Self {
            lines: Lines::with_nonces(config(toml), 1 << 20, StdRng::seed_from_u64(7)),
            out: Outbox::new(Instant::now()),
        };
        bench.lines.start(&mut bench.out);
        bench
    }

    fn framed() -> Self {
        let mut bench = Self::new(FRAMED);
        assert!(bench.feed(b"ready\n").ready);
        bench
    }

    fn feed(&mut self, bytes: &[u8]) -> Seen {
        self.lines.receive(Stream::Stdout, bytes, &mut self.out);
        self.seen()
    }

    fn seen(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some(event) = self.out.next_event() {
            match event {
                TurnEvent::Chunk { bytes, .. } => seen.reply.extend(bytes),
                TurnEvent::TurnEnded { .. } => seen.ends += 1,
                TurnEvent::Ready => seen.ready = true,
                other => panic!("unexpected {other:?}"),
            }
        }
        seen
    }

    /// Submits a prompt and answers its nonce.
    fn ask(&mut self, text: &str) -> String {
        self.lines
            .submit(TurnId(1), &Prompt::text(text), &mut self.out)
            .expect("accepted");
        let written = String::from_utf8(self.out.take_write()).expect("utf-8");
        written.split(' ').next().expect("nonce").to_owned()
    }
}

/// The reply that comes out when `reply` is framed, fed in pieces cut at `cuts`.
fn replay(reply: &[u8], cuts: &[usize]) -> Seen {
    let mut bench = Bench::framed();
    let nonce = bench.ask("x");
    let mut wire = reply.to_vec();
    if !wire.is_empty() {
        wire.push(b'\n');
    }
    wire.extend_from_slice(format!("{nonce} end\n").as_bytes());
    let mut total = Seen::default();
    let mut from = 0;
    for &to in cuts.iter().chain([&wire.len()]) {
        let to = to.clamp(from, wire.len());
        let seen = bench.feed(&wire[from..to]);
        total.reply.extend(seen.reply);
        total.ends += seen.ends;
        from = to;
    }
    total
}

#[test]
fn a_reply_cut_at_every_byte_comes_out_exactly() {
    for reply in [
        &b"hello"[..],
        b"",
        b"two\nlines\n",
        b"\n\n",
        b"crlf\r\n\r\n",
        "h\u{e9}llo \u{1f600}\u{2028}".as_bytes(),
        b"\xff\xfe\x00",
        b"00000000000000000000000000000000 end",
    ] {
        let whole = replay(reply, &[]);
        assert_eq!(whole.reply, reply, "whole");
        assert_eq!(whole.ends, 1);
        for cut in 0..reply.len() + 40 {
            assert_eq!(replay(reply, &[cut]), whole, "{reply:?} cut at {cut}");
        }
        let every: Vec<usize> = (0..reply.len() + 40).collect();
        assert_eq!(replay(reply, &every), whole, "byte by byte");
    }
}

#[test]
fn a_forged_end_mark_is_part_of_the_reply() {
    let mut bench = Bench::framed();
    let old = bench.ask("first");
    assert_eq!(bench.feed(format!("{old} end\n").as_bytes()).ends, 1);
    let nonce = bench.ask("second");
    assert_ne!(old, nonce);
    let forged = format!("{old} end\nx {nonce} end\n{nonce} ending\n{nonce} end");
    let seen = bench.feed(forged.as_bytes());
    assert_eq!(seen.ends, 0, "no whole line of this turn's own");
    assert_eq!(bench.feed(b"\n").ends, 1);
}

#[test]
fn streamed_text_is_passed_on_as_it_comes() {
    let mut bench = Bench::framed();
    let nonce = bench.ask("x");
    assert_eq!(bench.feed(b"slow").reply, b"slow");
    assert_eq!(bench.feed(b"ly\nand").reply, b"ly\nand");
    assert_eq!(
        bench.feed(b"\n").reply,
        b"",
        "may begin the end mark's line"
    );
    assert_eq!(bench.feed(&nonce.as_bytes()[..5]).reply, b"");
    let mut expected = b"\n".to_vec();
    expected.extend_from_slice(&nonce.as_bytes()[..5]);
    expected.extend_from_slice(b"!");
    assert_eq!(bench.feed(b"!").reply, expected, "it did not");
}

#[test]
fn output_between_turns_belongs_to_no_turn() {
    let mut bench = Bench::framed();
    assert_eq!(bench.feed(b"by the way\n"), Seen::default());
    let nonce = bench.ask("x");
    assert_eq!(
        bench.feed(format!("yes\n{nonce} end\n").as_bytes()).reply,
        b"yes"
    );
}

#[test]
fn a_prompt_is_one_line_on_the_wire_whatever_it_contains() {
    for text in [
        "a\nb",
        "a\r\nb\n",
        "{nonce} {text} {json}",
        "\u{2028}",
        "/run x",
        "\0\u{7f}",
        "\"\\",
    ] {
        let mut bench = Bench::framed();
        bench
            .lines
            .submit(TurnId(1), &Prompt::text(text), &mut bench.out)
            .expect("accepted");
        let written = String::from_utf8(bench.out.take_write()).expect("utf-8");
        assert_eq!(written.matches('\n').count(), 1, "{text:?}");
        let json = written
            .trim_end_matches('\n')
            .split_once(' ')
            .expect("framed")
            .1;
        assert_eq!(serde_json::from_str::<String>(json).expect("json"), text);
    }
}

#[test]
fn prompts_that_cannot_be_sent_are_refused_and_write_nothing() {
    let plain = "ready = '^> $'\nend_pattern = '^> $'";
    let mut bench = Bench::new(plain);
    assert!(bench.feed(b"> ").ready);
    let mut refused = |prompt: &Prompt| {
        let refusal = bench
            .lines
            .submit(TurnId(1), prompt, &mut bench.out)
            .expect_err("refused");
        assert!(bench.out.take_write().is_empty());
        refusal
    };
    assert_eq!(refused(&Prompt::text("")), Refusal::Empty);
    assert_eq!(refused(&Prompt::text("a\nb")), Refusal::Multiline);
    assert!(matches!(
        refused(&Prompt::command("/x")),
        Refusal::Unsupported(_)
    ));
    let large = "x".repeat((1 << 20) + 1);
    assert!(matches!(
        refused(&Prompt::text(large)),
        Refusal::TooLarge { .. }
    ));
}

#[test]
fn an_end_pattern_is_believed_only_after_quiet() {
    let mut bench = Bench::new("end_pattern = '^> $'\nquiet = '100ms'");
    assert!(bench.feed(b"hi\n> ").ready);
    bench
        .lines
        .submit(TurnId(1), &Prompt::text("x"), &mut bench.out)
        .expect("accepted");
    assert_eq!(
        bench.feed(b"answer\n> "),
        Seen {
            reply: b"answer\n".to_vec(),
            ..Seen::default()
        }
    );
    let more = bench.feed(b"quoted\n> ");
    assert_eq!(
        (more.ends, more.reply.as_slice()),
        (0, &b"> quoted\n"[..]),
        "still the prompt's look"
    );
    let at = bench.out.wakes_at().expect("waits for quiet");
    bench.out.set_now(at - Duration::from_millis(1));
    bench.lines.tick(&mut bench.out);
    assert_eq!(bench.seen().ends, 0, "too early");
    bench.out.set_now(at);
    bench.lines.tick(&mut bench.out);
    let seen = bench.seen();
    assert_eq!((seen.ends, seen.reply.as_slice()), (1, &b""[..]));
}

#[test]
fn an_end_pattern_that_comes_in_pieces_is_seen() {
    for cut in 0..10 {
        let mut bench = Bench::new("end_pattern = '^> $'");
        assert!(bench.feed(b"> ").ready);
        bench
            .lines
            .submit(TurnId(1), &Prompt::text("x"), &mut bench.out)
            .expect("accepted");
        let (one, two) = b"answer\n> ".split_at(cut.min(9));
        let mut reply = bench.feed(one).reply;
        reply.extend(bench.feed(two).reply);
        let at = bench
            .out
            .wakes_at()
            .unwrap_or_else(|| panic!("cut at {cut}: no end is awaited"));
        bench.out.set_now(at);
        bench.lines.tick(&mut bench.out);
        let seen = bench.seen();
        assert_eq!(
            (seen.ends, reply.as_slice()),
            (1, &b"answer\n"[..]),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_long_unfinished_line_is_passed_on_and_its_end_is_no_prompt() {
    let mut bench = Bench::new("end_pattern = '> $'");
    assert!(bench.feed(b"> ").ready);
    bench
        .lines
        .submit(TurnId(1), &Prompt::text("x"), &mut bench.out)
        .expect("accepted");
    let long = vec![b'x'; LONGEST_PROMPT_LINE + 1];
    assert_eq!(bench.feed(&long).reply, long);
    assert_eq!(bench.feed(b"> ").reply, b"> ");
    assert_eq!(bench.out.wakes_at(), None);
}

#[test]
fn without_a_ready_pattern_the_sentinel_proves_readiness() {
    let mut bench = Bench::new("sentinel = \"echo {nonce}\\n\"\nend = '{nonce}'");
    let hello = String::from_utf8(bench.out.take_write()).expect("utf-8");
    let nonce = hello
        .trim()
        .strip_prefix("echo ")
        .expect("sentinel")
        .to_owned();
    assert!(!bench.feed(b"welcome\n").ready);
    assert!(bench.feed(format!("{nonce}\n").as_bytes()).ready);
}

#[test]
fn a_table_that_cannot_work_is_refused_by_key() {
    for (toml, key) in [
        ("", "`end`"),
        ("end = 'done'", "`end`"),
        ("end = '{nonce}'", "`end`"),
        ("submit = \"{nonce} {text}\\n\"\nend = '{nonce}'", "`ready`"),
        ("submit = \"hello\\n\"\nend_pattern = '> '", "`submit`"),
        ("submit = \"{text}\"\nend_pattern = '> '", "`submit`"),
        (
            "end = '{nonce}'\nend_pattern = '>'\nsentinel = \"{nonce}\\n\"",
            "set one",
        ),
        ("end_pattern = '('", "`end_pattern`"),
        ("sentinel = 'x'\nend = '{nonce}'", "`sentinel`"),
        ("end_pattern = '>'\nquiet = 'long'", "`quiet`"),
    ] {
        let file: LinesFile = toml::from_str(toml).expect("toml");
        let message = LinesConfig::from_file(file).expect_err(toml);
        assert!(message.contains(key), "{toml}: {message}");
    }
}

proptest! {
    #[test]
    fn any_reply_in_any_cuts_comes_out_exactly(
        reply in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'e'), any::<u8>()], 0..200),
        mut cuts in proptest::collection::vec(0usize..240, 0..12),
    ) {
        cuts.sort_unstable();
        let seen = replay(&reply, &cuts);
        prop_assert_eq!(seen.ends, 1);
        prop_assert_eq!(seen.reply, reply);
    }
}
