//! Which of a tool's own commands a caller may send.
//!
//! Owns the profile's two lists as a rule, and what may stand before a command unseen. Must not know any tool. Invariant: what is let through is one line without
//! control characters whose first word is on a list, so it can be nothing but that one command.

use crate::prompt::Refusal;

/// The command as one line.
///
/// # Errors
/// If it is more than that.
pub(super) fn one_line(text: &str) -> Result<&str, Refusal> {
    let line = text.trim();
    if line.contains(char::is_control) {
        return Err(Refusal::Unsupported(
            "a command is one line without control characters; send the rest as its own prompt"
                .to_owned(),
        ));
    }
    Ok(line)
}

/// Sees that a line's command is listed: in `allow` with any arguments, in `bare` without.
///
/// # Errors
/// If it is not, with what is.
pub(super) fn check(line: &str, allow: &[String], bare: &[String]) -> Result<(), Refusal> {
    let (word, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let listed = |list: &[String]| list.iter().any(|command| command == word);
    if listed(allow) || listed(bare) && arguments.is_empty() {
        return Ok(());
    }
    if listed(bare) {
        return Err(Refusal::Unsupported(format!(
            "the command {word} is allowed only without arguments; send it alone, or list it under `allow` in the profile"
        )));
    }
    let all = allow.iter().chain(bare);
    Err(Refusal::CommandNotAllowed {
        command: word.to_owned(),
        allowed: all.map(String::as_str).collect::<Vec<_>>().join(" "),
    })
}

/// What tools take for nothing at the beginning of a text: Rust's `trim` takes U+0085, JavaScript's U+FEFF instead, and
/// Python's the separators among the control characters too.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\u{feff}'
}
