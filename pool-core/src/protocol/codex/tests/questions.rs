//! Permissions and interrupts.

use serde_json::{Value, json};

use super::{Rehearsal, ended, is_fault, message};
use crate::outcome::Outcome;
use crate::prompt::{Prompt, TurnId};
use crate::protocol::{Act, Answer, Protocol, RequestId, TurnEvent};

fn question(id: Value, method: &str, params: Value) -> Value {
    let mut params = params;
    params["threadId"] = "thread".into();
    params["turnId"] = "turn-1".into();
    json!({"id": id, "method": method, "params": params})
}

fn run(id: Value, command: &str) -> Value {
    question(
        id,
        "item/commandExecution/requestApproval",
        json!({"command": command}),
    )
}

fn id(text: &str) -> RequestId {
    RequestId(text.to_owned())
}

#[test]
fn a_question_is_passed_on_and_answered_once() {
    let mut rehearsal = Rehearsal::running();
    let events = rehearsal.tell(run(json!(0), "rm -r\n  target"));
    let waiting = TurnEvent::Waiting {
        turn: TurnId(1),
        request: id("0"),
        question: "run rm -r   target".to_owned(),
        act: Act::Execute,
    };
    assert_eq!(events, [waiting]);
    rehearsal
        .codex
        .answer(&id("1"), Answer::Allow, &mut rehearsal.out);
    assert_eq!(rehearsal.written(), Vec::<Value>::new(), "not asked");
    rehearsal
        .codex
        .answer(&id("0"), Answer::Allow, &mut rehearsal.out);
    rehearsal
        .codex
        .answer(&id("0"), Answer::Deny, &mut rehearsal.out);
    let accept = json!({"jsonrpc": "2.0", "id": 0, "result": {"decision": "accept"}});
    assert_eq!(rehearsal.written(), [accept]);
    let settled = json!({"method": "serverRequest/resolved", "params": {"threadId": "thread", "requestId": 0}});
    assert_eq!(rehearsal.tell(settled), [], "that is no withdrawal");
}

#[test]
fn an_edit_is_asked_for_by_the_names_of_its_files() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(json!({"method": "item/started", "params": {"threadId": "thread", "turnId": "turn-1",
        "item": {"type": "fileChange", "id": "call", "changes": [{"path": "a.txt"}, {"path": "b.txt"}]}}}));
    let events = rehearsal.tell(question(
        json!("q"),
        "item/fileChange/requestApproval",
        json!({"itemId": "call", "reason": "outside"}),
    ));
    assert!(
        matches!(events.as_slice(), [TurnEvent::Waiting { question, act: Act::Edit, .. }]
            if question == "edit a.txt, b.txt (outside)"),
        "{events:?}"
    );
    rehearsal
        .codex
        .answer(&id("\"q\""), Answer::Deny, &mut rehearsal.out);
    let decline = json!({"jsonrpc": "2.0", "id": "q", "result": {"decision": "decline"}});
    assert_eq!(rehearsal.written(), [decline]);
}

#[test]
fn a_question_that_is_withdrawn_or_outlived_cannot_be_answered() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(run(json!(0), "ls"));
    rehearsal.tell(run(json!(1), "ls"));
    let settled = json!({"method": "serverRequest/resolved", "params": {"threadId": "thread", "requestId": 0}});
    assert_eq!(
        rehearsal.tell(settled),
        [TurnEvent::Withdrawn { request: id("0") }]
    );
    rehearsal.tell(message("turn-1", "done"));
    let events = rehearsal.tell(super::turn_completed("thread", "turn-1", "completed"));
    assert_eq!(events[0], TurnEvent::Withdrawn { request: id("1") });
    assert!(ended(events).is_some());
    for request in ["0", "1"] {
        rehearsal
            .codex
            .answer(&id(request), Answer::Allow, &mut rehearsal.out);
    }
    assert_eq!(rehearsal.written(), Vec::<Value>::new());
}

#[test]
fn a_request_that_is_not_understood_is_answered_with_an_error_at_any_time() {
    let odd = question(json!(5), "item/tool/requestUserInput", json!({}));
    for mut rehearsal in [Rehearsal::ready(), Rehearsal::running()] {
        assert_eq!(rehearsal.tell(odd.clone()), []);
        let written = rehearsal.written();
        assert_eq!(
            (&written[0]["id"], &written[0]["error"]["code"]),
            (&json!(5), &json!(-32601))
        );
    }
    let mut idle = Rehearsal::ready();
    assert_eq!(
        idle.tell(run(json!(6), "ls")),
        [],
        "no turn could wait for it"
    );
    assert_eq!(idle.written()[0]["error"]["code"], -32601);
}

