//! Those who use the cluster: they ask, change their minds, answer questions, restart, drain and at last shut down.
//!
//! Owns what they do and when. Must not know what comes of it. Invariant: what they do depends on the seed alone.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::Answer;

use super::dispatcher::Dispatcher;
use super::{Message, Stage, Turn};
use crate::fit::GroupSet;
use crate::permission::PermissionId;
use crate::scheduler::Ticket;
use crate::session::OnLoss;

/// The most patient shutdown.
pub(super) const LONGEST_DRAIN: Duration = Duration::from_secs(30);

pub(super) struct People {
    instances: usize,
    groups: usize,
    left: u32,
    next: Instant,
    turns: u64,
    /// How long they wait between two acts, at most.
    pace: u64,
    /// They shut down in the middle of everything.
    hasty: bool,
}

impl People {
    pub(super) fn new(
        instances: usize,
        groups: &[usize],
        chance: &mut StdRng,
        now: Instant,
    ) -> Self {
        Self {
            instances,
            groups: groups.iter().max().map_or(0, |last| last + 1),
            left: chance.random_range(20..80),
            next: now,
            turns: 0,
            pace: [20, 500, 3_000][chance.random_range(0..3)],
            hasty: chance.random_bool(0.3),
        }
    }

    /// Goes on in another life of the cluster, behind the prompts of the one before.
    pub(super) fn continue_behind(&mut self, turns: u64) {
        self.turns = turns;
    }

    pub(super) fn next(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }

    pub(super) fn are_done(&self) -> bool {
        self.left == 0
    }

    /// They do nothing more.
    pub(super) fn leave(&mut self) {
        self.left = 0;
    }

    pub(super) fn act(&mut self, stage: &mut Stage) -> Option<Message> {
        self.left -= 1;
        self.next = stage.within(self.pace);
        if self.left == 0 {
            return self.hasty.then(|| Message::Shutdown {
                within: patience(stage),
            });
        }
        let instance = stage.chance.random_range(0..self.instances);
        Some(match stage.chance.random_range(0..100) {
            0..55 => Message::Submit(self.wish(stage)),
            55..67 => {
                let back = stage.chance.random_range(0..5);
                Message::Cancel(TurnId(self.turns.saturating_sub(back)))
            }
            67..70 => Message::Forget(session(stage).0),
            70..76 => Message::Restart(instance),
            76..79 => Message::Drain(instance),
            _ => {
                let back = stage.chance.random_range(0..3);
                let answer = [Answer::Allow, Answer::Deny][stage.chance.random_range(0..2)];
                Message::Answer(PermissionId(stage.questions.saturating_sub(back)), answer)
            }
        })
    }

    /// The end of all, if nobody has called for it yet.
    pub(super) fn shut_down(&self, stage: &mut Stage, dispatcher: &Dispatcher) -> Option<Duration> {
        (!self.hasty && !dispatcher.is_shutting_down()).then(|| patience(stage))
    }

    fn wish(&mut self, stage: &mut Stage) -> Turn {
        self.turns += 1;
        let session = stage.percent(50).then(|| session(stage));
        let target = stage
            .percent(15)
            .then(|| stage.chance.random_range(0..self.instances));
        let group = stage
            .percent(25)
            .then(|| stage.chance.random_range(0..self.groups));
        let millis = |most: u64, stage: &mut Stage| {
            Duration::from_millis(stage.chance.random_range(1..=most))
        };
        Turn {
            id: TurnId(self.turns),
            timeout: stage.percent(20).then(|| millis(8_000, stage)),
            since: stage.now,
            generation: 0,
            ticket: Ticket {
                client: None,
                on_loss: session
                    .as_ref()
                    .map_or(OnLoss::Fail, |(_, on_loss)| *on_loss),
                session: session.map(|(key, _)| key),
                // The real door refuses a target outside of the groups that were asked for.
                groups: match (target, group) {
                    (None, Some(group)) => GroupSet::of(group),
                    _ => GroupSet::ALL,
                },
                target,
                labels: Vec::new(),
                fresh: stage.percent(8),
                bytes: 1,
                queue_timeout: stage.percent(30).then(|| millis(6_000, stage)),
            },
        }
    }
}

/// One of a few sessions; what their loss means is theirs for life.
fn session(stage: &mut Stage) -> (String, OnLoss) {
    let number = stage.chance.random_range(0..3);
    let on_loss = [OnLoss::Fail, OnLoss::Fail, OnLoss::Fresh][number];
    (format!("s{number}"), on_loss)
}

fn patience(stage: &mut Stage) -> Duration {
    match stage.chance.random_range(0..3) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(stage.chance.random_range(0..2_000)),
        _ => LONGEST_DRAIN,
    }
}
