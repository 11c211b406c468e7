//! Whether the tool shows life while it works on a turn, and whether it grows too large over it.
//!
//! Owns what counts as too quiet, and as too large. Must not know processes: what can be seen of one is an argument. Invariants: bytes of
//! any kind are life; time in which the turn waits for a human counts for nothing; looking costs one wake-up in a while,
//! however much the tool says.

use std::time::{Duration, Instant};

use toolpool_pool_core::Pulse;
use toolpool_pool_core::outcome::{Doubt, DoubtCause};

use super::config::{InstanceConfig, after};
use crate::planted::planted;

/// Who says nothing for so long is shown as silent; how often to look for that.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// How often to look at the memory of a process that may not have more than so much.
const WEIGHING: Duration = Duration::from_secs(1);

/// Who seems to have shown no life for too long gets so long to be heard after all. If this program was stopped for a while,
/// what the tool has said meanwhile is yet to be read.
pub(super) const HEARING: Duration = Duration::from_millis(100);

/// What is known of the tool's life in the running turn, as of the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Watch {
    /// What is quiet has been so since then at the earliest: the turn's start, or the end of its last wait for a human.
    from: Instant,
    pulse: Pulse,
    /// When to look again.
    look: Instant,
    quiet: bool,
    /// The last look has found it too quiet.
    suspected: bool,
}

impl Watch {
    /// For a turn that begins now.
    pub(super) fn new(now: Instant, config: &InstanceConfig) -> Self {
        Self {
            from: now,
            pulse: Pulse::default(),
            look: after(now, interval(config)),
            quiet: false,
            suspected: false,
        }
    }

    /// When to look again.
    pub(super) fn look_at(&self) -> Instant {
        self.look
    }

    /// Since when the tool has been silent, if that was found at the last look and nothing has come since.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.quiet.then(|| self.heard())
    }

    /// The turn does not wait for a human any more.
    pub(super) fn resume(&mut self, now: Instant, config: &InstanceConfig) {
        if !planted("human_counted") {
            self.from = now;
        }
        self.suspected = false;
        self.look = after(now, interval(config));
    }

    /// Takes what is seen now. `human`: the turn waits for one.
    pub(super) fn see(&mut self, now: Instant, pulse: Pulse, human: bool) {
        self.pulse = pulse;
        self.quiet = !human && now.saturating_duration_since(self.heard()) >= QUIET;
    }

    /// Why the turn must not go on, if two looks agree on silence, or one has found it too large; otherwise it is looked at again later.
    pub(super) fn verdict(&mut self, now: Instant, config: &InstanceConfig) -> Option<Doubt> {
        if let (Some(rss), Some(limit)) = (self.pulse.rss_bytes, config.memory_limit)
            && rss > limit
        {
            return Some(Doubt {
                cause: DoubtCause::MemoryLimit,
                detail: format!(
                    "its process has grown to {} MiB, and may have {} MiB",
                    rss >> 20,
                    limit >> 20
                ),
            });
        }
        let quiet = match self.pulse.heard {
            None => (
                config.first_byte_timeout,
                "nothing came from the tool (first-byte timeout)",
            ),
            Some(_) => (
                config.silence_timeout,
                "nothing more came from the tool (silence timeout)",
            ),
        };
        let stuck = self.pulse.stuck.map(|since| {
            (
                since.max(self.from),
                config.write_timeout,
                "the tool took nothing of what was still to be written to it (write timeout)",
            )
        });
        let limits = [Some((self.heard(), quiet.0, quiet.1)), stuck];
        let was_suspected = std::mem::take(&mut self.suspected);
        self.look = after(now, interval(config));
        for (since, limit, what) in limits.into_iter().flatten() {
            let due = after(since, limit);
            if due > now {
                self.look = self.look.min(due);
            } else if was_suspected && !planted("silence_ignored") {
                return Some(Doubt {
                    cause: DoubtCause::TimedOut,
                    detail: format!("{what} for {limit:?}"),
                });
            } else {
                self.suspected = true;
                self.look = self.look.min(now + HEARING);
            }
        }
        None
    }

    fn heard(&self) -> Instant {
        self.pulse
            .heard
            .map_or(self.from, |heard| heard.max(self.from))
    }
}

/// Often enough for every limit to be kept to the moment: what begins after a look ends its time after the next.
fn interval(config: &InstanceConfig) -> Duration {
    let weighing = config.memory_limit.map_or(Duration::MAX, |_| WEIGHING);
    [
        weighing,
        config.write_timeout,
        config.first_byte_timeout,
        config.silence_timeout,
    ]
    .into_iter()
    .fold(QUIET, Duration::min)
    .max(Duration::from_millis(1))
}
