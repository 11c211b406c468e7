//! Accounts that agree, and each way in which they can disagree.

use serde_json::json;

use super::*;
use crate::census::Holdings;

const SEED: &str = "seed";

fn told(prompt: &str, turn: u64, outcome: &str, text: &str) -> Told {
    Told {
        prompt: prompt.to_owned(),
        turn: Some(turn),
        outcome: Some(outcome.to_owned()),
        cause: String::new(),
        text: text.to_owned(),
        answer: Answer::Formula,
    }
}

fn read(pid: u32, turn: u64, prompt: &str) -> Read {
    Read {
        pid,
        generation: 1,
        turn,
        sha256: sha256(&[prompt.as_bytes()]),
        monotonic_ns: 0,
    }
}

/// One completed, one that crashed, one that expired, one that was refused; two processes.
fn agreeing() -> Ledgers {
    let refused = Told {
        turn: None,
        ..told("four", 0, "refused", "")
    };
    let events = [
        json!({"type": "instance_spawned", "instance": "main/1", "generation": 1, "pid": 10}),
        json!({"type": "prompt_accepted", "turn": 1}),
        json!({"type": "prompt_accepted", "turn": 2}),
        json!({"type": "prompt_accepted", "turn": 3}),
        json!({"type": "prompt_refused", "reason": "queue_full"}),
        json!({"type": "turn_ended", "turn": 1, "outcome": "completed"}),
        json!({"type": "turn_ended", "turn": 3, "outcome": "expired"}),
        json!({"type": "instance_exited", "instance": "main/1", "generation": 1}),
        json!({"type": "turn_ended", "turn": 2, "outcome": "indeterminate"}),
        json!({"type": "instance_spawned", "instance": "main/1", "generation": 2, "pid": 11}),
        json!({"type": "instance_exited", "instance": "main/1", "generation": 2}),
        json!({"type": "cluster_stopped"}),
    ];
    let mut ledgers = Ledgers {
        seed: SEED.to_owned(),
        reads: vec![read(10, 1, "one"), read(10, 2, "two")],
        told: vec![
            told("one", 1, "completed", &answer_to(SEED, "one")),
            told("two", 2, "indeterminate", "half"),
            told("three", 3, "expired", ""),
            refused,
        ],
        events: events.to_vec(),
        before: "toolpool_turns_total{outcome=\"completed\"} 4\n".to_owned(),
        after: "# HELP toolpool_turns_total of all\n\
                toolpool_turns_total{cluster=\"main\",outcome=\"completed\"} 5\n\
                toolpool_turns_total{cluster=\"main\",outcome=\"indeterminate\"} 1\n\
                toolpool_turns_total{cluster=\"main\",outcome=\"expired\"} 1\n\
                toolpool_instance_exits_total{tool_instance=\"main/1\"} 2\n\
                toolpool_rejected_total{reason=\"queue_full\"} 1\n"
            .to_owned(),
        kept: None,
    };
    number(&mut ledgers);
    ledgers
}

fn number(ledgers: &mut Ledgers) {
    for (place, event) in ledgers.events.iter_mut().enumerate() {
        event["seq"] = json!(place + 1);
    }
}

#[test]
fn accounts_that_agree_give_their_sums() {
    let sums = agreeing().reconcile().expect("they agree");
    assert_eq!((sums.offered, sums.accepted, sums.refused), (4, 3, 1));
    assert_eq!((sums.reads, sums.spawned), (2, 2));
    assert_eq!(
        sums.to_string(),
        "4 offered, 1 refused, 1 completed, 1 expired, 1 indeterminate, 2 read"
    );
}

#[test]
fn an_answer_may_stand_in_noise_or_be_given_where_the_script_says_so() {
    let mut ledgers = agreeing();
    let hash = answer_to(SEED, "one");
    for (answer, text, right) in [
        (Answer::Around, format!("noise {hash}\n"), true),
        (Answer::Around, format!("{hash}{hash}"), false),
        (Answer::Around, "noise".to_owned(), false),
        (Answer::Given("hello".to_owned()), "hello".to_owned(), true),
        (Answer::Given("hello".to_owned()), hash, false),
    ] {
        ledgers.told[0].text = text.clone();
        ledgers.told[0].answer = answer;
        assert_eq!(ledgers.reconcile().is_ok(), right, "{text}");
    }
}

