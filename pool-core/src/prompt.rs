//! What a caller sends, and why it may be refused before a byte is written.
//!
//! Owns [`Prompt`] and [`Refusal`]. Must not know how any tool frames them. Invariant: a prompt of kind
//! [`PromptKind::Text`] is data for the model; nothing in it can become a command of the tool.

use std::path::PathBuf;

/// Names one turn. Unique in a cluster's life; later turns have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct TurnId(pub u64);

impl std::fmt::Display for TurnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// Whether the text is for the model or for the tool itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// Data for the model (or the interpreter). Never interpreted as one of the tool's own commands.
    Text,
    /// One of the tool's own commands, such as aider's `/tokens`. Only those that the profile allows are sent.
    Command,
}

/// The text that a caller sends, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text, of any length up to the profile's `max_prompt_bytes`, byte-exact.
    pub text: String,
    /// Text for the model, or a command for the tool.
    pub kind: PromptKind,
    /// Start from an empty conversation: the tool forgets what came before, as far as its profile can make it.
    pub fresh: bool,
    /// Files the tool is to have in its context, relative to the instance's working folder.
    pub files: Vec<PathBuf>,
}

impl Prompt {
    /// A text for the model, in the conversation that the instance has.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind: PromptKind::Text,
            fresh: false,
            files: Vec::new(),
        }
    }

    /// One of the tool's own commands.
    pub fn command(text: impl Into<String>) -> Self {
        Self {
            kind: PromptKind::Command,
            ..Self::text(text)
        }
    }

    /// Sees that there is a text, and that it is not longer than `limit` bytes.
    pub(crate) fn check_length(&self, limit: usize) -> Result<(), Refusal> {
        let bytes = self.text.len();
        if self.text.trim().is_empty() {
            Err(Refusal::Empty)
        } else if bytes > limit {
            Err(Refusal::TooLarge { bytes, limit })
        } else {
            Ok(())
        }
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// Why a protocol will not send a prompt. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is nothing to send.
    #[error("the prompt is empty; give it some text")]
    Empty,
    /// The prompt is longer than the profile allows.
    #[error(
        "the prompt has {bytes} bytes and the limit is {limit}; split it, or raise `max_prompt_bytes` in the profile"
    )]
    TooLarge {
        /// Length of the prompt in bytes.
        bytes: usize,
        /// The profile's limit in bytes.
        limit: usize,
    },
    /// The tool takes one line at a time and the prompt has several.
    #[error(
        "the prompt has several lines and this tool takes one at a time; send one line, or set `lines.multiline` in the profile"
    )]
    Multiline,
    /// The command is not on the profile's list.
    #[error("the command {command:?} is not allowed for this tool; allowed are: {allowed}")]
    CommandNotAllowed {
        /// The command's first word.
        command: String,
        /// The allowed ones, joined by spaces.
        allowed: String,
    },
    /// The tool cannot do what was asked of it.
    #[error("{0}")]
    Unsupported(String),
}
