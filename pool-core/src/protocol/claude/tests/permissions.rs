//! What Claude asks, and what it is answered.

use serde_json::{Value, json};

use super::{Rehearsal, aborted, reply, result};
use crate::prompt::TurnId;
use crate::protocol::{Act, Answer, Protocol, RequestId, TurnEvent};

fn question(id: &str) -> Value {
    json!({"type": "control_request", "request_id": id,
           "request": {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "/w/a", "content": "x"},
                       "tool_use_id": "toolu_1"}})
}

fn withdrawn(id: &str) -> TurnEvent {
    TurnEvent::Withdrawn {
        request: RequestId(id.to_owned()),
    }
}

impl Rehearsal {
    fn answer(&mut self, id: &str, answer: Answer) -> Vec<Value> {
        self.claude
            .answer(&RequestId(id.to_owned()), answer, &mut self.out);
        self.written()
    }
}

#[test]
fn a_question_waits_and_is_answered_once_with_its_own_input() {
    let mut rehearsal = Rehearsal::running();
    let waiting = TurnEvent::Waiting {
        turn: TurnId(7),
        request: RequestId("q".to_owned()),
        question: "Write: /w/a".to_owned(),
        act: Act::Edit,
    };
    assert_eq!(rehearsal.print(&[question("q")]), [waiting]);
    assert_eq!(rehearsal.answer("another", Answer::Allow), [] as [Value; 0]);
    let allowed = rehearsal.answer("q", Answer::Allow);
    let expected = json!({"type": "control_response", "response": {"subtype": "success", "request_id": "q",
        "response": {"behavior": "allow", "updatedInput": {"file_path": "/w/a", "content": "x"}}}});
    assert_eq!(allowed, [expected]);
    assert_eq!(
        rehearsal.answer("q", Answer::Deny),
        [] as [Value; 0],
        "it is settled"
    );
}

#[test]
fn a_refusal_does_not_end_the_turn() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.print(&[question("q")]);
    let denied = rehearsal.answer("q", Answer::Deny);
    assert_eq!(denied[0]["response"]["response"]["behavior"], "deny");
    assert_eq!(rehearsal.events(), []);
}

#[test]
fn a_question_that_claude_withdraws_is_not_answered_any_more() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.print(&[question("q")]);
    let cancel = json!({"type": "control_cancel_request", "request_id": "q"});
    assert_eq!(
        rehearsal.print(std::slice::from_ref(&cancel)),
        [withdrawn("q")]
    );
    assert_eq!(rehearsal.print(&[cancel]), []);
    assert_eq!(rehearsal.answer("q", Answer::Allow), [] as [Value; 0]);
}

#[test]
fn the_end_of_a_turn_withdraws_what_is_open() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.print(&[question("p"), question("q")]);
    let events = rehearsal.print(&[result(1, "done")]);
    assert_eq!(events[..2], [withdrawn("p"), withdrawn("q")]);
    assert_eq!(rehearsal.answer("q", Answer::Allow), [] as [Value; 0]);
}

#[test]
fn after_an_interrupt_nobody_is_asked() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.claude.interrupt(&mut rehearsal.out);
    rehearsal.written();
    assert_eq!(rehearsal.print(&[question("q")]), []);
    assert_eq!(
        rehearsal.written()[0]["response"]["response"]["behavior"],
        "deny"
    );
    rehearsal.print(&[reply("interrupt-1"), aborted(1)]);
    assert_eq!(rehearsal.print(&[question("r")]), [], "nor without a turn");
    assert_eq!(
        rehearsal.written()[0]["response"]["response"]["behavior"],
        "deny"
    );
}

#[test]
fn what_is_asked_and_not_understood_is_answered_with_an_error() {
    let mut rehearsal = Rehearsal::running();
    let request = json!({"type": "control_request", "request_id": "q", "request": {"subtype": "hook_callback"}});
    assert_eq!(rehearsal.print(&[request]), []);
    let answer = &rehearsal.written()[0]["response"];
    assert_eq!(
        (&answer["subtype"], &answer["request_id"]),
        (&json!("error"), &json!("q"))
    );
}
