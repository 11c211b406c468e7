//! What is not sent, what codex does not take, and what is sent exactly.

use serde_json::{Value, json};

use super::{Rehearsal, ended, is_fault, message};
use crate::outcome::{FailureClass, Outcome};
use crate::prompt::{Prompt, Refusal, TurnId};
use crate::protocol::Protocol;

#[test]
fn a_refused_prompt_writes_nothing_and_leaves_the_protocol_idle() {
    let mut rehearsal = Rehearsal::ready();
    let mut files = Prompt::text("x".repeat((1 << 20) - 10));
    files.files.push("a.txt".into());
    for prompt in [
        Prompt::text(""),
        Prompt::text("x".repeat((1 << 20) + 1)),
        files,
        Prompt::command("/compact"),
    ] {
        let result = rehearsal
            .codex
            .submit(TurnId(1), &prompt, &mut rehearsal.out);
        assert!(result.is_err());
        assert_eq!(rehearsal.written(), Vec::<Value>::new());
    }
    rehearsal.submit(&Prompt::text("x".repeat(1 << 20)));
}

#[test]
fn a_second_prompt_is_refused_while_one_runs_and_the_first_goes_on() {
    let mut rehearsal = Rehearsal::running();
    let second = rehearsal
        .codex
        .submit(TurnId(2), &Prompt::text("me too"), &mut rehearsal.out);
    assert!(matches!(second, Err(Refusal::Unsupported(_))));
    assert_eq!(rehearsal.written(), Vec::<Value>::new());
    rehearsal.tell(message("turn-1", "first"));
    assert_eq!(
        rehearsal.complete("turn-1", "completed").0,
        Outcome::Completed
    );
}

#[test]
fn the_text_is_sent_byte_for_byte_and_files_apart_from_it() {
    let text = "/quit\n\n  two \u{1}\u{202e}\"\\ {\"id\":1}\n";
    let mut rehearsal = Rehearsal::ready();
    let mut prompt = Prompt::text(text);
    let input = |rehearsal: &mut Rehearsal, prompt: &Prompt| {
        rehearsal
            .codex
            .submit(TurnId(1), prompt, &mut rehearsal.out)
            .expect("acceptable");
        rehearsal.written()[0]["params"]["input"].clone()
    };
    assert_eq!(
        input(&mut rehearsal, &prompt),
        json!([{"type": "text", "text": text}])
    );
    let mut rehearsal = Rehearsal::ready();
    prompt.files = vec!["a.txt".into(), "b c/d.txt".into()];
    let files = "The files that this is about:\n- a.txt\n- b c/d.txt\n\n";
    assert_eq!(
        input(&mut rehearsal, &prompt),
        json!([{"type": "text", "text": files}, {"type": "text", "text": text}])
    );
}

#[test]
fn the_working_folder_is_never_named() {
    let mut rehearsal = Rehearsal::new();
    rehearsal.codex.start(&mut rehearsal.out);
    rehearsal.tell(json!({"id": 1, "result": {}}));
    let written = rehearsal.written();
    let start = written.last().expect("thread/start");
    assert_eq!(start["method"], "thread/start");
    assert_eq!(start["params"].get("cwd"), None, "naming it would trust it");
    assert_eq!(start["params"]["approvalPolicy"], "untrusted");
}

#[test]
fn a_conversation_without_turns_is_fresh_already() {
    let mut rehearsal = Rehearsal::ready();
    let fresh = Prompt {
        fresh: true,
        ..Prompt::text("hello")
    };
    rehearsal
        .codex
        .submit(TurnId(1), &fresh, &mut rehearsal.out)
        .expect("acceptable");
    assert_eq!(rehearsal.written()[0]["method"], "turn/start");
}

#[test]
fn a_turn_that_codex_refuses_has_failed_and_the_next_is_sent() {
    for (code, class) in [
        (-32602, FailureClass::BadRequest),
        (-32600, FailureClass::BadRequest),
        (-32001, FailureClass::Overloaded),
        (-32603, FailureClass::Protocol),
    ] {
        let mut rehearsal = Rehearsal::ready();
        let request = rehearsal.submit(&Prompt::text("hello"));
        let refusal = json!({"id": request, "error": {"code": code, "message": "too large"}});
        match ended(rehearsal.tell(refusal)) {
            Some((Outcome::Failed(failure), None)) => assert_eq!(failure.class, class),
            other => panic!("{code}: {other:?}"),
        }
        rehearsal.submit(&Prompt::text("again"));
    }
}

#[test]
fn a_refused_start_is_a_fault_that_says_why() {
    for requests in [1, 2] {
        let mut rehearsal = Rehearsal::new();
        rehearsal.codex.start(&mut rehearsal.out);
        if requests == 2 {
            rehearsal.tell(json!({"id": 1, "result": {}}));
        }
        let refusal =
            json!({"id": requests, "error": {"code": -32600, "message": "Not initialized"}});
        let events = rehearsal.tell(refusal);
        assert!(is_fault(&events), "{events:?}");
        assert!(format!("{events:?}").contains("Not initialized"));
    }
}
