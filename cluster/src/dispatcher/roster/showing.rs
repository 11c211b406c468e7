//! What is shown of an instance.
//!
//! Owns how the facts become a status and an explanation. Must not change them. Invariant: a time is told in seconds from
//! now.

use std::sync::Arc;
use std::time::Instant;

use toolpool_pool_core::rss_bytes;

use super::{Entry, Open};
use crate::explain::{Evidence, Explanation, Held, Next, Situation};
use crate::instance::InstanceState;
use crate::status::{InstanceStatus, WaitingFor};

impl Entry {
    pub(crate) fn situation(&self, held: Option<Held>) -> Situation {
        Situation {
            state: self.state,
            standing: self.standing,
            turn: self.turn,
            question: self
                .questions
                .first()
                .map(|open| (open.question.id, open.until)),
            held,
        }
    }

    pub(crate) fn explain(
        &self,
        index: usize,
        why: String,
        next: Next,
        now: Instant,
    ) -> Explanation {
        Explanation {
            index,
            name: Arc::clone(&self.name),
            tool: Arc::clone(&self.tool),
            state: self.state,
            state_for_s: now.saturating_duration_since(self.since).as_secs_f64(),
            why,
            evidence: Evidence {
                generation: self.generation,
                return_code: self.last_exit.and_then(|exit| exit.code),
                signal: self.last_exit.and_then(|exit| exit.signal),
                last_lines: self.last_lines.clone(),
                failures: self.standing.failures,
                tries_left: self.standing.tries_left,
                last_error: self.last_error.clone(),
                faults: self.standing.faults,
                tool_errors: self.tool_errors,
                crash_looping: self.standing.crash_looping,
                silent_for_s: self.silent_for_s(now),
                printed: self.printed.as_deref().cloned(),
            },
            next,
        }
    }

    fn silent_for_s(&self, now: Instant) -> Option<f64> {
        let since = self.standing.silent_since?;
        Some(now.saturating_duration_since(since).as_secs_f64())
    }

    /// Why it is in its state; a life without trouble needs no reason.
    pub(crate) fn why(&self) -> String {
        match self.state {
            InstanceState::Ready | InstanceState::Busy => String::new(),
            _ => self.reason.clone(),
        }
    }

    pub(crate) fn status(
        &self,
        index: usize,
        why: String,
        (sessions, paused, spare): (usize, bool, bool),
        now: Instant,
    ) -> InstanceStatus {
        InstanceStatus {
            index,
            name: Arc::clone(&self.name),
            tool: Arc::clone(&self.tool),
            state: self.state,
            reason: why,
            state_for_s: now.saturating_duration_since(self.since).as_secs_f64(),
            waiting: self.questions.iter().map(|open| open.status(now)).collect(),
            alive: self.pid.is_some(),
            pid: self.pid,
            generation: self.generation,
            return_code: self.last_exit.and_then(|exit| exit.code),
            signal: self.last_exit.and_then(|exit| exit.signal),
            breaker: self.breaker,
            turns: self.turns,
            turns_failed: self.turns_failed,
            faults: self.standing.faults,
            tool_errors: self.tool_errors,
            crash_looping: self.standing.crash_looping,
            silent_for_s: self.silent_for_s(now),
            last_error: self.last_error.clone(),
            rss_bytes: self.pid.and_then(rss_bytes),
            sessions,
            paused,
            spare,
            cwd: self.cwd.clone(),
            branch: self.branch.clone(),
        }
    }
}

impl Open {
    fn status(&self, now: Instant) -> WaitingFor {
        WaitingFor {
            kind: "permission",
            permission: self.question.id,
            turn: self.question.turn,
            act: self.question.act.word(),
            question: self.question.text.clone(),
            asked_for_s: now.saturating_duration_since(self.asked).as_secs_f64(),
            left_s: self.until.saturating_duration_since(now).as_secs_f64(),
        }
    }
}
