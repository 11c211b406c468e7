//! What real programs wrote, replayed: bash 5.2 (readline), IPython 9.18 (prompt_toolkit) and Python 3.11's own prompt on a
//! terminal of 12 rows and 60 columns.
//!
//! A transcript's lines are `<` what the program wrote, `?` a prompt submitted then, and `>` what was typed.

use super::*;

const BASH: &str = include_str!("../transcripts/bash.txt");
const IPYTHON: &str = include_str!("../transcripts/ipython.txt");
const PYTHON: &str = include_str!("../transcripts/python.txt");

/// A transcript and how its program was spoken to, both read once: the tests play it a thousand times.
struct Tape {
    config: ScreenConfig,
    lines: Vec<(char, String)>,
}

fn tape(transcript: &str) -> Tape {
    let toml = match transcript {
        BASH => "rows = 12\ncols = 60\nend = '^bash\\$ $'",
        IPYTHON => "rows = 12\ncols = 60\nend = '^In \\[\\d+\\]: $'\nsubmit = \"\\u001b\\r\"",
        _ => "rows = 12\ncols = 60\nend = '>>> $'",
    };
    let line = |line: &str| {
        let (kind, text) = line.split_once(' ').expect("a kind and a text");
        let kind = kind.chars().next().expect("a kind");
        (kind, serde_json::from_str(text).expect("a string"))
    };
    Tape {
        config: config(toml),
        lines: transcript.lines().map(line).collect(),
    }
}

fn output_bytes(tape: &Tape) -> usize {
    let output = tape.lines.iter().filter(|(kind, _)| *kind == '<');
    output.map(|(_, text)| text.len()).sum()
}

/// Plays a transcript and answers each turn's outcome and reply. `cut` says whether the output is cut before the byte of
/// that number; only the first `most` bytes are written.
fn play(tape: &Tape, cut: impl Fn(usize) -> bool, most: usize) -> Vec<(&'static str, String)> {
    let mut bench = Bench::with(tape.config.clone());
    let mut turns = Vec::new();
    let mut expected = Vec::new();
    let mut at = 0;
    for (kind, text) in &tape.lines {
        match kind {
            '<' => {
                let bytes = &text.as_bytes()[..text.len().min(most - at)];
                let mut from = 0;
                for to in 1..=bytes.len() {
                    if to == bytes.len() || cut(at + to) {
                        bench.feed_bytes(&bytes[from..to]);
                        from = to;
                    }
                }
                at += bytes.len();
                if bytes.len() < text.len() {
                    break;
                }
            }
            '?' => {
                bench.rest();
                note(&mut bench, &mut turns);
                bench.submit(text).expect("accepted");
            }
            _ => {
                expected.extend_from_slice(text.as_bytes());
                if text == "\x03" {
                    bench.interrupt();
                } else if bench.written.len() < expected.len() {
                    bench.rest();
                }
                assert_eq!(bench.written, expected, "typed at byte {at}");
            }
        }
    }
    bench.rest();
    note(&mut bench, &mut turns);
    assert_eq!(bench.fault, None);
    turns
}

fn note(bench: &mut Bench, turns: &mut Vec<(&'static str, String)>) {
    if let Some(outcome) = bench.ends.pop() {
        turns.push((outcome.word(), bench.reply().to_owned()));
        bench.reply.clear();
    }
}

fn whole(transcript: &str) -> Vec<(&'static str, String)> {
    play(&tape(transcript), |_| false, usize::MAX)
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn bash_is_read_exactly() {
    let wide = "\u{754c}\u{754c} wide, and a line that is longer than the screen is wide, so that it wraps\n";
    assert_eq!(
        whole(BASH),
        [
            ("completed", "hello\n".to_owned()),
            ("completed", "  line 1\n  line 2\n".to_owned()),
            ("completed", numbers(1..31)),
            ("completed", "unfinished\n".to_owned()),
            ("completed", wide.to_owned()),
            ("cancelled", "before\n^C\n".to_owned()),
            ("completed", "anew\n".to_owned()),
            ("completed", String::new()),
        ]
    );
}

#[test]
fn ipython_is_read_exactly() {
    let list = vec![" 12345"; 40].join(",\n").replacen(' ', "[", 1);
    let turns = whole(IPYTHON);
    assert_eq!(turns[0].1, "Out[1]: 2\n");
    assert_eq!(turns[1].1, format!("Out[2]:\n{list}]\n"));
    assert_eq!(turns[2].1, numbers(0..20));
    assert!(
        turns[3]
            .1
            .ends_with("\n\nZeroDivisionError: division by zero\n")
    );
    assert_eq!(turns[4].0, "cancelled");
    assert!(
        turns[4].1.starts_with("d\u{e9}but\n^C---"),
        "{}",
        turns[4].1
    );
    assert_eq!(turns[5..], [("completed", "unfinished\n".to_owned())]);
}

#[test]
fn python_is_read_exactly() {
    let list: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let turns = whole(PYTHON);
    assert_eq!(
        turns[..3],
        [
            ("completed", "2\n".to_owned()),
            ("completed", "unfinished\n".to_owned()),
            ("completed", format!("[{}]\n", list.join(", "))),
        ]
    );
    assert_eq!(turns[3].0, "cancelled");
    assert_eq!(turns[4..], [("completed", String::new())]);
}

#[test]
fn a_transcript_cut_at_every_byte_is_read_the_same() {
    for transcript in [BASH, IPYTHON, PYTHON] {
        let expected = whole(transcript);
        assert_eq!(play(&tape(transcript), |_| true, usize::MAX), expected);
    }
    let (bash, expected) = (tape(BASH), whole(BASH));
    for at in (1..output_bytes(&bash)).step_by(3) {
        let turns = play(&bash, |cut| cut == at, usize::MAX);
        assert_eq!(turns, expected, "cut at byte {at}");
    }
}

#[test]
fn a_transcript_that_breaks_off_anywhere_ends_no_turn_with_a_part_of_its_reply() {
    for transcript in [BASH, IPYTHON, PYTHON] {
        let expected = whole(transcript);
        let tape = tape(transcript);
        for most in 0..output_bytes(&tape).min(1000) {
            let turns = play(&tape, |_| false, most);
            assert_eq!(turns, expected[..turns.len()], "broken off at byte {most}");
        }
    }
}
