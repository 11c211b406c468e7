//! The limits of one instance, and what its tool may do.
//!
//! Owns their defaults. Must not know where they are set. Invariant: each wait of the machine has a limit here.

use std::time::{Duration, Instant};

use crate::approvals::Approvals;
use crate::breaker::BreakerConfig;
use crate::restarts::{RestartLimits, RestartPolicy};

/// Callers say "no limit" with the largest duration there is. This much is no limit either, and can be added to a time.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When a wait that begins now is over.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(LONGEST_WAIT)
}

/// How long an instance waits for what.
#[derive(Clone, Debug)]
pub(crate) struct InstanceConfig {
    /// From spawn to ready.
    pub(crate) start_timeout: Duration,
    /// From a turn's start to its end, without the time in which it waits for a human; then the process is killed.
    pub(crate) turn_timeout: Duration,
    /// As long as the tool takes none of the bytes that wait to be written to it; then the process is killed.
    pub(crate) write_timeout: Duration,
    /// From a turn's start to the first byte of any kind; then the process is killed.
    pub(crate) first_byte_timeout: Duration,
    /// From the last byte of any kind to the next one in a turn; then the process is killed.
    pub(crate) silence_timeout: Duration,
    /// The most resident memory that the process may have in a turn, in bytes; then it is killed.
    pub(crate) memory_limit: Option<u64>,
    /// What is answered when its tool asks for a permission.
    pub(crate) approvals: Approvals,
    /// From a question to a human's answer; then the answer is no.
    pub(crate) approval_timeout: Duration,
    /// From a cancel to the tool's confirmation; then the process is killed.
    pub(crate) interrupt_grace: Duration,
    /// Whether its tool can stop a turn and live on. Where it cannot, to be killed for a cancel is no failure of its own.
    pub(crate) interruptible: bool,
    /// From SIGTERM to SIGKILL.
    pub(crate) stop_grace: Duration,
    /// From SIGKILL to giving the process up.
    pub(crate) kill_wait: Duration,
    /// When a process that has ended is followed by another.
    pub(crate) restart: RestartPolicy,
    /// First wait before a restart. The second is ten times as long; then it doubles while the tool keeps failing.
    pub(crate) restart_delay: Duration,
    /// Longest wait before a restart.
    pub(crate) restart_delay_max: Duration,
    /// How long an instance must live after a failure to count as healthy without a turn.
    pub(crate) probation: Duration,
    /// When failures in a row stop the restarts for a while.
    pub(crate) breaker: BreakerConfig,
    /// When the number of restarts stops them for a while, whatever lies between them.
    pub(crate) restarts: RestartLimits,
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(60),
            turn_timeout: Duration::from_secs(20 * 60),
            write_timeout: Duration::from_secs(5 * 60),
            // A tool may work for long without a word: a shell that builds something, a model that thinks.
            first_byte_timeout: Duration::MAX,
            silence_timeout: Duration::MAX,
            memory_limit: None,
            approvals: Approvals::default(),
            approval_timeout: Duration::from_secs(5 * 60),
            interrupt_grace: Duration::from_secs(10),
            interruptible: true,
            stop_grace: Duration::from_secs(3),
            kill_wait: Duration::from_secs(5),
            restart: RestartPolicy::default(),
            restart_delay: Duration::from_millis(200),
            restart_delay_max: Duration::from_secs(30),
            probation: Duration::from_secs(60),
            breaker: BreakerConfig::default(),
            restarts: RestartLimits::default(),
        }
    }
}