#[test]
fn a_long_question_is_cut_and_says_so() {
    let events = Rehearsal::running().tell(run(json!(0), &"\u{e9}".repeat(5000)));
    assert!(
        matches!(events.as_slice(), [TurnEvent::Waiting { question, .. }]
            if question.ends_with(" … [4004 more characters are not shown]")),
        "{events:?}"
    );
}

#[test]
fn an_interrupt_waits_until_codex_has_begun_and_is_sent_once() {
    let mut rehearsal = Rehearsal::ready();
    let request = rehearsal.submit(&Prompt::text("hello"));
    rehearsal.codex.interrupt(&mut rehearsal.out);
    rehearsal.tell(json!({"id": request, "result": {"turn": {"id": "turn-1"}}}));
    assert_eq!(rehearsal.written(), Vec::<Value>::new());
    rehearsal.tell(json!({"method": "turn/started", "params": {"threadId": "thread", "turn": {"id": "turn-1"}}}));
    rehearsal.codex.interrupt(&mut rehearsal.out);
    let written = rehearsal.written();
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["method"], "turn/interrupt");
    assert_eq!(
        written[0]["params"],
        json!({"threadId": "thread", "turnId": "turn-1"})
    );
}

/// A turn that was interrupted, up to the request for the end of what it had started; its id.
fn interrupted() -> (Rehearsal, i64) {
    let mut rehearsal = Rehearsal::running();
    rehearsal.codex.interrupt(&mut rehearsal.out);
    rehearsal.written();
    assert_eq!(
        rehearsal.tell(super::turn_completed("thread", "turn-1", "interrupted")),
        []
    );
    let written = rehearsal.written();
    assert_eq!(written[0]["method"], "thread/backgroundTerminals/clean");
    let request = written[0]["id"].as_i64().expect("an id");
    (rehearsal, request)
}

#[test]
fn a_turn_is_cancelled_when_what_it_had_started_is_gone_too() {
    let (mut rehearsal, request) = interrupted();
    assert_eq!(rehearsal.tell(json!({"id": request - 1, "result": {}})), []);
    let events = rehearsal.tell(json!({"id": request, "result": {}}));
    assert_eq!(ended(events), Some((Outcome::Cancelled, None)));
    rehearsal.submit(&Prompt::text("next"));
    rehearsal.begin("turn-2");
    rehearsal.tell(message("turn-2", "good"));
    assert_eq!(
        rehearsal.complete("turn-2", "completed").0,
        Outcome::Completed
    );
}

#[test]
fn a_cancel_that_left_something_running_is_a_fault() {
    let (mut rehearsal, request) = interrupted();
    let refused = json!({"id": request, "error": {"code": -32600, "message": "unknown variant"}});
    assert!(is_fault(&rehearsal.tell(refused)));
}

#[test]
fn an_interrupt_that_comes_too_late_changes_nothing() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(message("turn-1", "done"));
    rehearsal.codex.interrupt(&mut rehearsal.out);
    let request = rehearsal.written()[0]["id"].clone();
    assert_eq!(
        rehearsal.complete("turn-1", "completed").0,
        Outcome::Completed
    );
    let late =
        json!({"id": request, "error": {"code": -32600, "message": "no active turn to interrupt"}});
    assert_eq!(rehearsal.tell(late), []);
    rehearsal.codex.interrupt(&mut rehearsal.out);
    assert_eq!(rehearsal.written(), Vec::<Value>::new(), "nothing runs");
}

#[test]
fn a_turn_that_codex_stops_by_itself_has_failed() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(super::turn_completed("thread", "turn-1", "interrupted"));
    let request = rehearsal.written()[0]["id"].clone();
    let events = rehearsal.tell(json!({"id": request, "result": {}}));
    assert!(matches!(ended(events), Some((Outcome::Failed(_), None))));
}

#[test]
fn a_fresh_turn_that_is_interrupted_while_its_conversation_opens_is_never_sent() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(message("turn-1", "done"));
    rehearsal.complete("turn-1", "completed");
    let request = rehearsal.submit(&Prompt {
        fresh: true,
        ..Prompt::text("secret")
    });
    rehearsal.codex.interrupt(&mut rehearsal.out);
    let events = rehearsal.tell(json!({"id": request, "result": {"thread": {"id": "thread-2"}}}));
    assert_eq!(events[0], TurnEvent::SessionChanged("thread-2".to_owned()));
    assert_eq!(ended(events), Some((Outcome::Cancelled, None)));
    let written = rehearsal.written();
    assert!(
        written
            .iter()
            .all(|message| message["method"] == "thread/archive"),
        "{written:?}"
    );
}
