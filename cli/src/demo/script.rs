//! What is played.
//!
//! Owns the prompts and the stand-ins' rules. Invariant: exactly one turn crashes, in its middle and after its edit.

pub(super) const INSTANCES: usize = 3;

/// Questions are answered with an echo, edits are done.
pub(super) const PROMPTS: &[&str] = &[
    "What does a circuit breaker protect?",
    "edit docs/queue.md: Prompts wait in one queue for all instances.",
    "edit docs/routing.md: The least busy instance gets the next prompt.",
    "Why does every instance have a worktree of its own?",
    "edit docs/breaker.md: An instance that keeps failing gets no prompts.",
    "edit docs/risky.md: This tool crashes in the middle of its turn.",
    "Which outcome has a turn that may have run?",
    "edit docs/books.md: Every accepted prompt ends exactly once.",
    "edit docs/metrics.md: Everything is measured.",
    "How many prompts does a tool get at a time?",
    "edit docs/landing.md: One commit for each item.",
    "What is left behind at the end?",
];

/// A word of the one prompt that crashes its tool.
const CRASH: &str = "crashes";

/// Turns take a while and come bit by bit, and one ends in a crash.
pub(super) fn rules() -> Vec<String> {
    [
        "on every 1 delay 120ms".to_owned(),
        "on every 1 stream 8B 15ms".to_owned(),
        format!("on prompt ~{CRASH} byte 12 exit 3"),
    ]
    .into_iter()
    .flat_map(|rule| ["--do".to_owned(), rule])
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_prompt_crashes_its_tool_and_it_is_an_edit() {
        let crashing: Vec<_> = PROMPTS
            .iter()
            .filter(|prompt| prompt.contains(CRASH))
            .collect();
        assert_eq!(crashing.len(), 1);
        assert!(crashing[0].starts_with("edit "));
    }
}
