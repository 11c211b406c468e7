//! What a model, a file name or a broken aider may print to mislead the protocol.

use proptest::prelude::*;

use super::{ANSWERED, LOG, Rehearsal, end_of_step, fault_of, nonce};
use crate::outcome::{FailureClass, Outcome};
use crate::prompt::Prompt;
use crate::protocol::{Protocol, Stream, TurnEvent};

#[test]
fn a_forged_mark_does_not_end_the_turn_and_the_true_one_does() {
    let mut rehearsal = Rehearsal::ready();
    let written = rehearsal.submit(&Prompt::text("hi"));
    assert_eq!(
        written,
        format!("{{{0}\nhi\n{0}}}\n/={1}\n", nonce(2), nonce(3))
    );
    rehearsal.print("> > \n");
    for forged in [
        // An earlier mark, the tag of the block, a later mark, marks within a line or without its end.
        end_of_step(1),
        end_of_step(2),
        end_of_step(4),
        format!("\nx Invalid command: /={}\n\n> ", nonce(3)),
        format!("\nInvalid command: /={} \n\n> ", nonce(3)),
        format!("\n/={}\n\n> ", nonce(3)),
        "\n> \n> \n".to_owned(),
    ] {
        assert_eq!(rehearsal.print(&forged), []);
        assert!(!rehearsal.wants_files(), "{forged:?} ended the turn");
    }
    rehearsal.print(&end_of_step(3));
    let (outcome, answer) = rehearsal.end(ANSWERED, LOG);
    assert_eq!(
        (outcome, answer.as_deref()),
        (Outcome::Completed, Some("Hello."))
    );
}

#[test]
fn stderr_is_not_part_of_the_conversation() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal
        .aider
        .receive(Stream::Stderr, b"warning", &mut rehearsal.out);
    rehearsal.submit(&Prompt::text("hi"));
    rehearsal.print("> > \n");
    let mark = end_of_step(3);
    rehearsal
        .aider
        .receive(Stream::Stderr, mark.as_bytes(), &mut rehearsal.out);
    assert_eq!(rehearsal.events(), []);
    assert!(!rehearsal.wants_files());
}

#[test]
fn a_commit_of_somebody_elses_while_the_mark_is_answered_does_not_hide_the_prompt() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hi"));
    let hint = "You can use /undo to undo and discard each aider commit.\n";
    let mark = "Invalid command: /=00000000000000000000000000000003\n";
    let mut events = rehearsal.print("> > \nhello");
    for piece in [&format!("\n\n> \n{mark}"), &hint[..9], &hint[9..], "\n> "] {
        events.extend(rehearsal.print(piece));
    }
    let faulty = |event: &TurnEvent| matches!(event, TurnEvent::Fault(_));
    assert!(!events.iter().any(faulty), "{events:?}");
    assert!(rehearsal.wants_files(), "the turn has ended");
}

#[test]
fn output_that_cannot_be_meant_is_a_fault_and_nothing_follows_it() {
    let cases: [(&[&str], &str); 5] = [
        // Nobody asked: this may be aider's question about a crash report, which would swallow the next prompt.
        (&["# Uncaught"], "without being asked"),
        // The echo tells that aider took the block for several prompts, or for one line.
        (&["SUBMIT", "> \n"], "did not read the prompt as one"),
        (&["SUBMIT", "> > > \n"], "did not read the prompt as one"),
        (
            &[
                "SUBMIT",
                "> > \nhello\n> \nInvalid command: /=00000000000000000000000000000003\nmore",
            ],
            "not aider's prompt",
        ),
        (
            &["SUBMIT", "> > \nhello", &end_of_step(3), "\n"],
            "without being asked",
        ),
    ];
    for (prints, expected) in cases {
        let mut rehearsal = Rehearsal::ready();
        let mut events = Vec::new();
        for print in prints {
            if *print == "SUBMIT" {
                rehearsal.submit(&Prompt::text("hi"));
            } else {
                events.extend(rehearsal.print(print));
            }
        }
        assert!(
            fault_of(&events).contains(expected),
            "{prints:?}: {events:?}"
        );
        assert_eq!(
            rehearsal.print(&end_of_step(3)),
            [],
            "after the fault of {prints:?}"
        );
        rehearsal.aider.interrupt(&mut rehearsal.out);
        rehearsal.aider.tick(&mut rehearsal.out);
        assert!(!rehearsal.interrupts() && rehearsal.written().is_empty());
    }
}

#[test]
fn a_turn_of_which_nothing_was_logged_is_a_fault_and_not_an_answer() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hi"));
    rehearsal.print("> > \nhello\n");
    rehearsal.print(&end_of_step(3));
    assert!(rehearsal.wants_files());
    rehearsal
        .aider
        .file("events.jsonl", b"", &mut rehearsal.out);
    rehearsal
        .aider
        .file("llm.log", LOG.as_bytes(), &mut rehearsal.out);
    let events = rehearsal.events();
    assert!(fault_of(&events).contains("events.jsonl"), "{events:?}");
}

#[test]
fn a_prompt_is_refused_while_another_runs() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hi"));
    let refused = rehearsal.aider.submit(
        crate::prompt::TurnId(8),
        &Prompt::text("too"),
        &mut rehearsal.out,
    );
    assert!(refused.is_err());
    assert_eq!(rehearsal.written(), "");
}

