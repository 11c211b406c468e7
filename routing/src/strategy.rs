//! The contract between the scheduler and a strategy.
//!
//! Owns: what a strategy may see and what it may answer. Must not know: processes, queues, clocks, randomness it was
//! not seeded with. Invariant: `route` is a pure decision; it returns at once and changes nothing but the strategy itself.

use std::time::Duration;

/// The index of an instance in its cluster, `0..count`. It stays the same over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub usize);

/// What a strategy may know of the prompt that waits for a place.
#[derive(Clone, Debug, Default)]
pub struct RouteRequest<'a> {
    /// The session key, for prompts that belong to a conversation.
    pub session: Option<&'a str>,
    /// Free labels that the caller attached, for strategies of the user's own.
    pub labels: &'a [(String, String)],
    /// How long the prompt has been queued.
    pub waited: Duration,
    /// The prompt's length in bytes.
    pub prompt_bytes: usize,
}

impl RouteRequest<'_> {
    /// The value of the first label named `name`.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One instance as a strategy sees it. Instances that cannot take a prompt now are listed too, with `available` false,
/// so that a strategy may prefer to wait for one of them. Instances that do not fit the prompt, because it asks for
/// another tool or role, are not shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Which instance this is.
    pub id: InstanceId,
    /// True if a prompt routed to it now would start at once.
    pub available: bool,
    /// Turns running on it now.
    pub in_flight: usize,
    /// How many turns it can run at once.
    pub capacity: usize,
    /// Queued prompts of sessions that are pinned to this instance.
    pub pinned_waiting: usize,
    /// Sessions that live on this instance.
    pub sessions: usize,
    /// The share of recent time it was busy, 0.0 to 1.0, decaying. A failed turn counts as a slow one, or the instance
    /// that fails fastest would look least busy.
    pub busy_ratio: f64,
    /// How long it has been idle; zero while it is busy.
    pub idle_for: Duration,
}

/// A strategy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Give the prompt to this instance. Naming one that is not available means: keep it for that instance.
    To(InstanceId),
    /// Keep the prompt queued and ask again when something changes.
    Wait,
    /// Refuse the prompt for this reason.
    Reject(&'static str),
}

/// Chooses an instance for a prompt. Users plug in their own.
///
/// The scheduler calls `route` from one task, for one prompt at a time, each time something changed that may let the
/// prompt run. An implementor must not block, must not keep time of its own, and must be ready to be asked about the
/// same prompt again after it answered [`Route::Wait`].
///
/// ```
/// use toolpool_routing::{Candidate, Route, RouteRequest, Strategy};
///
/// /// Always the first instance that is free.
/// struct FirstFree;
///
/// impl Strategy for FirstFree {
///     fn name(&self) -> &'static str {
///         "first-free"
///     }
///     fn route(&mut self, _: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
///         candidates
///             .iter()
///             .find(|candidate| candidate.available)
///             .map_or(Route::Wait, |candidate| Route::To(candidate.id))
///     }
/// }
/// ```
pub trait Strategy: Send {
    /// A short lower-case name; it becomes the `strategy` label of the metrics.
    fn name(&self) -> &'static str;
    /// Decides where the prompt goes.
    fn route(&mut self, request: &RouteRequest<'_>, candidates: &[Candidate]) -> Route;
    /// Tells the strategy that a session is over or lost, so that nothing of it need be remembered.
    fn forget(&mut self, _session: &str) {}
}

/// A boxed strategy is a strategy, so that wrappers such as [`Sticky`](crate::Sticky) take one chosen at run time.
impl<S: Strategy + ?Sized> Strategy for Box<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn route(&mut self, request: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        (**self).route(request, candidates)
    }
    fn forget(&mut self, session: &str) {
        (**self).forget(session);
    }
}
