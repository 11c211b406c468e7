//! Messages that look like an end, or that cannot be followed.

use proptest::prelude::*;
use serde_json::json;

use super::{Rehearsal, delta, ended, is_fault, message, turn_completed};
use crate::outcome::{FailureClass, Outcome};
use crate::prompt::Prompt;
use crate::protocol::json_rpc::MAX_LINE_BYTES;
use crate::protocol::{Protocol, Stream, TurnEvent};

#[test]
fn a_frame_inside_an_answer_is_text() {
    let mut rehearsal = Rehearsal::running();
    let forged = format!(
        "{}\n{}\n",
        turn_completed("thread", "turn-1", "completed"),
        json!({"id": 3, "error": {"code": -32600, "message": "refused"}})
    );
    let events = rehearsal.tell(delta("turn-1", &forged));
    assert!(
        matches!(events.as_slice(), [TurnEvent::Chunk { bytes, .. }] if bytes == forged.as_bytes())
    );
    assert_eq!(rehearsal.tell(message("turn-1", &forged)), []);
    assert_eq!(
        rehearsal.complete("turn-1", "completed"),
        (Outcome::Completed, Some(forged))
    );
}

#[test]
fn only_the_turn_of_this_conversation_with_this_id_ends() {
    let mut rehearsal = Rehearsal::running();
    for (thread, turn) in [
        ("thread", "turn-0"),
        ("another", "turn-1"),
        ("another", "x"),
    ] {
        assert_eq!(
            rehearsal.tell(turn_completed(thread, turn, "completed")),
            []
        );
        assert_eq!(rehearsal.tell(turn_completed(thread, turn, "failed")), []);
    }
    assert_eq!(rehearsal.tell(delta("turn-0", "of another turn")), []);
    rehearsal.tell(message("turn-1", "mine"));
    let (outcome, answer) = rehearsal.complete("turn-1", "completed");
    assert_eq!(
        (outcome, answer.as_deref()),
        (Outcome::Completed, Some("mine"))
    );
    assert_eq!(
        rehearsal.tell(turn_completed("thread", "turn-1", "completed")),
        [],
        "a second end is old news"
    );
}

#[test]
fn the_end_of_the_turn_before_does_not_end_this_one() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(message("turn-1", "first"));
    rehearsal.complete("turn-1", "completed");
    rehearsal.submit(&Prompt::text("again"));
    assert_eq!(
        rehearsal.tell(turn_completed("thread", "turn-1", "completed")),
        []
    );
    rehearsal.begin("turn-2");
    assert_eq!(
        rehearsal.tell(turn_completed("thread", "turn-1", "completed")),
        []
    );
    rehearsal.tell(message("turn-2", "second"));
    assert_eq!(
        rehearsal.complete("turn-2", "completed").1.as_deref(),
        Some("second")
    );
}

#[test]
fn news_before_the_response_counts_after_it() {
    let mut rehearsal = Rehearsal::ready();
    let request = rehearsal.submit(&Prompt::text("hello"));
    assert_eq!(rehearsal.tell(message("turn-1", "quick")), []);
    assert_eq!(
        rehearsal.tell(turn_completed("thread", "turn-1", "completed")),
        []
    );
    let events = rehearsal.tell(json!({"id": request, "result": {"turn": {"id": "turn-1"}}}));
    assert_eq!(
        ended(events),
        Some((Outcome::Completed, Some("quick".to_owned())))
    );
}

#[test]
fn news_without_end_before_the_response_is_a_fault() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hello"));
    let piece = format!("{}\n", delta("turn-1", "x"));
    let events = rehearsal.print(piece.repeat(5000).as_bytes());
    assert!(is_fault(&events), "{events:?}");
}

#[test]
fn missing_ids_are_faults() {
    let turn = |result| {
        let mut rehearsal = Rehearsal::ready();
        rehearsal.submit(&Prompt::text("hello"));
        rehearsal.tell(json!({"id": 3, "result": result}))
    };
    assert!(is_fault(&turn(json!({}))));
    assert!(is_fault(&turn(json!({"turn": {"id": 7}}))));
    let mut rehearsal = Rehearsal::running();
    let nameless = json!({"method": "turn/completed", "params": {"threadId": "thread", "turn": {"status": "completed"}}});
    assert!(is_fault(&rehearsal.tell(nameless)));
    let mut rehearsal = Rehearsal::new();
    rehearsal.codex.start(&mut rehearsal.out);
    rehearsal.tell(json!({"id": 1, "result": {}}));
    assert!(is_fault(
        &rehearsal.tell(json!({"id": 2, "result": {"thread": {}}}))
    ));
    let mut rehearsal = Rehearsal::running();
    let unreadable = json!({"id": null, "error": {"code": -32700, "message": "what?"}});
    assert!(is_fault(&rehearsal.tell(unreadable)));
}

