//! How a turn is stopped, when a signal would do harm, and what happens if it is lost.

use std::time::Duration;

use super::{ANSWERED, LOG, Rehearsal, end_of_step, fault_of, nonce};
use crate::outcome::Outcome;
use crate::prompt::Prompt;
use crate::protocol::Protocol;

const ACKNOWLEDGED: &str = "\n\n^C again to exit\n\n\n> ";

impl Rehearsal {
    fn interrupt(&mut self) -> bool {
        self.aider.interrupt(&mut self.out);
        self.interrupts()
    }

    /// Lets the wanted time come; whether that leads to a signal.
    fn wait(&mut self) -> bool {
        let when = self.out.wakes_at().expect("the protocol waits for a time");
        self.out.set_now(when);
        self.aider.tick(&mut self.out);
        self.interrupts()
    }

    /// A turn at work on its answer; the mark has number 3.
    fn at_work() -> Self {
        let mut rehearsal = Self::ready();
        rehearsal.submit(&Prompt::text("hi"));
        assert_eq!(rehearsal.print("> > \nHel"), []);
        rehearsal
    }
}

#[test]
fn an_interrupt_is_a_signal_then_the_acknowledgement_then_a_fresh_mark() {
    let mut rehearsal = Rehearsal::at_work();
    assert!(rehearsal.interrupt());
    assert_eq!(rehearsal.print("lo\n\n^C again to"), []);
    assert_eq!(
        rehearsal.written(),
        "",
        "nothing is written before the acknowledgement"
    );
    rehearsal.print(" exit\n\n\n> ");
    assert_eq!(rehearsal.written(), format!("/={}\n", nonce(4)));
    // The first mark may be answered or lost; only the fresh one counts.
    rehearsal.print(&end_of_step(3)[4..]);
    assert!(!rehearsal.wants_files());
    rehearsal.print(&format!("\nInvalid command: /={}\n\n> ", nonce(4)));
    assert_eq!(
        rehearsal.end("", LOG),
        (Outcome::Cancelled, Some("Hello.".to_owned()))
    );
    assert_eq!(rehearsal.out.wakes_at(), None);
    rehearsal.submit(&Prompt::text("next"));
}

#[test]
fn an_unread_prompt_is_not_interrupted_until_it_has_been_read() {
    let mut rehearsal = Rehearsal::ready();
    rehearsal.submit(&Prompt::text("one\ntwo"));
    rehearsal.print("> ");
    assert!(!rehearsal.interrupt());
    rehearsal.print("> > ");
    assert!(!rehearsal.interrupts());
    rehearsal.print("\n");
    assert!(rehearsal.interrupts());
}

#[test]
fn a_second_signal_waits_because_two_within_two_seconds_would_end_aider() {
    let mut rehearsal = Rehearsal::at_work();
    assert!(rehearsal.interrupt());
    rehearsal.print(ACKNOWLEDGED);
    rehearsal.print(&end_of_step(4));
    assert_eq!(rehearsal.end("", "").0, Outcome::Cancelled);
    let acknowledged = rehearsal.out.now();

    rehearsal.submit(&Prompt::text("next"));
    rehearsal.print("> > \nHel");
    rehearsal
        .out
        .set_now(acknowledged + Duration::from_millis(700));
    assert!(!rehearsal.interrupt());
    assert_eq!(
        rehearsal.out.wakes_at(),
        Some(acknowledged + Duration::from_millis(2500))
    );
    assert!(rehearsal.wait());
}

#[test]
fn a_turn_that_ends_before_the_signal_may_be_sent_is_not_cancelled() {
    let mut rehearsal = Rehearsal::at_work();
    rehearsal.interrupt();
    rehearsal.print(ACKNOWLEDGED);
    rehearsal.print(&end_of_step(4));
    rehearsal.end("", "");
    rehearsal.submit(&Prompt::text("next"));
    rehearsal.print("> > \nHel");
    assert!(!rehearsal.interrupt());
    rehearsal.print(&format!("lo.{}", end_of_step(6)));
    assert_eq!(rehearsal.end(ANSWERED, LOG).0, Outcome::Completed);
    assert_eq!(rehearsal.out.wakes_at(), None);
}

#[test]
fn a_signal_that_comes_too_late_is_waited_for_and_the_answer_counts() {
    let mut rehearsal = Rehearsal::at_work();
    assert!(rehearsal.interrupt());
    rehearsal.print(&format!("lo.{}", end_of_step(3)));
    assert!(
        !rehearsal.wants_files(),
        "the signal would hit the next turn"
    );
    rehearsal.print(ACKNOWLEDGED);
    assert_eq!(rehearsal.written(), format!("/={}\n", nonce(4)));
    rehearsal.print(&format!("\nInvalid command: /={}\n\n> ", nonce(4)));
    assert_eq!(
        rehearsal.end(ANSWERED, LOG),
        (Outcome::Completed, Some("Hello.".to_owned()))
    );
}

#[test]
fn a_lost_signal_is_sent_three_times_and_then_aider_is_given_up() {
    let mut rehearsal = Rehearsal::at_work();
    assert!(rehearsal.interrupt());
    assert!(!rehearsal.interrupt(), "asking twice does not send twice");
    rehearsal.aider.tick(&mut rehearsal.out);
    assert!(!rehearsal.interrupts(), "an early tick changes nothing");
    assert!(rehearsal.wait());
    assert!(rehearsal.wait());
    assert!(!rehearsal.wait());
    assert!(fault_of(&rehearsal.events()).contains("3 interrupts"));
}

#[test]
fn silence_after_the_acknowledgement_is_a_fault() {
    let mut rehearsal = Rehearsal::at_work();
    rehearsal.interrupt();
    rehearsal.print(ACKNOWLEDGED);
    assert!(!rehearsal.wait());
    assert!(fault_of(&rehearsal.events()).contains("fell silent"));
}

#[test]
fn before_the_prompt_is_written_an_interrupt_needs_no_signal() {
    let mut rehearsal = Rehearsal::ready();
    let mut prompt = Prompt::text("hi");
    prompt.fresh = true;
    prompt.files = vec!["a.txt".into()];
    assert_eq!(
        rehearsal.submit(&prompt),
        format!("/reset\n/={}\n", nonce(3))
    );
    assert!(!rehearsal.interrupt());
    let events = rehearsal.print(&format!(
        "\nAll files dropped and chat history cleared.\n{}",
        end_of_step(3)
    ));
    assert!(matches!(
        events.as_slice(),
        [crate::protocol::TurnEvent::TurnEnded {
            outcome: Outcome::Cancelled,
            ..
        }]
    ));
    assert_eq!(rehearsal.written(), "");
}

#[test]
fn a_finished_turn_and_an_idle_aider_are_not_interrupted() {
    let mut rehearsal = Rehearsal::ready();
    assert!(!rehearsal.interrupt());
    rehearsal.submit(&Prompt::text("hi"));
    rehearsal.print(&format!("> > \nHello.{}", end_of_step(3)));
    rehearsal.aider.interrupt(&mut rehearsal.out);
    assert_eq!(rehearsal.end(ANSWERED, LOG).0, Outcome::Completed);
}
