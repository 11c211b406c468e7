//! What a tool asks, as one line for a person.
//!
//! Owns the length of that line and the mark of a cut. Must not know tools, nor what may be shown on a terminal. Invariant:
//! a line that leaves something out says so and how much, because whoever allows an act allows all of it.

/// The most characters of a question that are shown: more than nearly every command has, and read at a glance.
const SHOWN: usize = 1000;

/// The text in one line, and no longer than a person reads.
pub(super) fn one_line(text: &str) -> String {
    let mut characters = text.chars();
    let shown = characters.by_ref().take(SHOWN);
    let mut line: String = shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match characters.count() {
        0 => {}
        left_out => line.push_str(&format!(" … [{left_out} more characters are not shown]")),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_shown_whole_up_to_its_limit() {
        let longest = "\u{e9}".repeat(SHOWN);
        assert_eq!(one_line(&longest), longest);
        assert_eq!(one_line("rm -r \"a  b\"\n\tls"), "rm -r \"a  b\"  ls");
    }

    #[test]
    fn a_longer_question_says_that_it_is_cut_and_by_how_much() {
        let line = one_line(&format!("{}; rm -rf ~", "\u{e9}".repeat(SHOWN)));
        let mark = " … [10 more characters are not shown]";
        assert_eq!(line, format!("{}{mark}", "\u{e9}".repeat(SHOWN)));
    }
}
