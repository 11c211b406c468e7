//! A cluster while a command uses it.
//!
//! Owns launching, the events of the story and the end. Must not know what is asked. Invariant: whichever way a command
//! ends, the cluster is shut down before the program leaves.

use std::collections::HashMap;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use toolpool::journal::Journal;
use toolpool::{
    Approvals, ClusterManager, DoubtCause, Event, EventKind, EventSink, InstanceState, Outcome,
    Reply, ShutdownReport, ToolProfile,
};

use crate::console::{Console, Tone};
use crate::duration;
use crate::error::CliError;
use crate::exporter::Exporter;
use crate::interrupts::Interrupts;
use crate::person::Person;
use crate::probe::{self, ToolReport};
use crate::settings::Settings;
use crate::story;

/// Events that the story may be behind. It is told by people's pace; what does not fit is left out of it.
const EVENTS: usize = 4096;

/// How long a launch that was interrupted may take to leave nothing behind.
const LEAVING: Duration = Duration::from_secs(10);

/// How long to wait for the word that follows a crash at once. It does not come if everything is being stopped.
const SEQUEL: Duration = Duration::from_secs(1);

/// A running cluster.
pub(crate) struct Running {
    pub(crate) cluster: ClusterManager,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) exporter: Option<Exporter>,
    person: Person,
    /// Looks at the tools' versions, with a process each.
    looks: JoinSet<()>,
    /// The newest process of each instance that is known to be past.
    ended: HashMap<Arc<str>, u64>,
    /// A stop that is under way, with its report.
    stopping: Option<JoinHandle<ShutdownReport>>,
    /// Where prompts and their ends are kept.
    journal: Option<Journal>,
    /// Groups of instances, and how many of them have a refused login.
    groups: usize,
    refused: usize,
}

struct Tap(mpsc::Sender<Event>);

impl EventSink for Tap {
    fn on_event(&mut self, event: &Event) {
        self.0.try_send(event.clone()).ok();
    }
}

/// Launches the cluster and tells how its start goes.
pub(crate) async fn launch(
    settings: &Settings,
    interrupts: &mut Interrupts,
    console: Console,
) -> Result<Running, CliError> {
    settings.check()?;
    let (tap, mut events) = mpsc::channel(EVENTS);
    let mut builder = settings.builder().sink(Tap(tap));
    let mut exporter = None;
    if let Some(address) = settings.metrics {
        let (started, sink) = Exporter::start(address)?;
        console.tell(Tone::Plain, &format!("metrics {}", started.url()));
        builder = builder.sink(sink);
        exporter = Some(started);
    }
    console.tell(Tone::Plain, &introduction(settings));
    let mut looks = JoinSet::new();
    for group in &settings.groups {
        looks.spawn(warn_of_version(group.profile.clone(), console));
    }
    let started = Instant::now();
    let mut launching = builder.into_future();
    let tell = |event: Event| {
        if let Some((tone, line)) = story::line(&event) {
            console.tell(tone, &line);
        }
        // A single instance that is ready shows it by its answer.
        if settings.count() > 1
            && let EventKind::InstanceChanged {
                instance,
                generation: 1,
                start: Some(start),
                ..
            } = &event.kind
        {
            console.tell(
                Tone::Plain,
                &format!("{instance} ready in {}", duration::show(*start)),
            );
        }
    };
    let launched = loop {
        tokio::select! {
            biased;
            _ = interrupts.next() => {
                drop(launching);
                abandon(&mut events).await;
                break Err(interrupts.error());
            }
            Some(event) = events.recv() => tell(event),
            launched = &mut launching => break launched.map_err(CliError::from),
        }
    };
    if launched.is_err() {
        looks.shutdown().await;
    }
    let cluster = launched?;
    while let Ok(event) = events.try_recv() {
        tell(event);
    }
    let all = settings.count().saturating_add(settings.spares());
    if all > 1 {
        let ready = cluster
            .check_health()
            .await
            .map_or(0, |health| health.ready);
        console.tell(
            if ready == all { Tone::Good } else { Tone::Note },
            &format!(
                "{ready} of {all} ready in {}",
                duration::show(started.elapsed())
            ),
        );
    }
    Ok(Running {
        cluster,
        events,
        exporter,
        person: Person::new(settings.approvals == Approvals::Ask),
        looks,
        ended: HashMap::new(),
        stopping: None,
        journal: settings.journal.clone(),
        groups: settings.groups.len(),
        refused: 0,
    })
}

fn introduction(settings: &Settings) -> String {
    let count = settings.count();
    let place = match &settings.landing {
        Some(landing) => format!(
            " in {}; changes land on {}",
            if count == 1 {
                "a worktree of its own"
            } else {
                "worktrees of their own"
            },
            landing.branch
        ),
        None if settings.edits() => format!(" in {}", settings.cwd.display()),
        None => String::new(),
    };
    let place = match settings.spares() {
        0 => place,
        1 => format!("{place}; 1 more stands by"),
        spares => format!("{place}; {spares} more stand by"),
    };
    match settings.groups.as_slice() {
        [group] if count == 1 => format!("starting {}{place}", group.profile.name),
        [group] => format!(
            "starting {count} instances of {}{place}",
            group.profile.name
        ),
        groups => {
            let each = groups.iter();
            let each = each.map(|group| format!("{} of {}", group.count, group.profile.name));
            let each = each.collect::<Vec<_>>().join(", ");
            format!("starting {count} instances ({each}){place}")
        }
    }
}

/// Says so if the tool is of a version that its profile was not proven on. The start does not wait for this.
async fn warn_of_version(profile: ToolProfile, console: Console) {
    if let Some(warning) = version_warning(&probe::known(profile).await) {
        console.tell(Tone::Note, &warning);
    }
}

