//! The whole reply to one prompt.
//!
//! Owns its shape and its bytes while they come. Must not know processes. Invariant: what is kept of a reply is never
//! more than the connection lets through, the profile's `max_reply_bytes`.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::outcome::{Attribution, Failure, FailureClass, Outcome, Usage};
use crate::prompt::TurnId;

/// The whole reply to one prompt, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Which instance was asked.
    pub index: usize,
    /// The number that `send_prompt` gave.
    pub turn: TurnId,
    /// The answer: exact where the tool gives it apart from its output. Where the turn did not complete, what had come.
    pub text: String,
    /// Bytes that were not UTF-8 were replaced in `text`.
    pub lossy: bool,
    /// How the turn ended.
    pub outcome: Outcome,
    /// How the end was known; None if the tool never ended the turn.
    pub attribution: Option<Attribution>,
    /// Which of the instance's processes ran it, counted from 1.
    pub generation: u64,
    /// Time from the turn's start on the process to its end; zero if it never started.
    pub took: Duration,
    /// What the tool reports to have used.
    pub usage: Option<Usage>,
}

/// A response on its way, and the room that it takes until it is read.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) _room: OwnedSemaphorePermit,
}

/// A turn that runs.
pub(super) struct Running {
    pub(super) turn: TurnId,
    pub(super) room: OwnedSemaphorePermit,
    pub(super) since: Instant,
    pub(super) bytes: Vec<u8>,
    /// Where its work goes on, whatever becomes of the process.
    pub(super) elsewhere: Option<String>,
}

/// What the tool said at the end of a turn, or what is said in its place.
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) attribution: Option<Attribution>,
    pub(super) answer: Option<String>,
    pub(super) usage: Option<Usage>,
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            attribution: None,
            answer: None,
            usage: None,
        }
    }
}

/// A definite failure of which nothing reached the tool.
pub(super) fn unsent(class: FailureClass, message: String) -> Outcome {
    Outcome::Failed(Failure {
        class,
        message,
        retry_after: None,
    })
}

impl Running {
    pub(super) fn end(self, index: usize, generation: u64, end: End) -> Answered {
        let (text, lossy) = match end.answer {
            Some(answer) => (answer, false),
            None => match String::from_utf8(self.bytes) {
                Ok(text) => (text, false),
                Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
            },
        };
        Answered {
            response: Response {
                index,
                turn: self.turn,
                text,
                lossy,
                outcome: end.outcome.going_on_at(self.elsewhere.as_deref()),
                attribution: end.attribution,
                generation,
                took: self.since.elapsed(),
                usage: end.usage,
            },
            _room: self.room,
        }
    }
}
