//! N processes of one tool, addressed by index: the pool for programs that decide everything else themselves.
//!
//! Owns the processes' tasks and what goes to and from them. Must not restart by itself, choose an instance or
//! remember prompts beyond their replies: that is the cluster's job. Invariants: an index has one live process at most;
//! a prompt gets exactly one response; queues and unread replies are bounded; dropping the pool kills what it started.

mod error;
mod response;
mod status;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::launch::{LaunchOptions, check};
use crate::open_files::reserve_open_files;
use crate::profile::ToolProfile;
use crate::prompt::{Prompt, TurnId};

pub use error::PoolError;
use response::Answered;
pub use response::Response;
use status::Board;
pub use status::{PoolHealth, ProcessStatus, ShutdownReport};
use worker::{Ending, Setup, Ticket, Worker};

/// The most instances of a pool.
pub const MAX_INSTANCES: usize = 1000;

/// The most prompts of one instance that are sent and whose replies are not read: waiting, running and answered.
pub const MAX_UNREAD: usize = 64;

/// Restarts of one instance that wait for the one before.
const RESTARTS: usize = 4;

/// How to end a restart: told to the caller who asked for it.
type RestartAnswer = oneshot::Sender<Result<(), PoolError>>;

/// Running processes of one tool, by index.
///
/// Every method may be called from any task at any time; share the pool with an `Arc`. Dropping it kills its processes
/// with SIGKILL; [`ProcessPool::shutdown`] gives them time and waits for their ends.
pub struct ProcessPool {
    instances: Vec<Instance>,
    next_turn: AtomicU64,
    stopping: watch::Sender<Option<Instant>>,
    tasks: Mutex<JoinSet<Ending>>,
}

/// The pool's end of one instance's task.
struct Instance {
    board: Arc<Board>,
    room: Arc<Semaphore>,
    prompts: mpsc::Sender<Ticket>,
    restarts: mpsc::Sender<RestartAnswer>,
    responses: Mutex<mpsc::Receiver<Answered>>,
}

impl ProcessPool {
    /// Starts `count` processes of a tool, 1 to 1000, and waits until all of them are ready for a prompt. At most two
    /// for each processor are being started at the same time, and each has the profile's `start_timeout`.
    ///
    /// # Errors
    /// If one of them cannot be started or does not become ready; the others are ended then and nothing is left
    /// behind.
    ///
    /// # Cancel safety
    /// If the future is dropped, everything that was started is killed.
    pub async fn launch(
        profile: ToolProfile,
        count: usize,
        options: LaunchOptions,
    ) -> Result<Self, PoolError> {
        if !(1..=MAX_INSTANCES).contains(&count) {
            return Err(PoolError::Count { count });
        }
        // What is missing for all is said once, before anything is started.
        check(&profile, &options).map_err(|source| PoolError::Launch { index: 0, source })?;
        reserve_open_files(count)?;
        let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let setup = Arc::new(Setup {
            profile,
            options,
            starts: Semaphore::new(at_once),
        });
        let (stopping, stop_asked) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let instances = (0..count)
            .map(|index| {
                let (prompts, prompts_taken) = mpsc::channel(MAX_UNREAD);
                let (restarts, restarts_taken) = mpsc::channel(RESTARTS);
                let (answers, responses) = mpsc::channel(MAX_UNREAD);
                let board = Arc::new(Board::new(index));
                let worker = Worker::new(Arc::clone(&setup), Arc::clone(&board), answers);
                tasks.spawn(worker.run(prompts_taken, restarts_taken, stop_asked.clone()));
                Instance {
                    board,
                    room: Arc::new(Semaphore::new(MAX_UNREAD)),
                    prompts,
                    restarts,
                    responses: Mutex::new(responses),
                }
            })
            .collect();
        let pool = Self {
            instances,
            next_turn: AtomicU64::new(1),
            stopping,
            tasks: Mutex::new(tasks),
        };
        if let Err(error) = pool.start_all().await {
            pool.shutdown(Duration::ZERO).await;
            return Err(error);
        }
        Ok(pool)
    }

    async fn start_all(&self) -> Result<(), PoolError> {
        let mut starts = JoinSet::new();
        for instance in &self.instances {
            let (answer, started) = oneshot::channel();
            // There is room: nobody else has the pool yet.
            instance
                .restarts
                .try_send(answer)
                .map_err(|_| PoolError::ShutDown)?;
            starts.spawn(started);
        }
        while let Some(started) = starts.join_next().await {
            match started {
                Ok(Ok(result)) => result?,
                _ => return Err(PoolError::ShutDown),
            }
        }
        Ok(())
    }

