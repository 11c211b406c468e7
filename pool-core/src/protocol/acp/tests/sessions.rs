//! Starts, fresh conversations and interrupts.

use serde_json::{Value, json};

use super::{Rehearsal, config, failure_of, fault_of, outcome_of, resuming};
use crate::outcome::{FailureClass, Outcome};
use crate::prompt::Prompt;
use crate::protocol::TurnEvent;

#[test]
fn an_interrupt_ends_the_turn_at_the_agents_own_answer() {
    let table = [
        (
            json!({"result": {"stopReason": "cancelled"}}),
            false,
            Outcome::Cancelled,
        ),
        (
            json!({"result": {"stopReason": "end_turn"}}),
            false,
            Outcome::Cancelled,
        ),
        // It was done before it was told to stop.
        (
            json!({"result": {"stopReason": "end_turn"}}),
            true,
            Outcome::Completed,
        ),
        (
            json!({"error": {"code": -32603, "message": "aborted"}}),
            true,
            Outcome::Cancelled,
        ),
    ];
    for (mut response, says, outcome) in table {
        let mut rehearsal = Rehearsal::running();
        assert_eq!(rehearsal.interrupt().len(), 1);
        assert_eq!(rehearsal.interrupt(), Vec::<Value>::new(), "once is enough");
        if says {
            rehearsal.says("something");
        }
        response["id"] = 3.into();
        assert_eq!(
            outcome_of(&rehearsal.line(&response.to_string())),
            &outcome,
            "{response}"
        );
        rehearsal.submit(&"the next".into());
    }
    assert_eq!(
        Rehearsal::ready().interrupt(),
        Vec::<Value>::new(),
        "nothing runs"
    );
}

#[test]
fn a_fresh_prompt_opens_a_session_and_closes_the_old_one() {
    let mut rehearsal =
        Rehearsal::ready_with(config(), &json!({"sessionCapabilities": {"close": {}}}));
    let fresh = Prompt {
        fresh: true,
        ..Prompt::text("anew")
    };
    let written = rehearsal.submit(&fresh);
    assert_eq!(
        written[0]["method"], "session/prompt",
        "the session has had no prompt"
    );
    rehearsal.says("a");
    rehearsal.result(3, json!({"stopReason": "end_turn"}));
    assert_eq!(rehearsal.submit(&fresh)[0]["method"], "session/new");
    assert_eq!(rehearsal.says("late"), [], "that was the old session");
    let events = rehearsal.result(4, json!({"sessionId": "s2"}));
    assert_eq!(events, [TurnEvent::SessionChanged("s2".to_owned())]);
    let written = rehearsal.written();
    assert_eq!(
        (&written[0]["method"], &written[0]["params"]["sessionId"]),
        (&json!("session/close"), &json!("s1"))
    );
    assert_eq!(
        (&written[1]["method"], &written[1]["params"]["sessionId"]),
        (&json!("session/prompt"), &json!("s2"))
    );
    assert_eq!(
        rehearsal.result(5, json!({})),
        [],
        "the old session is closed"
    );
    let failed = rehearsal.error(6, json!({"code": 500, "message": "x"}));
    failure_of(&failed);
}

#[test]
fn a_fresh_turn_that_gets_no_session_fails_and_the_next_one_tries_again() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.says("a");
    rehearsal.result(3, json!({"stopReason": "end_turn"}));
    let fresh = Prompt {
        fresh: true,
        ..Prompt::text("anew")
    };
    rehearsal.submit(&fresh);
    let events = rehearsal.error(4, json!({"code": -32000, "message": "log in"}));
    assert_eq!(failure_of(&events).class, FailureClass::Auth);
    assert_eq!(rehearsal.submit(&fresh)[0]["method"], "session/new");
    assert_eq!(
        rehearsal.interrupt(),
        Vec::<Value>::new(),
        "there is no prompt to cancel yet"
    );
    let events = rehearsal.result(5, json!({"sessionId": "s2"}));
    assert_eq!(outcome_of(&events[1..]), &Outcome::Cancelled);
    assert!(rehearsal.written().is_empty(), "and none is sent any more");
}

