//! The way of a question from the tool to whoever answers, and back.
//!
//! Owns the names of questions, and the answers that are on their way. Must not decide what is answered: the machine
//! does. Invariants: a name is given once in a cluster's life; a tool is answered only when the dispatcher lets the answer
//! pass, which is when the journal has it, and only in the turn in which it asked.

use std::sync::atomic::Ordering;

use toolpool_pool_core::prompt::TurnId;
use toolpool_pool_core::protocol::{Act, Answer, RequestId};

use super::Supervisor;
use crate::error::ControlError;
use crate::instance::Input;
use crate::permission::{AnsweredBy, PermissionId, Question, Settlement};
use crate::turn::{Heard, Report};

impl Supervisor {
    pub(super) fn on_question(
        &mut self,
        turn: TurnId,
        request: RequestId,
        act: Act,
        text: String,
    ) -> Input {
        let id = PermissionId(self.recipe.permissions.fetch_add(1, Ordering::Relaxed));
        Input::Asked(Question {
            id,
            request,
            turn,
            act,
            text,
        })
    }

    pub(super) fn on_answer(&mut self, id: PermissionId, answer: Answer, heard: Heard) -> Input {
        // Inputs are taken one by one, so the machine's next word is about this one.
        self.answering = Some(heard);
        Input::Answer(id, answer)
    }

    pub(super) async fn settle(&mut self, question: Question, settlement: Settlement) {
        if let Settlement::Answered(answer, by) = settlement {
            let heard = match by {
                AnsweredBy::Person => self.answering.take(),
                _ => None,
            };
            self.on_their_way.push_back(Given {
                question: question.clone(),
                generation: self.machine.generation(),
                answer,
                heard,
            });
        }
        self.report(Report::Settled(question, settlement)).await;
    }

    /// Some of the answers may go now: so many as the dispatcher has let pass.
    pub(super) fn pass_on(&mut self) {
        let may_pass = *self.recipe.may_pass.borrow_and_update();
        while self.passed < may_pass
            && let Some(given) = self.on_their_way.pop_front()
        {
            self.passed += 1;
            self.give(given);
        }
    }

    /// Answers the tool, if it is still in the turn in which it asked: another one may have a request of the same name.
    fn give(&mut self, given: Given) {
        let Question {
            id, turn, request, ..
        } = given.question;
        let running = self.running.as_ref().map(|running| running.turn.id);
        let taken = match &mut self.connection {
            Some(connection)
                if running == Some(turn) && self.machine.generation() == given.generation =>
            {
                connection.answer(&request, given.answer);
                Ok(())
            }
            _ => Err(ControlError::NotOpen(id)),
        };
        tell(given.heard, taken);
    }

    pub(super) async fn not_open(&mut self, id: PermissionId) {
        self.report(Report::NotOpen(id)).await;
        tell(self.answering.take(), Err(ControlError::NotOpen(id)));
    }
}

/// An answer that was decided on, and that the tool does not have yet.
pub(super) struct Given {
    question: Question,
    /// The process that asked.
    generation: u64,
    answer: Answer,
    /// Whoever gave it waits to hear whether it was taken.
    heard: Option<Heard>,
}

fn tell(heard: Option<Heard>, taken: Result<(), ControlError>) {
    if let Some(heard) = heard {
        // Whoever answered may have gone; that is no error.
        heard.send(taken).ok();
    }
}
