//! What the end of a turn means, and what it has used.

use serde_json::{Value, json};

use super::{Rehearsal, config, failure_of, outcome_of};
use crate::outcome::{Outcome, Usage};
use crate::prompt::Prompt;
use crate::protocol::TurnEvent;
use crate::protocol::acp::AcpQuirks;

#[test]
fn stop_reasons_mean_what_they_say() {
    let nothing: &[Value] = &[];
    let said = &[
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "hi"}}),
    ];
    let used = &[json!({"sessionUpdate": "tool_call", "toolCallId": "c"})];
    let table: [(&str, &[Value], &str); 11] = [
        ("end_turn", said, "completed"),
        ("end_turn", used, "completed"),
        ("end_turn", nothing, "empty_answer"),
        ("max_tokens", nothing, "context_too_large"),
        ("max_tokens", said, "context_too_large"),
        ("max_turn_requests", said, "unknown"),
        ("refusal", said, "bad_request"),
        ("cancelled", nothing, "unknown"),
        ("cancelled", said, "unknown"),
        ("a new reason", said, "unknown"),
        ("", said, "unknown"),
    ];
    for (reason, updates, word) in table {
        let mut rehearsal = Rehearsal::running();
        for update in updates {
            rehearsal.update(update.clone());
        }
        let events = rehearsal.result(3, json!({"stopReason": reason}));
        let found = match outcome_of(&events) {
            Outcome::Failed(failure) => failure.class.word(),
            outcome => outcome.word(),
        };
        assert_eq!(found, word, "{reason} {updates:?}");
    }
}

#[test]
fn an_end_without_a_model_is_a_failure_where_the_agent_lists_the_models() {
    let end =
        |used: Value| json!({"stopReason": "end_turn", "_meta": {"quota": {"model_usage": used}}});
    let ended = |config, prompt: Prompt, used| {
        let mut rehearsal = Rehearsal::ready_with(config, &json!({}));
        rehearsal.submit(&prompt);
        rehearsal.says("half an ans");
        match outcome_of(&rehearsal.result(3, end(used))) {
            Outcome::Failed(failure) => failure.class.word(),
            outcome => outcome.word(),
        }
    };
    let mut lists = config();
    lists.quirks = AcpQuirks {
        model_use: Some("/_meta/quota/model_usage".to_owned()),
        ..AcpQuirks::default()
    };
    let text = || Prompt::text("hi");
    assert_eq!(ended(lists.clone(), text(), json!([])), "network");
    assert_eq!(
        ended(lists.clone(), text(), json!([{"model": "m"}])),
        "completed"
    );
    assert_eq!(ended(lists.clone(), text(), json!(null)), "completed");
    assert_eq!(
        ended(lists, Prompt::command("/about"), json!([])),
        "completed",
        "a command asks no model"
    );
    assert_eq!(ended(config(), text(), json!([])), "completed");
}

#[test]
fn a_command_may_answer_nothing() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::command("/about"));
    let events = rehearsal.result(3, json!({"stopReason": "end_turn"}));
    assert_eq!(outcome_of(&events), &Outcome::Completed);
}

