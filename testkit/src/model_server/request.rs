//! A chat request, as far as the server cares.
//!
//! Owns the reading of the JSON, and the knowledge of what aider adds to a prompt. Must not know answers.

use serde_json::Value;

/// How aider's system messages begin in its modes code, ask and architect; 0.86.2.
const AIDER: &str = "Act as an expert ";

/// How they begin in ask mode. There the last user message ends with an empty line and, where aider knows the user's
/// language, with the line `Reply in English.`; measured with aider 0.86.2.
const ASK: &str = "Act as an expert code analyst.";

/// What aider appends to the last user message in code mode begins with an empty line and one of these, measured with
/// aider 0.86.2 in the edit formats `diff` and `whole` with a model whose settings say nothing of `reminder`. It is its
/// reminder of the edit format, 2.4 kB or 0.9 kB.
const REMINDERS: [&str; 2] = [
    "\n\n# *SEARCH/REPLACE block* Rules:\n\nEvery *SEARCH/REPLACE block* must use this format:\n",
    "\n\nTo suggest changes to a file you MUST return the entire content of the updated file.\n",
];

/// What aider 0.86.2 says for the user when the answer names a file of the repository that is not in the chat. It has
/// then added the file and ignored the answer's edits, so the model is to answer the user again.
const FILES_ADDED: &str = "I added these files to the chat: ";

/// The part before the files that a prompt names; gemini-cli 0.61 and qwen-code 0.24.
const FILES_BEGIN: &str = "\n--- Content from referenced files ---";

/// The part behind them; only qwen-code.
const FILES_END: &str = "\n--- End of content ---";

#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    pub(super) stream: bool,
    /// Whether the stream is to end with the usage.
    pub(super) stream_usage: bool,
    /// The first system message.
    pub(super) system: String,
    /// The text of every message, in order.
    pub(super) messages: Vec<String>,
    pub(super) last_user: String,
    /// What the user asked: the last user message or, where that only tells of files that aider added, the one before;
    /// without what aider added to it.
    pub(super) prompt: String,
    /// The names of the tools that the answer may call.
    pub(super) tools: Vec<String>,
    /// Whether a tool's result follows the prompt.
    pub(super) tool_was_used: bool,
}

impl ChatRequest {
    /// Reads the body of a request; the error says what is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body)
            .map_err(|error| format!("the body is no JSON: {error}"))?;
        let messages = json["messages"]
            .as_array()
            .ok_or("`messages` is missing or no list")?;
        let texts = |role: &'static str| {
            messages
                .iter()
                .filter(move |message| message["role"] == role)
                .map(content)
        };
        let users: Vec<String> = texts("user").collect();
        let last_user = users.last().ok_or("there is no user message")?;
        let last_parts = messages.iter().rfind(|message| message["role"] == "user");
        let last_asked = users
            .iter()
            .rfind(|text| !text.starts_with(FILES_ADDED))
            .unwrap_or(last_user);
        let system = texts("system").next().unwrap_or_default();
        let tools = json["tools"].as_array().into_iter().flatten();
        let tools: Vec<String> = tools
            .filter_map(|tool| Some(tool["function"]["name"].as_str()?.to_owned()))
            .collect();
        let prompt = match last_parts.map(|message| &message["content"]) {
            Some(Value::Array(parts)) if !tools.is_empty() => {
                let parts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| part["text"].as_str())
                    .collect();
                asked_among(&parts)
            }
            _ => asked(&system, last_asked),
        };
        let mut from_last = messages.iter().rev();
        Ok(Self {
            model: json["model"]
                .as_str()
                .ok_or("`model` is missing or no text")?
                .to_owned(),
            stream: json["stream"].as_bool().unwrap_or(false),
            stream_usage: json["stream_options"]["include_usage"]
                .as_bool()
                .unwrap_or(false),
            prompt: prompt.to_owned(),
            system,
            last_user: last_user.clone(),
            messages: messages.iter().map(content).collect(),
            tools,
            tool_was_used: from_last.find_map(|message| match message["role"].as_str() {
                Some("tool") => Some(true),
                Some("user") => Some(false),
                _ => None,
            }) == Some(true),
        })
    }

    /// Whether aider asks its weak model for the message of a commit. Agents' system texts speak of such messages too,
    /// but they offer tools.
    pub(super) fn is_for_commit(&self) -> bool {
        self.tools.is_empty() && self.system.to_lowercase().contains("commit message")
    }
}

/// What the user wrote, among the parts of an agent's last user message. Agents put parts of their own and prompts whose
/// turns did not end before it; gemini-cli 0.61 puts the files that it names behind it, qwen-code 0.24 before it.
pub(super) fn asked_among<'a>(parts: &[&'a str]) -> &'a str {
    let files = parts.iter().rposition(|part| *part == FILES_BEGIN);
    let files = files.filter(|at| !parts[*at..].contains(&FILES_END));
    let asked = parts[..files.unwrap_or(parts.len())].last();
    without_guard(asked.copied().unwrap_or_default())
}

