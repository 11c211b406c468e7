//! What the books on disk say about sessions, and what the dispatcher tells them.
//!
//! Owns the last record of each session. Must not decide where a session goes on. Invariants: a session is in the books
//! before the first byte of its first turn is written; a folder that no session needs is removed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use toolpool_pool_core::outcome::{Failure, FailureClass, Outcome};
use toolpool_pool_core::prompt::{PromptKind, TurnId};

use super::{Dispatcher, Entry};
use crate::clock;
use crate::event::EventKind;
use crate::replaying::{self, Context};
use crate::reply::End;
use crate::scheduler::Shelved;
use crate::session::OnLoss;
use crate::store::{Conversing, Record, Store, StoreError};
use crate::turn::{Order, Turn};

/// A keeper ends everything within a second, or gives it up.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often to look whether it has; nothing tells.
const LOOK: Duration = Duration::from_millis(5);

/// What the books on disk know of this cluster's sessions.
pub(crate) struct Sessions {
    store: Arc<dyn Store>,
    cluster: Arc<str>,
    known: HashMap<String, Conversing>,
}

/// The conversation that an instance's process has, as far as that can be gone on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Having {
    /// The tool's own name for it.
    pub(crate) name: Option<String>,
    /// The private folder of the process.
    pub(crate) folder: PathBuf,
}

impl Sessions {
    /// Reads what earlier clusters of that name have left.
    pub(crate) fn open(store: Arc<dyn Store>, cluster: Arc<str>) -> Result<Self, StoreError> {
        let known = store.sessions(&cluster)?;
        let keyed = known
            .into_iter()
            .map(|known| (known.session.clone(), known));
        Ok(Self {
            known: keyed.collect(),
            store,
            cluster,
        })
    }

    /// For each session the instances that could go on with its conversation: those of its tool that work in its folder,
    /// and first the one that it lived on.
    pub(crate) fn shelved(&self, roster: &[Entry]) -> Vec<Shelved> {
        let mut conversations: HashMap<(&str, &Path), usize> = HashMap::new();
        let mut shelved = Vec::new();
        for known in self.known.values() {
            let next = conversations.len();
            let name = known.conversation.as_deref();
            let homes = match name {
                Some(_) if known.folder.is_dir() => homes(known, roster),
                _ => Vec::new(),
            };
            shelved.push(Shelved {
                session: known.session.clone(),
                conversation: *conversations
                    .entry((name.unwrap_or(&known.session), &known.folder))
                    .or_insert(next),
                homes,
            });
        }
        shelved
    }

    /// A turn of a session is about to be written to an instance. `anew`: to another conversation than before. Gives the
    /// folder that it does not need any more.
    fn on_assign(
        &mut self,
        session: &str,
        turn: &Turn,
        entry: &Entry,
        anew: bool,
    ) -> Option<PathBuf> {
        let (id, fresh) = (turn.id, turn.prompt.fresh);
        let replayed = turn.context.as_ref().map(|(_, since)| *since);
        let before = self.known.get(session).filter(|_| !(fresh || anew));
        let since = replayed.or(before.map(|before| before.since));
        self.put(Conversing {
            cluster: Arc::clone(&self.cluster),
            session: session.to_owned(),
            instance: Arc::clone(&entry.name),
            tool: Arc::clone(&entry.tool),
            cwd: PathBuf::from(&entry.cwd),
            // One that begins with this turn has no name yet.
            conversation: entry.having.name.clone().filter(|_| !fresh),
            folder: entry.having.folder.clone(),
            since: since.unwrap_or(id),
            last: id,
            in_doubt: true,
            at: SystemTime::now(),
        })
    }

    /// What was said in a session, as far as there is room for it, and since which turn.
    ///
    /// # Errors
    /// Why there is nothing to tell.
    fn context(&self, session: &str, room: usize) -> Result<(Context, TurnId), String> {
        let known = self.known.get(session).ok_or(NOTHING_KEPT)?;
        let said = self
            .store
            .said(&self.cluster, session, known.since, room)
            .map_err(|error| error.to_string())?;
        let Some(last) = said.last() else {
            return Err(NOTHING_KEPT.to_owned());
        };
        let longest = last.prompt.len() + last.reply.len();
        let context = replaying::context(&said, rand::random(), room).ok_or_else(|| {
            format!("its last turn alone has {longest} bytes, and there is room for {room}")
        })?;
        Ok((context, known.since))
    }