/// Errors as agents wrote them, and what they are.
#[test]
fn errors_have_the_class_of_their_cause() {
    let gemini = |code: i64, message: &str| json!({"code": code, "message": message});
    let internal = |details: &str| json!({"code": -32603, "message": "Internal error", "data": {"details": details}});
    let opencode = |message: &str| {
        let data = json!({"service": "session", "errorName": "APIError"});
        json!({"code": -32603, "message": format!("Internal error: {message}"), "data": data})
    };
    let document = r#"{"error":{"code":500,"message":"it broke","status":"INTERNAL"}}"#;
    let table = [
        (
            gemini(429, "Rate limit exceeded. Try again later."),
            "rate_limit",
            "Rate limit exceeded. Try again later. (code 429)",
        ),
        (gemini(500, document), "overloaded", "it broke (code 500)"),
        (
            gemini(500, "terminated"),
            "network",
            "terminated (code 500)",
        ),
        (
            gemini(500, "models/x is not found for API version v1beta"),
            "bad_request",
            "",
        ),
        (gemini(503, "high demand"), "overloaded", ""),
        (gemini(401, "no"), "auth", ""),
        (gemini(403, "no"), "auth", ""),
        (gemini(400, "no"), "bad_request", ""),
        (
            gemini(400, "maximum context length is 8 tokens"),
            "context_too_large",
            "",
        ),
        (gemini(413, "no"), "context_too_large", ""),
        (gemini(504, "no"), "network", ""),
        (
            internal("401 Incorrect API key provided"),
            "auth",
            "401 Incorrect API key provided (code -32603)",
        ),
        (internal("400 bad"), "bad_request", ""),
        (internal("500 oops"), "overloaded", ""),
        (internal("terminated"), "network", ""),
        (
            internal("Model stream ended with empty response text."),
            "empty_answer",
            "",
        ),
        (
            internal(
                "Context is too large to send safely. Estimated prompt tokens: 500; hard limit: 429.",
            ),
            "context_too_large",
            "",
        ),
        (
            opencode("Incorrect API key provided: x"),
            "auth",
            "Internal error: Incorrect API key provided: x (code -32603)",
        ),
        (opencode("Rate limit reached for model"), "rate_limit", ""),
        (
            opencode("Unable to connect. Is the computer able to access the url?"),
            "network",
            "",
        ),
        (
            json!({"code": -32000, "message": "Authentication required"}),
            "auth",
            "",
        ),
        (
            json!({"code": -32602, "message": "Session not found: s1"}),
            "protocol",
            "",
        ),
        (
            json!({"code": -32603, "message": "Internal error"}),
            "unknown",
            "Internal error (code -32603)",
        ),
        (
            json!({"code": -32603, "message": "Internal error", "data": "socket hang up"}),
            "network",
            "socket hang up (code -32603)",
        ),
        (json!({"message": "odd"}), "unknown", "odd (code 0)"),
        (json!("odd"), "unknown", "it gave no reason (code 0)"),
        (
            json!({"code": i64::MAX, "message": 7, "data": []}),
            "unknown",
            "",
        ),
    ];
    for (error, class, message) in table {
        let mut rehearsal = Rehearsal::running();
        rehearsal.says("half an answer");
        let events = rehearsal.error(3, error.clone());
        let failure = failure_of(&events);
        assert_eq!(failure.class.word(), class, "{error}");
        assert!(
            message.is_empty() || failure.message == message,
            "{}",
            failure.message
        );
    }
}

#[test]
fn advice_when_to_try_again_is_taken() {
    let table = [
        ("Please try again in 1.5s.", Some(1500)),
        ("Please retry after 20 seconds", Some(20_000)),
        ("retrying in 250ms", Some(250)),
        ("try again in 2 minutes", Some(120_000)),
        ("try again later", None),
    ];
    for (message, after) in table {
        let events = Rehearsal::running().error(3, json!({"code": 429, "message": message}));
        let found = failure_of(&events)
            .retry_after
            .map(|after| after.as_millis());
        assert_eq!(found, after, "{message}");
    }
}

#[test]
fn usage_is_taken_from_where_the_agent_puts_it() {
    let usage = |updates: &[Value], result: Value| {
        let mut rehearsal = Rehearsal::ready();
        let cost = |amount: f64| json!({"sessionUpdate": "usage_update", "cost": {"amount": amount, "currency": "USD"}});
        rehearsal.update(cost(1.5));
        rehearsal.submit(&"hi".into());
        rehearsal.says("hi");
        for update in updates {
            rehearsal.update(update.clone());
        }
        match rehearsal.result(3, result).as_slice() {
            [TurnEvent::TurnEnded { usage, .. }] => *usage,
            other => panic!("{other:?}"),
        }
    };
    let tokens = |input, output| {
        Some(Usage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cost_usd: None,
        })
    };
    let gemini = json!({"stopReason": "end_turn", "_meta": {"quota": {"token_count": {"input_tokens": 5, "output_tokens": 2}}}});
    assert_eq!(usage(&[], gemini), tokens(5, 2));
    let message = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": ""},
                         "_meta": {"usage": {"inputTokens": 7, "outputTokens": 1}}});
    assert_eq!(
        usage(
            &[message.clone(), message],
            json!({"stopReason": "end_turn"})
        ),
        tokens(14, 2)
    );
    let opencode =
        json!({"stopReason": "end_turn", "usage": {"inputTokens": 9, "outputTokens": 3}});
    let paid =
        json!({"sessionUpdate": "usage_update", "cost": {"amount": 1.75, "currency": "USD"}});
    let expected = Usage {
        cost_usd: Some(0.25),
        ..tokens(9, 3).expect("tokens")
    };
    assert_eq!(usage(&[paid], opencode), Some(expected));
    assert_eq!(usage(&[], json!({"stopReason": "end_turn"})), None);
}
