//! The handle to a cluster.
//!
//! Owns nothing but the way to the dispatcher and the mailbox of replies that were not asked for one by one. Must not
//! keep state of the cluster. Invariant: cheap to clone, usable from any task; when the last clone is gone the cluster
//! stops and leaves nothing behind.

mod scaling;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};
use toolpool_pool_core::outcome::Outcome;
use toolpool_pool_core::profile::ToolProfile;
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::Answer;

use crate::error::{AskError, ControlError, SubmitError};
use crate::event::Event;
use crate::explain::{Explanation, Which};
use crate::fit::GroupSet;
use crate::history::Events;
use crate::launch::Makings;
use crate::mailbox::Mailbox;
use crate::permission::PermissionId;
use crate::reply::{self, Reply, ReplyReader, Run};
use crate::scheduler::Ticket;
use crate::session::{OnLoss, Session};
use crate::status::{ClusterStatus, Health, ShutdownReport};
use crate::store::StoreError;
use crate::submission::Submission;
use crate::turn::{Control, Message, Turn};
pub(crate) use scaling::Member;

/// A running cluster. Clones are handles to the same one.
#[derive(Clone)]
pub struct ClusterManager {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) dispatcher: mpsc::Sender<Message>,
    /// The dispatcher has the strong end, so that the history ends with it.
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) next_turn: AtomicU64,
    pub(crate) members: RwLock<Vec<Member>>,
    /// What new instances are made from.
    pub(crate) makings: Makings,
    /// One change of their number at a time.
    pub(crate) scaling: tokio::sync::Mutex<()>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) mailbox: Mailbox,
    /// Why the journal has failed, and with it the cluster.
    pub(crate) failure: Arc<OnceLock<StoreError>>,
    /// Dropped with the last handle, which the dispatcher notices.
    pub(crate) _alive: oneshot::Sender<()>,
}

impl std::fmt::Debug for ClusterManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterManager")
            .field("instances", &self.instances())
            .finish_non_exhaustive()
    }
}

impl ClusterManager {
    /// Sends a prompt and waits for the whole reply.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let cluster = toolpool_cluster::launch_cluster("aider").count(3).await?;
    /// let reply = cluster.ask("Add a docstring to a.py").await?;
    /// println!("{}", reply.text);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AskError::Submit`] if it is not accepted: nothing happened. [`AskError::Turn`] if its turn did not complete,
    /// with what there is of the reply.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the prompt: out of the queue if it has not started, otherwise the tool is
    /// interrupted.
    pub async fn ask(&self, submission: impl Into<Submission>) -> Result<Reply, AskError> {
        self.submit(submission.into()).await?.reply().await
    }

    /// Sends a prompt and gives the reply as it comes.
    ///
    /// # Errors
    /// If it is not accepted.
    ///
    /// # Cancel safety
    /// As [`ClusterManager::ask`].
    pub async fn stream(&self, submission: impl Into<Submission>) -> Result<ReplyStream, AskError> {
        let mut stream = self.submit(submission.into()).await?;
        stream.reader.accepted().await?;
        Ok(stream)
    }

    async fn submit(&self, submission: Submission) -> Result<ReplyStream, SubmitError> {
        let has_key = submission.key.is_some();
        let (turn, reader) = self.turn(submission);
        self.inner
            .dispatcher
            .send(Message::Submit(Box::new(turn)))
            .await
            .map_err(|_| match self.inner.failure.get() {
                Some(failure) => SubmitError::Journal(failure.clone()),
                None => SubmitError::Draining,
            })?;
        Ok(ReplyStream {
            manager: self.clone(),
            reader,
            detached: has_key,
        })
    }

    fn turn(&self, submission: Submission) -> (Turn, ReplyReader) {
        let bytes = submission.prompt.text.len();
        let id = TurnId(self.inner.next_turn.fetch_add(1, Ordering::Relaxed));
        let (writer, reader) = reply::channel(id);
        let turn = Turn {
            id,
            ticket: Ticket {
                client: submission.client,
                session: submission.session,
                on_loss: submission.on_loss,
                target: submission.target,
                groups: GroupSet::ALL,
                labels: submission.labels,
                fresh: submission.prompt.fresh,
                bytes,
                queue_timeout: submission.queue_timeout.or(self.inner.queue_timeout),
            },
            asked: submission.asked,
            prompt: submission.prompt,
            timeout: submission.turn_timeout,
            land: submission.land,
            key: submission.key,
            is_kept: false,
            retry: submission.retry,
            attempts: 0,
            context: None,
            deadline: None,
            last: None,
            since: Instant::now(),
            writer,
            run: Run::default(),
            end: None,
        };
        (turn, reader)
    }

    /// Sends a prompt and does not wait; its reply is for [`ClusterManager::read`] or [`ClusterManager::read_any`].
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn send(&self, submission: impl Into<Submission>) -> Result<TurnId, SubmitError> {
        let submission = submission.into();
        let target = submission
            .target
            .and_then(|index| self.instance_name(index).ok());
        let mut stream = self.submit(submission).await?;
        stream.reader.accepted().await?;
        let (turn, reader) = (stream.turn(), stream.reader.clone());
        // A handle would keep the cluster alive for a reply that nobody could read any more.
        stream.detach();
        reader.keep(self.inner.mailbox.expect(target));
        Ok(turn)
    }

