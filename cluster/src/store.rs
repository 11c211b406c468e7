//! The books on disk: what a cluster tells its store, and what it may ask it.
//!
//! Owns the seam [`Store`] and its records. Must not know how they are kept. Invariants: records are kept in the order in
//! which they were put; what is durable before what is said at each [`Record`]; a store that has failed once is not
//! trusted again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use toolpool_pool_core::prompt::{Prompt, TurnId};

use crate::event::Event;
use crate::reply::Reply;
use crate::retry::RetryPolicy;
use crate::session::OnLoss;

/// Keeps every prompt until it has its one end, and longer.
///
/// A cluster has one owner of its store at a time, and a store serves one cluster at a time.
pub trait Store: Send + Sync {
    /// The number for the first turn: above all that the store has, so that a turn's number names one prompt for good.
    fn next_turn(&self) -> TurnId;

    /// Takes a record and never waits. `done` is called once, from wherever the store works: when the record is as durable
    /// as the store makes it, or cannot be. Without `done` the record is durable within a second, or with the next one that
    /// somebody waits for.
    ///
    /// What is put and not yet done is bounded by the cluster: each open prompt has a few records that are waited for.
    ///
    /// Only [`Record::Accepted`] may come back as [`StoreError::Full`], and [`Record::Dispatching`] of a turn whose
    /// `Accepted` did: there is room for whatever follows what is kept. The bytes of [`Record::Output`] may be left out
    /// when there is no space, because the end has the whole reply.
    fn put(&self, record: Record, done: Option<Done>);

    /// What is known of an idempotency key. An index lookup: it may block for as long as that takes.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn find(&self, key: &str) -> Result<Option<Known>, StoreError>;

    /// Whether a prompt is the one that was recorded. A store that does not keep texts knows otherwise.
    fn is_same(&self, recorded: &Prompt, asked: &Prompt) -> bool {
        recorded == asked
    }

    /// The prompts that earlier clusters of that name accepted and never gave to a tool, in the order of their numbers.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError>;

    /// The sessions of clusters of that name that are not over, in any order. None for a store that keeps none: then no
    /// session is known in the next life.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn sessions(&self, cluster: &str) -> Result<Vec<Conversing>, StoreError> {
        let _ = cluster;
        Ok(Vec::new())
    }

    /// What was said in a session of clusters of that name, from that turn on and in the order of the turns: those that
    /// were given to a tool and have their end. Of the newest at least so many as have `max_bytes` of text together.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn said(
        &self,
        cluster: &str,
        session: &str,
        since: TurnId,
        max_bytes: usize,
    ) -> Result<Vec<Said>, StoreError> {
        let _ = (cluster, session, since, max_bytes);
        Ok(Vec::new())
    }

    /// The folder for the private folders of conversations that outlive this program. None: they do not.
    fn folders(&self) -> Option<PathBuf> {
        None
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn next_turn(&self) -> TurnId {
        (**self).next_turn()
    }

    fn put(&self, record: Record, done: Option<Done>) {
        (**self).put(record, done);
    }

    fn find(&self, key: &str) -> Result<Option<Known>, StoreError> {
        (**self).find(key)
    }

    fn is_same(&self, recorded: &Prompt, asked: &Prompt) -> bool {
        (**self).is_same(recorded, asked)
    }

    fn queued(&self, cluster: &str) -> Result<Vec<Accepted>, StoreError> {
        (**self).queued(cluster)
    }

    fn sessions(&self, cluster: &str) -> Result<Vec<Conversing>, StoreError> {
        (**self).sessions(cluster)
    }

    fn said(
        &self,
        cluster: &str,
        session: &str,
        since: TurnId,
        max_bytes: usize,
    ) -> Result<Vec<Said>, StoreError> {
        (**self).said(cluster, session, since, max_bytes)
    }

    fn folders(&self) -> Option<PathBuf> {
        (**self).folders()
    }
}

