//! ACTS: runs interactive command-line tools and talks to them.
//!
//! Owns processes, bytes, protocols and containment. Must not know clusters, queues or strategies, and never decides to
//! restart. Invariant: reading never waits for writing or the other way round, every buffer is bounded, and no process
//! outlives its [`Process`](launcher::Process) handle.

pub mod outcome;
pub mod prompt;
pub mod protocol;
