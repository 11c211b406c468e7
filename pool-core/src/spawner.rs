//! The one thread that spawns.
//!
//! Owns the thread, and the end of a child that nobody waits for. Must not know what is spawned. Invariant: the thread
//! lives as long as the program, because the parent-death signal follows the *thread* that spawned: from a thread of
//! tokio's blocking pool it killed a healthy child after ten idle seconds (measured).

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::planted::planted;
use crate::standstill;

struct Job {
    command: Command,
    at_drop: Signal,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Spawned>>,
}

impl Job {
    fn run(mut self) {
        let _in_runtime = self.runtime.enter();
        let at_drop = self.at_drop;
        let spawned = self.command.spawn().map(|child| Spawned { child, at_drop });
        // If the caller has gone, the child comes back and is dropped here.
        self.answer.send(spawned).ok();
    }
}

/// A child that gets a signal when it is dropped while it lives. (tokio's own `kill_on_drop` knows SIGKILL alone, of
/// which a keeper would die before what it keeps.)
pub(crate) struct Spawned {
    pub(crate) child: Child,
    at_drop: Signal,
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // There is a number until the child has been waited for, so it cannot have passed to another process.
        let pid = self
            .child
            .id()
            .map(u32::cast_signed)
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, self.at_drop).ok();
        }
    }
}

/// Requests waiting for the thread; a spawn takes well under a millisecond, so the queue is short.
const QUEUE: usize = 64;

static JOBS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

/// Spawns a command from the spawning thread; the child belongs to the caller's runtime.
pub(crate) async fn spawn(command: Command, at_drop: Signal) -> io::Result<Spawned> {
    let gone = || io::Error::other("the spawning thread is gone");
    let (answer, spawned) = oneshot::channel();
    let job = Job {
        command,
        at_drop,
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
    standstill::watch();
    let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
    let run = move || {
        while let Some(job) = queue.blocking_recv() {
            if planted("spawned_by_passer_by") {
                std::thread::spawn(|| {
                    job.run();
                    // What it has started has asked by then to die with it.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                });
            } else {
                job.run();
            }
        }
    };
    // Where no thread can be made the sender's queue is closed and every spawn answers with an error.
    std::thread::Builder::new()
        .name("toolpool-spawn".to_owned())
        .spawn(run)
        .ok();
    jobs
}
