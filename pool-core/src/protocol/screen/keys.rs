//! What is typed for a prompt.
//!
//! Owns the rule of what may be typed. Must not know screens. Invariant: a prompt's bytes are text to every terminal
//! program: none of them is a key, a signal, the end of a paste or a second prompt.

use super::config::ScreenConfig;
use crate::planted::planted;
use crate::prompt::Refusal;

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// The longest line that a terminal hands on whole while it edits lines itself. It takes more, drops the rest, and says
/// nothing (measured on Linux: 4096 bytes with the line end). A program that takes pastes reads every byte.
const LONGEST_TYPED_LINE: usize = 4095;

/// The prompt as text, its line ends made one kind.
///
/// # Errors
/// If it holds anything that a terminal could take for a key.
pub(super) fn check(text: &str) -> Result<String, Refusal> {
    let text = text.replace("\r\n", "\n");
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    // ESC, C0, DEL and C1. Escape sequences all begin with one of them.
    let control = text
        .chars()
        .find(|&c| c.is_control() && c != '\n' && c != '\t' && !planted("keys_typed"));
    match control {
        Some(control) => Err(Refusal::Unsupported(format!(
            "the prompt holds the control character U+{:04X}, which a terminal takes for a key; remove it",
            u32::from(control)
        ))),
        None => Ok(text.to_owned()),
    }
}

/// What to type for a checked text. `pastes`: the program has asked for pastes to be marked.
///
/// # Errors
/// If the program would not get the text as it is.
pub(super) fn encode(text: &str, pastes: bool, config: &ScreenConfig) -> Result<Vec<u8>, Refusal> {
    if pastes {
        // A terminal pastes line ends as the Enter key's byte; within the marks they submit nothing.
        let pasted = text.replace('\n', "\r");
        return Ok([PASTE_BEGINS, pasted.as_bytes(), PASTE_ENDS].concat());
    }
    let line = if !text.contains('\n') {
        text.to_owned()
    } else if config.join {
        text.lines().collect::<Vec<_>>().join(" ")
    } else {
        return Err(Refusal::Multiline);
    };
    if line.contains('\t') {
        return Err(Refusal::Unsupported(
            "the prompt holds a tab, which is a key for this tool; write spaces".to_owned(),
        ));
    }
    if line.len() > LONGEST_TYPED_LINE {
        return Err(Refusal::Unsupported(format!(
            "the prompt has {} bytes, and what is typed into this tool may have {LONGEST_TYPED_LINE}: a terminal cuts longer lines; split it",
            line.len()
        )));
    }
    Ok(line.into_bytes())
}
