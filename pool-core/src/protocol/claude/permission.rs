//! What Claude Code asks permission for.
//!
//! Owns the table of its tools and the words for a human. Must not know who answers. Invariant: what kind of act it is
//! comes from the tool's name alone, and a tool that is not in the table is [`Act::Other`].

use serde_json::Value;

use crate::protocol::Act;
use crate::protocol::question::one_line;

/// A request to run a tool.
#[derive(Debug, PartialEq)]
pub(super) struct Permission {
    /// What kind of act it is.
    pub(super) act: Act,
    /// One line for a human.
    pub(super) question: String,
    /// The tool's input, which has to be given back if it is allowed.
    pub(super) input: Value,
}

impl Permission {
    /// Reads a control request; `None` if it asks for something else.
    pub(super) fn read(body: &mut Value) -> Option<Self> {
        if body["subtype"] != "can_use_tool" {
            return None;
        }
        let tool = body["tool_name"].as_str().unwrap_or("an unnamed tool");
        let input = &body["input"];
        // What is done, in full, rather than what it is said to be for.
        let what = [
            "command",
            "file_path",
            "notebook_path",
            "url",
            "query",
            "pattern",
            "path",
        ]
        .iter()
        .find_map(|name| input[name].as_str())
        .or_else(|| body["description"].as_str())
        .map_or_else(|| input.to_string(), str::to_owned);
        let act = act(tool);
        let question = one_line(&format!("{tool}: {what}"));
        let input = body.get_mut("input").map(Value::take).unwrap_or_default();
        Some(Self {
            act,
            question,
            input,
        })
    }
}

/// The names are those of 2.1.197 and 2.1.330, and of some older versions.
fn act(tool: &str) -> Act {
    match tool {
        "Read" | "Glob" | "Grep" | "LS" | "NotebookRead" => Act::Read,
        "Edit" | "MultiEdit" | "Write" | "NotebookEdit" => Act::Edit,
        "Bash" | "PowerShell" | "Monitor" => Act::Execute,
        _ => Act::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_says_what_is_done_in_one_line() {
        for (tool, input, act, question) in [
            (
                "Bash",
                json!({"command": "rm -r a\nls", "description": "look"}),
                Act::Execute,
                "Bash: rm -r a ls",
            ),
            (
                "Write",
                json!({"file_path": "/w/a", "content": "x"}),
                Act::Edit,
                "Write: /w/a",
            ),
            (
                "Read",
                json!({"file_path": "/w/a"}),
                Act::Read,
                "Read: /w/a",
            ),
            (
                "mcp__bash__Read",
                json!({"x": 1}),
                Act::Other,
                "mcp__bash__Read: {\"x\":1}",
            ),
        ] {
            let mut body = json!({"subtype": "can_use_tool", "tool_name": tool, "input": input});
            let expected = Permission {
                act,
                question: question.to_owned(),
                input,
            };
            assert_eq!(Permission::read(&mut body), Some(expected));
        }
        let command = format!("{}; rm -rf ~", "x".repeat(2000));
        let mut body =
            json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": command}});
        let long = Permission::read(&mut body).expect("a question").question;
        assert!(
            long.ends_with(" … [1016 more characters are not shown]"),
            "{long}"
        );
        assert_eq!(
            Permission::read(&mut json!({"subtype": "hook_callback"})),
            None
        );
        assert_eq!(Permission::read(&mut json!("can_use_tool")), None);
    }
}
