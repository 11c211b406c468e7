//! The permissions that codex asks for.
//!
//! Owns the open questions of one turn. Must not decide them. Invariant: every question of codex's gets exactly one
//! response, unless codex withdraws it.

use serde_json::{Value, json};

use crate::prompt::TurnId;
use crate::protocol::json_rpc::{Id, write_result};
use crate::protocol::question::one_line;
use crate::protocol::{Act, Answer, Outbox, RequestId, TurnEvent};

/// Whether codex asks before it acts. In both cases its sandbox lets commands write in the working folder and in TMPDIR
/// only, and not reach the network; a command that was allowed runs in it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approvals {
    /// Before every edit, and every command that it does not know to be harmless.
    Ask,
    /// Never. What the sandbox refuses is told to the model.
    None,
}

impl Approvals {
    /// codex's `approvalPolicy`.
    pub(super) fn policy(self) -> &'static str {
        match self {
            Self::Ask => "untrusted",
            Self::None => "never",
        }
    }
}

/// The open questions of one turn.
#[derive(Debug, Default)]
pub(super) struct Open {
    questions: Vec<Id>,
    /// Edits that have begun: the item's id, and the files. The question itself does not name them.
    edits: Vec<(String, String)>,
}

impl Open {
    /// Remembers what an edit is about.
    pub(super) fn note_item(&mut self, item: &Value) {
        if item["type"] != "fileChange" {
            return;
        }
        let paths = item["changes"].as_array().into_iter().flatten();
        let paths: Vec<&str> = paths.filter_map(|change| change["path"].as_str()).collect();
        let id = item["id"].as_str().unwrap_or_default();
        self.edits.push((id.to_owned(), paths.join(", ")));
    }

    /// Passes a question on; false if it is none that can be answered here.
    pub(super) fn ask(
        &mut self,
        turn: TurnId,
        id: &Id,
        method: &str,
        params: &Value,
        out: &mut Outbox,
    ) -> bool {
        let (act, question) = match method {
            "item/commandExecution/requestApproval" => {
                let command = params["command"].as_str().unwrap_or("a command");
                (Act::Execute, format!("run {command}"))
            }
            "item/fileChange/requestApproval" => {
                let edit = self
                    .edits
                    .iter()
                    .rfind(|(item, _)| params["itemId"] == item.as_str());
                let files = edit.map_or("files", |(_, files)| files.as_str());
                (Act::Edit, format!("edit {files}"))
            }
            _ => return false,
        };
        let reason = params["reason"]
            .as_str()
            .map(|reason| format!(" ({reason})"));
        self.questions.push(id.clone());
        out.emit(TurnEvent::Waiting {
            turn,
            request: RequestId(id.to_string()),
            question: one_line(&(question + &reason.unwrap_or_default())),
            act,
        });
        true
    }

    /// Sends an answer, if the question is still open.
    pub(super) fn answer(&mut self, request: &RequestId, answer: Answer, out: &mut Outbox) {
        if let Some(id) = self.close(|id| id.to_string() == request.0) {
            let decision = match answer {
                Answer::Allow => "accept",
                Answer::Deny => "decline",
            };
            write_result(out, &id, json!({"decision": decision}));
        }
    }

    /// codex says that a question is settled: it tells so after an answer too.
    pub(super) fn settle(&mut self, settled: &Value, out: &mut Outbox) {
        if let Some(id) = self.close(|id| json!(id) == *settled) {
            withdraw(&id, out);
        }
    }

    /// The turn is over, so nothing is open any more.
    pub(super) fn withdraw_all(&mut self, out: &mut Outbox) {
        for id in self.questions.drain(..) {
            withdraw(&id, out);
        }
    }

    fn close(&mut self, is_wanted: impl Fn(&Id) -> bool) -> Option<Id> {
        let at = self.questions.iter().position(is_wanted)?;
        Some(self.questions.remove(at))
    }
}

fn withdraw(id: &Id, out: &mut Outbox) {
    let request = RequestId(id.to_string());
    out.emit(TurnEvent::Withdrawn { request });
}
