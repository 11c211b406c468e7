//! What a script says, as data.
//!
//! Owns the rules and which of them apply to a turn. Must not know the text they were written in, nor how an action is
//! performed.

use std::time::Duration;

use rustix::process::Signal;

/// When a rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum When {
    Start,
    /// Prompts are counted from 1 in each process.
    Turns {
        first: u64,
        last: u64,
    },
    Every(u64),
    Prompt(String),
    Signal(Signal),
}

impl When {
    fn holds(&self, turn: u64, prompt: &[u8]) -> bool {
        match self {
            Self::Start | Self::Signal(_) => false,
            Self::Turns { first, last } => (*first..=*last).contains(&turn),
            Self::Every(count) => turn.is_multiple_of(*count),
            Self::Prompt(text) => memchr::memmem::find(prompt, text.as_bytes()).is_some(),
        }
    }
}

/// At which moment of the start, of the turn or of the signal the action is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the ready line or before the first byte of the reply.
    Before,
    /// When this many bytes of the reply and its end mark are written.
    Byte(u64),
    /// After the ready line or the end mark.
    After,
}

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Exit(u8),
    Signal(Signal),
    Delay(Duration),
    Hang,
    Flood(u64),
    FloodStderr(u64),
    Ignore(Vec<Signal>),
    Fork {
        count: u64,
        sleeper: Sleeper,
    },
    CloseStdout,
    CloseStdin,
    StopReading,
    /// Wait until there is something to read.
    AwaitInput,
    /// Read that many bytes and forget them.
    Read(u64),
    /// From now on read so many bytes at once at most, and wait before each read.
    ReadSlowly {
        piece: usize,
        every: Duration,
    },
    /// Write that many opening brackets.
    Nest(u64),
    /// Hold that much more memory.
    Grow(u64),
    /// Ask for a permission and wait for the answer.
    Ask(String),
    Say {
        after: Duration,
        text: String,
    },
}

/// A process that holds standard output and sleeps for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sleeper {
    /// Have no parent: whoever started it has ended.
    pub(super) orphan: bool,
    /// Leave the process group and the session.
    pub(super) setsid: bool,
    pub(super) ignore: Vec<Signal>,
}

/// Something that changes what the reply is or how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Reply(String),
    Report,
    Bytes(Vec<u8>),
    Forge,
    Stream {
        piece: usize,
        every: Duration,
    },
    DoubleEnd,
    /// The formula's reply so many times.
    Repeat(usize),
    /// Two writes with this time between them, cut after as many bytes as the turn's number.
    Cut(Duration),
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deed(Deed),
    Shape(Shape),
    /// Ends the running turn; with a signal only.
    End,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) moment: Moment,
    pub(super) action: Action,
}

/// The rules, in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Script(pub(super) Vec<Rule>);

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules of one turn.
    pub(super) fn of_turn(&self, turn: u64, prompt: &[u8]) -> Vec<&Rule> {
        self.0
            .iter()
            .filter(|rule| rule.when.holds(turn, prompt))
            .collect()
    }

    /// What is to be done before (or after) the tool is ready.
    pub(super) fn at_start(&self, moment: Moment) -> impl Iterator<Item = &Deed> {
        deeds(
            self.0.iter().filter(|rule| rule.when == When::Start),
            moment,
        )
    }

    /// What a signal asks for.
    pub(super) fn on_signal(&self, signal: Signal) -> impl Iterator<Item = &Action> {
        self.0
            .iter()
            .filter(move |rule| rule.when == When::Signal(signal))
            .map(|rule| &rule.action)
    }

    /// The signals that have rules, each once.
    pub(super) fn signals(&self) -> Vec<Signal> {
        let mut signals = Vec::new();
        for rule in &self.0 {
            if let When::Signal(signal) = rule.when
                && !signals.contains(&signal)
            {
                signals.push(signal);
            }
        }
        signals
    }

    /// Whether a reply may be a report, which needs a look at the open files before the tool opens its own.
    pub(super) fn reports(&self) -> bool {
        self.0
            .iter()
            .any(|rule| rule.action == Action::Shape(Shape::Report))
    }
}

/// The deeds that are due at a moment.
pub(super) fn deeds<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    moment: Moment,
) -> impl Iterator<Item = &'a Deed> {
    rules
        .filter(move |rule| rule.moment == moment)
        .filter_map(|rule| match &rule.action {
            Action::Deed(deed) => Some(deed),
            Action::Shape(_) | Action::End => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_holds_for_exactly_the_turns_that_it_names() {
        for (when, turns) in [
            (When::Turns { first: 3, last: 3 }, vec![3]),
            (When::Turns { first: 2, last: 4 }, vec![2, 3, 4]),
            (When::Every(3), vec![3, 6]),
            (When::Prompt("x 5".to_owned()), vec![5]),
            (When::Start, vec![]),
        ] {
            let held: Vec<u64> = (1..=6)
                .filter(|turn| when.holds(*turn, format!("x {turn}").as_bytes()))
                .collect();
            assert_eq!(held, turns, "{when:?}");
        }
    }
}
