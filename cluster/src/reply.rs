//! What comes back for a prompt: a stream of chunks and exactly one outcome.
//!
//! Owns the channel between the one task that runs a turn and the one caller who reads it. Must not know where the text
//! comes from. Invariant: exactly one end is ever delivered, even if the turn is lost on its way; what is buffered is
//! bounded by the profile's `max_reply_bytes`, which the connection enforces.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use toolpool_pool_core::outcome::{Attribution, Doubt, DoubtCause, Outcome, Usage};
use toolpool_pool_core::prompt::TurnId;

use crate::error::SubmitError;
use crate::mailbox::Expected;
use crate::worktree::Landed;

/// The whole reply to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The turn's number.
    pub turn: TurnId,
    /// The answer: exact where the tool gives it apart from its output.
    pub text: String,
    /// Bytes that were not UTF-8 were replaced in `text`.
    pub lossy: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// How the end was known; None if the tool never ended it.
    pub attribution: Option<Attribution>,
    /// Which instance ran it; None if it never ran.
    pub instance: Option<Arc<str>>,
    /// The tool of that instance.
    pub tool: Option<Arc<str>>,
    /// Which of the instance's processes ran it.
    pub generation: u64,
    /// Time in the queue.
    pub queued: Duration,
    /// Time from its start on the instance to its end.
    pub took: Duration,
    /// Time from its start to the first byte of the reply.
    pub first_output: Option<Duration>,
    /// What the tool reports to have used.
    pub usage: Option<Usage>,
    /// What became of its changes, for a prompt sent with [`Submission::land`](crate::Submission::land) to an instance
    /// with a worktree; an error tells why they are still there.
    pub landed: Option<Result<Landed, String>>,
}

/// Everything about an end but the text.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) attribution: Option<Attribution>,
    pub(crate) answer: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) landed: Option<Result<Landed, String>>,
    /// The answer is not what the tool wrote, to the byte.
    pub(crate) lossy: bool,
}

impl End {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            attribution: None,
            answer: None,
            usage: None,
            landed: None,
            lossy: false,
        }
    }
}

/// Where and when a turn ran.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) tool: Option<Arc<str>>,
    pub(crate) generation: u64,
    pub(crate) queued: Duration,
    pub(crate) took: Duration,
    pub(crate) first_output: Option<Duration>,
    /// Its process died before anything came from it, and its tool does nothing before that.
    pub(crate) untouched: bool,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// How many of the bytes the reader has taken as chunks.
    taken: usize,
    ended: Option<Result<(End, Run), SubmitError>>,
    accepted: bool,
    /// The reader waits for chunks, not only for the end.
    streaming: bool,
    waits_for_acceptance: bool,
    reader: Option<Waker>,
    /// Nobody waits: the reply is to be kept until it is read.
    expected: Option<Expected>,
}

#[derive(Debug)]
struct Shared {
    /// The turn's number: that of another one if it turns out to be the same prompt, before it is accepted.
    turn: AtomicU64,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so a poisoned lock still holds whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that the turn carries. Dropping it unfinished answers the reader.
#[derive(Debug)]
pub(crate) struct ReplyWriter(Arc<Shared>);

/// The caller's end.
#[derive(Clone, Debug)]
pub(crate) struct ReplyReader(Arc<Shared>);

pub(crate) fn channel(turn: TurnId) -> (ReplyWriter, ReplyReader) {
    let shared = Arc::new(Shared {
        turn: AtomicU64::new(turn.0),
        state: Mutex::default(),
    });
    (ReplyWriter(Arc::clone(&shared)), ReplyReader(shared))
}

/// Tells the caller whether the prompt is accepted, while the turn is somewhere else.
#[derive(Debug)]
pub(crate) struct Acceptance(Arc<Shared>);

impl Acceptance {
    /// Tells that the prompt is in the books.
    pub(crate) fn accept(&self) {
        self.0.accept();
    }

    /// Tells that the prompt was not accepted; whatever becomes of the turn, nobody hears of it.
    pub(crate) fn refuse(self, refusal: SubmitError) {
        self.0.set_end(Err(refusal));
    }
}

impl Shared {
    fn turn(&self) -> TurnId {
        TurnId(self.turn.load(Ordering::Relaxed))
    }

    fn accept(&self) {
        let mut state = self.lock();
        state.accepted = true;
        if state.waits_for_acceptance
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }

    fn set_end(&self, end: Result<(End, Run), SubmitError>) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(end);
        let (reader, expected) = (state.reader.take(), state.expected.take());
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        if let Some(expected) = expected {
            expected.keep(self.take_reply());
        }
    }

    /// The reply, if it has ended; who asks again gets the same end without the text.
    fn take_reply(&self) -> Option<Result<Reply, SubmitError>> {
        let (bytes, end, run) = {
            let mut state = self.lock();
            match state.ended.take()? {
                Err(refusal) => {
                    state.ended = Some(Err(refusal.clone()));
                    return Some(Err(refusal));
                }
                Ok((end, run)) => {
                    state.ended = Some(Ok((End::of(end.outcome.clone()), run.clone())));
                    state.taken = 0;
                    (std::mem::take(&mut state.bytes), end, run)
                }
            }
        };
        Some(Ok(compose(self.turn(), bytes, end, run)))
    }
}

