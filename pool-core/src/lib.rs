//! ACTS: runs interactive command-line tools and talks to them.
//!
//! Owns processes, bytes, protocols and containment. Must not know clusters, queues or strategies, and never decides to
//! restart. Invariant: reading never waits for writing or the other way round, every buffer is bounded, and no process
//! outlives its [`Process`](launcher::Process) handle.

mod cgroup;
mod connection;
mod conversation;
mod folder;
mod job;
mod keeper;
mod launch;
pub mod launcher;
mod open_files;
pub mod outcome;
mod planted;
pub mod process_pool;
mod procfs;
pub mod profile;
pub mod prompt;
pub mod protocol;
mod pty;
mod sharing;
pub mod shim;
mod spawner;
mod standstill;
mod tail;
mod turn_runner;
mod unsent;

pub use connection::{Connection, Happening, Pulse};
pub use conversation::Conversation;
pub use folder::is_free;
pub use launch::{LaunchError, LaunchOptions, check, login_mark};
pub use open_files::{TooFewOpenFiles, reserve_open_files};
#[doc(hidden)]
pub use planted::planted;
pub use process_pool::{
    PoolError, PoolHealth, ProcessPool, ProcessStatus, Response, ShutdownReport,
};
pub use procfs::rss_bytes;
pub use sharing::SharingLauncher;
pub use standstill::stood_still;
pub use tail::{Ends, Printed};
