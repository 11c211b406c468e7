//! What can be seen of a pool from outside.
//!
//! Owns the board on which each instance's task writes down where it stands. Must not decide anything. Invariant: the
//! board is written by its task alone, and reading it never waits for the task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::error::PoolError;
use super::worker::Ending;
use crate::launcher::Exit;
use crate::procfs::rss_bytes;

/// What one instance is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Its index.
    pub index: usize,
    /// Its process lives.
    pub alive: bool,
    /// Its process lives, has shown that it takes prompts, and is not being ended.
    pub ready: bool,
    /// A turn is running.
    pub busy: bool,
    /// The process id, if it lives.
    pub pid: Option<u32>,
    /// The exit code of the last process, if it is dead and exited.
    pub return_code: Option<i32>,
    /// The signal that killed the last process, if it is dead and one did.
    pub signal: Option<i32>,
    /// Counts the processes that the instance has had.
    pub generation: u64,
    /// Counts the turns that were begun on all of its processes.
    pub turns: u64,
    /// Prompts that were sent and whose replies were not read.
    pub unread: usize,
    /// Why the last process that ended did so, and the last lines that it printed; empty if none has ended.
    pub last_error: Vec<String>,
    /// Resident memory of the process itself, in bytes.
    pub rss_bytes: Option<u64>,
}

/// A pool as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolHealth {
    /// How many instances there are.
    pub total: usize,
    /// How many have a live process.
    pub alive: usize,
    /// How many have none.
    pub dead: usize,
    /// How many take prompts, idle or busy.
    pub ready: usize,
    /// Each of them.
    pub instances: Vec<ProcessStatus>,
}

impl PoolHealth {
    pub(super) fn of(instances: Vec<ProcessStatus>) -> Self {
        let alive = instances.iter().filter(|instance| instance.alive).count();
        Self {
            total: instances.len(),
            alive,
            dead: instances.len() - alive,
            ready: instances.iter().filter(|instance| instance.ready).count(),
            instances,
        }
    }
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShutdownReport {
    /// Indexes whose processes ended by themselves after SIGTERM.
    pub terminated: Vec<usize>,
    /// Indexes whose processes needed SIGKILL.
    pub killed: Vec<usize>,
    /// Indexes that had no live process any more.
    pub already_dead: Vec<usize>,
    /// Indexes whose processes survived SIGKILL for five seconds, for example in an uninterruptible system call.
    pub survivors: Vec<usize>,
}

impl ShutdownReport {
    pub(super) fn add(&mut self, ending: Ending) {
        match ending {
            Ending::Terminated(index) => self.terminated.push(index),
            Ending::Killed(index) => self.killed.push(index),
            Ending::AlreadyDead(index) => self.already_dead.push(index),
            Ending::Survives(index) => self.survivors.push(index),
        }
    }

    pub(super) fn sort(&mut self) {
        for indexes in [
            &mut self.terminated,
            &mut self.killed,
            &mut self.already_dead,
            &mut self.survivors,
        ] {
            indexes.sort_unstable();
        }
    }
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being started, or waiting for its turn to be started.
    Starting,
    /// It takes prompts.
    Ready,
    /// Being ended.
    Stopping,
    /// Ended.
    Dead,
    /// The pool is shut down.
    ShutDown,
}

#[derive(Debug)]
struct Standing {
    phase: Phase,
    busy: bool,
    pid: Option<u32>,
    exit: Option<Exit>,
    generation: u64,
    turns: u64,
    last_error: Vec<String>,
}

/// One instance's board.
#[derive(Debug)]
pub(super) struct Board {
    index: usize,
    standing: Mutex<Standing>,
}

impl Board {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            standing: Mutex::new(Standing {
                phase: Phase::Starting,
                busy: false,
                pid: None,
                exit: None,
                generation: 0,
                turns: 0,
                last_error: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // Nothing in here can panic half-way, so a poisoned lock still holds whole data.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Whether a prompt can be taken now.
    pub(super) fn accepts(&self) -> Result<(), PoolError> {
        let standing = self.lock();
        match standing.phase {
            Phase::Starting | Phase::Ready | Phase::Stopping => Ok(()),
            Phase::Dead => Err(PoolError::Dead {
                index: self.index,
                reason: standing.last_error.first().cloned().unwrap_or_default(),
            }),
            Phase::ShutDown => Err(PoolError::ShutDown),
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// A new process is about to be started.
    pub(super) fn starts(&self) {
        let mut standing = self.lock();
        standing.phase = Phase::Starting;
        standing.generation += 1;
        standing.exit = None;
    }

    pub(super) fn has_process(&self, pid: Option<u32>) {
        self.lock().pid = pid;
    }

    pub(super) fn begins_turn(&self) {
        let mut standing = self.lock();
        standing.busy = true;
        standing.turns += 1;
    }

    pub(super) fn ends_turn(&self) {
        self.lock().busy = false;
    }

    /// There is no process any more: `why` in one line, then what it printed.
    pub(super) fn dies(&self, exit: Option<Exit>, why: String, last_lines: Vec<String>) {
        let mut standing = self.lock();
        standing.phase = Phase::Dead;
        standing.pid = None;
        standing.exit = exit;
        standing.last_error = last_lines;
        standing.last_error.insert(0, why);
    }

    pub(super) fn status(&self, unread: usize) -> ProcessStatus {
        let standing = self.lock();
        let mut status = ProcessStatus {
            index: self.index,
            alive: standing.pid.is_some(),
            ready: standing.phase == Phase::Ready,
            busy: standing.busy,
            pid: standing.pid,
            return_code: standing.exit.and_then(|exit| exit.code),
            signal: standing.exit.and_then(|exit| exit.signal),
            generation: standing.generation,
            turns: standing.turns,
            unread,
            last_error: standing.last_error.clone(),
            rss_bytes: None,
        };
        drop(standing);
        status.rss_bytes = status.pid.and_then(rss_bytes);
        status
    }
}