fn compose(turn: TurnId, bytes: Vec<u8>, end: End, run: Run) -> Reply {
    let (text, lossy) = match end.answer {
        Some(answer) => (answer, end.lossy),
        None => match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
        },
    };
    Reply {
        turn,
        text,
        lossy,
        outcome: end.outcome,
        attribution: end.attribution,
        instance: run.instance,
        tool: run.tool,
        generation: run.generation,
        queued: run.queued,
        took: run.took,
        first_output: run.first_output,
        usage: end.usage,
        landed: end.landed,
    }
}

impl ReplyWriter {
    /// Passes a piece of the reply on.
    pub(crate) fn chunk(&self, mut bytes: Vec<u8>) {
        let mut state = self.0.lock();
        if state.bytes.is_empty() {
            // The usual case of a short reply: its one piece is taken over as it is.
            state.bytes = std::mem::take(&mut bytes);
        } else {
            state.bytes.append(&mut bytes);
        }
        if state.streaming
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }

    /// How much of the reply has come.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().bytes.len()
    }

    /// Tells that the prompt is in the books.
    pub(crate) fn accept(&self) {
        self.0.accept();
    }

    /// The same for whoever hears it first.
    pub(crate) fn acceptance(&self) -> Acceptance {
        Acceptance(Arc::clone(&self.0))
    }

    /// Tells that the prompt was not accepted.
    pub(crate) fn refuse(self, refusal: SubmitError) {
        self.0.set_end(Err(refusal));
    }

    /// The caller was told that it is not accepted.
    pub(crate) fn was_refused(&self) -> bool {
        matches!(self.0.lock().ended, Some(Err(_)))
    }

    /// What the whole reply will be with that end. It stays here for the caller.
    pub(crate) fn reply(&self, end: &End, run: &Run) -> Reply {
        let bytes = match &end.answer {
            Some(_) => Vec::new(),
            None => self.0.lock().bytes.clone(),
        };
        compose(self.0.turn(), bytes, end.clone(), run.clone())
    }

    /// What has come of the reply is not part of it.
    pub(crate) fn restart(&self) {
        let mut state = self.0.lock();
        state.bytes = Vec::new();
        state.taken = 0;
    }

    /// It is the prompt of another number.
    pub(crate) fn rename(&self, turn: TurnId) {
        self.0.turn.store(turn.0, Ordering::Relaxed);
    }

    /// Delivers the reply that another caller of the same prompt has got.
    pub(crate) fn recall(self, reply: &Reply) {
        self.rename(reply.turn);
        self.chunk(reply.text.clone().into_bytes());
        let end = End {
            outcome: reply.outcome.clone(),
            attribution: reply.attribution,
            answer: Some(reply.text.clone()),
            usage: reply.usage,
            landed: reply.landed.clone(),
            lossy: reply.lossy,
        };
        let run = Run {
            instance: reply.instance.clone(),
            tool: reply.tool.clone(),
            generation: reply.generation,
            queued: reply.queued,
            took: reply.took,
            first_output: reply.first_output,
            untouched: false,
        };
        self.end(end, run);
    }

    /// Delivers the end.
    pub(crate) fn end(self, end: End, run: Run) {
        self.0.set_end(Ok((end, run)));
    }
}

impl Drop for ReplyWriter {
    fn drop(&mut self) {
        let doubt = Doubt {
            cause: DoubtCause::Stopped,
            detail: "the cluster went away in the middle of the turn".to_owned(),
        };
        self.0
            .set_end(Ok((End::of(Outcome::Indeterminate(doubt)), Run::default())));
    }
}

impl ReplyReader {
    pub(crate) fn turn(&self) -> TurnId {
        self.0.turn()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().ended.is_some()
    }

    /// Waits until the prompt is accepted or refused. Cancel safe.
    pub(crate) async fn accepted(&mut self) -> Result<(), SubmitError> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            match &state.ended {
                Some(Err(refusal)) => Poll::Ready(Err(refusal.clone())),
                Some(Ok(_)) => Poll::Ready(Ok(())),
                None if state.accepted => Poll::Ready(Ok(())),
                None => {
                    state.waits_for_acceptance = true;
                    state.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next piece of the reply; None at its end. Cancel safe.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            state.streaming = true;
            if state.taken < state.bytes.len() {
                let piece = state.bytes[state.taken..].to_vec();
                state.taken = state.bytes.len();
                Poll::Ready(Some(piece))
            } else if state.ended.is_some() {
                Poll::Ready(None)
            } else {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// The whole reply, once. Cancel safe: the reply stays until it is taken.
    pub(crate) async fn reply(&mut self) -> Result<Reply, SubmitError> {
        poll_fn(|context| match self.0.take_reply() {
            Some(reply) => Poll::Ready(reply),
            None => {
                let mut state = self.0.lock();
                // The end may have come in between, and then nobody would wake this reader.
                if state.ended.is_some() {
                    context.waker().wake_by_ref();
                }
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Hands the reply to a mailbox when it comes, by whoever ends the turn: replies are kept in the order of their ends.
    pub(crate) fn keep(self, expected: Expected) {
        let mut state = self.0.lock();
        if state.ended.is_none() {
            state.expected = Some(expected);
            return;
        }
        drop(state);
        expected.keep(self.0.take_reply());
    }
}
