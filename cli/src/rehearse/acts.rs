//! What is played if nobody orders anything else.
//!
//! Owns the faults, the words that bring them about and what is to come of them. Must not know how they are played.
//! Invariant: each fault has its own word, so that nothing but its own prompts brings it about.

use toolpool::DoubtCause;

/// One fault and what follows.
pub(super) struct Act {
    pub(super) name: &'static str,
    /// A word of the prompts that bring it about.
    word: &'static str,
    /// What the stand-in does at that word.
    deeds: &'static [&'static str],
    /// How often, one after the other, on the same instance.
    pub(super) times: usize,
    /// What each of these prompts is to end with.
    pub(super) cause: DoubtCause,
}

impl Act {
    /// The prompt that brings it about.
    pub(super) fn prompt(&self) -> String {
        format!("please {}", self.word)
    }

    /// The stand-in's rules for it.
    pub(super) fn rules(&self) -> Vec<String> {
        let rule = |deed: &&str| format!("on prompt ~{} {deed}", self.word);
        self.deeds.iter().map(rule).collect()
    }
}

pub(super) fn story() -> Vec<Act> {
    vec![
        Act {
            name: "a crash in the middle of an answer",
            word: "crash",
            deeds: &["byte 8 exit 3"],
            times: 1,
            cause: DoubtCause::Crashed,
        },
        Act {
            name: "a turn that hangs",
            word: "hang",
            deeds: &["hang"],
            times: 1,
            cause: DoubtCause::TimedOut,
        },
        Act {
            name: "an answer without end",
            word: "flood",
            deeds: &["flood 1GiB"],
            times: 1,
            cause: DoubtCause::OutputLimit,
        },
        Act {
            name: "a tool that ignores SIGTERM, with two helpers that have left its session",
            word: "cling",
            deeds: &["fork 2 orphan setsid ignore TERM", "ignore TERM", "hang"],
            times: 1,
            cause: DoubtCause::TimedOut,
        },
        Act {
            name: "a crash loop",
            word: "loop",
            deeds: &["exit 1"],
            times: super::FAILURES as usize,
            cause: DoubtCause::Crashed,
        },
    ]
}

/// The arguments that teach every stand-in all of the story.
pub(super) fn rules() -> Vec<String> {
    let rules = story().into_iter().flat_map(|act| act.rules());
    rules.flat_map(|rule| ["--do".to_owned(), rule]).collect()
}
