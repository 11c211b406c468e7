//! DECIDES: N instances behind one queue.
//!
//! Owns the queue, scheduling, supervision, breakers, sessions, worktrees and the event history, and
//! [`launch_cluster`], which brings them together. Must not know how a tool is spoken to (that is `pool-core`) or how a
//! strategy chooses (that is `routing`): this is the only crate that knows both. Invariants: what is accepted is in the
//! books until it ends; a prompt of which a byte may have been read is never sent again; tasks are started by `launch`, and
//! where a cluster is scaled.

mod approvals;
mod backoff;
mod breaker;
mod clock;
mod dispatcher;
mod durable;
mod error;
mod event;
mod explain;
mod fit;
mod history;
mod instance;
mod launch;
mod mailbox;
mod manager;
mod permission;
mod planted;
mod replacing;
mod replaying;
mod reply;
mod restarts;
mod retry;
mod scheduler;
#[doc(hidden)]
pub mod seconds;
mod session;
#[cfg(test)]
mod simulation;
mod starting;
mod status;
mod store;
mod submission;
mod supervisor;
mod turn;
pub mod worktree;

pub use approvals::Approvals;
pub use breaker::BreakerConfig;
pub use error::{AskError, ClusterError, ControlError, SubmitError};
pub use event::{Event, EventKind, EventSink};
pub use explain::{Evidence, Explanation, Next, Which};
pub use fit::MAX_GROUPS;
pub use history::{Events, Heard};
pub use instance::InstanceState;
pub use launch::{
    ClusterBuilder, Group, Isolation, MAX_COUNT, ToolSet, ToolSpec, ToolSpecError, launch_cluster,
};
pub use manager::{ClusterManager, ReplyStream};
pub use permission::PermissionId;
pub use replacing::Recycle;
pub use reply::Reply;
pub use restarts::{RestartLimit, RestartPolicy};
pub use retry::{Doubtful, NoRetryPolicy, Reconciled, Reconciler, RetryPolicy};
pub use scheduler::Books;
pub use session::{NoOnLoss, OnLoss, Session};
pub use status::{
    ClusterStatus, Health, InstanceStatus, KeptWork, PauseCause, Paused, Scaled, ShutdownReport,
    WaitingFor,
};
pub use store::{Accepted, Conversing, Dispatching, Done, Known, Record, Said, Store, StoreError};
pub use submission::Submission;
#[doc(hidden)]
pub use toolpool_pool_core::planted;
// The fields of events, records and replies can be named without the crate below.
pub use toolpool_pool_core::outcome::{
    Attribution, Doubt, DoubtCause, Failure, FailureClass, Grade, Outcome, Usage,
};
pub use toolpool_pool_core::prompt::{Prompt, PromptKind, TurnId};
pub use toolpool_pool_core::protocol::Answer;
