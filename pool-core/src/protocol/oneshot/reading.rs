//! What a command's output means.
//!
//! Owns the seam between the turn and the forms of output, and the form that is plain text. Must not know processes.
//! Invariant: a reading never ends a turn; it is asked what came of the prompt after the command has ended.

use super::frame::Ended;
use crate::outcome::{Outcome, Usage};
use crate::prompt::TurnId;
use crate::protocol::{Outbox, SideFile, TurnEvent};

/// Reads what the command of one turn writes.
pub(in crate::protocol) trait Reading: Send {
    /// Whether [`Reading::line`] is called, not [`Reading::bytes`].
    fn wants_lines(&self) -> bool {
        true
    }
    /// Takes a piece of standard output, cut anywhere.
    fn bytes(&mut self, _bytes: &[u8], _out: &mut Outbox) {}
    /// Takes a whole line of standard output.
    fn line(&mut self, _line: &[u8], _out: &mut Outbox) {}
    /// Takes a piece of standard error, cut anywhere.
    fn stderr(&mut self, _bytes: &[u8]) {}
    /// Files of the private folder that are emptied before the command starts and read after its end.
    fn files(&self) -> &'static [SideFile] {
        &[]
    }
    /// Takes one of them.
    fn file(&mut self, _name: SideFile, _contents: &[u8]) {}
    /// Whether a completed turn shows in the output itself, so that one that was interrupted too late is known by it.
    fn knows_the_end(&self) -> bool {
        true
    }
    /// What the tool said came of the prompt, if it said anything. The command has ended.
    fn verdict(&mut self, ended: Ended) -> Option<Verdict>;
}

/// What came of a prompt.
#[derive(Debug)]
pub(in crate::protocol) struct Verdict {
    pub(in crate::protocol) outcome: Outcome,
    /// The exact answer, if it is not what was shown.
    pub(in crate::protocol) answer: Option<String>,
    pub(in crate::protocol) usage: Option<Usage>,
}

impl Verdict {
    /// An outcome without anything else.
    pub(in crate::protocol) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            answer: None,
            usage: None,
        }
    }
}

/// Standard output is the answer, and the exit code says whether it is one.
pub(super) struct Text(pub(super) TurnId);

impl Reading for Text {
    fn wants_lines(&self) -> bool {
        false
    }

    fn bytes(&mut self, bytes: &[u8], out: &mut Outbox) {
        out.emit(TurnEvent::Chunk {
            turn: self.0,
            bytes: bytes.to_vec(),
        });
    }

    fn knows_the_end(&self) -> bool {
        false
    }

    fn verdict(&mut self, _ended: Ended) -> Option<Verdict> {
        Some(Verdict::of(Outcome::Completed))
    }
}
