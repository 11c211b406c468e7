//! Every family of metrics that goes through the recorder.
//!
//! Owns their names, kinds, units, descriptions and buckets. Must not know events. Invariant: a name is written here and
//! nowhere else; base units only, `_total` on counters alone.

use metrics::Unit;

/// What a family holds.
pub(crate) enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets in seconds.
    Histogram(&'static [f64]),
}

/// One family.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: Unit,
    pub(crate) help: &'static str,
}

/// Turns of agents run for minutes, so the buckets go up to an hour.
const TURN: &[f64] = &[
    0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];
/// First signs of life: of a tool that starts, or of a reply.
const FIRST: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// A queue is either empty, and the wait below a millisecond, or as long as turns are.
const QUEUE: &[f64] = &[
    0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0,
];

pub(crate) const BUILD_INFO: &str = "toolpool_build_info";
pub(crate) const INSTANCES: &str = "toolpool_instances";
pub(crate) const INSTANCES_DESIRED: &str = "toolpool_instances_desired";
pub(crate) const INSTANCE_STATE: &str = "toolpool_instance_state";
pub(crate) const INSTANCE_STATE_SINCE: &str = "toolpool_instance_state_since_timestamp_seconds";
pub(crate) const INSTANCE_STARTED: &str = "toolpool_instance_started_timestamp_seconds";
pub(crate) const INSTANCE_EXITS: &str = "toolpool_instance_exits_total";
pub(crate) const INSTANCE_LEAKS: &str = "toolpool_instance_leaks_total";
pub(crate) const INSTANCE_RESTARTS: &str = "toolpool_instance_restarts_total";
pub(crate) const INSTANCE_CRASH_LOOPING: &str = "toolpool_instance_crash_looping";
pub(crate) const INSTANCE_CRASH_LOOPS: &str = "toolpool_instance_crash_loops_total";
pub(crate) const INSTANCE_SILENT_SINCE: &str = "toolpool_instance_silent_since_timestamp_seconds";
pub(crate) const INSTANCE_START_DURATION: &str = "toolpool_instance_start_duration_seconds";
pub(crate) const TURNS: &str = "toolpool_turns_total";
pub(crate) const TURNS_IN_FLIGHT: &str = "toolpool_turns_in_flight";
pub(crate) const TURN_DURATION: &str = "toolpool_turn_duration_seconds";
pub(crate) const TURN_FIRST_OUTPUT: &str = "toolpool_turn_first_output_seconds";
pub(crate) const TURN_QUEUE_WAIT: &str = "toolpool_turn_queue_wait_seconds";
pub(crate) const TURN_SILENCES: &str = "toolpool_turn_silences_total";
pub(crate) const TURN_RETRIES: &str = "toolpool_turn_retries_total";
pub(crate) const PERMISSIONS: &str = "toolpool_permissions_total";
pub(crate) const REJECTED: &str = "toolpool_rejected_total";
pub(crate) const QUEUE_DEPTH: &str = "toolpool_queue_depth";
pub(crate) const QUEUE_CAPACITY: &str = "toolpool_queue_capacity";
pub(crate) const QUEUE_OLDEST: &str = "toolpool_queue_oldest_timestamp_seconds";
pub(crate) const ROUTE_DECISIONS: &str = "toolpool_route_decisions_total";
pub(crate) const SESSIONS: &str = "toolpool_sessions";
pub(crate) const BREAKER_STATE: &str = "toolpool_breaker_state";
pub(crate) const TAKEOVERS: &str = "toolpool_spare_takeovers_total";
pub(crate) const PAUSED: &str = "toolpool_paused";
pub(crate) const BREAKER_TRANSITIONS: &str = "toolpool_breaker_transitions_total";
pub(crate) const TOKENS: &str = "toolpool_tokens_total";

