//! The permissions that an agent asks for.
//!
//! Owns the open questions of one turn. Must not decide them. Invariant: every question gets exactly one response, and an
//! answer that is given for once never selects an option that stands for more.

use std::path::{Component, Path};

use serde_json::{Value, json};

use crate::prompt::TurnId;
use crate::protocol::json_rpc::{Id, write_result};
use crate::protocol::question::one_line;
use crate::protocol::{Act, Answer, Outbox, RequestId, TurnEvent};

/// The questions of one turn.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    open: Vec<Question>,
    asked: bool,
    denied: bool,
}

/// An open question. Options are known by their kinds; their ids and their order are the agent's own.
#[derive(Debug)]
struct Question {
    id: Id,
    /// The option for yes, this once.
    allow: Option<String>,
    /// The option for no.
    deny: Option<String>,
}

impl Permissions {
    /// Passes a question on; `cwd` is the working folder.
    pub(super) fn ask(
        &mut self,
        turn: TurnId,
        id: &Id,
        params: &Value,
        cwd: &Path,
        out: &mut Outbox,
    ) {
        let options = params["options"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let of_kind = |kind: &str| {
            let option = options.iter().find(|option| option["kind"] == kind)?;
            Some(option["optionId"].as_str()?.to_owned())
        };
        self.asked = true;
        self.open.push(Question {
            id: id.clone(),
            allow: of_kind("allow_once"),
            deny: of_kind("reject_once").or_else(|| of_kind("reject_always")),
        });
        let call = &params["toolCall"];
        out.emit(TurnEvent::Waiting {
            turn,
            request: RequestId(id.to_string()),
            question: question(call),
            act: act(call, cwd),
        });
    }

    /// Answers a question; one that is not open is ignored.
    pub(super) fn answer(&mut self, request: &RequestId, answer: Answer, out: &mut Outbox) {
        let Some(at) = self
            .open
            .iter()
            .position(|question| question.id.to_string() == request.0)
        else {
            return;
        };
        let question = self.open.swap_remove(at);
        let option = match answer {
            Answer::Allow => question.allow,
            Answer::Deny => {
                self.denied = true;
                question.deny
            }
        };
        match option {
            Some(option) => {
                let outcome = json!({"outcome": {"outcome": "selected", "optionId": option}});
                write_result(out, &question.id, outcome);
            }
            // Nothing is offered that means it; to leave the question is the safe answer.
            None => {
                self.denied = true;
                write_cancelled(&question.id, out);
            }
        }
    }

    /// Answers all open questions as the protocol asks for when a turn is cancelled.
    pub(super) fn cancel(&mut self, out: &mut Outbox) {
        for question in &self.open {
            write_cancelled(&question.id, out);
        }
        self.withdraw(out);
    }

    /// Tells that the open questions must not be answered any more.
    pub(super) fn withdraw(&mut self, out: &mut Outbox) {
        for question in self.open.drain(..) {
            let request = RequestId(question.id.to_string());
            out.emit(TurnEvent::Withdrawn { request });
        }
    }

    pub(super) fn were_asked(&self) -> bool {
        self.asked
    }

    pub(super) fn were_denied(&self) -> bool {
        self.denied
    }
}

/// Answers a question with neither yes nor no: its turn is cancelled.
pub(super) fn write_cancelled(id: &Id, out: &mut Outbox) {
    write_result(out, id, json!({"outcome": {"outcome": "cancelled"}}));
}

/// What the agent wants to do, in one line.
fn question(call: &Value) -> String {
    let title = call["title"]
        .as_str()
        .unwrap_or("do something that it does not name");
    one_line(title)
}

/// What kind of act it is. Whoever allows edits means edits of the work: one that is not shown to stay below the working
/// folder is another act.
fn act(call: &Value, cwd: &Path) -> Act {
    match call["kind"].as_str().unwrap_or_default() {
        "read" | "search" => Act::Read,
        "edit" | "delete" | "move" if stays_below(call, cwd) => Act::Edit,
        "execute" => Act::Execute,
        _ => Act::Other,
    }
}

/// Whether the call names paths, and all of them are below the folder. Links are not followed.
fn stays_below(call: &Value, cwd: &Path) -> bool {
    let paths = |key: &str| call[key].as_array().into_iter().flatten();
    let mut paths = paths("locations")
        .chain(paths("content"))
        .filter_map(|place| place["path"].as_str())
        .map(Path::new)
        .peekable();
    paths.peek().is_some()
        && paths.all(|path| {
            let climbs = path.components().any(|part| part == Component::ParentDir);
            !climbs && (path.is_relative() || path.starts_with(cwd))
        })
}