    /// How many instances the pool has.
    pub fn count(&self) -> usize {
        self.instances.len()
    }

    /// Gives an instance a prompt: one prompt is one turn, whatever its text contains, and turns run one at a time in
    /// the order sent. Does not wait.
    ///
    /// What the tool's protocol refuses (an empty prompt, one that is too long) is told by the response.
    ///
    /// # Errors
    /// If there is no such instance, its process is dead, or 64 of its replies are still unread. The prompt was not
    /// accepted then.
    pub fn send_prompt(
        &self,
        index: usize,
        prompt: impl Into<Prompt>,
    ) -> Result<TurnId, PoolError> {
        let instance = self.instance(index)?;
        instance.board.accepts()?;
        let room = Arc::clone(&instance.room)
            .try_acquire_owned()
            .map_err(|_| PoolError::QueueFull { index })?;
        let turn = TurnId(self.next_turn.fetch_add(1, Ordering::Relaxed));
        let ticket = Ticket {
            turn,
            prompt: prompt.into(),
            room,
        };
        // The queue is as long as there is room, so it can only be closed.
        instance
            .prompts
            .try_send(ticket)
            .map_err(|_| PoolError::ShutDown)?;
        Ok(turn)
    }

    /// Waits for the whole reply to the oldest prompt of an instance that was not read yet. If no prompt has been sent,
    /// waits for one. Several readers of one instance get one response each.
    ///
    /// # Errors
    /// [`PoolError::Timeout`] when the time is over; the reply is not lost then, the next read gets it.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn read_response(
        &self,
        index: usize,
        timeout: Duration,
    ) -> Result<Response, PoolError> {
        let instance = self.instance(index)?;
        let read = async { instance.responses.lock().await.recv().await };
        match tokio::time::timeout(timeout, read).await {
            Ok(Some(answered)) => Ok(answered.response),
            Ok(None) => Err(PoolError::ShutDown),
            Err(_) => Err(PoolError::Timeout {
                index,
                timeout,
                unread: instance.unread(),
            }),
        }
    }

    /// What each instance is doing, by index. Reads a line of `/proc` for each live process.
    pub fn get_status(&self) -> Vec<ProcessStatus> {
        self.instances
            .iter()
            .map(|instance| instance.board.status(instance.unread()))
            .collect()
    }

    /// The instances together: how many are alive and how many can serve.
    pub fn check_health(&self) -> PoolHealth {
        PoolHealth::of(self.get_status())
    }

    /// Ends the process of an instance, if one lives, and starts another when the old one's whole process group is
    /// gone: SIGTERM, up to five seconds, SIGKILL. Waits until the new one is ready.
    ///
    /// A running turn is answered as indeterminate, or as failed if nothing of it was written. Prompts that wait stay
    /// and go to the new process.
    ///
    /// # Errors
    /// If the old process survives SIGKILL or the new one does not become ready; the instance is dead then.
    ///
    /// # Cancel safety
    /// The restart goes on if the future is dropped.
    pub async fn restart_instance(&self, index: usize) -> Result<(), PoolError> {
        let instance = self.instance(index)?;
        let (answer, restarted) = oneshot::channel();
        instance
            .restarts
            .send(answer)
            .await
            .map_err(|_| PoolError::ShutDown)?;
        restarted.await.map_err(|_| PoolError::ShutDown)?
    }

    /// Ends all processes at once: SIGTERM to each process group, then up to `timeout`, then SIGKILL, and waits for the
    /// ends. Turns that run may still end by themselves in that time; then and afterwards their responses can be read.
    /// Prompts that wait are answered as failed. The pool takes nothing any more.
    ///
    /// A later call may shorten the time of an earlier one; its report counts only what the earlier one left.
    pub async fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = Instant::now() + timeout;
        self.stopping.send_modify(|asked| {
            *asked = Some(asked.map_or(deadline, |earlier| earlier.min(deadline)));
        });
        let mut report = ShutdownReport::default();
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.join_next().await {
            if let Ok(ending) = ended {
                report.add(ending);
            }
        }
        report.sort();
        report
    }

    fn instance(&self, index: usize) -> Result<&Instance, PoolError> {
        self.instances.get(index).ok_or(PoolError::NoSuchInstance {
            index,
            count: self.count(),
        })
    }
}

impl Instance {
    fn unread(&self) -> usize {
        MAX_UNREAD - self.room.available_permits()
    }
}
