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

const ECHO: &str = "sentinel = \"say {nonce}\\n\"\nend = '{nonce}'\nmultiline = 'raw'";

/// The nonces of the sentinels that were written since the last look.
fn asked_to_say(bench: &mut Bench) -> Vec<String> {
    let written = String::from_utf8(bench.out.take_write()).expect("utf-8");
    written
        .lines()
        .filter_map(|line| line.strip_prefix("say ").map(str::to_owned))
        .collect()
}

/// A program that says what it is asked to, ready and with a prompt; the nonces of the start and the end.
fn echoing(toml: &str) -> (Bench, String, String) {
    let mut bench = Bench::new(toml);
    let hello = asked_to_say(&mut bench).remove(0);
    assert!(bench.feed(format!("{hello}\n").as_bytes()).ready);
    bench
        .lines
        .submit(TurnId(1), &Prompt::text("x"), &mut bench.out)
        .expect("accepted");
    let mut marks = asked_to_say(&mut bench);
    assert_eq!(marks.len(), 2, "before the prompt and behind it");
    let end = marks.remove(1);
    (bench, marks.remove(0), end)
}

#[test]
fn what_a_program_says_after_an_end_is_no_part_of_the_next_reply_however_it_is_cut() {
    let length = b"late\nwords\n".len() + 2 * 33 + b"yes\n".len();
    for cut in 0..length {
        let (mut bench, start, end) = echoing(ECHO);
        let wire = format!("late\nwords\n{start}\nyes\n{end}\n");
        let (one, two) = wire.as_bytes().split_at(cut);
        let mut seen = bench.feed(one);
        let rest = bench.feed(two);
        seen.reply.extend(rest.reply);
        assert_eq!(
            (seen.ends + rest.ends, seen.reply.as_slice()),
            (1, &b"yes"[..]),
            "cut at {cut}"
        );
    }
}

#[test]
fn what_is_said_before_the_start_mark_is_not_kept() {
    let (mut bench, start, end) = echoing(ECHO);
    for _ in 0..64 {
        bench.feed(&vec![b'x'; 64 << 10]);
        assert!(bench.lines.held.len() <= 40, "{}", bench.lines.held.len());
    }
    let seen = bench.feed(format!("\n{start}\n{end}\n").as_bytes());
    assert_eq!((seen.ends, seen.reply.as_slice()), (1, &b""[..]));
}

#[test]
fn an_interrupted_turn_ends_at_the_mark_behind_the_last_signal_and_at_no_other() {
    let toml = format!("{ECHO}\ninterrupt = 'sigint'");
    let (mut bench, start, end) = echoing(&toml);
    bench.feed(format!("{start}\nhalf").as_bytes());
    bench.lines.interrupt(&mut bench.out);
    assert_eq!(bench.out.take_actions(), [super::super::Action::Interrupt]);
    let first = asked_to_say(&mut bench).remove(0);
    bench
        .out
        .set_now(bench.out.wakes_at().expect("tries again"));
    bench.lines.tick(&mut bench.out);
    assert_eq!(bench.out.take_actions(), [super::super::Action::Interrupt]);
    let second = asked_to_say(&mut bench).remove(0);
    assert_eq!(
        bench.feed(format!("more\n{end}\n{first}\n").as_bytes()),
        Seen::default()
    );
    bench.lines.receive(
        Stream::Stdout,
        format!("{second}\n").as_bytes(),
        &mut bench.out,
    );
    match bench.out.next_event() {
        Some(TurnEvent::TurnEnded { outcome, .. }) => assert_eq!(outcome, Outcome::Cancelled),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.out.wakes_at(), None);
    bench
        .lines
        .submit(TurnId(2), &Prompt::text("y"), &mut bench.out)
        .expect("idle again");
}

#[test]
fn without_the_key_an_interrupt_does_nothing() {
    let (mut bench, _, _) = echoing(ECHO);
    bench.lines.interrupt(&mut bench.out);
    assert_eq!(bench.out.take_actions(), []);
    assert_eq!(asked_to_say(&mut bench), Vec::<String>::new());
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
        ("end_pattern = '>'\ninterrupt = 'sigint'", "`interrupt`"),
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