/// A name of what is changed, the change, and a piece of what the checker says of it.
type Violation = (&'static str, fn(&mut Ledgers), &'static str);

const VIOLATIONS: &[Violation] = &[
    (
        "a swapped answer",
        |all| all.told[0].text = answer_to(SEED, "two"),
        "not its answer",
    ),
    (
        "a cut answer",
        |all| {
            all.told[0].text.pop();
        },
        "not its answer",
    ),
    (
        "a repeated answer",
        |all| all.told[0].text = all.told[0].text.repeat(2),
        "not its answer",
    ),
    (
        "the answer of another seed",
        |all| all.seed = "other".to_owned(),
        "not its answer",
    ),
    (
        "read twice",
        |all| all.reads.push(read(10, 3, "one")),
        "was read 2 ×, and 1 to 1",
    ),
    (
        "read by two processes",
        |all| all.reads.push(read(11, 1, "two")),
        "was read 2 ×, and 0 to 1",
    ),
    (
        "completed and never read",
        |all| {
            all.reads.remove(0);
        },
        "was read 0 ×, and 1 to 1",
    ),
    (
        "read though it expired",
        |all| all.reads.push(read(10, 3, "three")),
        "was read 1 ×, and 0 to 0",
    ),
    (
        "read though it was refused",
        |all| all.reads.push(read(10, 3, "four")),
        "was read 1 ×, and 0 to 0",
    ),
    (
        "read and never offered",
        |all| all.reads.push(read(10, 3, "five")),
        "what nobody offered",
    ),
    (
        "a prompt that fell out of the tool's count",
        |all| all.reads[1].turn = 3,
        "turn 3 as its 2. prompt",
    ),
    (
        "a reader that nobody started",
        |all| all.reads[1] = read(99, 1, "two"),
        "no event tells of it",
    ),
    (
        "a caller who was told otherwise",
        |all| all.told[1].outcome = Some("failed".to_owned()),
        "was told failed",
    ),
    (
        "two callers of one turn",
        |all| all.told[1].turn = Some(1),
        "two prompts were told to be t1",
    ),
    (
        "a caller of no turn",
        |all| all.told[1].turn = Some(9),
        "no event tells that t9",
    ),
    (
        "a turn of nobody",
        |all| {
            all.told.remove(2);
        },
        "nobody offered t3",
    ),
    (
        "a caller who was refused unseen",
        |all| all.told.push(all.told[3].clone()),
        "2 callers were refused",
    ),
    (
        "an end that is missing",
        |all| {
            all.events.remove(6);
            number(all);
        },
        "3 prompts were accepted, and they ended as",
    ),
    (
        "two ends",
        |all| {
            let end = all.events[5].clone();
            all.events.insert(6, end);
            number(all);
        },
        "t1 ended twice",
    ),
    (
        "an end of nothing",
        |all| {
            all.events.remove(2);
            number(all);
        },
        "was not accepted before",
    ),
    (
        "a prompt that was accepted twice",
        |all| {
            let one = all.events[1].clone();
            all.events.insert(2, one);
            number(all);
        },
        "accepted twice",
    ),
    (
        "a hole in the history",
        |all| {
            all.events.remove(4);
        },
        "has the number",
    ),
    (
        "a history without its end",
        |all| {
            all.events.pop();
        },
        "do not end with",
    ),
    (
        "a process that never ended",
        |all| {
            all.events.remove(10);
            number(all);
        },
        "main/1 #2 never ended",
    ),
    (
        "a generation that was used twice",
        |all| all.events[9]["generation"] = json!(1),
        "was started twice",
    ),
    (
        "an end of a process that is told twice",
        |all| all.events[10]["generation"] = json!(1),
        "ended twice",
    ),
    (
        "a metric that counts too few",
        |all| all.after = all.after.replace("completed\"} 5", "completed\"} 4"),
        "count 0 completed turns",
    ),
    (
        "a metric that counts too many",
        |all| {
            all.after
                .push_str("toolpool_turns_total{outcome=\"failed\"} 1\n")
        },
        "count 1 failed turns",
    ),
    (
        "a refusal that the metrics miss",
        |all| all.after = all.after.replace("rejected_total", "other_total"),
        "count 0 refusals",
    ),
    (
        "an exit that the metrics miss",
        |all| all.after = all.after.replace("main/1\"} 2", "main/1\"} 1"),
        "count 1 exits",
    ),
];