/// All of them.
pub(crate) const FAMILIES: &[Family] = &[
    gauge(
        BUILD_INFO,
        Unit::Count,
        "The version of toolpool that is running; always 1.",
    ),
    gauge(INSTANCES, Unit::Count, "Instances in each state."),
    gauge(
        INSTANCES_DESIRED,
        Unit::Count,
        "Instances that the cluster is to have; 0 once it shuts down.",
    ),
    gauge(
        INSTANCE_STATE,
        Unit::Count,
        "1 for the state that the instance is in, 0 for all others.",
    ),
    gauge(
        INSTANCE_STATE_SINCE,
        Unit::Seconds,
        "When the instance entered its state, in seconds since 1970.",
    ),
    gauge(
        INSTANCE_STARTED,
        Unit::Seconds,
        "When the instance's newest process was spawned, in seconds since 1970.",
    ),
    counter(
        INSTANCE_EXITS,
        "Processes that ended: exit and signal by themselves, stopped by the cluster.",
    ),
    counter(
        INSTANCE_LEAKS,
        "Processes whose pipes something that they had started still held after their end.",
    ),
    counter(
        INSTANCE_RESTARTS,
        "Starts after an instance's first one: after a failure, as the probe of an open breaker, of a worn process, or manual.",
    ),
    gauge(
        INSTANCE_CRASH_LOOPING,
        Unit::Count,
        "1 while the instance restarts too often, 0 otherwise.",
    ),
    counter(
        INSTANCE_CRASH_LOOPS,
        "Times that an instance began to restart too often.",
    ),
    gauge(
        INSTANCE_SILENT_SINCE,
        Unit::Seconds,
        "Since when nothing has come from the tool in its turn, in seconds since 1970; 0 while it shows life.",
    ),
    histogram(
        INSTANCE_START_DURATION,
        FIRST,
        "Time from spawn to ready, of the starts that became ready.",
    ),
    counter(TURNS, "Accepted prompts that ended, by their one outcome."),
    gauge(
        TURNS_IN_FLIGHT,
        Unit::Count,
        "Turns that run on an instance now.",
    ),
    histogram(
        TURN_DURATION,
        TURN,
        "Time of a turn on its instance, of the turns that ran.",
    ),
    histogram(
        TURN_FIRST_OUTPUT,
        FIRST,
        "Time of a turn on its instance until the first byte of its reply.",
    ),
    histogram(
        TURN_QUEUE_WAIT,
        QUEUE,
        "Time that a prompt was queued, observed when it left the queue.",
    ),
    counter(
        TURN_SILENCES,
        "Times that nothing came from a tool in its turn for ten seconds.",
    ),
    counter(
        TURN_RETRIES,
        "Tries again: by the tool itself, or of a turn that was handed back unwritten.",
    ),
    counter(
        PERMISSIONS,
        "Questions of tools by what became of them, and answers that came too late.",
    ),
    counter(REJECTED, "Prompts that the cluster did not accept."),
    gauge(QUEUE_DEPTH, Unit::Count, "Prompts queued now."),
    gauge(
        QUEUE_CAPACITY,
        Unit::Count,
        "Prompts that the queue can hold.",
    ),
    gauge(
        QUEUE_OLDEST,
        Unit::Seconds,
        "When the longest queued prompt was accepted, in seconds since 1970; 0 with an empty queue.",
    ),
    counter(
        ROUTE_DECISIONS,
        "Prompts placed: direct by the strategy, sticky by their session, target by their caller.",
    ),
    gauge(
        SESSIONS,
        Unit::Count,
        "Sessions bound to an instance, when one was last bound or lost.",
    ),
    gauge(
        BREAKER_STATE,
        Unit::Count,
        "1 for the state that the instance's breaker is in, 0 for all others.",
    ),
    counter(BREAKER_TRANSITIONS, "Changes of breakers to each state."),
    counter(
        TAKEOVERS,
        "Spares that took the place of an instance that was missing.",
    ),
    gauge(
        PAUSED,
        Unit::Count,
        "Groups of instances that pause as a whole, by what for.",
    ),
    counter(
        TOKENS,
        "Tokens as the tool reports them; absent while it reports none.",
    ),
];

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        unit: Unit::Count,
        help,
    }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        unit,
        help,
    }
}

const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Histogram(buckets),
        unit: Unit::Seconds,
        help,
    }
}
