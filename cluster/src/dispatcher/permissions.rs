//! Questions that wait for somebody's answer.
//!
//! Owns the way of an answer to the instance that asked, and the events about it. Must not know protocols. Invariants: an
//! answer goes to the question of that name, or nowhere; no tool has it before the journal does.

use std::sync::Arc;
use std::time::Instant;

use toolpool_pool_core::protocol::Answer;

use super::Dispatcher;
use crate::error::ControlError;
use crate::event::EventKind;
use crate::permission::{PermissionId, Question, Settlement};
use crate::planted::planted;
use crate::turn::{Heard, Order};

impl Dispatcher {
    pub(super) fn on_asked(
        &mut self,
        instance: usize,
        question: Question,
        asked: Instant,
        until: Instant,
    ) {
        let entry = &mut self.roster[instance];
        self.history.record(EventKind::PermissionAsked {
            permission: question.id,
            turn: question.turn,
            instance: Arc::clone(&entry.name),
            generation: entry.generation,
            act: question.act.word(),
            question: question.text.clone(),
            timeout: until.saturating_duration_since(asked),
        });
        entry.on_asked(question, asked, until);
    }

    pub(super) fn on_settled(
        &mut self,
        instance: usize,
        question: &Question,
        settlement: Settlement,
    ) {
        let entry = &mut self.roster[instance];
        entry.on_settled(question.id);
        let instance = Arc::clone(&entry.name);
        let (permission, turn, act) = (question.id, question.turn, question.act.word());
        self.history.record(match settlement {
            Settlement::Answered(answer, by) => EventKind::PermissionAnswered {
                permission,
                turn,
                instance: Arc::clone(&instance),
                act,
                allowed: answer == Answer::Allow,
                by: by.word(),
            },
            Settlement::Withdrawn => EventKind::PermissionWithdrawn {
                permission,
                turn,
                instance: Arc::clone(&instance),
                act,
            },
        });
        let is_kept = self.history.journal.is_some() && !planted("answered_before_durable");
        if !is_kept && matches!(settlement, Settlement::Answered(..)) {
            self.let_pass(&instance);
        }
    }

    /// The next answer may reach the tool; those of an instance are settled, kept and passed in the same order.
    pub(super) fn let_pass(&mut self, instance: &str) {
        let mut entries = self.roster.iter();
        if let Some(entry) = entries.find(|entry| *entry.name == *instance) {
            entry.may_pass.send_modify(|passed| *passed += 1);
        }
    }

    pub(super) fn on_answer(&mut self, permission: PermissionId, answer: Answer, heard: Heard) {
        let mut entries = self.roster.iter_mut();
        match entries.find(|entry| entry.waits_for(permission)) {
            Some(entry) => entry.order(Order::Answer(permission, answer, heard)),
            None => {
                self.on_answer_refused(permission);
                // Whoever answered may have gone; that is no error.
                heard.send(Err(ControlError::NotOpen(permission))).ok();
            }
        }
    }

    pub(super) fn on_answer_refused(&mut self, permission: PermissionId) {
        self.history.record(EventKind::AnswerRefused { permission });
    }

    /// The task that asked is gone without a word.
    pub(super) fn withdraw_questions(&mut self, instance: usize) {
        for question in self.roster[instance].take_questions() {
            self.on_settled(instance, &question, Settlement::Withdrawn);
        }
    }
}
