//! Exit codes, the part of the interface that scripts rely on.
//!
//! Owns the one table of them. Must not know commands. Invariant: a code never changes its meaning; counts never go into
//! a code.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    TurnFailed = 1,
    Usage = 2,
    NotReady = 3,
    Timeout = 4,
    TryLater = 6,
    SomeFailed = 7,
    ToolUnusable = 8,
    Interrupted = 130,
    PipeClosed = 141,
    Terminated = 143,
}

impl Exit {
    pub(crate) const ALL: [Self; 11] = [
        Self::Done,
        Self::TurnFailed,
        Self::Usage,
        Self::NotReady,
        Self::Timeout,
        Self::TryLater,
        Self::SomeFailed,
        Self::ToolUnusable,
        Self::Interrupted,
        Self::PipeClosed,
        Self::Terminated,
    ];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::TurnFailed => {
                "the turn failed or is in doubt (tool error, crash), or its changes could not land"
            }
            Self::Usage => "wrong usage, settings, profile, folder or journal; nothing was done",
            Self::NotReady => "no instance became ready",
            Self::Timeout => "the turn ran out of time; what there is of its answer was printed",
            Self::TryLater => {
                "refused for now: the queue is full, a rate limit, an overloaded provider, a journal that another command writes"
            }
            Self::SomeFailed => {
                "some or all items of a batch, instances of `ask --all`, or cases of `tools test` did not make it; the summary has the counts"
            }
            Self::ToolUnusable => {
                "the tool is missing or not logged in; for `doctor`: nothing is usable"
            }
            Self::Interrupted => "interrupted (Ctrl-C)",
            Self::PipeClosed => "nobody reads the output any more (`| head`)",
            Self::Terminated => "terminated (SIGTERM, SIGHUP)",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table as `toolpool help exit-codes` prints it.
pub(crate) fn table() -> String {
    let mut text = String::from("Exit codes, the same for every command:\n\n");
    for exit in Exit::ALL {
        text.push_str(&format!("{:>5}  {}\n", exit.code(), exit.meaning()));
    }
    text.push_str("\n5, 9 and 69 are kept free for commands to come.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn every_code_is_in_the_table_once_and_the_reserved_ones_are_free() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
        assert!(!codes.iter().any(|code| [5, 9, 69].contains(code)));
    }
}
