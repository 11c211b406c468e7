//! The profiles that come with toolpool.
//!
//! Owns their texts, compiled in from `profiles/`. Must not know their meaning. Invariant: each parses (tested).

const TEXTS: &[(&str, &str)] = &[
    ("aider", include_str!("../../profiles/aider.toml")),
    (
        "aider-message",
        include_str!("../../profiles/aider-message.toml"),
    ),
    ("bash", include_str!("../../profiles/bash.toml")),
    ("bc", include_str!("../../profiles/bc.toml")),
    ("claude", include_str!("../../profiles/claude.toml")),
    (
        "claude-print",
        include_str!("../../profiles/claude-print.toml"),
    ),
    ("codex", include_str!("../../profiles/codex.toml")),
    ("codex-exec", include_str!("../../profiles/codex-exec.toml")),
    ("gemini", include_str!("../../profiles/gemini.toml")),
    (
        "gemini-headless",
        include_str!("../../profiles/gemini-headless.toml"),
    ),
    ("jules", include_str!("../../profiles/jules.toml")),
    ("jules-cli", include_str!("../../profiles/jules-cli.toml")),
    ("node", include_str!("../../profiles/node.toml")),
    ("opencode", include_str!("../../profiles/opencode.toml")),
    ("python", include_str!("../../profiles/python.toml")),
    ("qwen", include_str!("../../profiles/qwen.toml")),
    ("sqlite3", include_str!("../../profiles/sqlite3.toml")),
    ("standin", include_str!("../../profiles/standin.toml")),
];

/// The names of the built-in profiles, sorted.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

/// The text of a built-in profile.
pub(super) fn text(name: &str) -> Option<&'static str> {
    TEXTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}