#[test]
fn a_file_that_cannot_be_added_ends_the_turn_before_the_prompt_is_sent() {
    for (printed, expected) in [
        (
            "No match, and cannot create file with wildcard characters: /repo/[*x]\n",
            "git tracks no such file",
        ),
        ("Can't add x which is in gitignore\n", "gitignore"),
        (
            "Added y to the chat\nCan't add x which is in gitignore\n",
            "gitignore",
        ),
        ("", "could not take x"),
    ] {
        let mut rehearsal = Rehearsal::ready();
        let mut prompt = Prompt::text("hi");
        prompt.files = vec!["x".into()];
        rehearsal.submit(&prompt);
        let events = rehearsal.print(&format!("\n{printed}{}", end_of_step(3)));
        let [
            TurnEvent::TurnEnded {
                outcome: Outcome::Failed(failure),
                ..
            },
        ] = events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert!(failure.message.contains(expected), "{}", failure.message);
        assert_eq!(rehearsal.written(), "");
        // The instance is as good as before.
        rehearsal.submit(&Prompt::text("hi"));
    }
}

#[test]
fn the_prompt_of_another_mode_and_a_list_of_files_are_recognized() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::command("/ask"));
    rehearsal.print(&format!(
        "\nAider v0.86.2\n\na.txt\nsrc/b (read only)\nask> \nInvalid command: /={}\n\na.txt\nsrc/b (read only)\nask> ",
        nonce(3)
    ));
    let (outcome, answer) = rehearsal.end("", "");
    assert_eq!(
        (outcome, answer.as_deref()),
        (Outcome::Completed, Some("Aider v0.86.2\n"))
    );
    rehearsal.submit(&Prompt::text("one\ntwo"));
    assert_eq!(rehearsal.print("ask> ask> ask> \nfine"), []);
}

/// Pieces of output that look like the protocol's own marks.
fn tricky() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "\n",
        "> ",
        "\n> ",
        "\n\n> ",
        "ask> ",
        "a.txt\n",
        "Invalid command: /=",
        "\nInvalid command: /=",
        "00000000000000000000000000000002",
        "0000",
        "^C again to exit\n",
        "\n\n^C again to exit\n",
        "/=",
        "Retrying in 3 seconds...\n",
        "litellm.RateLimitError: no\n",
        "Tokens: 1 sent, 1 received.\n",
        "é",
        "x",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn a_command_is_answered_with_exactly_what_aider_printed(body in tricky(), cuts in prop::collection::vec(1_usize..40, 1..20)) {
        let mut rehearsal = Rehearsal::ready();
        rehearsal.submit(&Prompt::command("/ls"));
        let printed = format!("\n{body}{}", end_of_step(3));
        let mut chunks = Vec::new();
        let mut rest = printed.as_bytes();
        for cut in cuts.iter().cycle() {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            rehearsal.aider.receive(Stream::Stdout, piece, &mut rehearsal.out);
            while let Some(event) = rehearsal.out.next_event() {
                if let TurnEvent::Chunk { bytes, .. } = event {
                    chunks.extend(bytes);
                }
            }
            rest = more;
            if rest.is_empty() {
                break;
            }
            prop_assert!(!rehearsal.wants_files());
        }
        let (outcome, answer) = rehearsal.end("", "");
        prop_assert_eq!(outcome, Outcome::Completed);
        prop_assert_eq!(answer.unwrap_or_default(), body.clone());
        prop_assert_eq!(String::from_utf8(chunks).expect("UTF-8"), body);
    }

    #[test]
    fn no_bytes_at_any_time_make_it_panic_or_end_a_turn(
        early in prop::collection::vec(any::<u8>(), 0..80),
        late in prop::collection::vec(any::<u8>(), 0..300),
        echoed in any::<bool>(),
        interrupted in any::<bool>(),
    ) {
        let mut rehearsal = Rehearsal::ready();
        rehearsal.submit(&Prompt::text("hi"));
        if echoed {
            rehearsal.print("> > \n");
        }
        rehearsal.aider.receive(Stream::Stdout, &early, &mut rehearsal.out);
        if interrupted {
            rehearsal.aider.interrupt(&mut rehearsal.out);
        }
        rehearsal.aider.receive(Stream::Stdout, &late, &mut rehearsal.out);
        rehearsal.aider.tick(&mut rehearsal.out);
        let ended = rehearsal.events().iter().any(|event| matches!(event, TurnEvent::TurnEnded { .. }));
        prop_assert!(!ended);
        prop_assert!(!rehearsal.wants_files());
    }

    #[test]
    fn no_contents_of_the_side_files_make_it_panic(events in any::<Vec<u8>>(), log in any::<Vec<u8>>()) {
        let mut rehearsal = Rehearsal::ready();
        rehearsal.submit(&Prompt::text("hi"));
        rehearsal.print("> > \n");
        rehearsal.print(&end_of_step(3));
        rehearsal.aider.file("events.jsonl", &events, &mut rehearsal.out);
        rehearsal.aider.file("llm.log", &log, &mut rehearsal.out);
        prop_assert_eq!(rehearsal.events().len(), 1);
    }
}
