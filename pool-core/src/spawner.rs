//! The one thread that spawns.
//!
//! Owns the thread. Must not know what is spawned. Invariant: the thread lives as long as the program, because the
//! parent-death signal follows the *thread* that spawned: from a thread of tokio's blocking pool it killed a healthy
//! child after ten idle seconds (measured).

use std::io;
use std::sync::OnceLock;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

struct Job {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Requests waiting for the thread; a spawn takes well under a millisecond, so the queue is short.
const QUEUE: usize = 64;

static JOBS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

/// Spawns a command from the spawning thread; the child belongs to the caller's runtime.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the spawning thread is gone");
    let (answer, spawned) = oneshot::channel();
    let job = Job {
        command,
        runtime: Handle::current(),
        answer,
    };
    JOBS.get_or_init(start)
        .send(job)
        .await
        .map_err(|_| gone())?;
    spawned.await.map_err(|_| gone())?
}

fn start() -> mpsc::Sender<Job> {
    let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
    let run = move || {
        while let Some(mut job) = queue.blocking_recv() {
            let _in_runtime = job.runtime.enter();
            // If the caller has gone, the child comes back and its handle kills it on drop.
            job.answer.send(job.command.spawn()).ok();
        }
    };
    // Where no thread can be made the sender's queue is closed and every spawn answers with an error.
    std::thread::Builder::new()
        .name("toolpool-spawn".to_owned())
        .spawn(run)
        .ok();
    jobs
}
