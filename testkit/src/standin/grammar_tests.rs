//! Tables for the language of the rules.

use super::*;

fn turns(first: u64, last: u64) -> When {
    When::Turns { first, last }
}

fn before(when: When, deed: Deed) -> Rule {
    Rule {
        when,
        moment: Moment::Before,
        action: Action::Deed(deed),
    }
}

fn shaped(when: When, shape: Shape) -> Rule {
    Rule {
        when,
        moment: Moment::Before,
        action: Action::Shape(shape),
    }
}

fn at(moment: Moment, when: When, deed: Deed) -> Rule {
    Rule {
        when,
        moment,
        action: Action::Deed(deed),
    }
}

fn say(after: Duration, text: &str) -> Deed {
    Deed::Say {
        after,
        text: text.to_owned(),
    }
}

#[test]
fn every_trigger_and_every_action_is_read() {
    let ms = Duration::from_millis;
    let one = || turns(1, 1);
    let table = [
        ("on turn 3 exit 1", before(turns(3, 3), Deed::Exit(1))),
        ("  on  turn 2-4   hang ", before(turns(2, 4), Deed::Hang)),
        (
            "on every 5 delay 200ms",
            before(When::Every(5), Deed::Delay(ms(200))),
        ),
        (
            "on start delay 1s",
            before(When::Start, Deed::Delay(ms(1000))),
        ),
        ("on start never-ready", before(When::Start, Deed::Hang)),
        ("on start exit 3", before(When::Start, Deed::Exit(3))),
        (
            "on start exit 3 after ready",
            at(Moment::After, When::Start, Deed::Exit(3)),
        ),
        (
            "on start unsolicited hello there",
            before(When::Start, say(Duration::ZERO, "hello there")),
        ),
        (
            "on turn 1 signal 9",
            before(one(), Deed::Signal(Signal::KILL)),
        ),
        (
            "on turn 1 signal SIGSEGV",
            before(one(), Deed::Signal(Signal::SEGV)),
        ),
        (
            "on turn 1 exit 7 after end",
            at(Moment::After, one(), Deed::Exit(7)),
        ),
        (
            "on byte 100 exit 1",
            at(Moment::Byte(100), When::Every(1), Deed::Exit(1)),
        ),
        (
            "on turn 1 byte 0 hang",
            at(Moment::Byte(0), one(), Deed::Hang),
        ),
        (
            "on prompt ~boom exit 9",
            before(When::Prompt("boom".to_owned()), Deed::Exit(9)),
        ),
        (
            r#"on prompt ~"two \"words" hang"#,
            before(When::Prompt("two \"words".to_owned()), Deed::Hang),
        ),
        (
            "on signal TERM exit 0",
            before(When::Signal(Signal::TERM), Deed::Exit(0)),
        ),
        (
            "on signal INT end",
            Rule {
                when: When::Signal(Signal::INT),
                moment: Moment::Before,
                action: Action::End,
            },
        ),
        (
            "on turn 1 flood 10MiB",
            before(one(), Deed::Flood(10 << 20)),
        ),
        (
            "on turn 1 flood-stderr 3KiB",
            before(one(), Deed::FloodStderr(3 << 10)),
        ),
        (
            "on start ignore TERM INT HUP",
            before(
                When::Start,
                Deed::Ignore(vec![Signal::TERM, Signal::INT, Signal::HUP]),
            ),
        ),
        (
            "on turn 1 fork 2",
            before(
                one(),
                Deed::Fork {
                    count: 2,
                    sleeper: Sleeper::default(),
                },
            ),
        ),
        (
            "on turn 1 fork 1 orphan setsid ignore TERM HUP after end",
            at(
                Moment::After,
                one(),
                Deed::Fork {
                    count: 1,
                    sleeper: Sleeper {
                        orphan: true,
                        setsid: true,
                        ignore: vec![Signal::TERM, Signal::HUP],
                    },
                },
            ),
        ),
        ("on turn 1 close-stdout", before(one(), Deed::CloseStdout)),
        ("on turn 1 close-stdin", before(one(), Deed::CloseStdin)),
        ("on turn 1 stop-reading", before(one(), Deed::StopReading)),
        (
            "on turn 1 unsolicited exit after end",
            at(Moment::After, one(), say(Duration::ZERO, "exit after end")),
        ),
        (
            r#"on turn 1 late 500ms "two\nlines""#,
            at(Moment::After, one(), say(ms(500), "two\nlines")),
        ),
        (
            "on turn 1 reply hello  you",
            shaped(one(), Shape::Reply("hello  you".to_owned())),
        ),
        (
            "on turn 1 reply",
            shaped(one(), Shape::Reply(String::new())),
        ),
        ("on turn 1 report", shaped(one(), Shape::Report)),
        (
            "on turn 1 bytes ff FE 00",
            shaped(one(), Shape::Bytes(vec![0xff, 0xfe, 0])),
        ),
        ("on turn 1 forge", shaped(one(), Shape::Forge)),
        (
            "on turn 1 stream 10B 5ms",
            shaped(
                one(),
                Shape::Stream {
                    piece: 10,
                    every: ms(5),
                },
            ),
        ),
        ("on turn 1 double-end", shaped(one(), Shape::DoubleEnd)),
    ];
    for (text, rule) in table {
        assert_eq!(parse_rule(text), Ok(rule), "{text}");
    }
}

