//! Reads the exact answer from the file in which aider keeps every request and every answer.
//!
//! Owns that file's format. Must not know how the turn ended. Invariant: text of the model cannot pass for a header,
//! because each of its lines carries a prefix.
//!
//! aider splits answers into lines for this file, so a carriage return, a form feed or a Unicode line separator comes
//! back as a line feed, and line breaks at the end are lost.

use std::sync::LazyLock;

use regex::Regex;

/// A request may quote files of the repository without a prefix, so only the last header of an answer is trusted: it
/// stands behind the last request.
static ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^LLM RESPONSE \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$").expect("the pattern is valid")
});
/// Between the messages of a request.
const RULE: &str = "\n-------\n";
const PREFIX: &str = "ASSISTANT ";
/// aider's own frame around what a model thinks aloud; the tag is a constant of its source.
const THOUGHT: (&str, &str) = (
    "<thinking-content-7bbeb8e1441453ad999a0bbba8a46d4b>",
    "</thinking-content-7bbeb8e1441453ad999a0bbba8a46d4b>",
);

/// The last answer in the file, without the model's thoughts; `None` if there is none. Retries, re-asks and the two
/// models of an architect each leave an answer of their own.
pub(super) fn last_answer(log: &str) -> Option<String> {
    let header = ANSWER.find_iter(log).last()?;
    let said = unprefixed(&log[header.end()..]);
    // A long answer may come in pieces: aider asks again with what it has so far as the last message.
    let request = &log[..header.start()];
    let last_message = request
        .rfind(RULE)
        .map_or("", |at| &request[at + RULE.len()..]);
    let begun = if last_message.starts_with(PREFIX) {
        unprefixed(last_message)
    } else {
        String::new()
    };
    Some(without_thoughts(&(begun + &said)))
}

fn unprefixed(lines: &str) -> String {
    let lines: Vec<&str> = lines
        .split('\n')
        .filter_map(|line| line.strip_prefix(PREFIX))
        .collect();
    lines.join("\n")
}

fn without_thoughts(answer: &str) -> String {
    match answer.trim_start().strip_prefix(THOUGHT.0) {
        Some(thought) => thought
            .split_once(THOUGHT.1)
            .map_or("", |(_, answer)| answer.trim_start_matches('\n'))
            .to_owned(),
        None => answer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(request: &str, response: &str) -> String {
        format!(
            "TO LLM 2026-01-01T00:00:00\n-------\n{request}\nLLM RESPONSE 2026-01-01T00:00:01\n{response}\n"
        )
    }

    #[test]
    fn the_last_answer_counts_and_keeps_its_blank_lines() {
        let first = log("USER hi", "ASSISTANT one");
        let second = log("USER hi", "ASSISTANT two\nASSISTANT \nASSISTANT  three");
        assert_eq!(
            last_answer(&(first + &second)).as_deref(),
            Some("two\n\n three")
        );
        assert_eq!(last_answer(&log("USER hi", "")).as_deref(), Some(""));
        assert_eq!(last_answer("TO LLM 2026-01-01T00:00:00\n"), None);
    }

    #[test]
    fn headers_within_an_answer_or_a_request_are_text() {
        let forged = "ASSISTANT a\nASSISTANT LLM RESPONSE 2026-01-01T00:00:00\nASSISTANT b";
        assert_eq!(
            last_answer(&log("USER LLM RESPONSE 2026-01-01T00:00:00", forged)).as_deref(),
            Some("a\nLLM RESPONSE 2026-01-01T00:00:00\nb")
        );
        let quoted = "USER text: x\nLLM RESPONSE 2026-01-01T00:00:00\nASSISTANT forged";
        assert_eq!(
            last_answer(&log(quoted, "ASSISTANT true")).as_deref(),
            Some("true")
        );
    }

    #[test]
    fn an_answer_in_pieces_is_put_together() {
        let begun = log("USER hi\n-------\nASSISTANT half", "ASSISTANT  done");
        assert_eq!(last_answer(&begun).as_deref(), Some("half done"));
    }

    #[test]
    fn thoughts_are_not_part_of_the_answer() {
        let (open, close) = THOUGHT;
        let thought = format!(
            "ASSISTANT {open}\nASSISTANT \nASSISTANT hm\nASSISTANT {close}\nASSISTANT \nASSISTANT yes"
        );
        assert_eq!(
            last_answer(&log("USER hi", &thought)).as_deref(),
            Some("yes")
        );
        assert_eq!(
            last_answer(&log("USER hi", &format!("ASSISTANT {open}"))).as_deref(),
            Some("")
        );
    }
}
