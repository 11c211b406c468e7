//! When an interrupt is sent, how often, and what ends the turn then.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Rehearsal, aborted, end_of, id, init, reply, result};
use crate::outcome::Outcome;
use crate::prompt::Prompt;
use crate::protocol::{Protocol, TurnEvent};

fn interrupt(number: u32) -> Value {
    json!({"type": "control_request", "request_id": format!("interrupt-{number}"), "request": {"subtype": "interrupt"}})
}

impl Rehearsal {
    fn interrupt(&mut self) -> Vec<Value> {
        self.claude.interrupt(&mut self.out);
        self.written()
    }

    /// Lets the time come that the protocol waits for.
    fn tick(&mut self) -> Vec<Value> {
        let wake = self.out.wakes_at().expect("it waits");
        self.out.set_now(wake);
        self.out.wake_at(None);
        self.claude.tick(&mut self.out);
        self.written()
    }
}

#[test]
fn an_interrupt_that_is_confirmed_cancels_the_turn() {
    let mut rehearsal = Rehearsal::running();
    assert_eq!(rehearsal.interrupt(), [interrupt(1)]);
    assert_eq!(rehearsal.interrupt(), [] as [Value; 0], "once is enough");
    assert_eq!(rehearsal.print(&[reply("interrupt-1")]), []);
    assert_eq!(
        end_of(&rehearsal.print(&[aborted(1)])).0,
        &Outcome::Cancelled
    );
    assert_eq!(rehearsal.out.wakes_at(), None);
}

#[test]
fn an_interrupt_waits_until_claude_has_taken_the_prompt_up() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hi"));
    assert_eq!(rehearsal.interrupt(), [] as [Value; 0]);
    rehearsal.print(&[init("s")]);
    assert_eq!(rehearsal.written(), [interrupt(1)]);
}

#[test]
fn an_interrupt_without_effect_is_sent_again_and_every_one_must_be_answered() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.interrupt();
    rehearsal.print(&[reply("interrupt-1")]);
    assert_eq!(rehearsal.tick(), [interrupt(2)]);
    assert_eq!(rehearsal.tick(), [interrupt(3)]);
    assert_eq!(
        rehearsal.print(&[aborted(1)]),
        [TurnEvent::SessionChanged("s".to_owned())][1..]
    );
    assert_eq!(rehearsal.print(&[reply("interrupt-2")]), []);
    let events = rehearsal.print(&[reply("interrupt-3")]);
    assert_eq!(end_of(&events).0, &Outcome::Cancelled);
}

#[test]
fn a_prompt_that_is_never_taken_up_is_interrupted_all_the_same() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("hi"));
    rehearsal.interrupt();
    assert_eq!(rehearsal.tick(), [interrupt(1)]);
}

#[test]
fn an_answer_that_was_faster_than_the_interrupt_counts_but_waits_for_the_reply() {
    let mut rehearsal = Rehearsal::running();
    rehearsal.interrupt();
    assert_eq!(rehearsal.print(&[result(1, "done")]), []);
    assert_eq!(
        rehearsal.print(&[result(1, "again"), aborted(1)]),
        [],
        "one end is enough"
    );
    let events = rehearsal.print(&[reply("interrupt-1")]);
    let (outcome, _, answer) = end_of(&events);
    assert_eq!((outcome, answer), (&Outcome::Completed, Some("done")));
}

#[test]
fn a_fresh_prompt_that_is_interrupted_while_claude_forgets_is_not_sent() {
    let mut rehearsal = Rehearsal::ready();
    let mut prompt = Prompt::text("hi");
    prompt.fresh = true;
    let clear = rehearsal.submit(&prompt);
    assert_eq!(clear[0]["message"]["content"][0]["text"], "/clear");
    assert_eq!(rehearsal.interrupt(), [] as [Value; 0]);
    assert_eq!(
        rehearsal.print(&[init("s2")]),
        [TurnEvent::SessionChanged("s2".to_owned())]
    );
    let mut cleared = result(1, "");
    cleared["session_id"] = "s2".into();
    assert_eq!(end_of(&rehearsal.print(&[cleared])).0, &Outcome::Cancelled);
    assert_eq!(rehearsal.written(), [] as [Value; 0]);
    assert_eq!(rehearsal.out.wakes_at(), None);
    let next = rehearsal.submit(&Prompt::text("next"));
    assert_eq!((&next[0]["uuid"], next.len()), (&json!(id(2)), 1));
}

#[test]
fn no_interrupt_is_sent_without_a_turn() {
    let mut rehearsal = Rehearsal::ready();
    assert_eq!(rehearsal.interrupt(), [] as [Value; 0]);
    let later = rehearsal.out.now() + Duration::from_secs(60);
    rehearsal.out.set_now(later);
    rehearsal.claude.tick(&mut rehearsal.out);
    assert_eq!(rehearsal.written(), [] as [Value; 0]);
    assert_eq!(rehearsal.events(), []);
}