    /// As [`ClusterManager::send`], to exactly the instance of that index.
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn send_to(
        &self,
        index: usize,
        submission: impl Into<Submission>,
    ) -> Result<TurnId, SubmitError> {
        self.send(submission.into().on_instance(index)).await
    }

    /// The oldest unread reply of an instance to what was sent with [`ClusterManager::send`] or
    /// [`ClusterManager::send_to`], waiting for it if need be.
    ///
    /// # Errors
    /// [`ControlError::NoReplyYet`] after `timeout`: nothing is lost, read again.
    pub async fn read(&self, index: usize, timeout: Duration) -> Result<Reply, ControlError> {
        let name = {
            let members = self.inner.members();
            members.get(index).map(|member| Arc::clone(&member.name))
        };
        let name = name.ok_or_else(|| self.no_instance(index))?;
        self.inner.mailbox.read(Some(&name), timeout).await
    }

    /// The next unread reply of any instance.
    ///
    /// # Errors
    /// [`ControlError::NoReplyYet`] after `timeout`, [`ControlError::NothingSent`] if there is nothing to wait for.
    pub async fn read_any(&self, timeout: Duration) -> Result<Reply, ControlError> {
        self.inner.mailbox.read(None, timeout).await
    }

    /// A conversation: all its prompts run in order on the same instance.
    pub fn session(&self, key: impl Into<String>) -> Session {
        Session {
            manager: self.clone(),
            key: key.into(),
            on_loss: OnLoss::default(),
        }
    }

    pub(crate) async fn forget_session(&self, key: String) {
        self.inner
            .dispatcher
            .send(Message::Control(Control::Forget(key)))
            .await
            .ok();
    }

    /// The cluster at this moment.
    ///
    /// # Errors
    /// If the cluster has shut down.
    pub async fn status(&self) -> Result<ClusterStatus, ControlError> {
        self.control(Control::Status).await
    }

    /// Why an instance, by index or name, is in its state, on what evidence, and what happens to it next.
    ///
    /// ```no_run
    /// # async fn example(cluster: toolpool_cluster::ClusterManager) -> Result<(), Box<dyn std::error::Error>> {
    /// println!("{}", cluster.explain("main/2").await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such instance, or the cluster has shut down.
    pub async fn explain(&self, which: impl Into<Which>) -> Result<Explanation, ControlError> {
        let index = match which.into() {
            Which::Index(index) => {
                self.instance_name(index)?;
                index
            }
            Which::Name(name) => {
                let members = self.inner.members();
                let mut live = members.iter().enumerate();
                let found = live.find(|(_, member)| member.live && *member.name == *name);
                let live = || members.iter().filter(|member| member.live);
                let named = |member: Option<&Member>| {
                    member.map_or_else(String::new, |member| member.name.to_string())
                };
                found
                    .map(|(index, _)| index)
                    .ok_or_else(|| ControlError::NoSuchName {
                        first: named(live().next()),
                        last: named(live().next_back()),
                        name,
                    })?
            }
        };
        self.control(|answer| Control::Explain(index, answer)).await
    }

    /// The aggregate of all instances' health.
    ///
    /// # Errors
    /// If the cluster has shut down.
    pub async fn check_health(&self) -> Result<Health, ControlError> {
        Ok(self.status().await?.into())
    }

    /// Answers a tool that asks for a permission, where the cluster's policy is [`Approvals::Ask`]. The question and its
    /// name are in the event `PermissionAsked`, and in the status of the instance while it waits.
    ///
    /// # Errors
    /// [`ControlError::NotOpen`] if it waits for no answer (any more): nothing happened.
    ///
    /// [`Approvals::Ask`]: crate::Approvals::Ask
    pub async fn answer(
        &self,
        permission: PermissionId,
        answer: Answer,
    ) -> Result<(), ControlError> {
        self.control(|heard| Control::Answer(permission, answer, heard))
            .await?
    }

    /// Replaces an instance's process: the old one is gone before the new one starts. A turn that runs there ends
    /// indeterminate. Also heals its breaker, and brings a stopped or failed instance back.
    ///
    /// # Errors
    /// If there is no such instance, or it does not become ready again.
    pub async fn restart_instance(&self, index: usize) -> Result<(), ControlError> {
        self.instance_name(index)?;
        self.control(|answer| Control::Restart(index, answer))
            .await?
    }

    /// Replaces every process, one instance at a time and each after its turn. A new process is ready before the first old
    /// one goes: that of a spare, or else of one instance more of each tool, which stays for the while. So as many serve as
    /// before, and a tool that cannot be started any more costs nothing. What was stopped stays so. Dropping the future
    /// ends it after the instance at hand.
    ///
    /// Where instances share a process (`capacity`), there is none more, and a process goes on as long as one of them is
    /// up.
    ///
    /// # Errors
    /// [`ControlError::RestartStopped`] if a new process does not become ready: all that were not replaced yet keep
    /// theirs.
    pub async fn restart_all(&self) -> Result<(), ControlError> {
        self.roll().await
    }