    /// It has its end.
    fn on_end(&mut self, session: &str, turn: TurnId, entry: &Entry, in_doubt: bool) {
        let Some(known) = self.known.get(session).filter(|known| known.last == turn) else {
            // It was closed in the meantime.
            return;
        };
        let mut known = known.clone();
        if entry.having.folder == known.folder {
            // Some tools name a conversation only in its first turn.
            known.conversation.clone_from(&entry.having.name);
        }
        known.in_doubt = in_doubt;
        known.at = SystemTime::now();
        self.put(known);
    }

    fn put(&mut self, known: Conversing) -> Option<PathBuf> {
        let folder = known.folder.clone();
        self.store
            .put(Record::Session(Box::new(known.clone())), None);
        let before = self.known.insert(known.session.clone(), known)?;
        Some(before.folder).filter(|before| *before != folder)
    }

    /// It is over. Gives the folder that it does not need any more.
    fn close(&mut self, session: &str) -> Option<PathBuf> {
        let known = self.known.remove(session)?;
        let record = Record::SessionClosed {
            cluster: Arc::clone(&self.cluster),
            session: known.session,
        };
        self.store.put(record, None);
        Some(known.folder)
    }

    /// Where the processes of this cluster have their private folders. Its own: another one may have the same books at
    /// another time.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        Some(self.store.folders()?.join(&*self.cluster))
    }

    /// Waits until what a killed program has left is ended by its keepers: a conversation is never two processes'. What is
    /// not over then survives SIGKILL, and keeps its folder. The folders that no session needs are removed.
    pub(crate) async fn settled(self) -> Self {
        if let Some(root) = self.root() {
            let until = tokio::time::Instant::now() + PATIENCE;
            while tokio::time::Instant::now() < until && !are_free(&root) {
                tokio::time::sleep(LOOK).await;
            }
            self.sweep().await;
        }
        self
    }

    /// Removes the folders that no session needs. Only while nothing of the cluster runs.
    pub(crate) async fn sweep(&self) {
        let Some(root) = self.root() else { return };
        let known = self.known.values();
        let needed: HashSet<PathBuf> = known.map(|known| known.folder.clone()).collect();
        // They may be large.
        let sweep = move || {
            for folder in folders(&root) {
                if !needed.contains(&folder) {
                    remove(&folder);
                }
            }
        };
        tokio::task::spawn_blocking(sweep).await.ok();
    }
}

/// Removes a folder in which no process works. What cannot be removed is tried again the next time.
fn remove(folder: &Path) {
    if toolpool_pool_core::is_free(folder).unwrap_or(false) {
        std::fs::remove_dir_all(folder).ok();
    }
}

/// Whether no process works in any folder below.
fn are_free(root: &Path) -> bool {
    folders(root).all(|folder| toolpool_pool_core::is_free(&folder).unwrap_or(true))
}

fn folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn homes(known: &Conversing, roster: &[Entry]) -> Vec<usize> {
    let fits = |entry: &&Entry| {
        entry.resumes && entry.tool == known.tool && Path::new(&entry.cwd) == known.cwd
    };
    let mut homes: Vec<usize> = (0..roster.len())
        .filter(|index| fits(&&roster[*index]))
        .collect();
    homes.sort_by_key(|index| roster[*index].name != known.instance);
    homes
}

const NOTHING_KEPT: &str = "the journal has no text of it";

fn lost(why: &str) -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::SessionLost,
        message: format!(
            "the conversation is gone and what was said in it cannot be replayed: {why}; nothing was sent. Ask again to begin anew"
        ),
        retry_after: None,
    })
}

/// With what a prompt ends whose session's instance does not come up.
fn unavailable(session: &str, entry: &Entry, absent: Duration) -> Outcome {
    let (name, state, why) = (&entry.name, entry.state.word(), &entry.reason);
    let seconds = absent.as_secs();
    Outcome::Failed(Failure {
        class: FailureClass::SessionUnavailable,
        message: format!(
            "session {session} lives on {name}, which has not been up for {seconds} s ({state}: {why}); nothing was sent, and the session stays there. \
             Mend what keeps {name} from starting and restart it, send the prompt with `on_loss` fresh or replay so that it may go on elsewhere, or close the session"
        ),
        retry_after: None,
    })
}

impl Dispatcher {
    /// The instance of a prompt's session has not been up for so long.
    pub(super) fn end_unavailable(
        &mut self,
        turn: TurnId,
        instance: usize,
        absent: Duration,
        queued: Duration,
    ) {
        if let Some(turn) = self.turns.remove(&turn) {
            let session = turn.ticket.session.as_deref().unwrap_or_default();
            let outcome = unavailable(session, &self.roster[instance], absent);
            self.end_unrun(turn, queued, outcome);
        }
    }

