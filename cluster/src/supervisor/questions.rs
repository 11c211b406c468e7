//! The way of a question from the tool to whoever answers, and back.
//!
//! Owns the names of questions, and who waits to hear that an answer was taken. Must not decide what is answered: the
//! machine does. Invariant: a name is given once in a cluster's life.

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
        if let (Settlement::Answered(answer, _), Some(connection)) =
            (settlement, &mut self.connection)
        {
            connection.answer(&question.request, answer);
        }
        self.report(Report::Settled(question, settlement)).await;
        if matches!(settlement, Settlement::Answered(_, AnsweredBy::Person)) {
            self.tell_answerer(Ok(()));
        }
    }

    pub(super) async fn not_open(&mut self, id: PermissionId) {
        self.report(Report::NotOpen(id)).await;
        self.tell_answerer(Err(ControlError::NotOpen(id)));
    }

    fn tell_answerer(&mut self, taken: Result<(), ControlError>) {
        if let Some(heard) = self.answering.take() {
            // Whoever answered may have gone; that is no error.
            heard.send(taken).ok();
        }
    }
}