/// Hears what became of a record. It must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One fact of the books.
#[derive(Debug)]
#[non_exhaustive]
pub enum Record {
    /// A prompt is in the books. Durable before its caller hears that it is accepted.
    Accepted(Box<Accepted>),
    /// It is about to be written to a tool. Durable before the first byte is; if nothing follows, what became of it is in
    /// doubt.
    Dispatching(Dispatching),
    /// Nothing of it was read: it is queued again.
    HandedBack {
        /// The turn.
        turn: TurnId,
        /// Which of its attempts, counted from 1.
        attempt: u32,
    },
    /// A piece of its reply. Not waited for.
    Output {
        /// The turn.
        turn: TurnId,
        /// Which of its attempts.
        attempt: u32,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// It has its one end. Durable before its caller hears of it.
    Ended {
        /// The end, with the whole reply.
        reply: Box<Reply>,
        /// How many attempts it took; 0 if it never ran.
        attempts: u32,
        /// When, on the wall clock.
        at: SystemTime,
    },
    /// A session is known to be in a conversation. Durable with the next record that somebody waits for: with the
    /// [`Dispatching`] of a turn, and with its end.
    Session(Box<Conversing>),
    /// It is over, and its key free.
    SessionClosed {
        /// The cluster's name.
        cluster: Arc<str>,
        /// The key.
        session: String,
    },
    /// Anything else that happened. Not waited for. Facts of turns are in the records above.
    Event(Event),
}

/// A prompt as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its number.
    pub turn: TurnId,
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// When, on the wall clock.
    pub at: SystemTime,
    /// The idempotency key.
    pub key: Option<String>,
    /// The text, what kind it is, and the files with it.
    pub prompt: Prompt,
    /// The session it belongs to.
    pub session: Option<String>,
    /// The tool it asks for, or the only one that could run it.
    pub tool: Option<String>,
    /// The role it asks for.
    pub role: Option<String>,
    /// The instance it asks for, counted from 0.
    pub target: Option<usize>,
    /// Its labels. Those named `batch` and `item` are what batches are found by.
    pub labels: Vec<(String, String)>,
    /// Longest wait in the queue.
    pub queue_timeout: Option<Duration>,
    /// Longest run.
    pub turn_timeout: Option<Duration>,
    /// The item that its changes are brought home as.
    pub land: Option<String>,
    /// What becomes of its session's loss.
    pub on_loss: OnLoss,
    /// When it may be given to a tool again.
    pub retry: RetryPolicy,
    /// How often it was given to a tool by now, and handed back each time.
    pub attempts: u32,
}

impl Accepted {
    /// A prompt that asks for nothing in particular and was given to nobody yet.
    pub fn new(turn: TurnId, cluster: &str, at: SystemTime, prompt: Prompt) -> Self {
        Self {
            turn,
            cluster: cluster.into(),
            at,
            key: None,
            prompt,
            session: None,
            tool: None,
            role: None,
            target: None,
            labels: Vec::new(),
            queue_timeout: None,
            turn_timeout: None,
            land: None,
            on_loss: OnLoss::default(),
            retry: RetryPolicy::default(),
            attempts: 0,
        }
    }
}

/// A prompt on its way to a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatching {
    /// The turn.
    pub turn: TurnId,
    /// Counts how often it was given to a tool, from 1.
    pub attempt: u32,
    /// To which instance.
    pub instance: Arc<str>,
    /// Its tool.
    pub tool: Arc<str>,
    /// Its process.
    pub generation: u64,
    /// When, on the wall clock.
    pub at: SystemTime,
}

/// A session, and the conversation that it is in. There is one for a cluster's name and a key: the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversing {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Its key.
    pub session: String,
    /// The instance that it lives on.
    pub instance: Arc<str>,
    /// The tool of that instance.
    pub tool: Arc<str>,
    /// Where that works.
    pub cwd: PathBuf,
    /// The tool's own name for the conversation. None: it cannot be gone on with.
    pub conversation: Option<String>,
    /// The private folder of its process, which has to be there for that. The store's owner removes it when no session
    /// needs it any more.
    pub folder: PathBuf,
    /// Its first turn.
    pub since: TurnId,
    /// Its last turn.
    pub last: TurnId,
    /// What became of its last turn is in doubt, as far as is known.
    pub in_doubt: bool,
    /// When that began, or ended, on the wall clock.
    pub at: SystemTime,
}

/// A turn of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The turn.
    pub turn: TurnId,
    /// What its caller sent.
    pub prompt: String,
    /// What came back.
    pub reply: String,
    /// How it ended: the outcome's word.
    pub outcome: String,
}

/// What a store knows of a key.
#[derive(Clone, Debug)]
pub enum Known {
    /// It was accepted before, and never given to a tool.
    Queued(Box<Accepted>),
    /// It was given to a tool, and has no end yet.
    Running(Box<Accepted>),
    /// It has its end.
    Ended(Box<Accepted>, Box<Reply>),
}

impl Known {
    /// The prompt as it was accepted.
    pub fn accepted(&self) -> &Accepted {
        match self {
            Self::Queued(accepted) | Self::Running(accepted) | Self::Ended(accepted, _) => accepted,
        }
    }
}

/// Why something is not in the books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no space for another prompt. Those that are accepted still get their end. It may pass.
    #[error("{path}: no space is left for another prompt: {detail}. Free some and send it again")]
    Full {
        /// The file.
        path: String,
        /// What the system says.
        detail: String,
    },
    /// It cannot be written or read any more, and nothing that it says counts until it is opened again.
    #[error(
        "{path}: {detail}. Nothing more is accepted. Mend the cause, such as the disk, and open it again: then it is known what became of open prompts"
    )]
    Failed {
        /// The file.
        path: String,
        /// What happened.
        detail: String,
    },
}
