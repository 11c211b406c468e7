//! What is written for a prompt.

use serde_json::json;

use super::{Rehearsal, config};
use crate::prompt::{Prompt, Refusal, TurnId};
use crate::protocol::Protocol;
use crate::protocol::acp::AcpQuirks;

/// The text block of what is written for a prompt.
fn text_for(rehearsal: &mut Rehearsal, prompt: &Prompt) -> String {
    let written = rehearsal.submit(prompt);
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["method"], "session/prompt");
    assert_eq!(written[0]["params"]["sessionId"], "s1");
    let blocks = written[0]["params"]["prompt"].as_array().expect("blocks");
    let last = blocks.last().expect("a text");
    assert_eq!(last["type"], "text");
    last["text"].as_str().expect("a text").to_owned()
}

#[test]
fn a_text_arrives_as_it_is_unless_it_would_be_a_command() {
    let exact = [
        "hi",
        "two\nlines\n",
        "  indented",
        "a /help",
        "!ls",
        "@file",
        "\u{2028}\u{0}\u{1b}[31m",
    ];
    for text in exact {
        assert_eq!(text_for(&mut Rehearsal::ready(), &text.into()), text);
    }
    for text in [
        "/help",
        "  /clear all",
        "\n\t/x",
        "\u{a0}/x",
        "\u{feff}/x",
        "//",
    ] {
        let sent = text_for(&mut Rehearsal::ready(), &text.into());
        assert_eq!(sent, format!("Prompt:\n{text}"));
    }
}

#[test]
fn an_agent_may_have_other_marks_of_a_command() {
    let mut config = config();
    config.quirks = AcpQuirks {
        command_marks: "/$".to_owned(),
        ..AcpQuirks::default()
    };
    let mut rehearsal = Rehearsal::ready_with(config, &json!({}));
    assert_eq!(
        text_for(&mut rehearsal, &" $skill".into()),
        "Prompt:\n $skill"
    );
    assert_eq!(
        text_for(&mut Rehearsal::ready(), &" $skill".into()),
        " $skill"
    );
}

#[test]
fn files_are_links_before_the_text() {
    let mut prompt = Prompt::text("/look");
    prompt.files = vec!["src/a b.rs".into(), "./ü.txt".into()];
    let written = Rehearsal::ready().submit(&prompt);
    assert_eq!(
        written[0]["params"]["prompt"],
        json!([
            {"type": "resource_link", "uri": "file:///repo/src/a b.rs", "name": "src/a b.rs"},
            {"type": "resource_link", "uri": "file:///repo/./ü.txt", "name": "./ü.txt"},
            {"type": "text", "text": "\n\nPrompt:\n/look"},
        ])
    );
}

#[test]
fn what_cannot_be_sent_is_refused_and_nothing_is_written() {
    let refusal = |prompt: Prompt| {
        let mut rehearsal = Rehearsal::ready();
        let refusal = rehearsal
            .acp
            .submit(TurnId(7), &prompt, &mut rehearsal.out)
            .expect_err("refused");
        assert!(rehearsal.written().is_empty());
        rehearsal.submit(&"still idle".into());
        refusal
    };
    assert_eq!(refusal(Prompt::text(" \n")), Refusal::Empty);
    let limit = 1 << 20;
    let bytes = limit + 1;
    assert_eq!(
        refusal(Prompt::text("x".repeat(bytes))),
        Refusal::TooLarge { bytes, limit }
    );
    for file in ["../a", "/etc/passwd", "a\nb", "."] {
        let mut prompt = Prompt::text("hi");
        prompt.files = vec![file.into()];
        assert!(
            refusal(prompt).to_string().contains("cannot be named"),
            "{file:?}"
        );
    }
    for command in [
        "/init",
        "hello",
        "/compressed",
        "/about me",
        "/compress\n/init",
    ] {
        refusal(Prompt::command(command));
    }
    let mut prompt = Prompt::command("/about");
    prompt.files = vec!["a".into()];
    assert!(refusal(prompt).to_string().contains("takes no files"));
}

#[test]
fn an_allowed_command_goes_out_as_it_is() {
    for command in ["/about", "/compress the rest", " /compress "] {
        let sent = text_for(&mut Rehearsal::ready(), &Prompt::command(command));
        assert_eq!(sent, command.trim());
    }
}

#[test]
fn one_prompt_at_a_time_and_none_before_it_is_ready() {
    let mut rehearsal = Rehearsal::running();
    assert!(
        rehearsal
            .acp
            .submit(TurnId(8), &"next".into(), &mut rehearsal.out)
            .is_err()
    );
    let mut rehearsal = Rehearsal::new(config());
    assert!(
        rehearsal
            .acp
            .submit(TurnId(8), &"early".into(), &mut rehearsal.out)
            .is_err()
    );
}
