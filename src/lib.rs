//! Launches N long-lived copies of an interactive command-line tool and makes them one dependable service.
//!
//! Prompts are queued, routed, answered exactly once in the books; crashed instances come back behind a circuit breaker;
//! everything is measured. This crate is the supported API: it re-exports, by name, what a user of the library needs.
//!
//! ```no_run
//! use toolpool::{Routing, launch_cluster};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Lets each tool have a session of its own and a keeper, which leaves nothing behind; call it first.
//!     toolpool::init();
//!
//!     let cluster = launch_cluster("aider").count(3).routing(Routing::LeastBusy).await?;
//!     let reply = cluster.ask("Add a docstring to a.py").await?;
//!     println!("{} ({:?}, {:?})", reply.text, reply.instance, reply.took);
//!     cluster.shutdown().await;
//!     Ok(())
//! }
//! ```

pub use toolpool_cluster::worktree;
pub use toolpool_cluster::{
    Accepted, Answer, Approvals, AskError, Books, BreakerConfig, ClusterBuilder, ClusterError,
    ClusterManager, ClusterStatus, ControlError, Conversing, Dispatching, Done, Doubtful, Event,
    EventKind, EventSink, Events, Evidence, Explanation, Group, Health, Heard, InstanceState,
    InstanceStatus, Isolation, KeptWork, Known, MAX_COUNT, MAX_GROUPS, Next, NoOnLoss,
    NoRetryPolicy, OnLoss, PauseCause, Paused, PermissionId, Reconciled, Reconciler, Record,
    Recycle, Reply, ReplyStream, RestartLimit, RestartPolicy, RetryPolicy, Said, Scaled, Session,
    ShutdownReport, Store, StoreError, Submission, SubmitError, ToolSet, ToolSpec, ToolSpecError,
    WaitingFor, Which, launch_cluster,
};
pub use toolpool_journal as journal;
pub use toolpool_metrics::{Exporter, Metrics, MetricsSink};
pub use toolpool_pool_core::launcher;
pub use toolpool_pool_core::outcome::{
    Attribution, Doubt, DoubtCause, Failure, FailureClass, Grade, Outcome, Usage,
};
pub use toolpool_pool_core::process_pool;
pub use toolpool_pool_core::profile::{Catalog, ProfileError, ToolProfile, builtin_names};
pub use toolpool_pool_core::prompt::{Prompt, PromptKind, Refusal, TurnId};
pub use toolpool_pool_core::shim::{Containment, containment, init, init_with, is_initialized};
pub use toolpool_pool_core::{
    Ends, LaunchError, LaunchOptions, Printed, check, login_mark, rss_bytes,
};
pub use toolpool_routing::{
    Candidate, InstanceId, LeastBusy, RoundRobin, Route, RouteRequest, Routing, Sticky, Strategy,
};
