//! The list of cases.
//!
//! Owns their names and order, and what can come of one. Must not know how a case is run. Invariant: the names are those
//! in the documentation, and only ever added to.

/// One thing that a tool is examined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// It starts and is ready in the profile's time.
    ColdStart,
    /// A prompt of one line is answered.
    OneLine,
    /// A prompt of many lines, with empty and indented ones, comes whole.
    ManyLines,
    /// A prompt of 1 MiB comes whole.
    LargePrompt,
    /// Text of several scripts comes back unharmed.
    Unicode,
    /// An answer with end marks and frames that are not the turn's own comes whole.
    ForgedEnd,
    /// A prompt that looks like one of the tool's own commands is a text.
    NeverACommand,
    /// Twenty turns on one session come in order, and the last one knows the first.
    TwentyTurns,
    /// A prompt sent afresh knows nothing of those before.
    Reset,
    /// What is written is there before the answer ends.
    Stream,
    /// An answer of 1 MB comes whole.
    LongAnswer,
    /// The tool changes a file.
    Edit,
    /// What it asks for is allowed, and done.
    Allowed,
    /// What it asks for is denied, and not done.
    Denied,
    /// It asks and nobody answers.
    Nobody,
    /// The model's server says 429.
    RateLimited,
    /// The model's server says 500.
    ServerError,
    /// The model's server says 401.
    WrongKey,
    /// The model's connection breaks in the middle of the answer.
    Dropped,
    /// A turn is interrupted, and the next one is good.
    Interrupt,
    /// The model's server never answers.
    Hangs,
    /// The process is killed in the middle of a turn, and a new one answers.
    Killed,
    /// Its standard input is closed.
    StdinClosed,
    /// Two instances work in one folder.
    TwoInOneFolder,
    /// It is killed in the middle of a command of its own, which must not survive it.
    KilledInCommand,
    /// It is told to stop when it is idle.
    CleanQuit,
}

impl Case {
    /// All cases, in the order in which they run and are shown.
    pub const ALL: [Self; 26] = [
        Self::ColdStart,
        Self::OneLine,
        Self::ManyLines,
        Self::LargePrompt,
        Self::Unicode,
        Self::ForgedEnd,
        Self::NeverACommand,
        Self::TwentyTurns,
        Self::Reset,
        Self::Stream,
        Self::LongAnswer,
        Self::Edit,
        Self::Allowed,
        Self::Denied,
        Self::Nobody,
        Self::RateLimited,
        Self::ServerError,
        Self::WrongKey,
        Self::Dropped,
        Self::Interrupt,
        Self::Hangs,
        Self::Killed,
        Self::StdinClosed,
        Self::TwoInOneFolder,
        Self::KilledInCommand,
        Self::CleanQuit,
    ];

    /// The cases that do no harm to a user's own tool and cost it a few short answers.
    pub const SAFE: [Self; 7] = [
        Self::ColdStart,
        Self::OneLine,
        Self::ManyLines,
        Self::Unicode,
        Self::Reset,
        Self::Interrupt,
        Self::CleanQuit,
    ];

    /// Whether most of its time is spent waiting: for an agent that tries again by itself, for a time that must run out.
    pub fn waits(self) -> bool {
        matches!(
            self,
            Self::Nobody | Self::Dropped | Self::Hangs | Self::StdinClosed
        )
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ColdStart => "cold start to ready",
            Self::OneLine => "one line",
            Self::ManyLines => "many lines",
            Self::LargePrompt => "a prompt of 1 MiB",
            Self::Unicode => "unicode",
            Self::ForgedEnd => "an answer with forged ends and frames",
            Self::NeverACommand => "a prompt is never a command",
            Self::TwentyTurns => "20 turns in order, context kept",
            Self::Reset => "reset forgets",
            Self::Stream => "a slow stream arrives as it is written",
            Self::LongAnswer => "an answer of 1 MB",
            Self::Edit => "a file is edited",
            Self::Allowed => "permission asked: allowed",
            Self::Denied => "permission asked: denied",
            Self::Nobody => "permission asked: nobody there",
            Self::RateLimited => "model says 429",
            Self::ServerError => "model says 500",
            Self::WrongKey => "model says 401",
            Self::Dropped => "model drops in mid-stream",
            Self::Interrupt => "interrupt in mid-turn, then a good turn",
            Self::Hangs => "model hangs",
            Self::Killed => "kill -9 in mid-turn",
            Self::StdinClosed => "stdin closed",
            Self::TwoInOneFolder => "two instances in one folder",
            Self::KilledInCommand => "killed while a command of its own runs",
            Self::CleanQuit => "a clean quit leaves nothing",
        }
    }
}

/// What came of a case that did not fail. A failure is the text of what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Pass,
    /// It is as it should be, and this is how the tool does it.
    PassBy(String),
    /// The tool has no such thing, or cannot do it; the text says what it does instead.
    NotApplicable(String),
}

impl Verdict {
    /// A case that does not apply.
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Self::NotApplicable(reason.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_cases_are_listed_once_each_in_their_order() {
        assert!(Case::ALL.is_sorted_by(|a, b| a < b));
        assert!(Case::SAFE.is_sorted_by(|a, b| a < b));
        let names: BTreeSet<&str> = Case::ALL.iter().map(|case| case.name()).collect();
        assert_eq!(names.len(), Case::ALL.len());
        assert!(names.iter().all(|name| !name.contains(['|', '\n'])));
    }
}