    /// The indices of all instances that there are.
    fn live(&self) -> Vec<usize> {
        let members = self.inner.members();
        let each = members.iter().enumerate();
        let live = each.filter(|(_, member)| member.live);
        live.map(|(index, _)| index).collect()
    }

    /// Lets an instance finish its turn and stop; it stays stopped until [`ClusterManager::restart_instance`].
    ///
    /// # Errors
    /// If there is no such instance.
    pub async fn drain_instance(&self, index: usize) -> Result<(), ControlError> {
        self.instance_name(index)?;
        self.inner
            .dispatcher
            .send(Message::Control(Control::Drain(index)))
            .await
            .map_err(|_| ControlError::ShutDown)
    }

    pub(crate) async fn await_settled(&self, index: usize) -> Result<(), ControlError> {
        self.control(|answer| Control::AwaitSettled(index, answer))
            .await?
    }

    /// Takes no more prompts, waits for those that it has, for as long as the builder's `drain_timeout` says, then stops
    /// every process tree.
    pub async fn shutdown(&self) -> ShutdownReport {
        self.shutdown_within(self.inner.drain_timeout).await
    }

    /// As [`ClusterManager::shutdown`] with a time of the caller's own. Prompts that have not ended by then are
    /// cancelled in the queue, or end indeterminate on their instance.
    pub async fn shutdown_within(&self, within: Duration) -> ShutdownReport {
        // A cluster that has gone already has nothing to report.
        self.control(|done| Control::Shutdown { within, done })
            .await
            .unwrap_or_default()
    }

    /// As [`ClusterManager::shutdown`] with no patience at all: every process tree is killed at once, without a request to
    /// end before. Also while the cluster shuts down already.
    pub async fn kill(&self) -> ShutdownReport {
        self.control(Control::Kill).await.unwrap_or_default()
    }

    /// Follows the cluster's events from now on.
    pub fn subscribe(&self) -> Events {
        let events = self.inner.events.upgrade();
        // Of a cluster that has stopped there is nothing to hear.
        let events = events.unwrap_or_else(|| broadcast::Sender::new(1));
        Events(events.subscribe())
    }

    /// The instances' names, by index, up to the last one that there is. In a cluster of several tools one that was
    /// scaled away keeps its place among them.
    pub fn instances(&self) -> Vec<Arc<str>> {
        self.each(|member| Arc::clone(&member.name))
    }

    /// The profiles of the instances' tools, by index, as [`ClusterManager::instances`].
    pub fn profiles(&self) -> Vec<Arc<ToolProfile>> {
        self.each(|member| Arc::clone(&member.profile))
    }

    fn each<T>(&self, of: impl Fn(&Member) -> T) -> Vec<T> {
        let members = self.inner.members();
        let last = members.iter().rposition(|member| member.live);
        let there = members.iter().take(last.map_or(0, |last| last + 1));
        there.map(of).collect()
    }

    fn instance_name(&self, index: usize) -> Result<Arc<str>, ControlError> {
        let members = self.inner.members();
        let member = members.get(index).filter(|member| member.live);
        let name = member.map(|member| Arc::clone(&member.name));
        drop(members);
        name.ok_or_else(|| self.no_instance(index))
    }

    fn no_instance(&self, index: usize) -> ControlError {
        let last = self.live().last().copied().unwrap_or(0);
        ControlError::NoInstance { index, last }
    }

    async fn control<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.inner
            .dispatcher
            .send(Message::Control(ask(answer)))
            .await
            .map_err(|_| ControlError::ShutDown)?;
        answered.await.map_err(|_| ControlError::ShutDown)
    }
}

/// A reply on its way. Dropping it withdraws the prompt, unless that has a key.
#[derive(Debug)]
pub struct ReplyStream {
    manager: ClusterManager,
    pub(crate) reader: ReplyReader,
    detached: bool,
}

impl ReplyStream {
    /// The turn's number.
    pub fn turn(&self) -> TurnId {
        self.reader.turn()
    }

    /// The next piece of the reply, cut anywhere; None at its end.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        self.reader.chunk().await
    }

    /// The whole reply, once it has ended.
    ///
    /// # Errors
    /// As [`ClusterManager::ask`].
    pub async fn reply(mut self) -> Result<Reply, AskError> {
        let reply = self.reader.reply().await?;
        if reply.outcome == Outcome::Completed {
            Ok(reply)
        } else {
            Err(AskError::Turn(Box::new(reply)))
        }
    }

    /// Withdraws the prompt. The reply still ends, as cancelled or indeterminate.
    pub async fn cancel(&self) {
        let cancel = Message::Control(Control::Cancel(self.turn()));
        self.manager.inner.dispatcher.send(cancel).await.ok();
    }

    /// Lets the turn go on when this handle is dropped.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        if !self.detached && !self.reader.has_ended() {
            let cancel = Message::Control(Control::Cancel(self.turn()));
            // With a full mailbox the turn runs to its end, unread.
            self.manager.inner.dispatcher.try_send(cancel).ok();
        }
    }
}
