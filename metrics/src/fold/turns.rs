//! The way of a prompt through the numbers: queued, in flight, ended.
//!
//! Owns what its events change. Must not know why a prompt goes where it does. Invariant: a prompt that is queued again
//! keeps the time at which it was accepted.

use std::sync::Arc;
use std::time::Duration;

use toolpool_cluster::{EventKind, InstanceState};

use super::Fold;

impl Fold {
    pub(super) fn on_turn_started(
        &mut self,
        at: f64,
        turn: u64,
        instance: &Arc<str>,
        queued: Duration,
        route: &'static str,
    ) {
        let accepted_at = self.dequeue(turn).unwrap_or(at - queued.as_secs_f64());
        if let Some(index) = self.index(instance) {
            self.tool(index).fly(|count| count + 1);
            self.instances[index].accepted_at = accepted_at;
            self.set_state(index, InstanceState::Busy, at);
        }
        self.series.routes.add(&self.metrics, route, 1);
        self.series.queue_wait.record(queued.as_secs_f64());
        self.note_samples(1);
    }

    pub(super) fn on_turn_ended(&mut self, at: f64, event: &EventKind) {
        let EventKind::TurnEnded {
            turn,
            instance,
            outcome,
            queued,
            took,
            first_output,
            usage,
            ready,
            ..
        } = event
        else {
            return;
        };
        let Some(index) = instance.as_ref().and_then(|name| self.index(name)) else {
            self.series.turns.add(&self.metrics, outcome, 1);
            self.dequeue(turn.0);
            self.series.queue_wait.record(queued.as_secs_f64());
            self.note_samples(1);
            return;
        };
        if *ready {
            self.set_state(index, InstanceState::Ready, at);
        }
        self.instances[index].show_silent_since(0.0);
        let tool = &mut self.tools[self.instances[index].tool];
        tool.fly(|count| count.saturating_sub(1));
        tool.series.turns.add(&self.metrics, outcome, 1);
        tool.series.duration.record(took.as_secs_f64());
        if let Some(first_output) = first_output {
            tool.series.first_output.record(first_output.as_secs_f64());
        }
        if let Some(usage) = usage {
            let kinds = [
                ("input", usage.input_tokens),
                ("output", usage.output_tokens),
            ];
            for (kind, tokens) in kinds {
                if let Some(tokens) = tokens {
                    tool.series.tokens.add(&self.metrics, kind, tokens);
                }
            }
            if let Some(usd) = usage.cost_usd {
                self.metrics.costs().add(&self.cluster, &tool.name, usd);
            }
        }
        self.note_samples(1 + usize::from(first_output.is_some()));
    }

    /// A turn that was at an instance waits for another attempt.
    pub(super) fn on_queued_again(
        &mut self,
        at: f64,
        turn: u64,
        instance: &Arc<str>,
        reason: &'static str,
        ready: bool,
    ) {
        self.series.retries.add(&self.metrics, reason, 1);
        let Some(index) = self.index(instance) else {
            self.enqueue(turn, at);
            return;
        };
        self.instances[index].show_silent_since(0.0);
        self.tool(index).fly(|count| count.saturating_sub(1));
        if ready {
            self.set_state(index, InstanceState::Ready, at);
        }
        self.enqueue(turn, self.instances[index].accepted_at);
    }

    pub(super) fn enqueue(&mut self, turn: u64, accepted_at: f64) {
        self.queue.put(turn, accepted_at);
        self.show_queue();
    }

    fn dequeue(&mut self, turn: u64) -> Option<f64> {
        let accepted_at = self.queue.take(turn);
        self.show_queue();
        accepted_at
    }

    pub(super) fn show_queue(&self) {
        self.series.queue_depth.set(self.queue.len() as f64);
        let oldest = self.queue.oldest();
        self.series.queue_oldest.set(oldest.unwrap_or_default());
    }
}
