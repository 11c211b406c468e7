use serde_json::{Value, json};

use super::*;

fn lanes(count: Lane) -> Lanes {
    let mut lanes = Lanes::default();
    (1..=count).for_each(|lane| lanes.open(lane));
    lanes
}

fn says(lanes: &mut Lanes, lane: Lane, message: &Value) -> Option<(Option<Lane>, Value)> {
    lanes
        .said_by(lane, message.to_string().as_bytes())
        .map(read)
}

fn hears(lanes: &mut Lanes, message: &Value) -> Vec<(Option<Lane>, Value)> {
    let deliveries = lanes.said_by_process(message.to_string().as_bytes());
    deliveries.into_iter().map(read).collect()
}

fn read(delivery: Delivery) -> (Option<Lane>, Value) {
    let (to, line) = match delivery {
        Delivery::Process(line) => (None, line),
        Delivery::Lane(lane, line) => (Some(lane), line),
        Delivery::All(line) => (Some(0), line),
    };
    assert_eq!(line.last(), Some(&b'\n'));
    (to, serde_json::from_slice(&line).expect("JSON"))
}

fn ask(lanes: &mut Lanes, lane: Lane, id: i64, method: &str) -> i64 {
    let message = json!({"id": id, "method": method, "params": {}});
    let (to, sent) = says(lanes, lane, &message).expect("passed on");
    assert_eq!(to, None);
    sent["id"].as_i64().expect("a number")
}

/// Opens a conversation in the way of codex for odd lanes, in the way of agents for even ones.
fn open(lanes: &mut Lanes, lane: Lane, name: &str) {
    let number = ask(lanes, lane, 2, "session/new");
    let result = if lane % 2 == 1 {
        json!({"thread": {"id": name}})
    } else {
        json!({"sessionId": name})
    };
    let heard = hears(lanes, &json!({"id": number, "result": result}));
    assert_eq!(heard, [(Some(lane), json!({"id": 2, "result": result}))]);
}

#[test]
fn the_process_is_greeted_once_and_every_lane_hears_its_answer_under_its_own_id() {
    let mut lanes = lanes(3);
    let number = ask(&mut lanes, 1, 7, "initialize");
    let second = json!({"id": 1, "method": "initialize"});
    assert_eq!(says(&mut lanes, 2, &second), None, "it waits");
    let heard = hears(&mut lanes, &json!({"id": number, "result": {"a": 1}}));
    let to_first = (Some(1), json!({"id": 7, "result": {"a": 1}}));
    let to_second = (Some(2), json!({"id": 1, "result": {"a": 1}}));
    assert_eq!(heard, [to_first, to_second]);
    let done = json!({"method": "initialized"});
    assert_eq!(says(&mut lanes, 2, &done), Some((None, done.clone())));
    assert_eq!(says(&mut lanes, 1, &done), None, "it was told already");
    let third = says(&mut lanes, 3, &json!({"id": 5, "method": "initialize"}));
    assert_eq!(third, Some((Some(3), json!({"id": 5, "result": {"a": 1}}))));
}

#[test]
fn responses_news_and_questions_reach_the_lane_that_they_belong_to() {
    let mut lanes = lanes(2);
    open(&mut lanes, 1, "one");
    open(&mut lanes, 2, "two");
    let of_one = ask(&mut lanes, 1, 3, "turn/start");
    let of_two = ask(&mut lanes, 2, 3, "session/prompt");
    assert_ne!(of_one, of_two);
    let news = json!({"method": "item/delta", "params": {"threadId": "one", "delta": "x"}});
    assert_eq!(hears(&mut lanes, &news), [(Some(1), news)]);
    let news = json!({"method": "session/update", "params": {"sessionId": "two"}});
    assert_eq!(hears(&mut lanes, &news), [(Some(2), news)]);
    let question = json!({"id": 0, "method": "ask", "params": {"sessionId": "two"}});
    assert_eq!(hears(&mut lanes, &question), [(Some(2), question)]);
    let answer = json!({"id": 0, "result": "allow"});
    assert_eq!(says(&mut lanes, 1, &answer), None, "it was not asked");
    let question = json!({"id": 0, "method": "ask", "params": {"sessionId": "two"}});
    hears(&mut lanes, &question);
    assert_eq!(says(&mut lanes, 2, &answer), Some((None, answer.clone())));
    assert_eq!(says(&mut lanes, 2, &answer), None, "only once");
    let heard = hears(
        &mut lanes,
        &json!({"id": of_two, "result": {"stopReason": "end_turn"}}),
    );
    assert_eq!(heard[0].0, Some(2));
    assert_eq!(heard[0].1["id"], 3);
}

