//! Going on with a conversation that an earlier process has left.

use serde_json::{Value, json};

use super::Rehearsal;
use crate::protocol::{Protocol, TurnEvent};

/// Was asked to go on with `thread-0`; the ids 1 and 2 are used.
fn resuming() -> Rehearsal {
    let mut rehearsal = Rehearsal::new();
    rehearsal.codex.resume("thread-0");
    rehearsal.codex.start(&mut rehearsal.out);
    assert_eq!(rehearsal.tell(json!({"id": 1, "result": {}})), []);
    let written = rehearsal.written();
    let asked: &Value = written.last().expect("a request");
    assert_eq!(asked["method"], "thread/resume");
    assert_eq!(asked["params"]["threadId"], "thread-0");
    assert_eq!(
        asked["params"].get("cwd"),
        None,
        "codex would trust the folder"
    );
    rehearsal
}

#[test]
fn a_conversation_that_is_refused_or_comes_as_another_is_not_taken_for_the_one_that_was_left() {
    for response in [
        json!({"id": 2, "error": {"code": -32600, "message": "no rollout found for thread id thread-0"}}),
        json!({"id": 2, "result": {"thread": {"id": "thread-9"}}}),
        json!({"id": 2, "result": {}}),
    ] {
        let mut rehearsal = resuming();
        assert_eq!(rehearsal.tell(response), []);
        assert_eq!(rehearsal.written()[0]["method"], "thread/start");
        let events = rehearsal.tell(json!({"id": 3, "result": {"thread": {"id": "thread"}}}));
        let begun = [
            TurnEvent::SessionChanged("thread".to_owned()),
            TurnEvent::Ready,
        ];
        assert_eq!(events, begun);
    }
    let mut rehearsal = resuming();
    let events = rehearsal.tell(json!({"id": 2, "result": {"thread": {"id": "thread-0"}}}));
    let resumed = [
        TurnEvent::SessionChanged("thread-0".to_owned()),
        TurnEvent::Ready,
    ];
    assert_eq!(events, resumed);
}
