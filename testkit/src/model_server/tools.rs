//! The calls by which an answer uses a client's own tools.
//!
//! Owns the table of the clients' tools: their names and their arguments. Must not know how an API writes a call.
//! Invariant: a call names only a tool that the request offers.

use serde_json::{Value, json};

/// What a prompt orders to be done with a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed<'a> {
    /// Run a shell command.
    Shell(&'a str),
    /// Write a file that has one line.
    Write { path: &'a str, line: &'a str },
}

/// One call of a client's tool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Value,
}

/// The clients' shells: gemini-cli 0.61 and qwen-code 0.24; opencode 1.18.
const SHELLS: [&str; 2] = ["run_shell_command", "bash"];

/// The shell of Claude Code 2.1, which refuses arguments that it does not know.
const CLAUDE: &str = "Bash";

/// How these clients write a file, and what they call its path.
const WRITERS: [(&str, &str); 3] = [
    ("write_file", "file_path"),
    ("write", "filePath"),
    ("Write", "file_path"),
];

/// The shell of codex 0.169, which also writes files: it takes `apply_patch` with a patch behind it for an edit.
const CODEX: &str = "exec_command";

/// The call that does the deed, if the request offers a tool for it.
pub(super) fn call(deed: Deed<'_>, offered: &[String]) -> Option<Call> {
    let offers = |name: &str| offered.iter().any(|other| other == name);
    match deed {
        Deed::Shell(command) if offers(CODEX) => Some(Call {
            name: CODEX.to_owned(),
            arguments: json!({"cmd": command}),
        }),
        Deed::Shell(command) if offers(CLAUDE) => Some(Call {
            name: CLAUDE.to_owned(),
            arguments: json!({"command": command, "description": "what the prompt ordered"}),
        }),
        Deed::Shell(command) => SHELLS.into_iter().find(|name| offers(name)).map(|name| Call {
            name: name.to_owned(),
            // qwen asks for the last one; the others pass over it.
            arguments: json!({"command": command, "description": "what the prompt ordered", "is_background": false}),
        }),
        Deed::Write { path, line } if offers(CODEX) => Some(Call {
            name: CODEX.to_owned(),
            arguments: json!({"cmd": format!(
                "apply_patch <<'PATCH'\n*** Begin Patch\n*** Add File: {path}\n+{line}\n*** End Patch\nPATCH"
            )}),
        }),
        Deed::Write { path, line } => WRITERS
            .into_iter()
            .find(|(name, _)| offers(name))
            .map(|(name, key)| Call {
                name: name.to_owned(),
                arguments: json!({key: path, "content": format!("{line}\n")}),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_of_the_tools_that_are_offered() {
        let offered = ["read".to_owned(), "bash".to_owned(), "write".to_owned()];
        let shell = call(Deed::Shell("ls"), &offered).expect("bash is a shell");
        assert_eq!(
            (shell.name.as_str(), &shell.arguments["command"]),
            ("bash", &json!("ls"))
        );
        let deed = Deed::Write {
            path: "a.txt",
            line: "b",
        };
        let write = call(deed, &offered).expect("write writes");
        assert_eq!(
            write.arguments,
            json!({"filePath": "a.txt", "content": "b\n"})
        );
        assert_eq!(call(deed, &offered[..2]), None);
        assert_eq!(call(Deed::Shell("ls"), &[]), None);
    }
}
