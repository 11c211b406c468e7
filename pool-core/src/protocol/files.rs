//! How the files that belong to a prompt are named to a tool.
//!
//! Owns which names may be written at all. Must not know any tool. Invariant: what is let through is one line of UTF-8
//! without control characters, and names something below the working folder.

use std::path::{Component, Path};

use crate::prompt::Refusal;

/// The name of a file, fit to be written to `tool`.
///
/// # Errors
/// If it cannot be written, or lies outside the working folder.
pub(super) fn name<'a>(file: &'a Path, tool: &str) -> Result<&'a str, Refusal> {
    let Some(name) = file.to_str() else {
        return Err(refusal(file, tool, "its name is not UTF-8; rename it"));
    };
    if name.contains(char::is_control) {
        return Err(refusal(
            file,
            tool,
            "its name has a control character; rename it",
        ));
    }
    let inside = file
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || file.file_name().is_none() {
        return Err(refusal(
            file,
            tool,
            "name a file below the working folder, without `..`",
        ));
    }
    Ok(name)
}

/// Says why `tool` is not told of a file.
pub(super) fn refusal(file: &Path, tool: &str, why: &str) -> Refusal {
    Refusal::Unsupported(format!(
        "the file {} cannot be named to {tool}: {why}",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_working_folder_that_fit_one_line_are_let_through() {
        for fine in ["a.rs", "src/b c.rs", "./x", "a\"b", "\u{e9}"] {
            assert_eq!(name(Path::new(fine), "it"), Ok(fine));
        }
        for refused in ["", "/etc/x", "../x", "a/../../x", "a\nb", "a\rb", "."] {
            assert!(name(Path::new(refused), "it").is_err(), "{refused:?}");
        }
    }
}