    /// Whether what was said before could stand before that prompt, if it is to.
    pub(super) fn can_replay(&self, turn: &Turn) -> bool {
        let OnLoss::Replay { .. } = turn.ticket.on_loss else {
            return true;
        };
        let text = turn.prompt.kind == PromptKind::Text;
        text && self.sessions.is_some() && self.facts.groups.talk_to_models(turn.ticket.groups)
    }

    /// A turn is about to be written. `begins_anew`: its session has lost the conversation, and goes on in another.
    ///
    /// # Errors
    /// With what it ends if what was said before was to be told, and cannot be.
    pub(super) fn note_session_turn(
        &mut self,
        turn: &mut Turn,
        instance: usize,
        begins_anew: bool,
    ) -> Result<(), Outcome> {
        let entry = &self.roster[instance];
        let Some(session) = &turn.ticket.session else {
            return Ok(());
        };
        if begins_anew {
            let (id, name) = (turn.id, Arc::clone(&entry.name));
            if let OnLoss::Replay { max_bytes } = turn.ticket.on_loss {
                let limit = self.facts.groups.limit_of(entry.group);
                let room = limit.saturating_sub(turn.ticket.bytes).min(max_bytes);
                let sessions = self.sessions.as_ref();
                let context = sessions.map(|sessions| sessions.context(session, room));
                let context = context.unwrap_or_else(|| Err(NOTHING_KEPT.to_owned()));
                let (context, since) = context.map_err(|why| lost(&why))?;
                self.history.record(EventKind::ContextReplayed {
                    turn: id,
                    instance: name,
                    turns: context.turns,
                    bytes: context.text.len(),
                });
                turn.context = Some((context, since));
            } else {
                self.history.record(EventKind::ContextLost {
                    turn: id,
                    instance: name,
                });
            }
        }
        if let Some(sessions) = &mut self.sessions {
            let left = sessions.on_assign(session, turn, entry, begins_anew);
            self.let_go(left);
        }
        Ok(())
    }

    /// A turn that was assigned ends without being given to its instance, and its session is over.
    pub(super) fn end_unsent(&mut self, mut turn: Box<Turn>, instance: usize, outcome: Outcome) {
        let now = clock::now();
        let available = self.scheduler.on_not_given(instance);
        let out = &mut self.decisions;
        self.scheduler
            .on_turn_ended(now, instance, &outcome, available, out);
        if let Some(session) = &turn.ticket.session {
            self.scheduler.on_close_session(now, session, out);
        }
        turn.end = Some(End::of(outcome));
        self.end(turn, false);
    }

    /// It is over, or nothing of it was written. Before its end goes into the books.
    pub(super) fn note_session_end(&mut self, turn: &Turn, instance: usize) {
        if let (Some(sessions), Some(session)) = (&mut self.sessions, &turn.ticket.session) {
            let outcome = turn.end.as_ref().map(|end| &end.outcome);
            let in_doubt = matches!(outcome, Some(Outcome::Indeterminate(_)));
            sessions.on_end(session, turn.id, &self.roster[instance], in_doubt);
        }
    }

    pub(super) fn close_session(&mut self, session: &str) {
        let left = self.sessions.as_mut().and_then(|it| it.close(session));
        self.let_go(left);
        self.history.record(EventKind::SessionClosed {
            sessions: self.scheduler.sessions(),
        });
    }

    /// Removes a folder that a session does not need any more, unless another one does, or an instance that may go on with
    /// what is in it.
    fn let_go(&self, folder: Option<PathBuf>) {
        let (Some(sessions), Some(folder)) = (&self.sessions, folder) else {
            return;
        };
        let is_needed = sessions.known.values().any(|known| known.folder == folder);
        let is_had = self.roster.iter().any(|it| it.having.folder == folder);
        if !is_needed && !is_had && !folder.as_os_str().is_empty() {
            // What cannot be removed now is when the cluster ends.
            tokio::task::spawn_blocking(move || remove(&folder));
        }
    }

    /// An instance is to go on with the conversation of a session.
    pub(super) fn take_up(&mut self, instance: usize, session: &str) {
        let sessions = self.sessions.as_ref();
        let known = sessions.and_then(|sessions| sessions.known.get(session));
        if let Some(known) = known {
            self.roster[instance].order(Order::TakeUp(Having {
                name: known.conversation.clone(),
                folder: known.folder.clone(),
            }));
        }
    }
}
