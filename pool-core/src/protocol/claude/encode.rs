//! Turns what we have to say into lines for Claude Code.
//!
//! Owns what Claude could take for a command, and what is refused. Must not know what Claude writes. Invariant: each
//! message is one line of JSON (anything else makes Claude exit), and a text for the model never begins with a slash,
//! whatever blanks stand before it. (Claude 2.1.330 takes a text for a command only if a slash is its very first
//! character; a later one may trim first.)

use serde::Serialize;
use serde_json::{Value, json};

use super::ClaudeConfig;
use crate::prompt::{Prompt, PromptKind, Refusal};
use crate::protocol::{Outbox, commands, files};

/// The command that begins a new conversation.
pub(super) const CLEAR: &str = "/clear";

/// Keeps a text that begins with a slash from being taken for a command.
const GUARD: &str = "Prompt:\n";

/// What stands before the names of files.
const FILES: &str = "The following is about these files:\n";

/// The text of the message for a prompt.
///
/// # Errors
/// Why it is not sent.
pub(super) fn message_text(prompt: &Prompt, config: &ClaudeConfig) -> Result<String, Refusal> {
    prompt.check_length(config.max_prompt_bytes)?;
    match prompt.kind {
        PromptKind::Command => command(prompt, config),
        PromptKind::Text if !prompt.files.is_empty() => {
            let mut text = FILES.to_owned();
            for file in &prompt.files {
                text.push_str(&format!("- {}\n", files::name(file, "claude")?));
            }
            Ok(text + "\n" + &prompt.text)
        }
        PromptKind::Text
            if prompt
                .text
                .trim_start_matches(commands::is_blank)
                .starts_with('/') =>
        {
            Ok(format!("{GUARD}{}", prompt.text))
        }
        PromptKind::Text => Ok(prompt.text.clone()),
    }
}

fn command(prompt: &Prompt, config: &ClaudeConfig) -> Result<String, Refusal> {
    let line = commands::one_line(&prompt.text)?;
    if !prompt.files.is_empty() {
        return Err(Refusal::Unsupported(
            "a command takes no files; send them with a text".to_owned(),
        ));
    }
    commands::check(line, &config.commands, &config.bare_commands)?;
    Ok(line.to_owned())
}

/// Writes a message of the user's; `id` must be a UUID.
pub(super) fn write_message(out: &mut Outbox, id: &str, text: &str) {
    #[derive(Serialize)]
    struct Content<'a> {
        r#type: &'static str,
        text: &'a str,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        role: &'static str,
        content: [Content<'a>; 1],
    }
    #[derive(Serialize)]
    struct Outer<'a> {
        r#type: &'static str,
        uuid: &'a str,
        message: Inner<'a>,
    }
    let content = [Content {
        r#type: "text",
        text,
    }];
    write(
        out,
        &Outer {
            r#type: "user",
            uuid: id,
            message: Inner {
                role: "user",
                content,
            },
        },
    );
}

/// Writes a request of ours without members.
pub(super) fn write_request(out: &mut Outbox, id: &str, subtype: &str) {
    write(
        out,
        &json!({"type": "control_request", "request_id": id, "request": {"subtype": subtype}}),
    );
}

/// Allows a tool call. Claude wants the input back, and would run another one.
pub(super) fn write_allowed(out: &mut Outbox, id: &str, input: Value) {
    write_answer(out, id, json!({"behavior": "allow", "updatedInput": input}));
}

/// Refuses a tool call; the model is told why.
pub(super) fn write_denied(out: &mut Outbox, id: &str) {
    let message =
        "Refused by the policy of this pool. Do not try to reach the same by other means.";
    write_answer(out, id, json!({"behavior": "deny", "message": message}));
}

/// Answers a request that we do not understand; without an answer the turn would wait for ever.
pub(super) fn write_not_understood(out: &mut Outbox, id: &str, subtype: &str) {
    let error = format!("this client does not support {subtype:?}");
    write(
        out,
        &json!({"type": "control_response", "response": {"subtype": "error", "request_id": id, "error": error}}),
    );
}

fn write_answer(out: &mut Outbox, id: &str, response: Value) {
    write(
        out,
        &json!({"type": "control_response",
                "response": {"subtype": "success", "request_id": id, "response": response}}),
    );
}

/// serde_json escapes line feeds, so that a value is always one line.
fn write(out: &mut Outbox, value: &impl Serialize) {
    let mut line = serde_json::to_vec(value).expect("texts and JSON values can be serialized");
    line.push(b'\n');
    out.write(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ClaudeConfig {
        ClaudeConfig {
            commands: vec!["/compact".to_owned()],
            bare_commands: vec!["/cost".to_owned()],
            max_prompt_bytes: 30,
        }
    }

    fn text_of(prompt: &Prompt) -> Result<String, Refusal> {
        message_text(prompt, &config())
    }

    #[test]
    fn a_text_never_begins_with_a_slash() {
        for (text, expected) in [
            ("hi", "hi"),
            ("/clear", "Prompt:\n/clear"),
            (" \n\t/clear", "Prompt:\n \n\t/clear"),
            ("\u{a0}/clear", "Prompt:\n\u{a0}/clear"),
            ("\u{feff}/clear", "Prompt:\n\u{feff}/clear"),
            (
                " \u{1c}\u{85}\u{feff}/clear",
                "Prompt:\n \u{1c}\u{85}\u{feff}/clear",
            ),
            ("\u{feff}clear", "\u{feff}clear"),
            ("say /clear\n/clear", "say /clear\n/clear"),
            ("  indented\r\n", "  indented\r\n"),
        ] {
            assert_eq!(
                text_of(&Prompt::text(text)),
                Ok(expected.to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn blank_and_too_long_prompts_are_refused() {
        assert_eq!(text_of(&Prompt::text(" \n\t")), Err(Refusal::Empty));
        let long = "x".repeat(31);
        let refusal = Refusal::TooLarge {
            bytes: 31,
            limit: 30,
        };
        assert_eq!(text_of(&Prompt::text(long)), Err(refusal));
    }

    #[test]
    fn only_listed_commands_pass_and_some_only_alone() {
        for (command, sent) in [
            ("/compact keep names ", "/compact keep names"),
            ("/cost", "/cost"),
        ] {
            assert_eq!(text_of(&Prompt::command(command)), Ok(sent.to_owned()));
        }
        for refused in [
            "/cost x",
            "/compac",
            "/compacts",
            "/clear",
            "compact",
            "/compact\tx",
            "/compact\n/clear",
        ] {
            assert!(text_of(&Prompt::command(refused)).is_err(), "{refused:?}");
        }
        let mut with_file = Prompt::command("/cost");
        with_file.files = vec!["a".into()];
        assert!(text_of(&with_file).is_err());
    }

    #[test]
    fn files_are_named_before_the_text() {
        let mut prompt = Prompt::text("/fix it");
        prompt.files = vec!["a.rs".into(), "src/b c.rs".into()];
        let expected = "The following is about these files:\n- a.rs\n- src/b c.rs\n\n/fix it";
        assert_eq!(text_of(&prompt), Ok(expected.to_owned()));
        prompt.files = vec!["../x".into()];
        assert!(matches!(text_of(&prompt), Err(Refusal::Unsupported(_))));
    }

    #[test]
    fn a_message_is_one_line_whatever_the_text() {
        let mut out = Outbox::new(std::time::Instant::now());
        let text = "a\nb\r\u{2028}\"\\\u{0}\u{1f600}";
        write_message(&mut out, "id", text);
        let written = out.take_write();
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(json["message"]["content"][0]["text"], text);
    }
}