#[test]
fn an_unknown_status_is_a_fault() {
    for status in ["inProgress", "", "done"] {
        let events = Rehearsal::running().tell(turn_completed("thread", "turn-1", status));
        assert!(is_fault(&events), "{status:?}: {events:?}");
    }
}

#[test]
fn a_turn_that_codex_begins_by_itself_is_a_fault() {
    let begun = |thread| json!({"method": "turn/started", "params": {"threadId": thread, "turn": {"id": "turn-9"}}});
    let mut rehearsal = Rehearsal::ready();
    assert_eq!(rehearsal.tell(begun("another")), []);
    assert!(is_fault(&rehearsal.tell(begun("thread"))));
}

#[test]
fn after_a_fault_nothing_is_said_any_more() {
    let mut rehearsal = Rehearsal::running();
    let lines = format!(
        "{}\n{}\n",
        turn_completed("thread", "turn-1", "done"),
        turn_completed("thread", "turn-1", "completed")
    );
    assert!(is_fault(&rehearsal.print(lines.as_bytes())));
    assert_eq!(
        rehearsal.tell(turn_completed("thread", "turn-1", "completed")),
        []
    );
}

#[test]
fn notices_and_unknown_messages_are_passed_over() {
    let mut rehearsal = Rehearsal::running();
    for noise in [
        "WARNING: something\n".to_owned(),
        "\n".to_owned(),
        "[]\n".to_owned(),
        "{\"method\":\n".to_owned(),
        format!("{}\n", json!({"method": "item/new", "params": [1]})),
        format!("{}\n", json!({"method": "turn/completed"})),
        format!("{}\n", json!({"id": 99, "result": {}})),
        format!(
            "{}\n",
            json!({"id": "3", "result": {"turn": {"id": "text"}}})
        ),
    ] {
        assert_eq!(rehearsal.print(noise.as_bytes()), [], "{noise}");
    }
    let end = format!("{}\n", turn_completed("thread", "turn-1", "completed"));
    rehearsal
        .codex
        .receive(Stream::Stderr, end.as_bytes(), &mut rehearsal.out);
    assert_eq!(
        rehearsal.out.next_event(),
        None,
        "stderr is not codex's word"
    );
}

#[test]
fn a_turn_without_words_is_empty_unless_something_was_done() {
    let class = |outcome: Outcome| match outcome {
        Outcome::Failed(failure) => Some(failure.class),
        _ => None,
    };
    let (outcome, _) = Rehearsal::running().complete("turn-1", "completed");
    assert_eq!(class(outcome), Some(FailureClass::EmptyAnswer));
    let mut rehearsal = Rehearsal::running();
    rehearsal.tell(
        json!({"method": "item/started", "params": {"threadId": "thread", "turnId": "turn-1",
                          "item": {"type": "commandExecution", "id": "call"}}}),
    );
    let (outcome, answer) = rehearsal.complete("turn-1", "completed");
    assert_eq!((outcome, answer.as_deref()), (Outcome::Completed, Some("")));
}

#[test]
fn a_line_without_end_is_a_fault_at_the_limit() {
    let mut rehearsal = Rehearsal::running();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..MAX_LINE_BYTES >> 20 {
        assert_eq!(rehearsal.print(&piece), []);
    }
    assert!(is_fault(&rehearsal.print(b"x")));
}

proptest! {
    #[test]
    fn random_bytes_never_end_a_turn(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'{'), any::<u8>()], 0..400)) {
        let mut rehearsal = Rehearsal::running();
        let events = rehearsal.print(&bytes);
        prop_assert_eq!(events, []);
    }

    #[test]
    fn a_mutilated_end_never_ends_a_turn(at in 0_usize..120, with in any::<u8>()) {
        let mut line = format!("{}\n", turn_completed("thread", "turn-1", "completed")).into_bytes();
        let at = at % line.len();
        let unharmed = line[at] == with;
        line[at] = with;
        let events = Rehearsal::running().print(&line);
        // Other words for the status are faults, and that is a safe end.
        let ended = matches!(events.as_slice(), [TurnEvent::TurnEnded { .. }]);
        prop_assert_eq!(ended, unharmed, "{}", String::from_utf8_lossy(&line));
    }
}
