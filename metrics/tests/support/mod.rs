//! Events as a cluster tells them, a second apart.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use toolpool_cluster::TurnId;
pub(crate) use toolpool_cluster::Usage;
use toolpool_cluster::{Event, EventKind, EventSink, InstanceState, Next, PermissionId};
use toolpool_metrics::{Metrics, MetricsSink};

/// When the first event happens, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;

/// Tells a cluster's events to a sink.
pub(crate) struct Story {
    pub(crate) metrics: Metrics,
    sink: MetricsSink,
    seq: u64,
}

impl Story {
    /// A story with metrics of its own, in which the cluster `main` has begun to start.
    pub(crate) fn of(instances: usize) -> Self {
        let mut story = Self::sharing(&Metrics::new());
        story.tell(started("main", instances));
        story
    }

    /// A story that has not begun.
    pub(crate) fn sharing(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            sink: metrics.sink(),
            seq: 0,
        }
    }

    pub(crate) fn tell(&mut self, kind: EventKind) {
        let event = Event {
            seq: self.seq + 1,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(START + self.seq),
            kind,
        };
        self.seq += 1;
        self.sink.on_event(&event);
    }

    pub(crate) fn tell_all(&mut self, kinds: impl IntoIterator<Item = EventKind>) {
        for kind in kinds {
            self.tell(kind);
        }
    }

    /// What is shown, without the facts of the test's own process and program.
    pub(crate) fn text(&self) -> String {
        let text = self.metrics.render();
        let lines = text
            .lines()
            .filter(|line| !line.contains("process_") && !line.starts_with("toolpool_build_info{"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn samples(&self) -> BTreeMap<String, f64> {
        samples(&self.text())
    }
}

/// Each series with its value.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (
                series.to_owned(),
                value.parse().expect("a value is a number"),
            )
        })
        .collect()
}

pub(crate) fn name(instance: usize) -> Arc<str> {
    Arc::from(format!("main/{instance}"))
}

pub(crate) fn started(cluster: &str, instances: usize) -> EventKind {
    EventKind::ClusterStarted {
        cluster: Arc::from(cluster),
        tool: Arc::from("aider"),
        tools: vec![Arc::from("aider"); instances],
        instances: (1..=instances)
            .map(|place| Arc::from(format!("{cluster}/{place}")))
            .collect(),
        strategy: "least-busy",
        queue_limit: 1024,
    }
}

/// A cluster of two aiders and a codex, `main/3`.
pub(crate) fn started_mixed() -> EventKind {
    EventKind::ClusterStarted {
        cluster: Arc::from("main"),
        tool: Arc::from("aider+codex"),
        tools: ["aider", "aider", "codex"].map(Arc::from).to_vec(),
        instances: (1..=3).map(name).collect(),
        strategy: "least-busy",
        queue_limit: 1024,
    }
}

pub(crate) fn accepted(turn: u64) -> EventKind {
    EventKind::PromptAccepted {
        turn: TurnId(turn),
        bytes: 10,
        queued: 1,
    }
}

pub(crate) fn refused(reason: &'static str) -> EventKind {
    EventKind::PromptRefused { reason }
}

pub(crate) fn began(turn: u64, instance: usize) -> EventKind {
    EventKind::TurnStarted {
        turn: TurnId(turn),
        instance: name(instance),
        generation: 1,
        queued: Duration::from_millis(250),
        queue: 0,
        route: "direct",
    }
}

pub(crate) fn handed_back(turn: u64, instance: usize) -> EventKind {
    EventKind::TurnHandedBack {
        turn: TurnId(turn),
        instance: name(instance),
    }
}

pub(crate) fn retrying(turn: u64, instance: usize) -> EventKind {
    EventKind::TurnRetrying {
        turn: TurnId(turn),
        instance: name(instance),
    }
}

/// A question of turn 1 on the first instance, answered.
pub(crate) fn answered(allowed: bool, by: &'static str) -> EventKind {
    EventKind::PermissionAnswered {
        permission: PermissionId(1),
        turn: TurnId(1),
        instance: name(1),
        act: "execute",
        allowed,
        by,
    }
}

pub(crate) fn withdrawn() -> EventKind {
    EventKind::PermissionWithdrawn {
        permission: PermissionId(1),
        turn: TurnId(1),
        instance: name(1),
        act: "execute",
    }
}

pub(crate) fn answered_too_late() -> EventKind {
    EventKind::AnswerRefused {
        permission: PermissionId(1),
    }
}

/// A turn that ran for 30 seconds and gave its first output after 2.
pub(crate) fn ended(turn: u64, instance: usize, outcome: &'static str, ready: bool) -> EventKind {
    EventKind::TurnEnded {
        turn: TurnId(turn),
        instance: Some(name(instance)),
        outcome,
        cause: None,
        queued: Duration::from_millis(250),
        took: Duration::from_secs(30),
        first_output: Some(Duration::from_secs(2)),
        reply_bytes: 100,
        usage: None,
        queue: 0,
        ready,
    }
}

pub(crate) fn with_usage(event: EventKind, reported: Usage) -> EventKind {
    let mut event = event;
    if let EventKind::TurnEnded { usage, .. } = &mut event {
        *usage = Some(reported);
    }
    event
}

