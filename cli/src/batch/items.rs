//! What a batch is made of.
//!
//! Owns expanding patterns, reading lines and filling in the prompt. Must not know clusters. Invariant: items are unique,
//! in a stable order, and each has a prompt of its own.

use std::io::Read as _;
use std::path::Path;

use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Serialize};

use crate::ask::inside;
use crate::error::CliError;

/// One turn to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    /// The file's path relative to the working folder, or the line.
    pub(super) name: String,
    pub(super) prompt: String,
    pub(super) is_file: bool,
    /// Counts its prompts over all runs of the batch: the number of the next one.
    #[serde(skip, default = "first")]
    pub(super) run: u32,
}

fn first() -> u32 {
    1
}

const FILE: &str = "{file}";
const ITEM: &str = "{item}";

/// Wildcards do not match a leading dot: `.git` and the worktrees' own folder are nobody's input.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// One item for each file that a pattern matches. With `takes_files` the tool is told the file's name in any case, so
/// the prompt need not have it.
pub(super) fn from_patterns(
    cwd: &Path,
    patterns: &[String],
    prompt: &str,
    takes_files: bool,
) -> Result<Vec<Item>, CliError> {
    if prompt.contains(ITEM) {
        return Err(CliError::usage(
            "invalid",
            "{item} stands for a line of --items; for files write {file}",
        ));
    }
    if !takes_files && !prompt.contains(FILE) {
        return Err(CliError::usage(
            "invalid",
            "every file would get the same prompt; put {file} where the file's path belongs",
        ));
    }
    let mut names = std::collections::BTreeSet::new();
    for pattern in patterns {
        names.extend(matches(cwd, pattern)?);
    }
    Ok(names
        .into_iter()
        .map(|name| Item {
            prompt: prompt.replace(FILE, &name),
            name,
            is_file: true,
            run: first(),
        })
        .collect())
}

fn matches(cwd: &Path, pattern: &str) -> Result<Vec<String>, CliError> {
    // What the shell has expanded already is a path, whatever characters are in it.
    if cwd.join(pattern).is_file() {
        return Ok(vec![text(&inside(cwd, Path::new(pattern))?)?]);
    }
    let wrong = |error: glob::PatternError| {
        CliError::usage("invalid", format!("the pattern {pattern:?}: {error}"))
    };
    // Alone first, so that an error speaks of what the user wrote.
    Pattern::new(pattern).map_err(wrong)?;
    let whole = match Path::new(pattern).is_absolute() {
        true => pattern.to_owned(),
        false => format!("{}/{pattern}", Pattern::escape(&cwd.to_string_lossy())),
    };
    let mut names = Vec::new();
    for found in glob::glob_with(&whole, MATCHING).map_err(wrong)? {
        let path = found.map_err(|error| CliError::usage("invalid", error.to_string()))?;
        if path.is_file() {
            names.push(text(&inside(cwd, &path)?)?);
        }
    }
    if names.is_empty() {
        return Err(CliError::usage(
            "no_match",
            format!("{pattern:?} matches no file in {}", cwd.display()),
        )
        .hint(
            "patterns are relative to --cwd; quote them, or the shell expands them somewhere else",
        ));
    }
    Ok(names)
}

fn text(path: &Path) -> Result<String, CliError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CliError::usage(
            "invalid",
            format!(
                "the name of the file {} is not UTF-8, so no prompt can have it",
                path.display()
            ),
        )
    })
}

/// One item for each line of a file that is not empty.
pub(super) fn from_lines(path: &Path, prompt: &str) -> Result<Vec<Item>, CliError> {
    if !prompt.contains(ITEM) {
        return Err(CliError::usage(
            "invalid",
            "every item would get the same prompt; put {item} where the line belongs",
        ));
    }
    let mut lines = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().read_to_string(&mut lines),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut lines)),
    };
    read.map_err(|error| {
        CliError::usage(
            "invalid",
            format!("cannot read the items in {}: {error}", path.display()),
        )
    })?;
    let items = split(&lines, prompt);
    if items.is_empty() {
        return Err(CliError::usage(
            "no_match",
            format!("there is no item in {}", path.display()),
        ));
    }
    Ok(items)
}

