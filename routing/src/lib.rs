//! CHOOSES: which instance gets the next prompt.
//!
//! Owns the [`Strategy`] trait and the strategies that come with toolpool. Must not know processes, queues or time:
//! there is no async, no clock, no I/O and no unseeded randomness here. Invariant: a strategy only ever names a
//! candidate that it was shown.

mod strategy;

pub use strategy::{Candidate, InstanceId, Route, RouteRequest, Strategy};