#[test]
fn a_wrong_rule_is_named_with_what_would_be_right() {
    let table = [
        ("turn 1 exit 1", "expected `on` before `turn 1 exit 1`"),
        ("on", "the trigger is missing; accepted are: start, turn N"),
        (
            "on trun 1 exit 1",
            "`trun` is no trigger; accepted are: start, turn N",
        ),
        ("on turn one exit 1", "`one` is no whole number"),
        ("on turn 0 exit 1", "turns are counted from 1"),
        ("on turn 3-2 exit 1", "`3-2` names no turn"),
        ("on turn", "expected a turn N or turns N-M"),
        (
            "on turn 1",
            "the action is missing; accepted are: exit, signal",
        ),
        (
            "on turn 1 explode",
            "`explode` is no action; accepted are: exit, signal",
        ),
        ("on turn 1 exit 256", "`256` is no exit code from 0 to 255"),
        (
            "on turn 1 exit 1 now",
            "more than expected at the end: `now`",
        ),
        (
            "on turn 1 exit 1 after ready",
            "expected `end` before `ready`",
        ),
        ("on start exit 1 after end", "expected `ready` before `end`"),
        ("on every 0 hang", "the smallest is `every 1`"),
        ("on prompt boom hang", "expected ~TEXT after `prompt`"),
        (
            "on prompt ~\"boom hang",
            "does not begin with a JSON string",
        ),
        ("on prompt ~ hang", "say `every 1`"),
        ("on prompt ~\"\" hang", "say `every 1`"),
        (
            "on turn 1 signal BOOM",
            "`BOOM` is no signal; accepted are a number and: HUP, INT",
        ),
        (
            "on signal KILL exit 1",
            "`KILL` cannot be caught or ignored",
        ),
        ("on start ignore STOP", "`STOP` cannot be caught or ignored"),
        ("on turn 1 end", "`end` goes with `on signal` only"),
        ("on start reply x", "goes with turn, every and prompt only"),
        (
            "on turn 1 byte 3 forge",
            "goes with turn, every and prompt only",
        ),
        ("on turn 1 forge after end", "`after` does not go with"),
        (
            "on signal INT exit 1 after ready",
            "`after` does not go with",
        ),
        ("on turn 1 delay 5", "`5` is no time; write it as"),
        ("on turn 1 delay 99999999999999999999s", "is no time"),
        ("on turn 1 flood 5", "`5` is no size; write it as"),
        ("on turn 1 flood 99999999999999GiB", "is no size"),
        ("on turn 1 stream 0B 1ms", "the smallest is 1B"),
        ("on turn 1 bytes fff", "`fff` is no byte in hex"),
        ("on turn 1 reply \"open", "is no JSON string"),
    ];
    for (text, problem) in table {
        let error = parse_rule(text).expect_err(text);
        assert!(error.starts_with(&format!("rule `{text}`: ")), "{error}");
        assert!(
            error.contains(problem),
            "{error:?} does not say {problem:?}"
        );
    }
}

#[test]
fn a_script_skips_comments_and_counts_lines_for_its_errors() {
    let rules =
        parse_script("# crash\n\n  on turn 1 hang\non turn 2 exit 1\n").expect("a valid script");
    assert_eq!(rules.len(), 2);
    let error = parse_script("# crash\n\non turn 1 hang now\n").expect_err("trailing word");
    assert!(
        error.starts_with("line 3: rule `on turn 1 hang now`"),
        "{error}"
    );
}

#[test]
fn the_help_text_names_every_action() {
    for action in ACTIONS.split(", ") {
        assert!(
            super::super::HELP.contains(&format!("\n    {action}")),
            "{action} is not in the help text"
        );
    }
}
