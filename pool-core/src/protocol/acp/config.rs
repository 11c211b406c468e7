//! What a profile says about an agent, and where agents that speak the same protocol differ.
//!
//! Owns the `[acp]` table of a profile. Must not know what is done about it. Invariant: an empty table is an agent that
//! does as the protocol says.

use std::path::PathBuf;

use serde::Deserialize;

/// What the profile says about an agent.
#[derive(Clone, Debug)]
pub struct AcpConfig {
    /// The working folder of the process. The protocol asks for an absolute path.
    pub cwd: PathBuf,
    /// The agent's own commands that callers may send, with any arguments: `/compress`.
    pub commands: Vec<String>,
    /// Commands that callers may send only without arguments.
    pub bare_commands: Vec<String>,
    /// The longest text of a prompt, in bytes.
    pub max_prompt_bytes: usize,
    /// Where this agent differs from others.
    pub quirks: AcpQuirks,
}

/// What is particular to one agent; the `[acp]` table of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcpQuirks {
    /// The mode that each new session is given before its first prompt, such as qwen's `default`. None: as the agent
    /// begins.
    pub mode: Option<String>,
    /// The mode in place of `mode` for an agent that is to ask before every act. None: `mode` does so.
    pub ask_mode: Option<String>,
    /// Characters that make a text a command where one of them comes first, whatever blanks stand before it. Default:
    /// `/`. gemini also takes `$`.
    pub command_marks: String,
    /// Where the result of a prompt lists the models that were used, as a JSON pointer. An empty list means that no
    /// model has answered to its end, although the agent says that all is well: so gemini ends a turn whose stream broke
    /// off. None: the agent does not list them.
    pub model_use: Option<String>,
}

impl Default for AcpQuirks {
    fn default() -> Self {
        Self {
            mode: None,
            ask_mode: None,
            command_marks: "/".to_owned(),
            model_use: None,
        }
    }
}
