//! The playing: prompts that bring faults about, prompts beside them, and the wait until all is well again.
//!
//! Owns what is asked and what is heard. Must not know the faults. Invariant: an act is over when each of its prompts has
//! its end and its instance is ready again, or has had its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use toolpool::{AskError, Event, EventKind, InstanceState, Outcome, Reply, Submission};

use super::acts::Act;
use super::narrator;
use super::report::ActReport;
use crate::console::{Console, Tone};
use crate::error::CliError;
use crate::interrupts::Interrupts;
use crate::running::Running;

/// Prompts that nothing is wrong with, beside each act.
const BYSTANDERS: usize = 2;

/// Longest wait for an instance that is not ready again.
const RECOVERY: Duration = Duration::from_secs(5);

pub(super) struct Stage<'a> {
    running: &'a mut Running,
    interrupts: &'a mut Interrupts,
    console: Console,
    restarts: u64,
    /// The newest process of each instance that has become ready again.
    ready: HashMap<Arc<str>, u64>,
}

type Asking = JoinSet<Result<Reply, AskError>>;

impl<'a> Stage<'a> {
    pub(super) fn new(
        running: &'a mut Running,
        interrupts: &'a mut Interrupts,
        console: Console,
    ) -> Self {
        Self {
            running,
            interrupts,
            console,
            restarts: 0,
            ready: HashMap::new(),
        }
    }

    /// Processes that replaced others.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(super) async fn play(&mut self, acts: &[Act]) -> Result<Vec<ActReport>, CliError> {
        let count = self.running.cluster.instances().len();
        let mut reports = Vec::new();
        for (place, act) in acts.iter().enumerate() {
            let title = format!("\n{}/{}  {}", place + 1, acts.len(), act.name);
            self.console.tell(Tone::Plain, &title);
            for rule in act.rules() {
                self.console
                    .tell(Tone::Plain, &format!("     injected: {rule}"));
            }
            reports.push(self.play_one(act, place % count).await?);
        }
        Ok(reports)
    }

    async fn play_one(&mut self, act: &Act, index: usize) -> Result<ActReport, CliError> {
        let started = Instant::now();
        let name = self.running.cluster.instances()[index].to_string();
        let mut asking = Asking::new();
        for _ in 0..act.times {
            self.send(
                &mut asking,
                Submission::text(act.prompt()).on_instance(index),
            )
            .await?;
        }
        let mut beside = Asking::new();
        for _ in 0..BYSTANDERS {
            self.send(&mut beside, Submission::text("good day")).await?;
        }
        let about = |event: &Event| instance(event) == Some(&*name);
        let replies = self.watch(&mut asking, about).await?;
        self.recover(&replies, about).await?;
        let recovered = started.elapsed();
        // The first turn after it shows that all is well, and closes a breaker that only probes.
        self.send(&mut asking, Submission::text("good day").on_instance(index))
            .await?;
        let after = self.watch(&mut asking, about).await?;
        let good = self.watch(&mut beside, |_| false).await?;
        let done = |replies: &[Reply]| {
            let completed = |reply: &&Reply| reply.outcome == Outcome::Completed;
            replies.iter().filter(completed).count()
        };
        self.console.tell(
            Tone::Good,
            &format!(
                "beside it, {} of {BYSTANDERS} prompts completed",
                done(&good)
            ),
        );
        Ok(ActReport::new(
            act,
            name,
            &replies,
            recovered,
            done(&after) == 1,
        ))
    }

    /// Plays so many prompts on whoever is free, with whatever the rules make of them.
    pub(super) async fn play_freely(&mut self, prompts: u32) -> Result<(), CliError> {
        let mut asking = Asking::new();
        for number in 1..=prompts {
            self.send(&mut asking, Submission::text(format!("prompt {number}")))
                .await?;
        }
        let replies = self.watch(&mut asking, |_| true).await?;
        self.recover(&replies, |_| true).await
    }

    async fn send(&self, asking: &mut Asking, submission: Submission) -> Result<(), CliError> {
        let stream = self.running.cluster.stream(submission).await?;
        asking.spawn(stream.reply());
        Ok(())
    }

    /// Tells what happens until every prompt has its end.
    async fn watch(
        &mut self,
        asking: &mut Asking,
        about: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Reply>, CliError> {
        let mut replies = Vec::new();
        let all = asking.len();
        while replies.len() < all {
            tokio::select! {
                biased;
                _ = self.interrupts.next() => return Err(self.interrupts.error()),
                Some((event, _)) = self.running.event() => {
                    self.hear(&event, about(&event));
                }
                Some(joined) = asking.join_next() => {
                    match joined.expect("asking does not panic and is not aborted") {
                        Ok(reply) => replies.push(reply),
                        Err(AskError::Turn(reply)) => replies.push(*reply),
                        Err(other) => return Err(other.into()),
                    }
                }
            }
        }
        // The event of an end comes before the end itself.
        while let Ok(event) = self.running.events.try_recv() {
            self.hear(&event, about(&event));
        }
        Ok(replies)
    }

    /// Tells what happens until every process that a prompt took down has a successor that is ready.
    async fn recover(
        &mut self,
        replies: &[Reply],
        about: impl Fn(&Event) -> bool,
    ) -> Result<(), CliError> {
        let mut time = Box::pin(tokio::time::sleep(RECOVERY));
        while !replies.iter().all(|reply| self.is_over(reply)) {
            tokio::select! {
                biased;
                _ = self.interrupts.next() => return Err(self.interrupts.error()),
                Some((event, _)) = self.running.event() => self.hear(&event, about(&event)),
                () = &mut time => break,
            }
        }
        Ok(())
    }

    /// Whether what a prompt has done to its process is past.
    fn is_over(&self, reply: &Reply) -> bool {
        let (Outcome::Indeterminate(_), Some(instance)) = (&reply.outcome, &reply.instance) else {
            return true;
        };
        let newest = self.ready.get(instance).copied().unwrap_or_default();
        newest > reply.generation
    }

    fn hear(&mut self, event: &Event, ours: bool) {
        match &event.kind {
            EventKind::InstanceSpawned { generation, .. } => {
                self.restarts += u64::from(*generation > 1);
            }
            EventKind::InstanceChanged {
                instance,
                generation,
                to: InstanceState::Ready,
                ..
            } => {
                self.ready.insert(Arc::clone(instance), *generation);
            }
            _ => {}
        }
        if let Some((tone, line)) = narrator::line(event).filter(|_| ours) {
            self.console.tell(tone, &line);
        }
    }
}

/// Whom an event is about.
fn instance(event: &Event) -> Option<&str> {
    match &event.kind {
        EventKind::TurnEnded {
            instance: Some(instance),
            ..
        }
        | EventKind::TurnHandedBack { instance, .. }
        | EventKind::InstanceChanged { instance, .. }
        | EventKind::InstanceExited { instance, .. }
        | EventKind::BreakerChanged { instance, .. } => Some(instance),
        _ => None,
    }
}