#[test]
fn what_belongs_to_nobody_reaches_nobody_and_a_question_to_nobody_is_declined() {
    let mut lanes = lanes(2);
    open(&mut lanes, 1, "one");
    for message in [
        json!({"method": "item/delta", "params": {"threadId": "gone"}}),
        json!({"id": 99, "result": {}}),
        json!({"id": "text", "result": {}}),
        json!([1]),
        json!({}),
    ] {
        assert_eq!(hears(&mut lanes, &message), []);
    }
    for params in [json!({"threadId": "gone"}), json!({}), Value::Null] {
        let declined = hears(
            &mut lanes,
            &json!({"id": "q", "method": "ask", "params": params}),
        );
        assert_eq!((declined.len(), declined[0].0), (1, None));
        assert_eq!(declined[0].1["id"], "q");
        assert!(declined[0].1["error"]["code"].is_i64());
    }
    assert_eq!(lanes.said_by_process(b"a notice"), []);
    let about_all = json!({"method": "warning", "params": {"text": "x"}});
    assert_eq!(hears(&mut lanes, &about_all), [(Some(0), about_all)]);
    let unreadable = json!({"id": null, "error": {"code": -32700}});
    assert_eq!(hears(&mut lanes, &unreadable)[0].0, Some(0));
}

#[test]
fn after_a_new_conversation_the_news_of_the_old_one_is_for_nobody() {
    let mut lanes = lanes(1);
    open(&mut lanes, 1, "old");
    open(&mut lanes, 1, "new");
    let news = |name: &str| json!({"method": "m", "params": {"threadId": name}});
    assert_eq!(hears(&mut lanes, &news("old")), []);
    assert_eq!(hears(&mut lanes, &news("new")).len(), 1);
}

#[test]
fn a_lane_is_busy_while_the_process_owes_it_anything() {
    let mut lanes = lanes(3);
    assert!(!lanes.is_busy(1));
    let number = ask(&mut lanes, 1, 1, "initialize");
    says(&mut lanes, 2, &json!({"id": 1, "method": "initialize"}));
    assert!(lanes.is_busy(1) && lanes.is_busy(2) && !lanes.is_busy(3));
    hears(&mut lanes, &json!({"id": number, "result": {}}));
    assert!(!lanes.is_busy(1) && !lanes.is_busy(2));
    open(&mut lanes, 1, "one");
    open(&mut lanes, 2, "two");
    assert!(!lanes.is_busy(1) && !lanes.is_busy(2));
    // codex answers the request at once, and the turn goes on.
    let turn = ask(&mut lanes, 1, 9, "turn/start");
    hears(
        &mut lanes,
        &json!({"id": turn, "result": {"turn": {"id": "t"}}}),
    );
    assert!(lanes.is_busy(1) && !lanes.is_busy(2));
    let foreign = json!({"method": "turn/completed", "params": {"threadId": "two"}});
    hears(&mut lanes, &foreign);
    assert!(lanes.is_busy(1));
    let own = json!({"method": "turn/completed", "params": {"threadId": "one"}});
    hears(&mut lanes, &own);
    assert!(!lanes.is_busy(1));
    // A turn that did not begin is none.
    let turn = ask(&mut lanes, 1, 10, "turn/start");
    hears(&mut lanes, &json!({"id": turn, "error": {"code": 1}}));
    assert!(!lanes.is_busy(1));
    let turn = ask(&mut lanes, 2, 9, "session/prompt");
    assert!(lanes.is_busy(2));
    hears(
        &mut lanes,
        &json!({"id": turn, "result": {"stopReason": "end_turn"}}),
    );
    assert!(!lanes.is_busy(2));
}

#[test]
fn what_a_closed_lane_had_on_its_way_is_dropped() {
    let mut lanes = lanes(2);
    open(&mut lanes, 1, "one");
    lanes.close(1);
    assert_eq!(lanes.len(), 1);
    let late = json!({"id": 3, "method": "turn/start", "params": {"threadId": "one"}});
    assert_eq!(says(&mut lanes, 1, &late), None);
    let news = json!({"method": "m", "params": {"threadId": "one"}});
    assert_eq!(hears(&mut lanes, &news), []);
}