#[test]
fn each_violation_is_found() {
    for (name, change, said) in VIOLATIONS {
        let mut ledgers = agreeing();
        change(&mut ledgers);
        let wrong = ledgers.reconcile().expect_err(name);
        assert!(
            wrong.iter().any(|line| line.contains(said)),
            "{name}: {wrong:?}"
        );
    }
}

fn kept(turn: u64, prompt: &str, outcome: &str, text: &str, attempts: u32) -> Kept {
    Kept {
        turn,
        prompt: prompt.to_owned(),
        outcome: Some(outcome.to_owned()),
        cause: String::new(),
        text: text.to_owned(),
        attempts,
    }
}

#[test]
fn each_way_in_which_a_journal_can_disagree_is_found() {
    let with_journal = || {
        let answer = answer_to(SEED, "one");
        Ledgers {
            kept: Some(vec![
                kept(1, "one", "completed", &answer, 1),
                kept(2, "two", "indeterminate", "half", 1),
                kept(3, "three", "expired", "", 0),
            ]),
            ..agreeing()
        }
    };
    assert!(with_journal().reconcile().is_ok());
    type Change = fn(&mut Vec<Kept>);
    let table: [(Change, &str); 9] = [
        (|rows| drop(rows.remove(1)), "does not have t2"),
        (|rows| rows.push(rows[2].clone()), "has t3 twice"),
        (
            |rows| rows.push(kept(4, "four", "cancelled", "", 0)),
            "has t4, and no event tells",
        ),
        (
            |rows| rows[0].outcome = None,
            "ended as nothing in the journal",
        ),
        (
            |rows| rows[1].outcome = Some("cancelled".to_owned()),
            "was told indeterminate (), and the journal has cancelled",
        ),
        (
            |rows| rows[1].cause = "crashed".to_owned(),
            "has indeterminate (crashed)",
        ),
        (|rows| rows[1].text = "hal".to_owned(), "told another text"),
        (
            |rows| rows[2].prompt = "else".to_owned(),
            "is another prompt",
        ),
        (|rows| rows[1].attempts = 0, "given to a tool 0 ×"),
    ];
    for (change, said) in table {
        let mut ledgers = with_journal();
        change(ledgers.kept.as_mut().expect("it has one"));
        let wrong = ledgers.reconcile().expect_err(said);
        assert!(
            wrong.iter().any(|line| line.contains(said)),
            "{said}: {wrong:?}"
        );
    }
}

#[test]
fn whatever_is_left_is_found() {
    let held = Holdings {
        files: 10,
        threads: 3,
        children: Vec::new(),
    };
    let clean = Closing {
        orphans: Vec::new(),
        before: held.clone(),
        after: held,
    };
    assert_eq!(clean.check(), Ok(()));
    type Change = fn(&mut Closing);
    let table: [(Change, &str); 5] = [
        (|closing| closing.orphans.push(7), "processes are left: [7]"),
        (
            |closing| closing.after.children.push(8),
            "children are left: [8]",
        ),
        (
            |closing| closing.after.files += 1,
            "11 open files, and 10 before",
        ),
        (
            |closing| closing.after.files -= 1,
            "9 open files, and 10 before",
        ),
        (
            |closing| closing.after.threads += 1,
            "4 threads, and 3 before",
        ),
    ];
    for (change, said) in table {
        let mut closing = clean.clone();
        change(&mut closing);
        assert_eq!(closing.check(), Err(vec![said.to_owned()]));
    }
}

#[test]
fn a_line_that_is_no_line_of_a_ledger_is_said() {
    assert_eq!(reads("10 1 2 ab 99\n").map(|reads| reads.len()), Ok(1));
    for line in ["", "10 1 2 ab", "10 1 2 ab 99 1", "x 1 2 ab 99"] {
        let text = format!("10 1 1 aa 98\n{line}\n");
        assert!(reads(&text).is_err(), "{line:?}");
    }
}
