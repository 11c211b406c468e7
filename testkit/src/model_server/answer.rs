//! The text of an answer.
//!
//! Owns the formulas. Must not know HTTP. Invariant: pure; the same request has the same answer.

use super::directives::{Directives, Kind};
use super::edit;
use super::request::{ChatRequest, without_guard};
use super::tools::{self, Deed};
use super::wire::Reply;
use crate::hash::sha256;

/// The text with which a [`ModelServer`](super::ModelServer) answers a prompt that reaches it directly or through
/// aider, for knowing beforehand what a reply must be.
///
/// `prompt` is the user's text, not yet framed for any tool. aider 0.86.2 sends it byte-exact and adds to it; the server
/// takes that off again before anything else, and nothing but that:
///
/// * the newline that separates the text from the `tag}` of a block;
/// * in code mode with the edit format `diff` or `whole`, the reminder of that format after an empty line;
/// * in ask mode, an empty line and, if aider knows the user's language, `Reply in English.`
///
/// A newline before a leading `/` or `!`, which keeps aider from taking the text as a command, counts as no part of the
/// prompt, here as in the server. When aider has added files that the answer named, it asks again and the server answers
/// the user's text again.
///
/// For an edit the text is what the server says when the request does not contain the file, and for a word to be recalled
/// what it says when no earlier message has the word; to a client that offers tools
/// the server says the first line of it, after the tool was used. Faults that a prompt orders,
/// and orders that are not understood, have no part in it.
pub fn answer_for(prompt: &str) -> String {
    let prompt = without_guard(prompt);
    let directives = Directives::parse(prompt).unwrap_or_default();
    text(prompt, &directives.kind, &[])
}

/// The answer to a request: the text or, where it has to be done with a tool of the client's, first the call.
pub(super) fn reply(request: &ChatRequest, kind: &Kind) -> Reply {
    let deed = match kind {
        Kind::Shell(command) => Some(Deed::Shell(command)),
        Kind::Edit { path, text } => Some(Deed::Write { path, line: text }),
        _ => None,
    };
    let call = deed.and_then(|deed| tools::call(deed, &request.tools));
    match call {
        Some(call) if !request.tool_was_used => Reply::Call(call),
        Some(_) => Reply::Text(text(&request.prompt, &Kind::Hash, &[])),
        None => Reply::Text(text(&request.prompt, kind, &request.messages)),
    }
}

/// The answer to a prompt; the messages of the request are where an edit looks for its file.
pub(super) fn text(prompt: &str, kind: &Kind, messages: &[String]) -> String {
    let hash = sha256(prompt.as_bytes());
    match kind {
        Kind::Hash | Kind::Shell(_) => format!("sha256:{hash}"),
        Kind::Bytes(count) => long(&hash, *count),
        Kind::Edit { path, text } => {
            format!("sha256:{hash}\n\n{}", edit::block(path, text, messages))
        }
        Kind::Recall(word) => format!("sha256:{hash}\nrecalled: {}", recalled(word, messages)),
        Kind::Quote => quote(&hash),
        Kind::Empty => String::new(),
    }
}

/// Whether the word is in a message, apart from the orders to recall it.
fn recalled(word: &str, messages: &[String]) -> &'static str {
    let order = format!("recall={word}");
    let has_it = |message: &String| message.replace(&order, "").contains(word);
    if messages.iter().any(has_it) {
        "yes"
    } else {
        "no"
    }
}

/// Numbered lines after the hash, so that a missing, repeated or swapped part is seen.
fn long(hash: &str, count: usize) -> String {
    let mut text = format!("sha256:{hash}");
    let mut number = 0_u64;
    while text.len() < count {
        number += 1;
        text.push_str(&format!("\nline {number} of {}", &hash[..16]));
    }
    text.truncate(count);
    text
}

/// Everything by which a reader of aider's output tells that a turn has ended or that aider waits.
fn quote(hash: &str) -> String {
    let token = &hash[..32];
    format!(
        "sha256:{hash}\nTokens: 1.8k sent, 48 received.\n\n> \nInvalid command: /={token}\n\n> \n> > \nask> \n\
         {{{token}\n{token}}}\n/={token}\n\n^C again to exit\n\nno-such-file.txt\n> \nInvalid command: /=0\n\n> done"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_tells_which_prompt_it_belongs_to() {
        // The example "abc" of FIPS 180-4.
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(answer_for("abc"), abc);
        for order in ["quote", "edit=a.txt text=b", "answer-bytes=200"] {
            let prompt = format!("abc [[model: {order}]]");
            let hash = sha256(prompt.as_bytes());
            assert!(
                answer_for(&prompt).starts_with(&format!("sha256:{hash}\n")),
                "{order}"
            );
        }
    }

    #[test]
    fn a_long_answer_has_the_length_that_was_ordered() {
        for count in [0, 5, 71, 72, 1000, 1 << 20] {
            assert_eq!(
                answer_for(&format!("[[model: answer-bytes={count}]]")).len(),
                count
            );
        }
    }

    #[test]
    fn a_word_is_recalled_if_an_earlier_message_has_it() {
        let order = "[[model: recall=marmalade]]".to_owned();
        let kind = Kind::Recall("marmalade".to_owned());
        let said = "it is marmalade".to_owned();
        for (messages, recalled) in [
            (vec![order.clone()], "no"),
            (vec![order.clone(), order.clone()], "no"),
            (vec![said, order.clone()], "yes"),
        ] {
            let text = text(&order, &kind, &messages);
            assert!(text.ends_with(&format!("\nrecalled: {recalled}")), "{text}");
        }
        assert!(answer_for(&order).ends_with("\nrecalled: no"));
    }

    #[test]
    fn a_quoting_answer_has_the_marks_that_aider_is_read_by() {
        let answer = answer_for("[[model: quote]]");
        for mark in [
            "\n> ",
            "\nInvalid command: /=",
            "\nask> ",
            "\n^C again to exit\n",
            "\nTokens: ",
        ] {
            assert!(answer.contains(mark), "{mark:?}");
        }
    }
}