#[test]
fn a_mode_is_set_before_the_first_prompt_of_each_session() {
    let mut config = config();
    config.quirks.mode = Some("default".to_owned());
    let mut rehearsal = Rehearsal::new(config.clone());
    rehearsal.result(1, json!({"protocolVersion": 1}));
    rehearsal.written();
    assert_eq!(rehearsal.result(2, json!({"sessionId": "s1"})), []);
    let written = rehearsal.written();
    assert_eq!(
        written[0]["params"],
        json!({"sessionId": "s1", "modeId": "default"})
    );
    let events = rehearsal.result(3, json!({}));
    assert_eq!(events.last(), Some(&TurnEvent::Ready));
    let mut rehearsal = Rehearsal::new(config);
    rehearsal.result(1, json!({"protocolVersion": 1}));
    rehearsal.result(2, json!({"sessionId": "s1"}));
    let events = rehearsal.error(3, json!({"code": -32602, "message": "no such mode"}));
    assert!(fault_of(&events).contains("no such mode"));
}

#[test]
fn an_agent_that_cannot_be_used_is_a_fault_that_says_why() {
    let table = [
        (json!({"result": {"protocolVersion": 2}}), "version 2"),
        (json!({"result": {}}), "version null"),
        (
            json!({"error": {"code": -32601, "message": "what?"}}),
            "what?",
        ),
    ];
    for (mut response, why) in table {
        response["id"] = 1.into();
        let events = Rehearsal::new(config()).line(&response.to_string());
        assert!(fault_of(&events).contains(why), "{events:?}");
    }
    let table = [
        (json!({"result": {}}), "did not name it"),
        (
            json!({"error": {"code": -32000, "message": "log in first"}}),
            "log in first",
        ),
    ];
    for (mut response, why) in table {
        let mut rehearsal = Rehearsal::new(config());
        rehearsal.result(1, json!({"protocolVersion": 1}));
        response["id"] = 2.into();
        let events = rehearsal.line(&response.to_string());
        assert!(fault_of(&events).contains(why), "{events:?}");
    }
}

#[test]
fn an_agent_that_cannot_resume_or_does_not_know_the_session_opens_another() {
    let opened = [TurnEvent::SessionChanged("s1".to_owned()), TurnEvent::Ready];
    for capabilities in [
        json!({"loadSession": true}),
        json!({"loadSession": true, "sessionCapabilities": {"resume": null}}),
    ] {
        let mut rehearsal = resuming(&capabilities);
        assert_eq!(rehearsal.written()[0]["method"], "session/new");
        assert_eq!(rehearsal.result(2, json!({"sessionId": "s1"})), opened);
    }
    let mut rehearsal = resuming(&json!({"sessionCapabilities": {"resume": {}}}));
    let asked = &rehearsal.written()[0];
    assert_eq!(asked["method"], "session/resume");
    assert_eq!(asked["params"]["sessionId"], "s0");
    let refusal =
        json!({"id": 2, "error": {"code": -32002, "message": "Resource not found: session:s0"}});
    assert_eq!(rehearsal.line(&refusal.to_string()), []);
    assert_eq!(rehearsal.written()[0]["method"], "session/new");
    assert_eq!(rehearsal.result(3, json!({"sessionId": "s1"})), opened);
}

#[test]
fn a_fresh_prompt_after_a_resume_opens_another_session() {
    let mut rehearsal = resuming(&json!({"sessionCapabilities": {"resume": {}}}));
    let resumed = [TurnEvent::SessionChanged("s0".to_owned()), TurnEvent::Ready];
    assert_eq!(rehearsal.result(2, json!({})), resumed);
    rehearsal.written();
    let fresh = Prompt {
        fresh: true,
        ..Prompt::text("anew")
    };
    assert_eq!(rehearsal.submit(&fresh)[0]["method"], "session/new");
}
