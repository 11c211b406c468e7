//! One process for several instances, where a tool can hold several conversations at once.
//!
//! Owns the processes that are shared, and the *lanes*: what an instance takes for a process of its own. Must not know
//! protocols; who is meant by a line is the business of [`lanes`]. Invariant: a lane ends alone only when the process owes
//! it nothing. Whoever stops one in the middle of a turn stops the process and all of its lanes, because nobody could say
//! what the process would still do for the lost one.

mod input;
mod lane;
mod lanes;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;

use crate::launcher::{LaunchSpec, Launcher, Process};
use lane::Shared;

/// Gives each launch a lane of a process that it shares with others, and starts a process only when all are full.
///
/// For the tools whose profile says [`shares`](crate::profile::ToolProfile::shares), all launches being of one tool with
/// the same arguments and environment. Instances that share a process work in one folder, since a process has one.
pub struct SharingLauncher {
    inner: Arc<dyn Launcher>,
    capacity: usize,
    /// Held during a start, so that instances that start together come into one process.
    processes: tokio::sync::Mutex<Vec<(PathBuf, Weak<Shared>)>>,
}

impl SharingLauncher {
    /// At most `capacity` lanes in each process that `inner` starts; 0 counts as 1.
    pub fn new(inner: Arc<dyn Launcher>, capacity: usize) -> Self {
        Self {
            inner,
            capacity: capacity.max(1),
            processes: tokio::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl Launcher for SharingLauncher {
    async fn launch(&self, spec: &LaunchSpec) -> io::Result<Process> {
        let mut processes = self.processes.lock().await;
        processes.retain(|(_, process)| process.strong_count() > 0);
        let lane = processes
            .iter()
            .filter(|(folder, _)| *folder == spec.cwd)
            .find_map(|(_, process)| process.upgrade()?.open_lane(self.capacity));
        if let Some(lane) = lane {
            return Ok(lane);
        }
        let shared = Shared::start(self.inner.launch(spec).await?, spec.state.clone());
        let lane = shared
            .open_lane(self.capacity)
            .ok_or_else(|| io::Error::other("the process ended at once"))?;
        processes.push((spec.cwd.clone(), Arc::downgrade(&shared)));
        Ok(lane)
    }
}

/// A lock whose holder panicked holds nothing half-done: all changes under it are single steps.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
