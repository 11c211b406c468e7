//! The text of an answer, from the messages of a turn.
//!
//! Owns how messages become one text. Must not know JSON-RPC. Invariant: the text is that of the messages which codex
//! has completed; the pieces handed out before add up to it unless codex began a message anew.

/// What stands between two messages of one turn.
const BETWEEN: &str = "\n\n";

/// The messages of one turn, in the order of their beginnings.
#[derive(Debug, Default)]
pub(super) struct Messages(Vec<Message>);

#[derive(Debug)]
struct Message {
    id: String,
    text: String,
    completed: bool,
}

impl Messages {
    /// Takes a piece of a message; returns the piece of the answer.
    pub(super) fn add(&mut self, id: &str, piece: &str) -> String {
        if piece.is_empty() {
            return String::new();
        }
        let lead = self.lead(id);
        let message = self.message(id);
        message.text.push_str(piece);
        lead.to_owned() + piece
    }

    /// Takes a whole message; returns the piece of the answer that was not there yet.
    pub(super) fn complete(&mut self, id: &str, text: &str) -> String {
        let lead = self.lead(id);
        let message = self.message(id);
        message.completed = true;
        let piece = match text.strip_prefix(message.text.as_str()) {
            Some("") | None => String::new(),
            Some(rest) => lead.to_owned() + rest,
        };
        text.clone_into(&mut message.text);
        piece
    }

    /// The whole answer.
    pub(super) fn text(&self) -> String {
        let texts: Vec<&str> = self
            .0
            .iter()
            .filter(|message| message.completed && !message.text.is_empty())
            .map(|message| message.text.as_str())
            .collect();
        texts.join(BETWEEN)
    }

    fn message(&mut self, id: &str) -> &mut Message {
        let at = match self.0.iter().rposition(|message| message.id == id) {
            Some(at) => at,
            None => {
                self.0.push(Message {
                    id: id.to_owned(),
                    text: String::new(),
                    completed: false,
                });
                self.0.len() - 1
            }
        };
        &mut self.0[at]
    }

    /// What separates the first piece of a message from the messages before it.
    fn lead(&self, id: &str) -> &'static str {
        let is_begun = |message: &Message| message.id == id && !message.text.is_empty();
        let none_before = self.0.iter().all(|message| message.text.is_empty());
        if none_before || self.0.iter().any(is_begun) {
            ""
        } else {
            BETWEEN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_text_of_the_completed_messages() {
        let mut messages = Messages::default();
        let pieces = [
            messages.add("a", "one "),
            messages.add("a", ""),
            messages.add("a", "two"),
            messages.complete("a", "one two"),
            messages.complete("empty", ""),
            messages.complete("b", "three"),
            messages.add("c", "four"),
            messages.complete("c", "four five"),
        ];
        assert_eq!(messages.text(), "one two\n\nthree\n\nfour five");
        assert_eq!(pieces.concat(), messages.text());
    }

    #[test]
    fn a_message_that_was_cut_off_is_in_the_pieces_but_not_in_the_answer() {
        let mut messages = Messages::default();
        assert_eq!(messages.add("a", "half of"), "half of");
        assert_eq!(messages.complete("b", "the whole"), "\n\nthe whole");
        assert_eq!(messages.text(), "the whole");
        assert_eq!(messages.complete("b", "another"), "");
        assert_eq!(messages.text(), "another");
    }
}
