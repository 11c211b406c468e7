//! The state machine without a process: what a program may write, and what must come of it.

mod replay;

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const QUIET: Duration = Duration::from_millis(300);

fn config(toml: &str) -> ScreenConfig {
    ScreenConfig::from_file(toml::from_str(toml).expect("toml")).expect("valid")
}

fn refused(toml: &str) -> String {
    ScreenConfig::from_file(toml::from_str(toml).expect("toml")).expect_err("must be refused")
}

struct Bench {
    screen: ScreenText,
    out: Outbox,
    written: Vec<u8>,
    reply: Vec<u8>,
    ends: Vec<Outcome>,
    ready: usize,
    fault: Option<String>,
}

impl Bench {
    fn new(toml: &str) -> Self {
        Self::with(config(toml))
    }

    fn with(config: ScreenConfig) -> Self {
        let limits = ScreenLimits {
            commands: vec!["/tokens".to_owned()],
            bare_commands: Vec::new(),
            max_prompt_bytes: 10_000,
        };
        Self {
            screen: ScreenText::new(config, limits),
            out: Outbox::new(Instant::now()),
            written: Vec::new(),
            reply: Vec::new(),
            ends: Vec::new(),
            ready: 0,
            fault: None,
        }
    }

    /// One that stands at its prompt, `> `.
    fn ready(toml: &str) -> Self {
        let mut bench = Self::new(&format!("end = '^> $'\n{toml}"));
        bench.feed("> ");
        bench.rest();
        assert_eq!(bench.ready, 1);
        bench
    }

    fn feed(&mut self, text: &str) {
        self.feed_bytes(text.as_bytes());
    }

    fn feed_bytes(&mut self, bytes: &[u8]) {
        self.screen.receive(Stream::Stdout, bytes, &mut self.out);
        self.collect();
    }

    /// Lets the quiet time pass, if one is waited for.
    fn rest(&mut self) {
        if let Some(at) = self.out.wakes_at() {
            self.out.wake_at(None);
            self.out.set_now(at);
            self.screen.tick(&mut self.out);
            self.collect();
        }
    }

    fn submit(&mut self, text: &str) -> Result<(), Refusal> {
        let submitted = self
            .screen
            .submit(TurnId(1), &Prompt::text(text), &mut self.out);
        self.collect();
        submitted
    }

    /// A prompt typed, echoed and submitted.
    fn ask(&mut self, text: &str) {
        self.submit(text).expect("accepted");
        self.feed(text);
        self.rest();
        assert!(self.written.ends_with(b"\r"), "{:?}", self.written);
    }

    fn interrupt(&mut self) {
        self.screen.interrupt(&mut self.out);
        self.collect();
    }