/// What the user wrote: the text without what aider added.
fn asked<'a>(system: &str, text: &'a str) -> &'a str {
    if !system.starts_with(AIDER) {
        return without_guard(text);
    }
    let end = if system.starts_with(ASK) {
        let language = text
            .rfind("\n\nReply in ")
            .filter(|at| text[at + 2..].lines().count() == 1);
        language.or_else(|| text.ends_with("\n\n").then(|| text.len() - 2))
    } else {
        REMINDERS
            .iter()
            .filter_map(|reminder| text.rfind(reminder))
            .max()
    };
    let text = &text[..end.unwrap_or(text.len())];
    // A text that comes between `{tag` and `tag}` keeps the newline that separates it from the latter.
    without_guard(text.strip_suffix('\n').unwrap_or(text))
}

/// The text without the newline by which a user keeps aider from taking a text that begins with `/` or `!` as a command.
pub(super) fn without_guard(text: &str) -> &str {
    text.strip_prefix('\n')
        .filter(|rest| rest.starts_with(['/', '!']))
        .unwrap_or(text)
}

/// The text of a message, whose content is a text or a list of parts.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(user: &str) -> ChatRequest {
        let messages = json!([
            {"role": "system", "content": "Act as an expert software developer.\nAlways use best practices"},
            {"role": "user", "content": "earlier"},
            {"role": "assistant", "content": "Ok."},
            {"role": "user", "content": [{"type": "text", "text": user}]},
        ]);
        let body = json!({"model": "mock", "messages": messages}).to_string();
        ChatRequest::parse(body.as_bytes()).expect("a request")
    }

    #[test]
    fn what_aider_adds_is_taken_off_and_nothing_else() {
        let code = "Act as an expert software developer.\nAlways use best practices";
        let ask = "Act as an expert code analyst.\nAnswer questions";
        let rest = "1. The *FULL* file path alone on a line\n";
        let added = [
            (code, format!("{}{rest}", REMINDERS[0])),
            (code, format!("{}{rest}", REMINDERS[1])),
            (ask, "\n\n".to_owned()),
            (ask, "\n\nReply in English.\n".to_owned()),
        ];
        let prompts = [
            "hello",
            "",
            "hello\n\n",
            "hello\n\nReply in English.\nand French.",
            REMINDERS[0],
        ];
        for (system, added) in added {
            for prompt in prompts {
                assert_eq!(
                    asked(system, &format!("{prompt}\n{added}")),
                    prompt,
                    "as a block"
                );
                assert_eq!(
                    asked("another client", &format!("{prompt}\n{added}")),
                    format!("{prompt}\n{added}")
                );
            }
            assert_eq!(
                asked(system, &format!("hello{added}")),
                "hello",
                "as an argument"
            );
            assert_eq!(asked(system, &format!("\n/run x\n{added}")), "/run x");
        }
    }

    #[test]
    fn the_prompt_of_an_agent_is_the_last_part_that_is_not_a_file() {
        let table: [&[&str]; 5] = [
            &["hi"],
            &["<session_context>", "hi"],
            &["cancelled", "hi"],
            &["hi", FILES_BEGIN, "\nContent from @a:\n", "text of a"],
            &[
                FILES_BEGIN,
                "\nContent from a:\n",
                "text of a",
                FILES_END,
                "hi",
            ],
        ];
        for parts in table {
            assert_eq!(asked_among(parts), "hi", "{parts:?}");
        }
        assert_eq!(asked_among(&[]), "");
    }

    #[test]
    fn only_a_newline_before_a_command_is_a_guard() {
        for (text, unguarded) in [
            ("\n/run", "/run"),
            ("\n!ls", "!ls"),
            ("\n\n/run", "\n\n/run"),
            ("\nx", "\nx"),
        ] {
            assert_eq!(without_guard(text), unguarded);
        }
    }

    #[test]
    fn after_files_were_added_the_question_is_still_the_one_before() {
        let added = "I added these files to the chat: a.txt\nLet me know if there are others we should add.";
        let request = request(&format!("{added}{}", REMINDERS[0]));
        assert_eq!(request.prompt, "earlier");
    }

    #[test]
    fn a_request_for_a_commit_message_is_known_by_its_system_text() {
        let mut request = request("# Diffs:\n");
        assert!(!request.is_for_commit());
        request.system =
            "You are an expert that generates concise, one-line Git commit messages".to_owned();
        assert!(request.is_for_commit());
    }

    #[test]
    fn a_body_that_is_no_chat_request_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"model": "m"}"#,
            r#"{"model": "m", "messages": []}"#,
        ] {
            assert!(ChatRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
