//! The tool's questions for permissions while somebody makes up their mind.
//!
//! Owns the open questions and what waiting does to the turn's time. Must not know how a question is shown or answered.
//! Invariants: questions are open only while a turn runs; each is settled exactly once; each has a deadline.

use std::time::Instant;

use toolpool_pool_core::protocol::{Answer, RequestId};

use super::{Action, Instance, Phase, after};
use crate::permission::{AnsweredBy, PermissionId, Question, Settlement};
use crate::planted::planted;

/// Questions that one turn may have open at once; tools have a few. More are answered with a no.
const MOST_OPEN: usize = 32;

/// The open questions of the running turn, oldest first.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Vec<Open>,
    /// Since when there has been one.
    since: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    question: Question,
    /// Then it is answered with a no.
    until: Instant,
}

impl Questions {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.until).min()
    }

    /// The turn is over, and with it every question.
    pub(super) fn withdraw_all(&mut self, out: &mut Vec<Action>) {
        self.since = None;
        for Open { question, .. } in self.open.drain(..) {
            out.push(Action::Settle(question, Settlement::Withdrawn));
        }
    }
}

impl Instance {
    /// The tool asks. The policy answers at once, or the instance waits.
    pub(super) fn on_asked(&mut self, now: Instant, question: Question, out: &mut Vec<Action>) {
        let Phase::Busy {
            turn, cancelled, ..
        } = self.phase
        else {
            // The process is being ended; nobody should be bothered with it.
            return;
        };
        let answer = if cancelled || turn != question.turn {
            Some((Answer::Deny, AnsweredBy::Cancel))
        } else if let Some(answer) = self.config.approvals.answer(question.act) {
            Some((answer, AnsweredBy::Policy))
        } else if self.questions.open.len() >= MOST_OPEN {
            Some((Answer::Deny, AnsweredBy::Limit))
        } else {
            None
        };
        if let Some((answer, by)) = answer {
            out.push(Action::Settle(question, Settlement::Answered(answer, by)));
            return;
        }
        let from = self.state();
        let until = after(now, self.config.approval_timeout);
        let reason = format!("permission: {}", question.text);
        out.push(Action::Ask {
            question: question.clone(),
            asked: now,
            until,
        });
        self.questions.since.get_or_insert(now);
        self.questions.open.push(Open { question, until });
        self.report(from, reason, out);
    }

    /// Somebody answers.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        id: PermissionId,
        answer: Answer,
        out: &mut Vec<Action>,
    ) {
        match self.find_question(|question| question.id == id || planted("answer_to_another")) {
            Some(at) => {
                let settlement = Settlement::Answered(answer, AnsweredBy::Person);
                self.settle(now, at, settlement, "its question was answered", out);
            }
            None => out.push(Action::NotOpen(id)),
        }
    }

    /// The tool takes a question back. One that was answered by us before it heard so is not open.
    pub(super) fn on_withdrawn(
        &mut self,
        now: Instant,
        request: &RequestId,
        out: &mut Vec<Action>,
    ) {
        if let Some(at) = self.find_question(|question| question.request == *request) {
            let reason = "it took its question back";
            self.settle(now, at, Settlement::Withdrawn, reason, out);
        }
    }

    /// Answers with a no what nobody has answered in time.
    pub(super) fn expire_questions(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(at) = self
            .questions
            .open
            .iter()
            .position(|open| open.until <= now)
        {
            let settlement = Settlement::Answered(Answer::Deny, AnsweredBy::Timeout);
            let reason = "nobody answered its question in time, so the answer is no";
            self.settle(now, at, settlement, reason, out);
        }
    }

    /// Nobody can use an answer any more. Of a turn that is being cancelled the protocol itself tells the tool so.
    pub(super) fn withdraw_questions(&mut self, now: Instant, reason: &str, out: &mut Vec<Action>) {
        while !self.questions.is_empty() {
            self.settle(now, 0, Settlement::Withdrawn, reason, out);
        }
    }

    fn find_question(&self, is_wanted: impl Fn(&Question) -> bool) -> Option<usize> {
        let mut open = self.questions.open.iter();
        open.position(|open| is_wanted(&open.question))
    }

    fn settle(
        &mut self,
        now: Instant,
        at: usize,
        settlement: Settlement,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        let from = self.state();
        let Open { question, .. } = self.questions.open.remove(at);
        if self.questions.is_empty()
            && let Some(since) = self.questions.since.take()
            && let Phase::Busy {
                deadline,
                firm,
                watch,
                ..
            } = &mut self.phase
        {
            // The tool could not work while it waited.
            watch.resume(now, &self.config);
            if !*firm {
                *deadline += now.saturating_duration_since(since);
            }
        }
        out.push(Action::Settle(question, settlement));
        self.report(from, reason, out);
    }
}
