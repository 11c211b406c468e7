//! Turns a prompt into the content blocks of a request.
//!
//! Owns what an agent could take for a command, and what is refused. Must not know what agents answer. Invariant: a text
//! for the model never begins with a character that makes it a command, whatever blanks stand before it.

use serde_json::{Value, json};

use super::AcpConfig;
use crate::prompt::{Prompt, PromptKind, Refusal};
use crate::protocol::{commands, files};

/// Keeps a text from being taken for a command. Blanks would not do: gemini and opencode take them off first.
const GUARD: &str = "Prompt:\n";

/// Separates the names of files from the text: gemini and qwen put the blocks together without anything between them.
const AFTER_FILES: &str = "\n\n";

/// The content blocks of a prompt.
///
/// # Errors
/// Why it is not sent.
pub(super) fn blocks(prompt: &Prompt, config: &AcpConfig) -> Result<Value, Refusal> {
    prompt.check_length(config.max_prompt_bytes)?;
    if prompt.kind == PromptKind::Command {
        return Ok(json!([text(command(prompt, config)?)]));
    }
    let mut blocks = Vec::new();
    for file in &prompt.files {
        let name = files::name(file, "the agent")?;
        // gemini and qwen take what follows `file://` for the path as it is; opencode reads it either way.
        let uri = format!("file://{}", config.cwd.join(name).display());
        blocks.push(json!({"type": "resource_link", "uri": uri, "name": name}));
    }
    let marks = &config.quirks.command_marks;
    let mut visible = prompt.text.chars().filter(|c| !commands::is_blank(*c));
    let is_command = visible.next().is_some_and(|first| marks.contains(first));
    let before = if is_command { GUARD } else { "" };
    let between = if blocks.is_empty() { "" } else { AFTER_FILES };
    blocks.push(text(format!("{between}{before}{}", prompt.text)));
    Ok(Value::Array(blocks))
}

fn text(text: String) -> Value {
    json!({"type": "text", "text": text})
}

fn command(prompt: &Prompt, config: &AcpConfig) -> Result<String, Refusal> {
    let line = commands::one_line(&prompt.text)?;
    if !prompt.files.is_empty() {
        return Err(Refusal::Unsupported(
            "a command takes no files; send them with a text".to_owned(),
        ));
    }
    commands::check(line, &config.commands, &config.bare_commands)?;
    Ok(line.to_owned())
}
