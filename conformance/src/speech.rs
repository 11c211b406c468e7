//! How to get a known answer out of a tool.
//!
//! Owns the seam between a case and what the tool speaks: a model behind it, or a language of its own. Must not know
//! cases. Invariant: what a case expects is decided before the prompt is sent.

use async_trait::async_trait;

/// A prompt, and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The text to send.
    pub prompt: String,
    /// What must come back.
    pub expected: Expected,
}

/// What an answer must be. White space at its end does not count: some tools add a newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One of these, to the byte.
    Exactly(Vec<String>),
    /// A text with this at its end. Before it stands, if anything, a part of a prompt that was taller than the screen.
    Ends(String),
    /// A text with all of these in it, in this order.
    Contains(Vec<String>),
    /// A text without this in it.
    Lacks(String),
    /// Any text.
    Any,
}

impl Expected {
    /// This one text.
    pub fn exactly(text: impl Into<String>) -> Self {
        Self::Exactly(vec![text.into()])
    }

    /// # Errors
    /// How the answer differs from what it must be, in one line.
    pub fn judge(&self, answer: &str) -> Result<(), String> {
        let good = match self {
            Self::Exactly(texts) => texts
                .iter()
                .any(|text| text.trim_end() == answer.trim_end()),
            Self::Ends(end) => answer.trim_end().ends_with(end.trim_end()),
            Self::Contains(parts) => {
                let mut rest = answer;
                parts.iter().all(|part| match rest.split_once(part) {
                    Some((_, after)) => {
                        rest = after;
                        true
                    }
                    None => false,
                })
            }
            Self::Lacks(part) => !answer.contains(part),
            Self::Any => true,
        };
        let wanted = match self {
            Self::Exactly(texts) => format!("{:?}", head(texts.first().map_or("", |text| text))),
            Self::Ends(end) => format!("a text that ends with {:?}", head(end)),
            Self::Contains(parts) => format!("a text with {:?}", head(&parts.join(" … "))),
            Self::Lacks(part) => format!("a text without {part:?}"),
            Self::Any => "any text".to_owned(),
        };
        if good {
            Ok(())
        } else {
            Err(format!(
                "answered {:?} ({} bytes) instead of {wanted}",
                head(answer),
                answer.len()
            ))
        }
    }
}

/// The beginning of a text, for messages.
pub(crate) fn head(text: &str) -> String {
    let mut head: String = text.chars().take(100).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    head
}

/// A prompt whose answer begins and never ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endless {
    /// The text to send.
    pub prompt: String,
    /// What the answer begins with; None if nothing of an answer comes before its end.
    pub begins: Option<String>,
}

/// What a model's server can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429.
    RateLimited,
    /// 500.
    ServerError,
    /// 401.
    WrongKey,
    /// Half an answer, then the connection is cut.
    Dropped,
    /// Nothing comes, ever.
    Hangs,
}

impl Fault {
    /// The order for it that both stand-ins of a service take: the model server, and that of Jules' API.
    #[cfg(feature = "lab")]
    pub(crate) fn order(self) -> &'static str {
        match self {
            Self::RateLimited => "status=429",
            Self::ServerError => "status=500",
            Self::WrongKey => "status=401",
            Self::Dropped => "drop",
            Self::Hangs => "hang",
        }
    }
}

/// How a tool is spoken to. What a tool has no words for is an error with the reason, in a few words.
#[async_trait]
pub trait Speech: Send + Sync {
    /// Has it say this text, of one line or many.
    fn say(&self, text: &str) -> Spoken;
    /// A prompt of exactly so many bytes.
    fn large(&self, bytes: usize) -> Spoken;
    /// Has it answer with marks by which an end could be known.
    fn forged(&self) -> Result<Spoken, String>;
    /// Has it take texts for what they are that look like commands of its own.
    fn commands(&self) -> Result<Vec<Spoken>, String>;
    /// Has it keep a word, one for each number.
    fn remember(&self, number: usize) -> Spoken;
    /// Has it say that word if it knows it; `known` is whether it must.
    fn recall(&self, number: usize, known: bool) -> Spoken;
    /// Has it begin and not end; the number makes the prompt unique.
    fn endless(&self, number: usize) -> Endless;
    /// Has it answer with so many bytes.
    fn long(&self, bytes: usize) -> Spoken;
    /// Has it make this the one line of the file of that name in its working folder.
    fn edit(&self, file: &str, line: &str) -> Result<String, String>;
    /// Has it run this with a shell of its own.
    fn shell(&self, command: &str) -> Result<String, String>;
    /// Has its model's server do something wrong; `text` makes the prompt unique. What is expected is the answer that would
    /// have come.
    fn fault(&self, fault: Fault, text: &str) -> Result<Spoken, String>;
    /// Waits until the model was asked a prompt with this text so many times; never returns where nobody can know.
    async fn asked(&self, text: &str, times: usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_what_was_expected() {
        let contains = Expected::Contains(vec!["a".to_owned(), "b".to_owned()]);
        for (expected, answer, good) in [
            (Expected::exactly("abc"), "abc\n", true),
            (Expected::exactly("abc"), "abcd", false),
            (Expected::exactly("abc"), "", false),
            (Expected::Ends("b".to_owned()), "ab\n", true),
            (Expected::Ends("b".to_owned()), "ba", false),
            (contains.clone(), "see: a, then b.", true),
            (contains.clone(), "b a", false),
            (contains, "a", false),
            (Expected::Lacks("a".to_owned()), "b", true),
            (Expected::Lacks("a".to_owned()), "an a", false),
            (Expected::Any, "", true),
        ] {
            assert_eq!(
                expected.judge(answer).is_ok(),
                good,
                "{expected:?} {answer:?}"
            );
        }
    }
}
