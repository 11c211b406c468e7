//! What a profile says about a tool of one process for each prompt.
//!
//! Owns the table `[oneshot]` and the encoding of prompts. Must not know processes. Invariant: a prompt is data. It
//! cannot become an option of the command, nor one of the tool's own commands where the profile says how those begin.

use std::path::{Component, Path};

use serde::Deserialize;

use super::reading::{Reading, Text};
use super::{codex, gemini};
use crate::prompt::{Prompt, PromptKind, Refusal, TurnId};
use crate::protocol::{aider, claude};

/// Stands for the prompt, in one of the last arguments.
pub(crate) const PROMPT: &str = "{prompt}";
/// Stands for the path of a file that holds the prompt.
pub(crate) const PROMPT_FILE: &str = "{prompt_file}";

/// The longest argument that Linux takes, in bytes, without the zero at its end.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// Keeps a text from being taken for a command of the tool.
const GUARD: &str = "Prompt:\n";
/// What stands before the names of files.
const FILES: &str = "The following is about these files:\n";

/// The table `[oneshot]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OneshotFile {
    prompt_args: Vec<String>,
    output: Output,
    command_marks: String,
}

/// How to read what a command writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output is the answer, and exit code 0 says that it is whole.
    #[default]
    Text,
    /// The side files of `aider --message`.
    Aider,
    /// The lines of `claude --print --output-format stream-json`.
    Claude,
    /// The lines of `codex exec --json`.
    Codex,
    /// The lines of `gemini --output-format stream-json`.
    Gemini,
}

impl Output {
    pub(super) fn reading(self, turn: TurnId) -> Box<dyn Reading> {
        match self {
            Self::Text => Box::new(Text(turn)),
            Self::Aider => Box::new(aider::MessageReading::new(turn)),
            Self::Claude => Box::new(claude::PrintReading::new(turn)),
            Self::Codex => Box::new(codex::Exec::new(turn)),
            Self::Gemini => Box::new(gemini::Headless::new(turn)),
        }
    }
}

/// A valid table `[oneshot]`.
#[derive(Clone, Debug)]
pub struct OneshotConfig {
    /// The last arguments of the command. `{prompt}` in them stands for the prompt, `{prompt_file}` for the path of a file
    /// that holds it; without either, the prompt goes to the command's standard input.
    pub prompt_args: Vec<String>,
    /// How to read what it writes.
    pub output: Output,
    /// The characters with which commands of the tool begin. A prompt that begins with one of them, or with blanks and
    /// one of them, gets a line before it.
    pub command_marks: String,
}

impl OneshotConfig {
    /// Takes a table as it was written.
    ///
    /// # Errors
    /// What is wrong with it, key first.
    pub fn from_file(file: OneshotFile) -> Result<Self, String> {
        let mut holders = file.prompt_args.iter().filter(|arg| holds_prompt(arg));
        if let (Some(_), Some(second)) = (holders.next(), holders.next()) {
            return Err(format!(
                "key `prompt_args`: the prompt can stand in one argument only, and {second:?} is the second"
            ));
        }
        Ok(Self {
            prompt_args: file.prompt_args,
            output: file.output,
            command_marks: file.command_marks,
        })
    }

    /// The text that reaches the command.
    pub(super) fn encode(&self, prompt: &Prompt, max_bytes: usize) -> Result<String, Refusal> {
        if prompt.kind == PromptKind::Command {
            return Err(Refusal::Unsupported(
                "this tool has a process for each prompt, and so no commands apart from its prompts; send the text as a prompt"
                    .to_owned(),
            ));
        }
        if prompt.text.trim().is_empty() {
            return Err(Refusal::Empty);
        }
        let too_large = |bytes, limit| Refusal::TooLarge { bytes, limit };
        if prompt.text.len() > max_bytes {
            return Err(too_large(prompt.text.len(), max_bytes));
        }
        let mut text = self.named_files(&prompt.files)?;
        let first = prompt
            .text
            .trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
            .chars()
            .next();
        if text.is_empty() && first.is_some_and(|first| self.command_marks.contains(first)) {
            text.push_str(GUARD);
        }
        text.push_str(&prompt.text);
        let Some(at) = self.prompt_args.iter().position(|arg| arg.contains(PROMPT)) else {
            return Ok(text);
        };
        let arg = &self.prompt_args[at];
        // No parser of options takes an argument that begins with a blank for one.
        let options_ended = self.prompt_args[..at].iter().any(|arg| arg == "--");
        if arg.starts_with(PROMPT) && text.starts_with('-') && !options_ended {
            text.insert(0, ' ');
        }
        if text.contains('\0') {
            return Err(Refusal::Unsupported(
                "the prompt has a zero byte, which no argument of a command can hold; remove it"
                    .to_owned(),
            ));
        }
        let limit = MAX_ARGUMENT_BYTES - (arg.len() - PROMPT.len());
        if text.len() > limit {
            return Err(Refusal::Unsupported(format!(
                "the prompt has {} bytes and an argument of a command holds {limit}; split it, or, if the tool reads a prompt \
                 from its standard input or from a file, take `{PROMPT}` out of `oneshot.prompt_args` or use `{PROMPT_FILE}`",
                text.len()
            )));
        }
        Ok(text)
    }

    /// What is said of the files that belong to a prompt: their names, to a model.
    fn named_files(&self, files: &[std::path::PathBuf]) -> Result<String, Refusal> {
        if files.is_empty() {
            return Ok(String::new());
        }
        if self.output == Output::Text {
            return Err(Refusal::Unsupported(
                "this tool takes no files; name them in the prompt, in the way that it understands"
                    .to_owned(),
            ));
        }
        let mut text = FILES.to_owned();
        for file in files {
            text.push_str(&format!("- {}\n", checked_file(file)?));
        }
        text.push('\n');
        Ok(text)
    }
}

fn holds_prompt(arg: &str) -> bool {
    arg.contains(PROMPT) || arg.contains(PROMPT_FILE)
}

fn checked_file(file: &Path) -> Result<&str, Refusal> {
    let refuse = |why: &str| {
        Refusal::Unsupported(format!(
            "the file {} cannot be named: {why}",
            file.display()
        ))
    };
    let name = file
        .to_str()
        .filter(|name| !name.contains(char::is_control))
        .ok_or_else(|| refuse("its name is not UTF-8 or has a control character; rename it"))?;
    let inside = file
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || file.file_name().is_none() {
        return Err(refuse("name a file below the working folder, without `..`"));
    }
    Ok(name)
}
