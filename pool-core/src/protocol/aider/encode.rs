//! Turns a prompt into what is written to aider, step by step.
//!
//! Owns what aider could take for a command, and what is refused. Must not know what aider prints. Invariant: text for
//! the model goes only into a block whose closing tag nobody can guess, and never begins with a character that aider
//! gives a meaning to.

use std::collections::VecDeque;
use std::path::Path;

use crate::prompt::{Prompt, PromptKind, Refusal};
use crate::protocol::aider::AiderConfig;
use crate::protocol::{Outbox, commands, files};

/// One input to aider.
#[derive(Debug)]
pub(super) enum Step {
    /// Forget the conversation and drop all files.
    Reset,
    /// Put a file into the chat.
    Add(String),
    /// Text for the model.
    Prompt(String),
    /// A command that the caller sends.
    Command(String),
}

impl Step {
    /// The steps that a prompt takes.
    pub(super) fn plan(prompt: &Prompt, config: &AiderConfig) -> Result<VecDeque<Self>, Refusal> {
        prompt.check_length(config.max_prompt_bytes)?;
        let mut steps = VecDeque::new();
        if prompt.fresh {
            steps.push_back(Self::Reset);
        }
        for file in &prompt.files {
            steps.push_back(Self::Add(checked_file(file)?));
        }
        steps.push_back(match prompt.kind {
            PromptKind::Text => Self::Prompt(harmless(&prompt.text)),
            PromptKind::Command => Self::Command(allowed(&prompt.text, config)?),
        });
        Ok(steps)
    }

    /// Whether the step is ours: it comes before what the caller sends.
    pub(super) fn prepares(&self) -> bool {
        matches!(self, Self::Reset | Self::Add(_))
    }

    /// Writes the step; a prompt's text is taken out. Returns how many lines aider reads after the first.
    pub(super) fn write(&mut self, tag: &str, out: &mut Outbox) -> usize {
        let line = match self {
            Self::Prompt(text) => {
                let text = std::mem::take(text);
                out.write(format!("{{{tag}\n").as_bytes());
                out.write(text.as_bytes());
                out.write(format!("\n{tag}}}\n").as_bytes());
                return text.bytes().filter(|&b| b == b'\n').count() + 2;
            }
            Self::Reset => "/reset".to_owned(),
            Self::Add(file) => format!("/add \"{}\"", pattern(file)),
            Self::Command(line) => std::mem::take(line),
        };
        out.write(line.as_bytes());
        out.write(b"\n");
        0
    }
}

/// Lines as aider reads them. It takes the whole block for a command if the first character is `/` or `!`, and for
/// ordinary text if that character is a line feed.
fn harmless(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    if text.starts_with(['/', '!']) {
        format!("\n{text}")
    } else {
        text
    }
}

fn allowed(text: &str, config: &AiderConfig) -> Result<String, Refusal> {
    let line = commands::one_line(text)?;
    commands::check(line, &config.commands, &config.bare_commands)?;
    Ok(line.to_owned())
}

fn checked_file(file: &Path) -> Result<String, Refusal> {
    let name = files::name(file, "aider")?;
    if name.contains('"') {
        let why = "its name has a quote; rename it";
        return Err(files::refusal(file, "aider", why));
    }
    Ok(name.to_owned())
}

/// A pattern that only this file matches. With `--yes-always` aider creates a file that it cannot find, without a word;
/// it does not where the name has a wildcard, so the first character of the last part becomes the class of itself and
/// a star.
fn pattern(file: &str) -> String {
    let start = file
        .trim_end_matches('/')
        .rfind('/')
        .map_or(0, |slash| slash + 1);
    let mut pattern = String::with_capacity(file.len() + 4);
    for (at, c) in file.char_indices() {
        match c {
            ']' if at == start => pattern.push_str("[]*]"),
            _ if at == start => pattern.extend(['[', '*', c, ']']),
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            _ => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AiderConfig {
        AiderConfig {
            commands: vec!["/drop".to_owned()],
            bare_commands: vec!["/help".to_owned()],
            max_prompt_bytes: 10,
        }
    }

    /// What is written for a prompt of one step, and how many lines aider reads after the first.
    fn written(prompt: &Prompt) -> Result<(String, usize), Refusal> {
        let mut out = Outbox::new(std::time::Instant::now());
        let mut steps = Step::plan(prompt, &config())?;
        let lines = steps.pop_front().expect("a step").write("T", &mut out);
        Ok((String::from_utf8(out.take_write()).expect("UTF-8"), lines))
    }

    #[test]
    fn text_goes_into_a_block_and_never_begins_with_a_command_character() {
        for (text, expected, lines) in [
            ("hi", "{T\nhi\nT}\n", 2),
            ("a\r\n\r\nb\n", "{T\na\n\nb\n\nT}\n", 5),
            ("/run x", "{T\n\n/run x\nT}\n", 3),
            ("!x", "{T\n\n!x\nT}\n", 3),
            ("{", "{T\n{\nT}\n", 2),
            (" /run x", "{T\n /run x\nT}\n", 2),
        ] {
            assert_eq!(
                written(&Prompt::text(text)),
                Ok((expected.to_owned(), lines)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn blank_and_too_long_prompts_are_refused() {
        assert_eq!(written(&Prompt::text(" \n\t")), Err(Refusal::Empty));
        assert_eq!(
            written(&Prompt::text("12345678901")),
            Err(Refusal::TooLarge {
                bytes: 11,
                limit: 10
            })
        );
    }

    #[test]
    fn only_listed_commands_pass_and_some_only_alone() {
        assert_eq!(
            written(&Prompt::command("/drop a ")),
            Ok(("/drop a\n".to_owned(), 0))
        );
        assert_eq!(
            written(&Prompt::command("/help")),
            Ok(("/help\n".to_owned(), 0))
        );
        for refused in [
            "/help x",
            "/dro",
            "/drops",
            "/run x",
            "!ls",
            "drop",
            "/drop\ta",
            "/drop\n/x",
        ] {
            assert!(written(&Prompt::command(refused)).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn files_outside_and_names_that_aider_would_misread_are_refused() {
        for refused in ["../x", "a\"b"] {
            let mut prompt = Prompt::text("hi");
            prompt.files = vec![refused.into()];
            assert!(
                matches!(written(&prompt), Err(Refusal::Unsupported(_))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_file_is_named_by_a_pattern_that_matches_it_alone_and_that_aider_will_not_create() {
        for (file, expected) in [
            ("a.txt", "[*a].txt"),
            ("src/a b.rs", "src/[*a] b.rs"),
            ("src/[id].tsx", "src/[*[]id].tsx"),
            ("a*/b?", "a[*]/[*b][?]"),
            ("]x", "[]*]x"),
            ("!x", "[*!]x"),
            ("src/", "[*s]rc/"),
        ] {
            assert_eq!(pattern(file), expected);
        }
    }
}
