//! What the agent asks, and how it is answered.

use serde_json::{Value, json};

use super::Rehearsal;
use crate::outcome::Outcome;
use crate::protocol::{Act, Answer, Protocol, RequestId, TurnEvent};

/// As gemini orders them: the widest first.
fn options() -> Value {
    json!([
        {"optionId": "proceed_always", "name": "Allow for this session", "kind": "allow_always"},
        {"optionId": "proceed_once", "name": "Allow", "kind": "allow_once"},
        {"optionId": "cancel", "name": "Reject", "kind": "reject_once"},
    ])
}

fn ask(rehearsal: &mut Rehearsal, id: &Value, options: &Value, call: &Value) -> Vec<TurnEvent> {
    let params = json!({"sessionId": "s1", "options": options, "toolCall": call});
    let request = json!({"jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params});
    rehearsal.line(&request.to_string())
}

fn run() -> Value {
    json!({"toolCallId": "c1", "title": "rm\n-rf x", "kind": "execute"})
}

fn answer(rehearsal: &mut Rehearsal, request: &str, answer: Answer) -> Vec<Value> {
    let request = RequestId(request.to_owned());
    rehearsal.acp.answer(&request, answer, &mut rehearsal.out);
    rehearsal.written()
}

fn selected(id: Value, option: &str) -> Vec<Value> {
    vec![
        json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": {"outcome": "selected", "optionId": option}}}),
    ]
}

fn cancelled(id: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": {"outcome": "cancelled"}}})
}

#[test]
fn a_question_is_passed_on_and_answered_once_by_the_kind_of_option() {
    for (given, option) in [(Answer::Allow, "proceed_once"), (Answer::Deny, "cancel")] {
        for id in [json!(0), json!("0")] {
            let mut rehearsal = Rehearsal::running();
            let events = ask(&mut rehearsal, &id, &options(), &run());
            let [
                TurnEvent::Waiting {
                    request,
                    question,
                    act,
                    ..
                },
            ] = events.as_slice()
            else {
                panic!("{events:?}")
            };
            assert_eq!((question.as_str(), *act), ("rm -rf x", Act::Execute));
            assert_eq!(answer(&mut rehearsal, "other", given), Vec::<Value>::new());
            assert_eq!(
                answer(&mut rehearsal, &request.0, given),
                selected(id, option)
            );
            assert_eq!(
                answer(&mut rehearsal, &request.0, given),
                Vec::<Value>::new(),
                "only once"
            );
        }
    }
}

#[test]
fn an_answer_never_selects_more_than_this_once() {
    let always = json!([{"optionId": "a", "kind": "allow_always"}, {"optionId": "r", "kind": "reject_always"}]);
    let none = json!([]);
    let table = [
        (&always, Answer::Allow, vec![cancelled(json!(0))]),
        (&always, Answer::Deny, selected(json!(0), "r")),
        (&none, Answer::Allow, vec![cancelled(json!(0))]),
        (&none, Answer::Deny, vec![cancelled(json!(0))]),
    ];
    for (options, given, written) in table {
        let mut rehearsal = Rehearsal::running();
        ask(&mut rehearsal, &json!(0), options, &run());
        assert_eq!(
            answer(&mut rehearsal, "0", given),
            written,
            "{options} {given:?}"
        );
    }
}

#[test]
fn only_an_edit_that_is_shown_to_stay_in_the_working_folder_is_one() {
    let edit = |place: Value| {
        let mut call = json!({"title": "Write", "kind": "edit"});
        call.as_object_mut()
            .expect("an object")
            .extend(place.as_object().expect("an object").clone());
        call
    };
    let at = |path: &str| edit(json!({"locations": [{"path": path}]}));
    let table = [
        (at("/repo/src/a.rs"), Act::Edit),
        (at("src/a.rs"), Act::Edit),
        (
            edit(json!({"content": [{"type": "diff", "path": "/repo/a"}]})),
            Act::Edit,
        ),
        (at("/etc/passwd"), Act::Other),
        (at("/repository/a"), Act::Other),
        (at("/repo/../etc/passwd"), Act::Other),
        (
            edit(json!({"locations": [{"path": "/repo/a"}], "content": [{"path": "/b"}]})),
            Act::Other,
        ),
        (edit(json!({})), Act::Other),
        (edit(json!({"locations": "/repo/a"})), Act::Other),
        (json!({"kind": "read"}), Act::Read),
        (json!({"kind": "search"}), Act::Read),
        (json!({"kind": "fetch"}), Act::Other),
        (json!({"kind": "new kind"}), Act::Other),
        (json!(null), Act::Other),
    ];
    for (call, expected) in table {
        let events = ask(&mut Rehearsal::running(), &json!(0), &options(), &call);
        let [TurnEvent::Waiting { act, .. }] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(*act, expected, "{call}");
    }
}

#[test]
fn an_interrupt_cancels_the_open_questions_and_those_that_still_come() {
    let mut rehearsal = Rehearsal::running();
    ask(&mut rehearsal, &json!(0), &options(), &run());
    let written = rehearsal.interrupt();
    let cancel =
        json!({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s1"}});
    assert_eq!(written, [cancel, cancelled(json!(0))]);
    let withdrawn = TurnEvent::Withdrawn {
        request: RequestId("0".to_owned()),
    };
    assert_eq!(rehearsal.events(), [withdrawn]);
    assert_eq!(
        answer(&mut rehearsal, "0", Answer::Allow),
        Vec::<Value>::new()
    );
    assert_eq!(ask(&mut rehearsal, &json!(1), &options(), &run()), []);
    assert_eq!(rehearsal.written(), [cancelled(json!(1))]);
    let events = rehearsal.result(3, json!({"stopReason": "cancelled"}));
    assert_eq!(super::outcome_of(&events), &Outcome::Cancelled);
}

#[test]
fn a_long_question_says_that_it_is_cut() {
    let mut rehearsal = Rehearsal::running();
    let call = json!({"toolCallId": "c1", "title": "x".repeat(2000), "kind": "execute"});
    let events = ask(&mut rehearsal, &json!(0), &options(), &call);
    assert!(
        matches!(events.as_slice(), [TurnEvent::Waiting { question, .. }]
            if question.ends_with(" … [1000 more characters are not shown]")),
        "{events:?}"
    );
}

#[test]
fn a_question_outside_of_a_turn_or_of_another_session_is_cancelled() {
    let mut rehearsal = Rehearsal::ready();
    assert_eq!(ask(&mut rehearsal, &json!(0), &options(), &run()), []);
    assert_eq!(rehearsal.written(), [cancelled(json!(0))]);
    let mut rehearsal = Rehearsal::running();
    let params = json!({"sessionId": "s0", "options": options(), "toolCall": run()});
    let request = json!({"id": 5, "method": "session/request_permission", "params": params});
    assert_eq!(rehearsal.line(&request.to_string()), []);
    assert_eq!(rehearsal.written(), [cancelled(json!(5))]);
}

#[test]
fn a_question_that_is_open_at_the_end_of_its_turn_is_withdrawn() {
    let mut rehearsal = Rehearsal::running();
    ask(&mut rehearsal, &json!(0), &options(), &run());
    rehearsal.says("done");
    let events = rehearsal.result(3, json!({"stopReason": "end_turn"}));
    let withdrawn = TurnEvent::Withdrawn {
        request: RequestId("0".to_owned()),
    };
    assert_eq!(events[0], withdrawn);
    assert_eq!(super::outcome_of(&events[1..]), &Outcome::Completed);
}

#[test]
fn a_silent_end_after_a_denial_says_so() {
    let mut rehearsal = Rehearsal::running();
    ask(&mut rehearsal, &json!(0), &options(), &run());
    answer(&mut rehearsal, "0", Answer::Deny);
    let events = rehearsal.result(3, json!({"stopReason": "end_turn"}));
    assert!(
        super::failure_of(&events)
            .message
            .contains("a permission was denied")
    );
}

#[test]
fn what_an_agent_asks_besides_is_refused_at_once() {
    let mut rehearsal = Rehearsal::running();
    for method in [
        "craft/drainMidTurnQueue",
        "fs/write_text_file",
        "terminal/create",
    ] {
        let request = json!({"id": "x", "method": method, "params": {"sessionId": "s1"}});
        assert_eq!(rehearsal.line(&request.to_string()), []);
        let written = rehearsal.written();
        assert_eq!(
            (&written[0]["id"], &written[0]["error"]["code"]),
            (&json!("x"), &json!(-32601))
        );
    }
}
