//! CHOOSES: which instance gets the next prompt.
//!
//! Owns the [`Strategy`] trait and the strategies that come with toolpool. Must not know processes, queues or time:
//! there is no async, no clock, no I/O and no unseeded randomness here. Invariant: a strategy only ever names a
//! candidate that it was shown.

mod least_busy;
mod named;
mod rotation;
mod round_robin;
mod sticky;
mod strategy;

pub use least_busy::LeastBusy;
pub use named::{Routing, UnknownRouting};
pub use round_robin::RoundRobin;
pub use sticky::{SESSION_INSTANCE_GONE, Sticky, TOO_MANY_SESSIONS};
pub use strategy::{Candidate, InstanceId, Route, RouteRequest, Strategy};