    fn collect(&mut self) {
        self.written.extend(self.out.take_write());
        while let Some(event) = self.out.next_event() {
            match event {
                TurnEvent::Ready => self.ready += 1,
                TurnEvent::Chunk { bytes, .. } => self.reply.extend(bytes),
                TurnEvent::TurnEnded {
                    outcome,
                    attribution,
                    ..
                } => {
                    assert_eq!(attribution.grade, Grade::D);
                    self.ends.push(outcome);
                }
                TurnEvent::Fault(reason) => self.fault = Some(reason),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn reply(&self) -> &str {
        std::str::from_utf8(&self.reply).expect("a screen holds characters")
    }
}

#[test]
fn a_turn_ends_with_the_prompt_and_quiet_and_with_neither_alone() {
    let mut bench = Bench::ready("");
    bench.ask("x");
    bench.feed("\r\nanswer\r\n");
    assert_eq!(bench.out.wakes_at(), None, "quiet alone means nothing");
    bench.feed("> ");
    assert_eq!(bench.ends, [], "the prompt alone means nothing");
    assert_eq!(bench.out.wakes_at(), Some(bench.out.now() + QUIET));
    bench.rest();
    assert_eq!(bench.ends, [Outcome::Completed]);
    assert_eq!(bench.reply(), "answer\n");
}

#[test]
fn output_behind_the_prompt_takes_the_belief_in_it_away() {
    let mut bench = Bench::ready("");
    bench.ask("x");
    bench.feed("\r\n> ");
    bench.feed("forged\r\n");
    assert_eq!(bench.out.wakes_at(), None);
    bench.feed("more\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "> forged\nmore\n");
    assert_eq!(bench.ends, [Outcome::Completed]);
}

#[test]
fn what_was_typed_is_never_taken_for_the_programs_prompt() {
    let mut bench = Bench::new("end = '> $'");
    bench.feed("> ");
    bench.rest();
    bench.submit("echo '> ").expect("accepted");
    bench.feed("echo '> ");
    bench.rest();
    bench.feed("\x1b[m");
    assert_eq!(bench.out.wakes_at(), None, "nothing but the echo is shown");
    bench.feed("\r\nx\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "x\n");
}

#[test]
fn a_forged_prompt_does_not_end_a_turn_while_the_editor_is_away() {
    let mut bench = Bench::new("end = '^> $'");
    bench.feed("\x1b[?2004h> ");
    bench.rest();
    bench.submit("x").expect("accepted");
    assert_eq!(bench.written, b"\x1b[200~x\x1b[201~");
    bench.feed("x");
    bench.rest();
    bench.feed("\x1b[?2004l\r\nanswer\r\n> ");
    assert_eq!(bench.out.wakes_at(), None);
    bench.feed("\r\n\x1b[?2004h> ");
    bench.rest();
    assert_eq!(bench.reply(), "answer\n>\n");
    assert_eq!(bench.ends, [Outcome::Completed]);
}

#[test]
fn a_program_that_leaves_its_prompt_unasked_gets_no_prompt_any_more() {
    let mut bench = Bench::ready("");
    bench.feed("late output\r\n");
    bench.submit("x").expect("accepted");
    assert_eq!(bench.written, b"", "the prompt waits");
    bench.rest();
    assert!(
        bench
            .fault
            .as_ref()
            .is_some_and(|fault| fault.contains("left its prompt")),
        "{:?}",
        bench.fault
    );
    assert_eq!(bench.written, b"", "so it can go to another instance");
    // One that comes back in time is fine.
    let mut bench = Bench::ready("");
    bench.feed("\r\n[1] done\r\n");
    bench.submit("x").expect("accepted");
    bench.feed("> ");
    bench.rest();
    assert_eq!(bench.written, b"x");
    bench.feed("x");
    bench.rest();
    bench.feed("\r\nanswer\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "answer\n");
    assert_eq!(bench.fault, None);
}

#[test]
fn a_prompt_that_does_not_show_is_not_submitted_unless_the_profile_says_so() {
    let mut bench = Bench::ready("");
    bench.submit("x").expect("accepted");
    assert_eq!(bench.out.wakes_at(), None);
    let mut bench = Bench::ready("echo = false");
    bench.submit("x").expect("accepted");
    bench.rest();
    assert_eq!(bench.written, b"x\r");
    bench.feed("\r\nanswer\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "answer\n");
}

#[test]
fn no_prompt_can_hold_a_key() {
    for c in (0..=0x9f_u8).map(char::from).filter(|c| c.is_control()) {
        for pastes in ["", "\x1b[?2004h"] {
            let mut bench = Bench::ready("");
            bench.feed(pastes);
            let accepted = bench.submit(&format!("a{c}b"));
            let allowed = !pastes.is_empty() && matches!(c, '\n' | '\t');
            assert_eq!(accepted.is_ok(), allowed, "{c:?} {pastes:?}");
            assert_eq!(bench.written.is_empty(), !allowed, "{c:?}");
        }
    }
}

#[test]
fn several_lines_are_one_paste_or_one_line_or_refused() {
    let mut bench = Bench::ready("");
    assert_eq!(bench.submit("a\nb"), Err(Refusal::Multiline));
    assert_eq!(bench.submit(" \n "), Err(Refusal::Empty));
    bench.submit("one line\r\n").expect("its end is no line");
    assert_eq!(bench.written, b"one line");
    let mut bench = Bench::ready("multiline = 'join'");
    bench.submit("a\nb").expect("accepted");
    assert_eq!(bench.written, b"a b");
    let mut bench = Bench::ready("");
    bench.feed("\x1b[?2004h");
    bench.submit("a\r\n\tb\n").expect("accepted");
    assert_eq!(bench.written, b"\x1b[200~a\r\tb\x1b[201~");
}

#[test]
fn a_line_that_a_terminal_would_cut_is_refused() {
    let mut bench = Bench::ready("");
    let error = bench.submit(&"x".repeat(4096)).expect_err("too long");
    assert!(error.to_string().contains("4095"), "{error}");
    bench.submit(&"x".repeat(4095)).expect("it fits");
    let mut bench = Bench::ready("");
    bench.feed("\x1b[?2004h");
    bench
        .submit(&"x".repeat(9000))
        .expect("a paste is read byte by byte");
    assert_eq!(
        bench.submit(&"x".repeat(10_001)),
        Err(Refusal::TooLarge {
            bytes: 10_001,
            limit: 10_000
        })
    );
}

#[test]
fn a_text_is_never_a_command_and_a_command_must_be_listed() {
    let mut bench = Bench::ready("command_prefixes = ['/', '!']");
    assert!(bench.submit("/tokens").is_err());
    assert!(bench.submit("  !ls").is_err());
    let mut command = |text: &str| {
        bench
            .screen
            .submit(TurnId(1), &Prompt::command(text), &mut bench.out)
    };
    assert!(command("/run ls").is_err());
    command("/tokens").expect("listed");
    assert_eq!(bench.out.take_write(), b"/tokens");
}

#[test]
fn an_interrupt_is_a_key_and_the_next_prompt_confirms_it() {
    let mut bench = Bench::ready("");
    bench.ask("x");
    bench.feed("\r\nworking\r\n");
    bench.interrupt();
    assert!(bench.written.ends_with(b"x\r\x03"));
    bench.feed("^C\r\n> ");
    bench.rest();
    assert_eq!(bench.ends, [Outcome::Cancelled]);
    // Typed and not yet submitted.
    let mut bench = Bench::ready("");
    bench.submit("x").expect("accepted");
    bench.interrupt();
    assert_eq!(bench.written, b"x\x03");
    bench.feed("x^C\r\n> ");
    bench.rest();
    assert_eq!(bench.ends, [Outcome::Cancelled]);
    // Not even typed.
    let mut bench = Bench::ready("");
    bench.feed("\r\n");
    bench.submit("x").expect("accepted");
    bench.interrupt();
    assert_eq!(bench.written, b"");
    assert_eq!(bench.ends, [Outcome::Cancelled]);
}

#[test]
fn questions_are_answered_from_a_fixed_list_and_not_without_bound() {
    let mut bench = Bench::ready("");
    bench.feed(
        "\x1b[6n\x1b[5n\x1b[c\x1b[>c\x1b[?u\x1b]11;?\x07\x1b[14t\x1bP+q544e\x1b\\\x1b]52;c;?\x07",
    );
    assert_eq!(bench.written, b"\x1b[1;3R\x1b[0n\x1b[?6c\x1b[>0;0;0c");
    bench.written.clear();
    bench.feed(&"\x1b[6n".repeat(10_000));
    assert!(bench.written.len() <= 1024, "{}", bench.written.len());
}

#[test]
fn rows_that_leave_the_screen_are_passed_on_at_once_and_blank_ends_are_not() {
    let mut bench = Bench::ready("rows = 4");
    bench.ask("x");
    bench.feed("\r\n1\r\n2\r\n\r\n3\r\n4\r\n");
    assert_eq!(bench.reply(), "1\n2");
    bench.feed("\r\n\r\n\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "1\n2\n\n3\n4\n");
}

#[test]
fn wrapped_rows_are_one_line_and_wide_characters_are_whole() {
    let mut bench = Bench::ready("rows = 4\ncols = 20");
    bench.ask("x");
    let line = "\u{754c}e\u{301}\u{1f600}".repeat(30);
    bench.feed(&format!("\r\n{line}\r\n{line}   \r\n> "));
    bench.rest();
    assert_eq!(bench.reply(), format!("{line}\n{line}\n"));
}

#[test]
fn a_program_that_draws_its_screen_anew_is_read_from_the_top() {
    let mut bench = Bench::ready("");
    bench.feed("\r\nold\r\n> ");
    bench.ask("clear");
    bench.feed("\r\n\x1b[H\x1b[2Jnew\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "new\n");
}

#[test]
fn a_full_screen_view_is_no_reply_and_shows_no_prompt() {
    let mut bench = Bench::ready("");
    bench.ask("help");
    bench.feed("\r\n\x1b[?1049h\x1b[Hpage\r\n> ");
    assert_eq!(bench.out.wakes_at(), None);
    bench.feed("\x1b[?1049ldone\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "done\n");
}

#[test]
fn a_prompt_of_two_rows_is_no_part_of_the_reply() {
    let mut bench = Bench::new(r#"end = "^-- .*\n> $""#);
    bench.feed("-- here\r\n> ");
    bench.rest();
    bench.submit("x").expect("accepted");
    // The editor draws both rows anew.
    bench.feed("\x1b[A\r-- here\r\n> x");
    bench.rest();
    bench.feed("\x1b[A\r-- here\r\n> x\r\nanswer\r\n-- there\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "answer\n");
}

#[test]
fn an_echo_that_is_drawn_otherwise_in_the_end_loses_nothing_of_the_reply() {
    let mut bench = Bench::ready("");
    bench.submit("x").expect("accepted");
    bench.feed("x (a suggestion)\x1b[15D");
    bench.rest();
    bench.feed("\x1b[K\r\nanswer\r\n> ");
    bench.rest();
    assert_eq!(
        bench.reply(),
        "answer\n",
        "a suggestion behind the cursor is no echo"
    );
    let mut bench = Bench::ready("");
    bench.ask("x");
    bench.feed("\r\x1b[Kx!\r\nanswer\r\n> ");
    bench.rest();
    assert_eq!(bench.reply(), "x!\nanswer\n");
}

#[test]
fn a_bad_table_is_refused_with_its_key() {
    for (toml, part) in [
        ("", "key `end` is missing"),
        ("end = '('", "key `end`: not a regular expression"),
        ("end = ')|('", "key `end`: not a regular expression"),
        ("end = ' *'", "key `end`: \" *\" matches an empty screen"),
        (
            "end = '>'\nready = '['",
            "key `ready`: not a regular expression",
        ),
        (
            "end = '>'\nrows = 2",
            "key `rows`: 2 is not within 4 and 500",
        ),
        ("end = '>'\ncols = 5000", "key `cols`: 5000"),
        ("end = '>'\nquiet = 'soon'", "key `quiet`"),
        ("end = '>'\nquiet = '0s'", "key `quiet`"),
        ("end = '>'\nsubmit = ''", "key `submit`"),
        (
            "end = '>'\ncommand_prefixes = ['']",
            "key `command_prefixes`",
        ),
    ] {
        let error = refused(toml);
        assert!(error.contains(part), "{toml:?}: {error}");
    }
    assert!(toml::from_str::<ScreenFile>("multiline = 'raw'").is_err());
}

/// Pieces of what programs write: text, keys' echoes, sequences with sensible and senseless numbers.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![Just(0_u32), 1..12_u32, Just(65_535), Just(4_000_000_000)];
    prop_oneof![
        3 => "[a-z >\u{754c}\u{2764}\u{fe0f}\u{301}\u{200d}\u{1f469}]{0,12}".prop_map(String::into_bytes),
        2 => "[\r\n\t\u{8}\u{b}\u{c}\u{e}\u{f}\u{7}\u{0}]{1,3}".prop_map(String::into_bytes),
        4 => (prop::collection::vec(number, 0..3), "[?> ]?", "[@-~]").prop_map(|(numbers, mark, last)| {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            format!("\x1b[{mark}{}{last}", numbers.join(";")).into_bytes()
        }),
        1 => "\x1b[78=>McDEHg]".prop_map(String::into_bytes),
        1 => "\x1b\\[\\?(1049|47|6|7|25|2004)[hl]".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => Just(b"\r\n> ".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_that_a_program_writes_makes_it_panic_or_type_or_end_twice(
        pieces in prop::collection::vec(piece(), 0..120),
        rests in prop::collection::vec(any::<bool>(), 120),
        cols in 20..30_u16,
    ) {
        let mut bench = Bench::ready(&format!("rows = 4\ncols = {cols}"));
        bench.ask("x");
        bench.written.clear();
        for (piece, rest) in pieces.iter().zip(rests) {
            bench.feed_bytes(piece);
            if rest {
                bench.rest();
            }
        }
        prop_assert!(bench.ends.len() <= 1);
        // Only answers to questions.
        let written = String::from_utf8(bench.written).expect("ASCII");
        let answers = regex::Regex::new(r"^(\x1b\[([0-9]+;[0-9]+R|0n|\?6c|>0;0;0c))*$").expect("valid");
        prop_assert!(answers.is_match(&written), "{written:?}");
    }

    #[test]
    fn the_same_bytes_give_the_same_reply_however_they_are_cut(
        pieces in prop::collection::vec(piece(), 0..60),
        cuts in prop::collection::vec(0..1000_usize, 0..20),
    ) {
        let bytes = pieces.concat();
        let reply_of = |cuts: &[usize]| {
            let mut bench = Bench::ready("rows = 4\ncols = 20");
            bench.ask("x");
            let mut from = 0;
            for &to in cuts.iter().chain([&bytes.len()]) {
                let to = to.clamp(from, bytes.len());
                bench.feed_bytes(&bytes[from..to]);
                from = to;
            }
            bench.feed("\x1b[!p\x1b[?1049l\x1b[?2004l\r\n> ");
            bench.rest();
            (bench.reply, bench.ends)
        };
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(reply_of(&cuts), reply_of(&[]));
    }
}