fn version_warning(report: &ToolReport) -> Option<String> {
    let (Some(false), Some(version), Some(proven)) =
        (report.is_proven, &report.version, &report.proven)
    else {
        return None;
    };
    let name = &report.name;
    Some(format!(
        "{name} {version} is not of the versions that its profile was proven on ({proven}); watch its first turns, or try `toolpool tools test {name}`"
    ))
}

/// Waits until an abandoned launch has cleaned up after itself.
async fn abandon(events: &mut mpsc::Receiver<Event>) {
    let stopped = async {
        while let Some(event) = events.recv().await {
            if matches!(event.kind, EventKind::ClusterStopped) {
                break;
            }
        }
    };
    tokio::time::timeout(LEAVING, stopped).await.ok();
}

impl Running {
    /// The next event, and what to tell about it. Meanwhile the person at the terminal is listened to.
    ///
    /// Cancel safe.
    pub(crate) async fn event(&mut self) -> Option<(Event, Vec<(Tone, String)>)> {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => {
                    let event = event?;
                    self.look_for_login(&event);
                    if let EventKind::InstanceChanged { instance, generation, to, .. } = &event.kind
                        && matches!(to, InstanceState::Backoff | InstanceState::Tripped | InstanceState::Failed)
                    {
                        self.ended.insert(Arc::clone(instance), *generation);
                    }
                    let mut lines: Vec<_> = story::line(&event).into_iter().collect();
                    lines.extend(self.person.hear(&event));
                    return Some((event, lines));
                }
                (permission, answer) = self.person.answer() => {
                    let cluster = self.cluster.clone();
                    // What comes of it, an event tells.
                    tokio::spawn(async move { cluster.answer(permission, answer).await.ok() });
                }
            }
        }
    }

    /// What to tell of the instance of a turn whose process has crashed: how often it has failed and what comes next. That
    /// is told by an event of its own, right after the turn's end.
    pub(crate) async fn sequel(&mut self, reply: &Reply) -> Vec<(Tone, String)> {
        let mut told = Vec::new();
        let (Outcome::Indeterminate(doubt), Some(instance)) = (&reply.outcome, &reply.instance)
        else {
            return told;
        };
        if doubt.cause != DoubtCause::Crashed {
            return told;
        }
        let wait = async {
            while self
                .ended
                .get(instance)
                .is_none_or(|ended| *ended < reply.generation)
                && let Some((_, lines)) = self.event().await
            {
                told.extend(lines);
            }
        };
        tokio::time::timeout(SEQUEL, wait).await.ok();
        told
    }

    /// Takes no more prompts; what runs may go on for so long, then everything is stopped together. The shortest time of
    /// several calls counts.
    pub(crate) fn wind_down(&mut self, within: Duration) {
        let cluster = self.cluster.clone();
        let stopping = tokio::spawn(async move { cluster.shutdown_within(within).await });
        // The first to ask is told in any case, whoever made it urgent later.
        self.stopping.get_or_insert(stopping);
    }

    /// Kills everything now. Whoever waits for [`Running::stop`] is told what became of it.
    pub(crate) fn kill(&mut self) {
        let cluster = self.cluster.clone();
        let killing = tokio::spawn(async move { cluster.kill().await });
        self.stopping.get_or_insert(killing);
    }

    /// Nobody can restart the instances of a command, so with a refused login of all of them its prompts would wait for
    /// ever.
    fn look_for_login(&mut self, event: &Event) {
        match &event.kind {
            EventKind::GroupPaused { cause: "login", .. } => self.refused += 1,
            EventKind::GroupResumed { cause: "login", .. } => self.refused -= 1,
            _ => return,
        }
        if self.refused == self.groups {
            self.wind_down(LEAVING);
        }
    }

    /// Stops everything now, and tells what was kept. A turn that still runs ends in doubt. The second signal kills.
    pub(crate) async fn stop(
        mut self,
        interrupts: &mut Interrupts,
        console: Console,
    ) -> ShutdownReport {
        if interrupts.count() > 1 {
            self.kill();
        }
        self.wind_down(Duration::ZERO);
        self.looks.shutdown().await;
        let mut report = ShutdownReport::default();
        if let Some(mut stopping) = self.stopping.take() {
            report = loop {
                tokio::select! {
                    biased;
                    count = interrupts.next() => if count > 1 {
                        self.kill();
                    },
                    // A task that panicked has told so itself.
                    stopped = &mut stopping => break stopped.unwrap_or_default(),
                }
            };
        }
        // The last events are no end of a prompt, so nobody has waited for them.
        if let Some(Err(error)) = self.journal.take().map(|journal| journal.flush()) {
            console.tell(Tone::Bad, &error.to_string());
        }
        for kept in &report.kept {
            console.tell(
                Tone::Note,
                &format!(
                    "{}: work is kept on branch {} ({}); see it with: {}",
                    kept.instance, kept.branch, kept.reason, kept.show
                ),
            );
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_version_outside_of_the_proven_range_is_warned_of() {
        let mut profile = ToolProfile::builtin("bash").expect("built in");
        profile.versions = Some(">=1.0, <1.1".to_owned());
        let warning = version_warning(&probe::known(profile.clone()).await).expect("a warning");
        assert!(warning.starts_with("bash "), "{warning}");
        assert!(
            warning.contains("(>=1.0, <1.1); watch its first turns"),
            "{warning}"
        );
        for fine in [Some(">=1.0"), None] {
            profile.versions = fine.map(str::to_owned);
            let report = probe::known(profile.clone()).await;
            assert_eq!(version_warning(&report), None);
        }
    }
}
