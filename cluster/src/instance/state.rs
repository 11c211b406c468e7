//! The states of an instance, as they are shown.
//!
//! Owns their words. Must not know how one follows another. Invariant: a word never changes its meaning.

/// What an instance is doing, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstanceState {
    /// A process is being started and made ready.
    Starting,
    /// It can take a prompt.
    Ready,
    /// It runs a turn.
    Busy,
    /// Its turn waits for a human.
    Waiting,
    /// It waits before the next start.
    Backoff,
    /// Its breaker is open: no start until a probe is due.
    Tripped,
    /// It finishes its turn and then stops.
    Draining,
    /// Its process is being ended.
    Stopping,
    /// It has no process, as was asked for.
    Stopped,
    /// It cannot run until somebody changes something.
    Failed,
}

impl InstanceState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 10] = [
        Self::Starting,
        Self::Ready,
        Self::Busy,
        Self::Waiting,
        Self::Backoff,
        Self::Tripped,
        Self::Draining,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
    ];

    /// It has no process, and gets none by itself.
    pub(crate) fn is_down(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }

    /// Its tool is at work on a turn.
    pub(crate) fn runs_turn(self) -> bool {
        matches!(self, Self::Busy | Self::Waiting | Self::Draining)
    }

    /// The change to that state is one that the turn itself tells the dispatcher of.
    pub(crate) fn turn_tells_of(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Ready, Self::Busy) | (Self::Busy | Self::Waiting, Self::Ready)
        )
    }

    /// The state's word in the CLI, the events and the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Backoff => "backoff",
            Self::Tripped => "tripped",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}
