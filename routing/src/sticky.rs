//! A conversation stays where its context is.
//!
//! Owns the table from session key to instance. Must not know what a session contains, or when it ends: the scheduler
//! says so with [`Strategy::forget`]. Invariant: a session is never moved to another instance without its caller being
//! told, because the other instance knows nothing of the conversation.

use std::collections::{BTreeMap, HashMap};

use crate::{Candidate, InstanceId, Route, RouteRequest, Strategy};

/// Why [`Sticky`] rejects a prompt whose instance is no longer among the candidates. It says so once and forgets the
/// session, so that the next prompt of the same key knowingly begins a new conversation.
pub const SESSION_INSTANCE_GONE: &str = "session_instance_gone";

/// Why [`Sticky`] rejects the first prompt of a session when it already remembers as many as it may.
pub const TOO_MANY_SESSIONS: &str = "too_many_sessions";

/// Session affinity around any strategy.
///
/// The first prompt of a session goes where the inner strategy puts it. Every later one gets [`Route::To`] that same
/// instance, even while it is unavailable: the scheduler then keeps the prompt for it. Prompts without a session go to
/// the inner strategy.
///
/// ```
/// use toolpool_routing::{Candidate, InstanceId, RoundRobin, Route, RouteRequest, Sticky, Strategy};
/// # let candidate = |id, available| Candidate {
/// #     id: InstanceId(id), available, in_flight: 0, capacity: 1, pinned_waiting: 0, sessions: 0,
/// #     busy_ratio: 0.0, idle_for: std::time::Duration::ZERO,
/// # };
/// let mut strategy = Sticky::new(RoundRobin::new());
/// let alice = RouteRequest { session: Some("alice"), ..RouteRequest::default() };
/// let instances = [candidate(0, true), candidate(1, true)];
///
/// assert_eq!(strategy.route(&alice, &instances), Route::To(InstanceId(0)));
/// assert_eq!(strategy.route(&alice, &instances), Route::To(InstanceId(0)));
///
/// // Busy or down makes no difference: the conversation lives there.
/// let instances = [candidate(0, false), candidate(1, true)];
/// assert_eq!(strategy.route(&alice, &instances), Route::To(InstanceId(0)));
/// assert_eq!(strategy.pinned("alice"), Some(InstanceId(0)));
///
/// strategy.forget("alice");
/// assert_eq!(strategy.route(&alice, &instances), Route::To(InstanceId(1)));
/// ```
#[derive(Clone, Debug)]
pub struct Sticky<S> {
    inner: S,
    max_sessions: usize,
    /// Keys come from callers, hence a map whose hashing they cannot foresee. Its order is never looked at.
    pins: HashMap<Box<str>, InstanceId>,
    /// How many keys point at each instance; no entry means none.
    per_instance: BTreeMap<InstanceId, usize>,
}

impl<S> Sticky<S> {
    /// Remembers up to 100,000 sessions.
    pub fn new(inner: S) -> Self {
        Self::with_limit(inner, 100_000)
    }

    /// Remembers up to `max_sessions` sessions; beyond that new ones are rejected with [`TOO_MANY_SESSIONS`].
    pub fn with_limit(inner: S, max_sessions: usize) -> Self {
        Self {
            inner,
            max_sessions,
            pins: HashMap::new(),
            per_instance: BTreeMap::new(),
        }
    }

    /// The instance that a session lives on, if it has one.
    pub fn pinned(&self, session: &str) -> Option<InstanceId> {
        self.pins.get(session).copied()
    }

    /// How many sessions live on an instance.
    pub fn sessions_on(&self, id: InstanceId) -> usize {
        self.per_instance.get(&id).copied().unwrap_or(0)
    }

    /// How many sessions are remembered.
    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// True if no session is remembered.
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// Has a session live on an instance from now on, whatever the inner strategy would say: one that was known before.
    pub fn pin(&mut self, session: &str, id: InstanceId) {
        self.unpin(session);
        self.pins.insert(session.into(), id);
        *self.per_instance.entry(id).or_default() += 1;
    }

    fn unpin(&mut self, session: &str) {
        if let Some(id) = self.pins.remove(session)
            && let Some(count) = self.per_instance.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.per_instance.remove(&id);
            }
        }
    }
}

impl<S: Strategy> Strategy for Sticky<S> {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn route(&mut self, request: &RouteRequest<'_>, candidates: &[Candidate]) -> Route {
        let Some(session) = request.session else {
            return self.inner.route(request, candidates);
        };
        let exists = |id| candidates.iter().any(|candidate| candidate.id == id);
        if let Some(id) = self.pinned(session) {
            if exists(id) {
                return Route::To(id);
            }
            self.forget(session);
            return Route::Reject(SESSION_INSTANCE_GONE);
        }
        // Asked before the inner strategy, so that a refused session costs nobody a turn.
        if self.pins.len() >= self.max_sessions {
            return Route::Reject(TOO_MANY_SESSIONS);
        }
        let route = self.inner.route(request, candidates);
        // An inner strategy that names an instance which does not exist is the scheduler's to report; a pin to it
        // would only turn that into a misleading SESSION_INSTANCE_GONE later.
        if let Route::To(id) = route
            && exists(id)
        {
            self.pin(session, id);
        }
        route
    }

    fn forget(&mut self, session: &str) {
        self.unpin(session);
        self.inner.forget(session);
    }
}