/// A prompt that ended in the queue after 4 seconds.
pub(crate) fn ended_in_queue(turn: u64, outcome: &'static str) -> EventKind {
    EventKind::TurnEnded {
        turn: TurnId(turn),
        instance: None,
        outcome,
        cause: None,
        queued: Duration::from_secs(4),
        took: Duration::ZERO,
        first_output: None,
        reply_bytes: 0,
        usage: None,
        queue: 0,
        ready: false,
    }
}

pub(crate) fn spawned(instance: usize, generation: u64) -> EventKind {
    EventKind::InstanceSpawned {
        instance: name(instance),
        generation,
        pid: Some(4711),
    }
}

pub(crate) fn changed(
    instance: usize,
    generation: u64,
    from: InstanceState,
    to: InstanceState,
) -> EventKind {
    let became_ready = from == InstanceState::Starting && to == InstanceState::Ready;
    EventKind::InstanceChanged {
        instance: name(instance),
        generation,
        from,
        to,
        reason: "told by a test".to_owned(),
        start: became_ready.then_some(Duration::from_millis(1500)),
        failures: 0,
        tries_left: 5,
        crash_looping: false,
        next: Next::Prompt,
    }
}

/// The same of an instance that restarts too often.
pub(crate) fn looping(event: EventKind) -> EventKind {
    let mut event = event;
    if let EventKind::InstanceChanged { crash_looping, .. } = &mut event {
        *crash_looping = true;
    }
    event
}

/// Nothing has come in a turn for 10 seconds.
pub(crate) fn silent(turn: u64, instance: usize) -> EventKind {
    EventKind::TurnSilent {
        turn: TurnId(turn),
        instance: name(instance),
        silent: Duration::from_secs(10),
    }
}

pub(crate) fn heard(turn: u64, instance: usize) -> EventKind {
    EventKind::TurnHeard {
        turn: TurnId(turn),
        instance: name(instance),
        silent: Duration::from_secs(12),
    }
}

pub(crate) fn recycled(instance: usize) -> EventKind {
    EventKind::InstanceRecycled {
        instance: name(instance),
        generation: 1,
        cause: "turns",
        reason: "told by a test".to_owned(),
    }
}

pub(crate) fn exited(instance: usize, code: Option<i32>, signal: Option<i32>) -> EventKind {
    EventKind::InstanceExited {
        instance: name(instance),
        generation: 1,
        code,
        signal,
        leaked: false,
    }
}

pub(crate) fn breaker(instance: usize, to: &'static str) -> EventKind {
    EventKind::BreakerChanged {
        instance: name(instance),
        to,
    }
}

pub(crate) fn scaled(from: usize, to: usize) -> EventKind {
    EventKind::GroupScaled {
        tool: Arc::from("aider"),
        from,
        to,
    }
}

pub(crate) fn added(instance: usize) -> EventKind {
    EventKind::InstanceAdded {
        instance: name(instance),
        tool: Arc::from("aider"),
    }
}

pub(crate) fn relieved(instance: usize, by: usize) -> EventKind {
    EventKind::InstanceRelieved {
        instance: name(instance),
        by: name(by),
    }
}

pub(crate) fn removed(instance: usize) -> EventKind {
    EventKind::InstanceRemoved {
        instance: name(instance),
    }
}

pub(crate) fn paused(cause: &'static str) -> EventKind {
    EventKind::GroupPaused {
        tool: Arc::from("aider"),
        cause,
        reason: "no key".to_owned(),
        instances: 2,
        retry_in: None,
        message: "2 instances of aider cannot start".to_owned(),
    }
}

pub(crate) fn resumed(cause: &'static str) -> EventKind {
    EventKind::GroupResumed {
        tool: Arc::from("aider"),
        cause,
        after: Duration::from_secs(9),
    }
}

pub(crate) fn pinned(instance: usize, sessions: usize) -> EventKind {
    EventKind::SessionPinned {
        instance: name(instance),
        sessions,
    }
}

/// A bit of everything that can happen to a cluster of two instances.
pub(crate) fn everything() -> Vec<EventKind> {
    use InstanceState::{Backoff, Busy, Ready, Starting, Stopped, Stopping, Tripped};
    let usage = Usage {
        input_tokens: Some(1200),
        output_tokens: Some(80),
        cost_usd: Some(0.25),
    };
    vec![
        changed(1, 1, Stopped, Starting),
        changed(2, 1, Stopped, Starting),
        spawned(1, 1),
        spawned(2, 1),
        changed(1, 1, Starting, Ready),
        changed(2, 1, Starting, Ready),
        accepted(1),
        began(1, 1),
        accepted(2),
        began(2, 2),
        accepted(3),
        refused("queue_full"),
        retrying(1, 1),
        silent(1, 1),
        answered(true, "person"),
        pinned(1, 1),
        with_usage(ended(1, 1, "completed", true), usage),
        began(3, 1),
        exited(2, None, Some(9)),
        ended(2, 2, "indeterminate", false),
        looping(changed(2, 1, Busy, Backoff)),
        changed(2, 2, Backoff, Starting),
        breaker(2, "open"),
        changed(2, 2, Starting, Tripped),
        handed_back(3, 1),
        accepted(4),
        ended_in_queue(4, "cancelled"),
        changed(1, 1, Busy, Stopping),
        paused("start"),
        relieved(1, 2),
    ]
}