fn split(lines: &str, prompt: &str) -> Vec<Item> {
    let mut seen = std::collections::HashSet::new();
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && seen.insert(*line))
        .map(|line| Item {
            name: line.to_owned(),
            prompt: prompt.replace(ITEM, line),
            is_file: false,
            run: first(),
        })
        .collect()
}

/// No prompt is empty or over the limit.
pub(super) fn check_sizes(items: &[Item], limit: usize) -> Result<(), CliError> {
    for item in items {
        if item.prompt.trim().is_empty() {
            return Err(CliError::usage(
                "invalid",
                format!("the prompt for {} is empty; give it some text", item.name),
            ));
        }
        if item.prompt.len() > limit {
            return Err(CliError::usage(
                "invalid",
                format!(
                    "the prompt for {} has {} bytes and the limit is {limit}; split it, or raise `max_prompt_bytes` in the profile",
                    item.name,
                    item.prompt.len()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, "x").expect("a file");
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, patterns: &[&str]) -> Result<Vec<String>, String> {
        let cwd = folder.path().canonicalize().expect("a folder");
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        from_patterns(&cwd, &patterns, "do {file}", false)
            .map(|items| items.into_iter().map(|item| item.name).collect())
            .map_err(|error| error.text())
    }

    #[test]
    fn patterns_match_files_once_in_order_and_nothing_hidden() {
        let folder = folder(&[
            "b.py",
            "a.py",
            "sub/c.py",
            ".hidden.py",
            ".git/d.py",
            "e.txt",
        ]);
        assert_eq!(
            names(&folder, &["*.py"]),
            Ok(vec!["a.py".to_owned(), "b.py".to_owned()])
        );
        assert_eq!(
            names(&folder, &["**/*.py", "a.py", "./a.py"]),
            Ok(vec![
                "a.py".to_owned(),
                "b.py".to_owned(),
                "sub/c.py".to_owned()
            ])
        );
    }

    #[test]
    fn a_name_with_the_characters_of_a_pattern_is_a_name_if_there_is_such_a_file() {
        let folder = folder(&["[x]*.py", "x.py"]);
        assert_eq!(names(&folder, &["[x]*.py"]), Ok(vec!["[x]*.py".to_owned()]));
    }

    #[test]
    fn bad_patterns_and_files_outside_are_refused() {
        let folder = folder(&["in/a.py", "out.py"]);
        let cwd = folder.path().join("in").canonicalize().expect("a folder");
        let error = |pattern: &str| {
            from_patterns(&cwd, &[pattern.to_owned()], "{file}", false)
                .expect_err("must be refused")
                .text()
        };
        assert!(error("*.rs").contains("matches no file"));
        assert!(error("a[").contains("\"a[\""));
        assert!(error("../out.py").contains("outside of the working folder"));
        assert!(error("../*.py").contains("outside of the working folder"));
    }

    #[test]
    fn a_prompt_without_its_placeholder_is_refused() {
        let folder = folder(&["a.py"]);
        let patterns = ["a.py".to_owned()];
        assert!(from_patterns(folder.path(), &patterns, "same", false).is_err());
        assert!(from_patterns(folder.path(), &patterns, "do {item}", true).is_err());
        assert!(from_lines(Path::new("/nonexistent"), "same").is_err());
    }

    #[test]
    fn lines_are_trimmed_unique_and_never_empty() {
        let items = split("one\r\n\n  two \none\n", "say {item}, {item}!");
        let prompts: Vec<_> = items.iter().map(|item| item.prompt.as_str()).collect();
        assert_eq!(prompts, ["say one, one!", "say two, two!"]);
    }

    #[test]
    fn prompts_over_the_limit_are_found_before_anything_starts() {
        let items = split("abc\nabcdef", "{item}");
        assert!(check_sizes(&items, 6).is_ok());
        assert!(check_sizes(&items, 5).is_err());
    }
}
